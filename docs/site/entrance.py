"""The way in: the site's first page lies in a folder, and ``index.html`` beside the folders leads there."""

from pathlib import Path
from typing import Any

from sphinx.application import Sphinx


def _finish(app: Sphinx, problem: Exception | None) -> None:
    """Write the page that leads on."""
    if problem is None and app.builder.name == "html":
        address = app.builder.get_target_uri(app.config.root_doc)
        text = f'<!DOCTYPE html>\n<meta charset="utf-8">\n<title>{app.config.html_title}</title>\n'
        text += f'<meta http-equiv="refresh" content="0; url={address}">\n<a href="{address}">{app.config.html_title}</a>\n'
        (Path(app.outdir) / "index.html").write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register it."""
    app.connect("build-finished", _finish)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
