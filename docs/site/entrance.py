"""Pages and their frame: ``index.html``, which leads to the first page, and titles where there are none."""

from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

TITLES = {
    "speed": "Speed and memory",
    "base": "A network of BERT-base's size",
    "growth": "Time against size",
    "epoch": "An epoch of real sentences",
    "cache": "A teacher that is remembered",
    "summary": "What ran",
}
"""Of the pages of `benchmarks/results` that have none."""


def _finish(app: Sphinx, problem: Exception | None) -> None:
    """Write the page that leads on."""
    if problem is None and app.builder.name == "html":
        address = app.builder.get_target_uri(app.config.root_doc)
        text = f'<!DOCTYPE html>\n<meta charset="utf-8">\n<title>{app.config.html_title}</title>\n'
        text += (
            f'<meta http-equiv="refresh" content="0; url={address}">\n<a href="{address}">{app.config.html_title}</a>\n'
        )
        (Path(app.outdir) / "index.html").write_text(text, encoding="utf-8")


def _headed(app: Sphinx, docname: str, source: list[str]) -> None:
    """Give a page of tables that a program wrote, with headings of the second level alone, one of the first."""
    if docname.startswith("benchmarks/results/") and not any(line.startswith("# ") for line in source[0].splitlines()):
        source[0] = f"# {TITLES.get(docname.rpartition('/')[2], docname)}\n\n{source[0]}"


def setup(app: Sphinx) -> dict[str, Any]:
    """Register it."""
    app.connect("source-read", _headed)
    app.connect("build-finished", _finish)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
