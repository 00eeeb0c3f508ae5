"""Formulas, set while the site is built: each becomes a drawing within the page, so that no script runs in it.

A drawing takes the colour of the text around it, and has the formula in TeX as its description.
"""

import html
import re
from functools import cache
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging
from ziamath.config import config
from ziamath.zmath import Latex

logger = logging.getLogger(__name__)

SIZE = 18.0
"""Of a formula's letters, in pixels; the text beside them has 16, of a font whose letters are larger."""


MARGIN = 1.0
"""Around a drawing, in pixels."""

config.svg2 = False  # every letter is drawn where it stands: no identifiers, which two formulas might share


class FormulaError(ValueError):
    """TeX that cannot be set."""


@cache
def drawing(tex: str, inline: bool) -> str:
    """The formula as SVG, aligned with the text around it.

    Raises:
        FormulaError: it has a command that is not known, or is no TeX at all.
    """
    try:
        formula = Latex(tex, size=SIZE, inline=inline, color="currentColor")
        unknown = re.findall(r"\\[A-Za-z]+", formula.mathmlstr())
        if unknown:
            raise FormulaError(f"{tex}: expected commands that are known, got {unknown[0]}")
        svg, depth = formula.svg(), MARGIN - formula.getyofst()
    except FormulaError:
        raise
    except Exception as cause:  # of many kinds
        raise FormulaError(f"{tex}: cannot be set ({cause!r})") from cause
    described = html.escape(tex, quote=True)
    style = f' style="vertical-align: {-depth:.2f}px"' if inline else ""
    return svg.replace("<svg ", f'<svg class="formula" role="img" aria-label="{described}"{style} ', 1)


def _set(writer: Any, node: nodes.Element, inline: bool) -> str:
    try:
        return drawing(node.astext(), inline)
    except FormulaError as error:
        logger.warning("%s", error, location=node)
        return f"<code>{html.escape(node.astext())}</code>"


def visit_inline(writer: Any, node: nodes.math) -> None:
    """Write a formula within a line."""
    writer.body.append(_set(writer, node, True))
    raise nodes.SkipNode


def visit_block(writer: Any, node: nodes.math_block) -> None:
    """Write a formula of its own."""
    writer.body.append(f'<div class="formula">{_set(writer, node, False)}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the renderer."""
    app.add_html_math_renderer("drawn", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
