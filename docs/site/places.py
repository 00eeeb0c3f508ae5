"""Where something stands in the code: lines found by what is written there, so that no link goes by a number.

A place is written ``package.module:Class.method``, or ``package.module`` for a whole file. `` @ text`` behind it means
the one line, of the object or of the file, that contains the text.

>>> from pathlib import Path
>>> place = find(Path(__file__).parents[2], "minispike.graph:differentiate @ order.pop()")
>>> place.file, place.first == place.last
('minispike/graph.py', True)
"""

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path


class PlaceError(Exception):
    """There is no such place in the code."""


@dataclass(frozen=True)
class Place:
    """Some lines of a file.

    Attributes:
        file: from the root of the project, with slashes.
        first, last: numbers of lines, from 1.
    """

    file: str
    first: int
    last: int


def find(root: Path, target: str) -> Place:
    """The place that ``target`` names.

    Args:
        root: of the project.
        target: as at the top of this file.

    Raises:
        PlaceError: there is no such file or object, or the text is not in exactly one line of it.
    """
    name, _, text = (part.strip() for part in target.partition(" @ "))
    module, _, qualified = name.partition(":")
    file = module_file(root, module)
    if file is None:
        raise PlaceError(f"{target}: expected a module below {root.name}/, got {module}")
    lines = _lines(root / file)
    first, last = 1, len(lines)
    if qualified:
        found = _objects(root / file).get(qualified)
        if found is None:
            raise PlaceError(f"{target}: expected something that {file} defines, got {qualified}")
        first, last = found
    if text:
        hits = [number for number in range(first, last + 1) if text in lines[number - 1]]
        if len(hits) != 1:
            raise PlaceError(f"{target}: expected one line with {text!r}, got {len(hits)}")
        first = last = hits[0]
    return Place(file, first, last)


def module_file(root: Path, module: str) -> str | None:
    """The file of a module, from the root; None if there is none."""
    stem = module.replace(".", "/")
    return next((f for f in (f"{stem}.py", f"{stem}/__init__.py") if module and (root / f).is_file()), None)


def names(root: Path, file: str) -> frozenset[str]:
    """What a file defines, as ``function`` or ``Class.method``."""
    return frozenset(_objects(root / file))


@cache
def _lines(path: Path) -> tuple[str, ...]:
    return tuple(path.read_text(encoding="utf-8").splitlines())


@cache
def _objects(path: Path) -> dict[str, tuple[int, int]]:
    """The first and last lines of all that a file defines, on its own level or in classes and functions."""
    found: dict[str, tuple[int, int]] = {}

    def visit(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
                found.setdefault(prefix + node.name, (first, node.end_lineno or first))
                visit(node.body, f"{prefix}{node.name}.")
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                for target in targets:
                    if isinstance(target, ast.Name):
                        found.setdefault(prefix + target.id, (node.lineno, node.end_lineno or node.lineno))

    visit(ast.parse(path.read_text(encoding="utf-8")).body, "")
    return found
