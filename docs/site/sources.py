"""Source pages, one a file, with a number at each line, and all that leads to them.

- ``{line}`text <module:object @ text>` `` in Markdown is a link to the lines of `docs.site.places.find`;
- ``{excerpt} module:object`` shows them, and says where they are from;
- the signatures of the reference end in a link to their source;
- the name of a file in code type (``minispike/graph.py``, ``docs/trust.md``), and a link to a ``.py`` file, lead to
  its page.

A line that is not found is a warning, and so ends the build.
"""

import inspect
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from docutils import nodes
from pygments.formatters import HtmlFormatter
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.directives.code import LiteralInclude
from sphinx.highlighting import PygmentsBridge
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective, SphinxRole

from docs.site.places import Place, PlaceError, find, module_file, names

logger = logging.getLogger(__name__)

ROOT = Path(__file__).parents[2]

FOLDERS = ("minispike", "teachers", "tutorials", "benchmarks", "docs")
"""Whose files have pages."""

PAGES = "source"
"""The folder of the pages in the site."""


@cache
def files() -> tuple[str, ...]:
    """Every source file that has a page, from the root of the project."""
    return tuple(path.relative_to(ROOT).as_posix() for name in FOLDERS for path in sorted((ROOT / name).rglob("*.py")))


def source_page(file: str) -> str:
    """The name of a file's page."""
    return f"{PAGES}/{file.removesuffix('.py')}"


def uri(app: Sphinx, docname: str, file: str, line: int = 1) -> str:
    """The address of a line, from a page of the site."""
    anchor = f"#L-{line}" if line > 1 else ""
    return app.builder.get_relative_uri(docname, source_page(file)) + anchor


