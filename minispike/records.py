"""What a run has left on record, read back: plain data, compared with the type that says what it holds.

A record's type is a ``TypedDict`` or a dataclass, which is built. It is made of ``dict[str, X]``, ``list[X]``,
``tuple[X, ...]``, ``X | None``, Any, the types of a single setting (see `minispike.settings`), and other such types.
What a record holds beside them is left alone: another version may have use for it.
"""

import json
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints, is_typeddict

from minispike.checkpoint import Arrays, load_tensors
from minispike.errors import CheckpointError, RunFolderError, problem
from minispike.setting_types import convert, fits, type_text
from minispike.settings import shown

T = TypeVar("T")

_NAMES: dict[type, str] = {dict: "section", list: "list"}


def read_record(path: Path, kind: type[T], *, what: str, hint: str) -> T:
    """Read a JSON file.

    Args:
        path: the file.
        kind: what it is to hold.
        what: how errors call that.
        hint: how to go on without it.

    Raises:
        RunFolderError: it cannot be read, is no JSON, or lacks a part.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as cause:  # no file, not UTF-8, no JSON, or too deep
        got = (cause.strerror if isinstance(cause, OSError) else None) or str(cause)
        raise RunFolderError(problem(str(path), expected=what, got=got, hint=hint)) from cause
    return as_record(value, kind, path, what=what, hint=hint)


def as_record(value: Any, kind: type[T], path: Path, *, what: str, hint: str, place: str = "") -> T:
    """What `read_record` returns, of plain data that has been read: the part of ``path`` at the dotted ``place``.

    Raises:
        RunFolderError: it lacks a part.
    """
    try:
        return fitted(kind, value, place)
    except ValueError as cause:
        raise RunFolderError(problem(str(path), expected=what, got=str(cause), hint=hint)) from cause


def load_noted(path: Path, kind: type[T], *, what: str, hint: str) -> tuple[Arrays, T]:
    """Read tensors, and the notes on them.

    Args:
        path: a file that `minispike.checkpoint.save_tensors` wrote.
        kind: what its notes are to hold.
        what: how errors call the two together.
        hint: how to go on without them.

    Raises:
        CheckpointError: the file is missing or damaged, or its notes are those of something else.
    """
    tensors, notes = load_tensors(path, hint=hint)
    try:
        return tensors, fitted(kind, notes)
    except ValueError as cause:
        got = str(cause) if notes else "tensors of something else"
        raise CheckpointError(problem(str(path), expected=what, got=got, hint=hint)) from cause


def fitted(kind: type[T], value: Any, place: str = "") -> T:
    """Plain data as a type says; ``place`` is what errors call it, in front of the names of its parts.

    >>> fitted(dict[str, float], {"total": 1})
    {'total': 1.0}

    Raises:
        ValueError: it does not fit; the message has the dotted name of the first part that does not.
    """
    found: T = _fitted(kind, value, place)
    return found


def _fitted(kind: Any, value: Any, place: str) -> Any:
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if NoneType in inner:
        return None if value is None else _fitted(next(one for one in inner if one is not NoneType), value, place)
    if is_typeddict(kind):
        return _section(value, get_type_hints(kind), kind.__required_keys__, place)
    if is_dataclass(kind):
        needed = [own.name for own in fields(kind) if own.default is MISSING and own.default_factory is MISSING]
        hints = get_type_hints(kind)
        found = _section(value, hints, needed, place)
        return kind(**{name: found[name] for name in hints if name in found})  # type: ignore[operator]
    if origin is dict:
        return _section(value, dict.fromkeys(_checked(dict, value, place), inner[1]), (), place)
    if origin in (list, tuple):
        items = enumerate(_checked(list, value, place))
        return origin(_fitted(inner[0], item, f"{place}[{i}]") for i, item in items)
    if fits(kind, value):
        return convert(kind, value)
    raise _wrong(type_text(kind), value, place)


def _section(value: Any, hints: dict[str, Any], needed: Any, place: str) -> dict[str, Any]:
    """A mapping with the values that have a type fitted, and the others as they are."""
    section: dict[str, Any] = dict(_checked(dict, value, place))
    for name, kind in hints.items():
        key = f"{place}.{name}" if place else name
        if name in section:
            section[name] = _fitted(kind, section[name], key)
        elif name in needed:
            raise ValueError(f"no {key}")
    return section


def _checked(kind: type[T], value: Any, place: str) -> T:
    if isinstance(value, kind):
        return value
    raise _wrong(_NAMES[kind], value, place)


def _wrong(expected: str, value: Any, place: str) -> ValueError:
    return ValueError(f"{place + ' = ' if place else ''}{shown(value)} instead of {expected}")
