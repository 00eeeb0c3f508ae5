"""What a field of a settings dataclass takes: its types, whether a value is of one, and how to name it in an error.

The types are listed at the top of `minispike.settings`, which reads and writes values with what is said here.
"""

import dataclasses
import re
import sys
from dataclasses import MISSING, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin
from typing import get_type_hints as resolved_types

from minispike.toml_text import toml_value


class Slot(NamedTuple):
    """A field: its type without ``| None``, whether None is allowed, its default (or MISSING), its help."""

    kind: Any
    optional: bool
    default: Any
    help: str

    @property
    def expected(self) -> str:
        """The type, as errors and helps name it."""
        return type_text(self.kind) + (f" | {toml_value(None)}" if self.optional else "")

    def example(self, value: Any) -> str:
        """A value that would do, for the end of an error: ``value``, or anything where that is no help."""
        no_help = value is None or value is MISSING or is_dataclass(value)
        return example_of(self.kind) if no_help else toml_value(value)


@cache
def slots_of(cls: Any) -> dict[str, Slot]:
    """The settings of a dataclass by name, in order; fields that it derives itself are none."""
    hints = resolved_types(cls)
    return {field.name: slot_of(field, hints[field.name]) for field in dataclasses.fields(cls) if field.init}


def slot_of(field: "dataclasses.Field[Any]", hint: Any) -> Slot:
    """What a field with this type hint takes.

    Raises:
        TypeError: no setting can be of this type.
    """
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    others = [kind for kind in kinds if kind is not NoneType]
    if len(others) != 1 or not (is_section(others[0]) or is_leaf(others[0])):
        raise TypeError(f"{field.name}: expected a type that minispike.settings lists, got {hint}")
    default = field.default if field.default_factory is MISSING else field.default_factory()
    return Slot(others[0], len(others) < len(kinds), default, field.metadata.get("help", ""))


def is_section(kind: Any) -> bool:
    """Whether a type is a dataclass: nested settings under a name."""
    return is_dataclass(kind)


def is_leaf(kind: Any) -> bool:
    """Whether a type is one of those of a single setting."""
    if get_origin(kind) is tuple:
        item, *rest = get_args(kind)
        return rest == [Ellipsis] and get_origin(item) is not tuple and is_leaf(item)
    return kind in (int, float, bool, str) or get_origin(kind) is Literal


def fits(kind: Any, value: Any) -> bool:
    """Whether a value is of a type; True is no integer, and 1 is no member of Literal[True]."""
    if get_origin(kind) is Literal:
        return any(type(value) is type(choice) and value == choice for choice in get_args(kind))
    if get_origin(kind) is tuple:
        return isinstance(value, (list, tuple)) and all(fits(get_args(kind)[0], item) for item in value)
    if kind is float and isinstance(value, int):
        return not isinstance(value, bool) and abs(value) <= sys.float_info.max
    if kind is str and isinstance(value, str):
        # Half a surrogate pair comes from a file name that is not UTF-8, and could not be written.
        return not re.search("[\ud800-\udfff]", value)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def convert(kind: Any, value: Any) -> Any:
    """A value that fits, as the field stores it: a list as tuple, an integer as float if that is wanted."""
    if get_origin(kind) is tuple:
        return tuple(convert(get_args(kind)[0], item) for item in value)
    return float(value) if kind is float else value


def type_text(kind: Any) -> str:
    """A type as errors and helps name it."""
    if get_origin(kind) is Literal:
        return " | ".join(map(toml_value, get_args(kind)))
    if get_origin(kind) is tuple:
        return f"list of {type_text(get_args(kind)[0])}"
    return "section" if is_section(kind) else str(kind.__name__)


def example_of(kind: Any) -> str:
    """Some value of a type, as TOML."""
    if get_origin(kind) is Literal:
        return toml_value(get_args(kind)[0])
    if get_origin(kind) is tuple:
        return f"[{example_of(get_args(kind)[0])}]"
    if is_section(kind):
        settings = [f"{name} = {slot.example(slot.default)}" for name, slot in slots_of(kind).items()]
        return f"{{{''.join(settings[:1])}}}"
    return {int: "1", float: "0.5", bool: "true", str: '"text"'}[kind]


def find_slot(cls: Any, key: str) -> Slot | None:
    """The field under a dotted key, or None if there is no such key."""
    slot = None
    for name in key.split("."):
        slot = slots_of(cls).get(name) if is_section(cls) else None
        cls = slot.kind if slot else None
    return slot