class Line(SphinxRole):
    """A link to lines of the code: ``{line}`text <module:object>` ``."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        text, _, target = self.text.rpartition("<")
        try:
            place = find(ROOT, target.rstrip(">"))
        except PlaceError as error:
            logger.warning("%s", error, location=self.get_location())
            return [nodes.inline(text=text.strip())], []
        self.env.note_dependency(ROOT / place.file)
        return [_link(self.env.docname, text.strip() or place.file, place)], []


class Excerpt(SphinxDirective):
    """Lines of the code, shown as they are, with a link to where they stand: ``{excerpt} module:object``.

    Options are those of ``literalinclude`` that choose lines: ``start-at``, ``end-at``, ``end-before``.
    """

    required_arguments = 1
    final_argument_whitespace = True
    option_spec = LiteralInclude.option_spec

    def run(self) -> list[nodes.Node]:
        try:
            place = find(ROOT, self.arguments[0])
        except PlaceError as error:
            logger.warning("%s", error, location=self.get_location())
            return []
        qualified = self.arguments[0].partition(":")[2]
        options = {**self.options, "lineno-match": None, "dedent": None, "language": "python"}
        if qualified:
            options["pyobject"] = qualified
        above = Path(self.env.doc2path(self.env.docname)).parent
        path = Path(*[".."] * len(above.relative_to(ROOT).parts), place.file).as_posix()
        include = LiteralInclude(
            "literalinclude", [path], options, self.content, self.lineno, self.content_offset, self.block_text,
            self.state, self.state_machine,
        )  # fmt: skip
        shown = include.run()
        first = next((n["highlight_args"].get("linenostart", place.first) for n in shown if "highlight_args" in n), 1)
        link = _link(self.env.docname, f"{place.file}, line {first}", Place(place.file, first, first))
        return [nodes.container("", nodes.paragraph("", "", link, classes=["where"]), *shown, classes=["excerpt"])]


def _link(docname: str, text: str, place: Place) -> nodes.reference:
    """A link whose address is made when the page is written."""
    link = nodes.reference("", "", nodes.literal(text, text) if "/" in text else nodes.Text(text), internal=True)
    link["place"] = (place.file, place.first)
    link["refuri"] = "#"
    return link


def _finish(app: Sphinx, tree: nodes.document, docname: str) -> None:
    """Make the links of a page, once all pages are known."""
    if app.builder.format != "html":
        return
    for link in tree.findall(nodes.reference):
        if "place" in link:
            link["refuri"] = uri(app, docname, *link["place"])
    for download in list(tree.findall(addnodes.download_reference)):
        file = _from_root(docname, download.get("reftarget", ""))
        if file in files():
            link = nodes.reference("", "", *download.children, internal=True, refuri=uri(app, docname, file))
            download.replace_self(link)
    for literal in list(tree.findall(nodes.literal)):
        address = _of_name(app, docname, literal.astext())
        if address and not isinstance(literal.parent, nodes.reference):
            literal.replace_self(nodes.reference("", "", literal.deepcopy(), internal=True, refuri=address))
    for signature in tree.findall(addnodes.desc_signature):
        place = of_signature(signature.get("module"), signature.get("fullname"))
        if place:
            inline = nodes.inline("", "source", classes=["source-link"])
            address = uri(app, docname, place.file, place.first)
            signature += nodes.reference("", "", inline, internal=True, refuri=address)


def _of_name(app: Sphinx, docname: str, text: str) -> str | None:
    """The address of the page of a source file, or of a page of the site, that is named by its file."""
    named = named_file(text)
    if named:
        return uri(app, docname, named)
    near = Path(docname).with_name(text).as_posix() if text.endswith(".md") and "/" not in text else ""
    known = [name.removesuffix(".md") for name in (text, near) if name.endswith(".md")]
    page = next((name for name in known if name in app.env.found_docs and name != docname), None)
    return app.builder.get_relative_uri(docname, page) if page else None


def _from_root(docname: str, target: str) -> str:
    """The file that a link of a page leads to, from the root; empty if it is none of the project."""
    path = (ROOT / target.lstrip("/")) if target.startswith("/") else (ROOT / docname).parent / target
    try:
        return path.resolve().relative_to(ROOT).as_posix()
    except ValueError:
        return ""


@cache
def named_file(text: str) -> str | None:
    """The source file that is meant by ``minispike/graph.py``, or ``graph.py`` where there is one of that name."""
    if not text.endswith(".py") or " " in text:
        return None
    if text in files():
        return text
    own = [f for f in files() if f.startswith(("minispike/", "teachers/")) and f.endswith(f"/{text}")]
    near = [f for f in own if f == f"minispike/{text}"]
    return next(iter(near or own)) if len(near or own) == 1 else None


@cache
def of_signature(module: str | None, qualified: str | None) -> Place | None:
    """Where an object of the reference is defined, wherever it is offered; None if it is not in a file of its own."""
    if not module or not qualified:
        return None
    found: Any = import_module(module)
    for part in qualified.split("."):
        found = inspect.getattr_static(found, part, None)
    found = inspect.unwrap(getattr(found, "fget", None) or getattr(found, "__func__", None) or found)
    homes = [(getattr(found, "__module__", None), getattr(found, "__qualname__", None)), (module, qualified)]
    for home, name in homes:
        file = module_file(ROOT, home) if isinstance(home, str) else None
        if file in files() and name in names(ROOT, file):
            return find(ROOT, f"{home}:{name}")
    return None


def _pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """The source pages."""
    bridge = PygmentsBridge("html", app.config.pygments_style)
    formatter = HtmlFormatter(linenos="inline", linespans="row", anchorlinenos=True, lineanchors="L", wrapcode=True)
    bridge.get_formatter = lambda **kwargs: formatter  # type: ignore[method-assign]
    for file in files():
        code = bridge.highlight_block((ROOT / file).read_text(encoding="utf-8"), "python")
        body = f'<h1><code>{file}</code></h1>\n<div class="source-page">{code}</div>'
        yield source_page(file), {"title": file, "body": body, "parents": []}, "page.html"


def setup(app: Sphinx) -> dict[str, Any]:
    """Register roles, directives and pages."""
    app.add_role("line", Line())
    app.add_directive("excerpt", Excerpt)
    app.connect("doctree-resolved", _finish)
    app.connect("html-collect-pages", _pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
