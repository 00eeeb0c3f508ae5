"""Pictures drawn while the site is built, each with the code that draws it.

``{drawn} name`` calls the function ``name`` of `docs.drawings`, which returns axes, and shows the picture and below it
the function.
"""

import inspect
import os
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class Drawn(SphinxDirective):
    """A picture and its code."""

    required_arguments = 1
    option_spec = {"alt": directives.unchanged_required}  # noqa: RUF012

    def run(self) -> list[nodes.Node]:
        from docs import drawings

        draw = getattr(drawings, self.arguments[0])
        for file in (drawings.__file__, inspect.getfile(draw)):
            self.env.note_dependency(file)
        code = inspect.getsource(draw)
        folder = Path(self.env.app.doctreedir) / "pictures"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{draw.__name__}.svg"
        axes = draw()
        axes.figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
        image = nodes.image(uri=_from_source(self.env, path), alt=self.options["alt"], classes=["drawn"])
        image["candidates"] = {"*": image["uri"]}
        block = nodes.literal_block(code, code, language="python")
        return [image, block]


def _from_source(env: Any, path: Path) -> str:
    """The picture as a page names it: from the root of the sources."""
    return "/" + Path(os.path.relpath(path, env.srcdir)).as_posix()


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("drawn", Drawn)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
