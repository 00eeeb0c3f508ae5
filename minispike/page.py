"""The few pieces of HTML that a report is made of.

Everything here takes plain text and escapes it, except where a parameter is called ``body``: that is HTML.
"""

import base64
from collections.abc import Iterable, Sequence
from html import escape

__all__ = ["fold", "image", "items", "page", "section", "table"]

_STYLE = """
:root { color-scheme: light dark; --line: #8886; --soft: #8882; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 0 auto; padding: 0 1rem 3rem; }
h1 { font-size: 1.6rem; line-height: 1.2; }
h2 { font-size: 1.2rem; margin-top: 2.5rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; margin: .5rem 0; }
th, td { text-align: left; padding: .3rem .8rem .3rem 0; vertical-align: top; }
tr { border-bottom: 1px solid var(--line); }
.n { text-align: right; }
td.n { white-space: nowrap; }
figure { margin: 1rem 0; background: #fff; border-radius: 6px; padding: .4rem; }
img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
details { border: 1px solid var(--line); border-radius: 6px; padding: .4rem .8rem; margin: .6rem 0; }
summary { cursor: pointer; }
pre { overflow-x: auto; font-size: .85rem; }
li { margin: .2rem 0; }
.tokens span { background: var(--soft); border-radius: 4px; padding: .1rem .3rem; white-space: nowrap; }
.tokens { line-height: 2; }
.tokens sub { opacity: .6; margin-right: .2rem; }
"""

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""


def page(title: str, body: str) -> str:
    """A whole document, light or dark as the reader's system is."""
    return _PAGE.format(title=escape(title), style=_STYLE, body=body)


def section(title: str, body: str) -> str:
    """A part of the document under a heading."""
    return f"<section><h2>{escape(title)}</h2>\n{body}</section>"


def fold(title: str, body: str, opened: bool = False) -> str:
    """A part that the reader opens and closes."""
    return f"<details{' open' if opened else ''}><summary>{escape(title)}</summary>\n{body}</details>\n"


def items(lines: Iterable[str]) -> str:
    """A list of sentences."""
    return "<ul>" + "".join(f"<li>{escape(line)}</li>\n" for line in lines) + "</ul>"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], columns: str) -> str:
    """A table that scrolls sideways where the screen is narrow.

    Args:
        head: titles of the columns.
        rows: a text for each column.
        columns: ``n`` for each column of numbers, which are set flush right, and ``l`` for each of words.
    """
    kinds = [" class=n" if column == "n" else "" for column in columns]

    def line(cells: Sequence[str], tag: str) -> str:
        parts = (f"<{tag}{kind}>{escape(c)}</{tag}>" for c, kind in zip(cells, kinds, strict=True))
        return f"<tr>{''.join(parts)}</tr>\n"

    lines = "".join(line(row, "td") for row in rows)
    return f"<div class=wide><table><thead>{line(head, 'th')}</thead><tbody>{lines}</tbody></table></div>\n"


def image(kind: str, data: bytes, alt: str) -> str:
    """A picture inside the document.

    Args:
        kind: ``png`` or ``svg+xml``.
        data: the file.
        alt: what it shows, for those who cannot see it.
    """
    coded = base64.b64encode(data).decode("ascii")
    return f'<figure><img src="data:image/{kind};base64,{coded}" alt="{escape(alt)}"></figure>\n'
