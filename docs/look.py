"""Every page of the built site in a browser, as it is read: ``python docs/look.py build/docs``.

Opens each page in a headless Chromium, as wide as a desk and as narrow as a phone, and fails where

- the console has an error, or a script stops with one;
- something is asked of anywhere but the folder of the site;
- a picture is not there;
- the page scrolls sideways;
- a link within the site leads to no page, or to no place on it.

``--pictures FOLDER`` saves a picture of each page, ``--dark`` takes them in dark colours.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag

WIDTHS = {"desk": 1280, "phone": 390}
"""In pixels, as a style sheet counts them."""

SOURCES = "source"
"""The folder of the pages that show the code, which are many and alike."""

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")

NEEDED = "expected Chromium to open the pages in, got none; try apt-get install chromium, or CHROMIUM=/path/to/it"

LOOK = """async () => {
    const pictures = [...document.images];
    pictures.forEach(i => { i.loading = 'eager' });  // those further down too
    await Promise.allSettled(pictures.map(i => i.decode()));
    return {
    broken: pictures.filter(i => !i.naturalWidth).map(i => i.src),
    wide: document.documentElement.scrollWidth,
    sticking: [...document.querySelectorAll('article *')]
        .filter(e => e.getBoundingClientRect().right > innerWidth + 1).slice(0, 1).map(e => e.outerHTML.slice(0, 120)),
    ids: [...document.querySelectorAll('[id]')].map(e => e.id),
    links: [...document.querySelectorAll('a[href]')].map(a => a.href),
}}"""
"""What is to be seen on a page."""


@dataclass
class Seen:
    """What the pages hold, and what is wrong with them.

    Attributes:
        wrong: sentences.
        ids: by page, the places on it.
        links: by page, where its links lead.
    """

    wrong: list[str] = field(default_factory=list)
    ids: dict[str, set[str]] = field(default_factory=dict)
    links: dict[str, set[str]] = field(default_factory=dict)


def browser_path() -> str:
    """The browser of this machine.

    Raises:
        SystemExit: there is none.
    """
    chosen = [os.environ["CHROMIUM"]] if os.environ.get("CHROMIUM") else BROWSERS
    found = next(filter(None, map(shutil.which, chosen)), None)
    if found is None:
        raise SystemExit(f"browser: {NEEDED}")
    return found


def look_at(view: Any, path: Path, site: Path, name: str, seen: Seen) -> None:
    """Open a page, wait for its pictures, and note what is wrong."""
    home, page = site.as_uri() + "/", path.relative_to(site).as_posix()
    asked: list[str] = []
    said: list[str] = []
    listeners = {
        "request": lambda request: asked.append(request.url),
        "console": lambda message: said.append(message.text) if message.type == "error" else None,
        "pageerror": lambda error: said.append(str(error)),
        "requestfailed": lambda request: said.append(f"not loaded: {request.url}"),
    }
    for event, listener in listeners.items():
        view.on(event, listener)
    view.goto(path.as_uri(), wait_until="load")
    found = view.evaluate(LOOK)
    for event, listener in listeners.items():
        view.remove_listener(event, listener)
    where = f"{page} ({name})"
    seen.wrong += [f"{where}: {text}" for text in said]
    seen.wrong += [f"{where}: asks for {url}" for url in asked if not url.startswith((home, "data:", "blob:"))]
    seen.wrong += [f"{where}: the picture {url} is not there" for url in found["broken"]]
    if found["wide"] > view.viewport_size["width"]:
        seen.wrong.append(f"{where}: is {found['wide']} pixels wide {' '.join(found['sticking'])}")
    seen.ids[page] = set(found["ids"])
    seen.links.setdefault(page, set()).update(url for url in found["links"] if url.startswith(home))


def dead_links(site: Path, seen: Seen) -> list[str]:
    """Links within the site that lead nowhere."""
    home, wrong = site.as_uri() + "/", []
    for page, links in seen.links.items():
        for link in sorted(links):
            address, anchor = urldefrag(link)
            target = unquote(address.removeprefix(home))
            if not (site / target).is_file():
                wrong.append(f"{page}: links to {target}, which is not there")
            elif anchor and target in seen.ids and unquote(anchor) not in seen.ids[target]:
                wrong.append(f"{page}: links to {target}#{anchor}, a place that is not there")
    return wrong


def main(words: Sequence[str] | None = None) -> int:
    """Look at all pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("site", type=Path, help="the folder that sphinx-build has written")
    parser.add_argument("--pictures", type=Path, help="folder for a picture of each page, but for those of the code")
    parser.add_argument("--dark", action="store_true", help="as for readers who prefer dark colours")
    parser.add_argument("--only", default="", help="pages whose path has this in it")
    args = parser.parse_args(words)
    site = args.site.resolve()
    pages = sorted(path for path in site.rglob("*.html") if "_static" not in path.parts)
    pages = [path for path in pages if args.only in path.relative_to(site).as_posix()]
    if not pages:
        raise SystemExit(f"site: expected pages in {args.site}, got none; try sphinx-build first")
    chromium = browser_path()
    from playwright.sync_api import sync_playwright  # here, so that --help needs nothing

    seen = Seen()
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name, width in WIDTHS.items():
            hand = name == "phone"
            how: dict[str, Any] = {"is_mobile": hand, "has_touch": hand, "device_scale_factor": 1 + hand}
            scheme: Any = "dark" if args.dark else "light"
            context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme, **how)
            view = context.new_page()
            for path in pages:
                if path == site / "index.html":  # which leads on at once
                    continue
                look_at(view, path, site, name, seen)
                if args.pictures is not None and (site / SOURCES) not in path.parents:
                    file = args.pictures / f"{path.relative_to(site).as_posix().removesuffix('.html')}.{name}.png"
                    file.parent.mkdir(parents=True, exist_ok=True)
                    view.screenshot(path=file, full_page=True)
            context.close()
        browser.close()
    wrong = list(dict.fromkeys([*seen.wrong, *(dead_links(site, seen) if not args.only else [])]))
    for sentence in wrong:
        print(sentence)
    print(f"{len(pages)} pages, {len(WIDTHS)} widths: {len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
