"""Settings: nested frozen dataclasses <-> plain mappings <-> TOML <-> ``key=value`` on a command line.

A dataclass is the one place where a setting's name, type, default and meaning stand; all is read off it.
A field is an ``int``, ``float``, ``bool``, ``str`` or ``Literal``, a ``tuple[X, ...]`` of one of those, any
of them ``| None``, or another dataclass: a section. Its help goes into ``field(metadata={"help": "..."})``.

Types are strict: an integer is taken where a float is wanted, and nothing else is converted. TOML has no
null: None is written as the string ``"none"``, and in a field that may be None this string always means None.
"""

import dataclasses
import difflib
import json
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin
from typing import get_type_hints as resolved_types

from minispike.errors import ConfigError, MinispikeError, problem

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")

_NONE = "none"


class FieldHelp(NamedTuple):
    """One setting in a command's help: dotted key, type, default as TOML (or ``required``), meaning."""

    key: str
    type: str
    default: str
    help: str


def from_mapping(cls: type[T], mapping: Mapping[str, Any], *, where: str = "config") -> T:
    """Build ``cls`` from a nested mapping such as ``tomllib`` returns; what is left out takes its default.

    Args:
        cls: a dataclass.
        mapping: field name to value, or to another mapping where the field is a dataclass.
        where: what errors call the outermost section.

    Raises:
        ConfigError: for an unknown key, a wrong type, a missing value, or a value that the dataclass itself
            refuses with a ValueError or MinispikeError. It names the dotted key and the nearest valid one.
    """
    return _read(cls, mapping, where, None)


def to_mapping(instance: "DataclassInstance") -> dict[str, Any]:
    """The settings as nested dicts of TOML's own values: tuples become lists, None becomes ``"none"``.

    Nothing is left out, so `from_mapping` gives ``instance`` back even after a default has changed.

    Raises:
        ConfigError: if a field that may be None holds the text ``"none"``, which would be read back as None.
    """
    slots = _slots(type(instance))
    return {name: _plain(name, slot.optional, getattr(instance, name)) for name, slot in slots.items()}


def to_toml(instance: "DataclassInstance") -> str:
    """The settings as a TOML document; ``from_mapping(cls, tomllib.loads(to_toml(x))) == x``.

    Floats are written with all their digits, and as ``inf`` or ``nan`` where they are that.
    """
    return "\n".join(_document(to_mapping(instance), "")).lstrip("\n") + "\n"


def read_toml(cls: type[T], path: str | Path, base: T | None = None) -> T:
    """Read ``cls`` from a TOML file; what the file leaves out comes from ``base``, or else from the defaults.

    Raises:
        ConfigError: as `from_mapping`, with the file's name in front; for a file that cannot be read, or is
            not UTF-8; for a syntax error, with file and line.
    """
    mapping = _load(Path(path))
    try:
        return _read(cls, mapping, "the file", base)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def override(instance: T, assignments: Iterable[str]) -> T:
    """A copy of ``instance`` with texts such as ``student.depth=6`` applied; the last one wins.

    A value is read as TOML: ``6``, ``1e-3``, ``true``, ``[1, 3]``, ``"text"``, ``{depth = 6}`` for a section.
    Where the field takes text, quotes are not needed; where it may be None, ``none`` is that. All
    assignments are applied at once, so values that depend on each other can change together.

    Raises:
        ConfigError: as `from_mapping`; for a missing ``=``; for a value that is not TOML.
    """
    changes: Any = {}
    for assignment in assignments:
        key, equals, text = (part.strip() for part in assignment.partition("="))
        if not (key and equals):
            hint = f"{key or 'key'}={text or 'value'}"
            raise ConfigError(problem("override", expected="key=value", got=repr(assignment), hint=hint))
        change = _parse(text, _find(type(instance), key), key)
        for part in reversed(key.split(".")):
            change = {part: change}
        changes = _merge(changes, change)
    return _read(type(instance), changes, "config", instance)


def describe(instance: "DataclassInstance") -> str:
    """The settings for the start of a log: aligned lines ``section.key = value``, each of them valid TOML."""
    lines = list(_flat(to_mapping(instance), ""))
    width = max((len(key) for key, _ in lines), default=0)
    return "\n".join(f"{key:<{width}} = {_toml(value)}" for key, value in lines)


def fields_help(cls: "type[DataclassInstance]") -> list[FieldHelp]:
    """Key, type, default and meaning of each setting of ``cls``, in the order of its fields."""
    return list(_help(cls, "", None))


# ---- What a field takes


class _Slot(NamedTuple):
    """A field: its type without ``| None``, whether None is allowed, its default (or MISSING), its help."""

    kind: Any
    optional: bool
    default: Any
    help: str

    @property
    def expected(self) -> str:
        return _type_text(self.kind) + (f" | {_toml(None)}" if self.optional else "")

    def example(self, value: Any) -> str:
        """A value that would do, for the end of an error: ``value``, or anything where that is no help."""
        no_help = value is None or value is MISSING or is_dataclass(value)
        return _example(self.kind) if no_help else _toml(value)


@cache
def _slots(cls: Any) -> dict[str, _Slot]:
    hints = resolved_types(cls)
    return {field.name: _slot(field, hints[field.name]) for field in dataclasses.fields(cls) if field.init}


def _slot(field: "dataclasses.Field[Any]", hint: Any) -> _Slot:
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    others = [kind for kind in kinds if kind is not NoneType]
    if len(others) != 1 or not (_is_section(others[0]) or _is_leaf(others[0])):
        raise TypeError(f"{field.name}: expected a type that minispike.settings lists, got {hint}")
    default = field.default if field.default_factory is MISSING else field.default_factory()
    return _Slot(others[0], len(others) < len(kinds), default, field.metadata.get("help", ""))


def _is_section(kind: Any) -> bool:
    return is_dataclass(kind)


def _is_leaf(kind: Any) -> bool:
    if get_origin(kind) is tuple:
        item, *rest = get_args(kind)
        return rest == [Ellipsis] and get_origin(item) is not tuple and _is_leaf(item)
    return kind in (int, float, bool, str) or get_origin(kind) is Literal


def _fits(kind: Any, value: Any) -> bool:
    """Whether a value is of a type; True is no integer, and 1 is no member of Literal[True]."""
    if get_origin(kind) is Literal:
        return any(type(value) is type(choice) and value == choice for choice in get_args(kind))
    if get_origin(kind) is tuple:
        return isinstance(value, (list, tuple)) and all(_fits(get_args(kind)[0], item) for item in value)
    if kind is float and isinstance(value, int):
        return not isinstance(value, bool) and abs(value) <= sys.float_info.max
    if kind is str and isinstance(value, str):
        # Half a surrogate pair comes from a file name that is not UTF-8, and could not be written.
        return not re.search("[\ud800-\udfff]", value)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _cast(kind: Any, value: Any) -> Any:
    """A value that fits, as the field stores it: a list as tuple, an integer as float if that is wanted."""
    if get_origin(kind) is tuple:
        return tuple(_cast(get_args(kind)[0], item) for item in value)
    return float(value) if kind is float else value


def _type_text(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " | ".join(map(_toml, get_args(kind)))
    if get_origin(kind) is tuple:
        return f"list of {_type_text(get_args(kind)[0])}"
    return "section" if _is_section(kind) else str(kind.__name__)


def _example(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return _toml(get_args(kind)[0])
    if get_origin(kind) is tuple:
        return f"[{_example(get_args(kind)[0])}]"
    if _is_section(kind):
        settings = [f"{name} = {slot.example(slot.default)}" for name, slot in _slots(kind).items()]
        return f"{{{''.join(settings[:1])}}}"
    return {int: "1", float: "0.5", bool: "true", str: '"text"'}[kind]


def _find(cls: Any, key: str) -> _Slot | None:
    """The field under a dotted key, or None if there is no such key."""
    slot = None
    for name in key.split("."):
        slot = _slots(cls).get(name) if _is_section(cls) else None
        cls = slot.kind if slot else None
    return slot


def _help(cls: Any, prefix: str, base: Any) -> Iterator[FieldHelp]:
    for name, slot in _slots(cls).items():
        default = slot.default if base is None else getattr(base, name)
        if slot.optional or not _is_section(slot.kind):
            text = "required" if default is MISSING else "{...}" if is_dataclass(default) else _toml(default)
            yield FieldHelp(prefix + name, slot.expected, text, slot.help)
        if _is_section(slot.kind):
            yield from _help(slot.kind, f"{prefix}{name}.", default if is_dataclass(default) else None)


# ---- From a mapping to a dataclass


def _read(cls: type[T], mapping: Mapping[str, Any], where: str, base: T | None) -> T:
    instance: T = _Reader(cls, where).section(cls, mapping, "", base)
    return instance


class _Reader:
    """Reads one mapping. It knows the outermost class, so an error can propose a key of another section."""

    def __init__(self, root: Any, where: str) -> None:
        self.root = root
        self.where = where

    def section(self, cls: Any, mapping: Mapping[str, Any], prefix: str, base: Any) -> Any:
        """A dataclass from its mapping; ``prefix`` is its key and a dot, ``base`` fills what is left out."""
        slots = _slots(cls)
        for name in mapping:
            if name not in slots:
                raise self._unknown(str(name), prefix, list(slots))
        values = {}
        for name, slot in slots.items():
            old = slot.default if base is None else getattr(base, name)
            if name in mapping:
                values[name] = self._value(slot, mapping[name], prefix + name, old)
            elif old is MISSING and _is_section(slot.kind) and not slot.optional:
                values[name] = self.section(slot.kind, {}, f"{prefix}{name}.", None)
            elif old is MISSING:
                raise _wrong(slot, MISSING, prefix + name, old)
            else:
                values[name] = old
        try:
            return cls(**values)
        except (ValueError, MinispikeError) as error:
            about = re.match(r"(\w+)[\w.\[\]]*: ", str(error))  # "depth: ..." becomes "student.depth: ..."
            place = prefix if about and about[1] in slots else f"{prefix[:-1] or self.where}: "
            raise ConfigError(f"{place}{error}") from error

    def _value(self, slot: _Slot, value: Any, key: str, old: Any) -> Any:
        if slot.optional and value in (None, _NONE):
            return None
        if _is_section(slot.kind) and isinstance(value, Mapping):
            return self.section(slot.kind, value, f"{key}.", old if is_dataclass(old) else None)
        if _fits(slot.kind, value):
            return _cast(slot.kind, value)
        raise _wrong(slot, value, key, old)

    def _unknown(self, name: str, prefix: str, names: list[str]) -> ConfigError:
        keys = [row.key for row in fields_help(self.root)]
        near = [prefix + match for match in difflib.get_close_matches(name, names, n=1)]
        near = near or [key for key in keys if key.rpartition(".")[2] == name]
        near = near or difflib.get_close_matches(prefix + name, keys, n=1)
        hint = " or ".join(near[:3]) or f"one of {', '.join(names)}"
        expected = f"one of the keys of {prefix[:-1] or self.where}"
        return ConfigError(problem(prefix + name, expected=expected, got="an unknown key", hint=hint))


def _wrong(slot: _Slot, value: Any, key: str, old: Any) -> ConfigError:
    """The error for a value of a wrong type. Its advice is a near choice, or else what would stand there."""
    choices = [choice for choice in get_args(slot.kind) if isinstance(choice, str)]
    near = difflib.get_close_matches(value, choices, n=1) if isinstance(value, str) else []
    hint = f"{key} = {_toml(near[0]) if near else slot.example(old)}"
    expected = slot.expected
    if get_origin(slot.kind) is tuple and isinstance(value, (list, tuple)):
        kind = get_args(slot.kind)[0]
        place, value = next((place, item) for place, item in enumerate(value) if not _fits(kind, item))
        key, expected = f"{key}[{place}]", _type_text(kind)
    return ConfigError(problem(key, expected=expected, got=_shown(value), hint=hint))


def _shown(value: Any) -> str:
    """A refused value for an error: as TOML if it can be, cut if it is long, its type in brackets."""
    if value is MISSING:
        return "nothing"
    try:
        text = _toml(value)
    except TypeError:
        text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"


# ---- From a dataclass to TOML


def _plain(name: str, optional: bool, value: Any) -> Any:
    if optional and value == _NONE:
        expected = 'any text but "none", which stands for None here'
        raise ConfigError(problem(name, expected=expected, got='"none"', hint="None"))
    if is_dataclass(value) and not isinstance(value, type):
        return to_mapping(value)
    if isinstance(value, tuple):
        return list(value)
    return _NONE if value is None else value


def _toml(value: Any) -> str:
    if value is None:
        value = _NONE
    if isinstance(value, str):  # JSON's strings are TOML's, but for the delete character
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):  # not repr(value): NumPy's float64 is a float that says np.float64(...)
        return float.__repr__(value)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key} = {_toml(item)}' for key, item in value.items())}}}"
    raise TypeError(f"expected a value that TOML can write, got {value!r}")


def _document(table: dict[str, Any], path: str) -> Iterator[str]:
    """The lines of a table, sections last: TOML gives whatever follows ``[section]`` to that section."""
    if path:
        yield f"\n[{path}]"
    sections = {key: value for key, value in table.items() if isinstance(value, dict)}
    yield from (f"{key} = {_toml(value)}" for key, value in table.items() if key not in sections)
    for key, section in sections.items():
        yield from _document(section, f"{path}.{key}" if path else key)


def _flat(table: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


# ---- Files and command lines


def _load(path: Path) -> dict[str, Any]:
    try:
        text = path.read_bytes().decode("utf-8-sig")  # some editors put a byte order mark in front
    except OSError as error:
        got = error.strerror or str(error)
        raise ConfigError(problem(str(path), expected="a TOML file", got=got, hint="another path")) from error
    except UnicodeDecodeError as error:
        line = 1 + error.object.count(b"\n", 0, error.start)
        got = f"the byte 0x{error.object[error.start]:02x}"
        hint = "saving the file as UTF-8"
        raise ConfigError(problem(f"{path}:{line}", expected="UTF-8 text", got=got, hint=hint)) from error
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        lines = text.splitlines() or [""]
        found = re.search(r"at line (\d+)", str(error))  # only Python 3.14 gives the number by itself
        line = min(int(found[1]), len(lines)) if found else len(lines)
        got = f"{lines[line - 1].strip()!r} ({error})"
        hint = "key = value, with text in double quotes"
        raise ConfigError(problem(f"{path}:{line}", expected="TOML", got=got, hint=hint)) from error


def _parse(text: str, slot: _Slot | None, key: str) -> Any:
    """The value of an assignment on a command line, whose shell has eaten the quotes of a text."""
    if slot is None or (slot.optional and text == _NONE):
        return text  # an unknown key is reported as such, whatever its value
    try:
        table = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        table = {}
    is_toml = table.keys() == {"value"}  # a line break in the text could bring in a second key
    takes_text = slot.kind is str or any(isinstance(choice, str) for choice in get_args(slot.kind))
    if takes_text and not text.startswith(('"', "'")) and not (is_toml and _fits(slot.kind, table["value"])):
        return text
    if is_toml:
        return table["value"]
    hint = f"{key}={slot.example(slot.default)}"
    raise ConfigError(problem(key, expected=slot.expected, got=text or "nothing", hint=hint))


def _merge(old: Any, new: Any) -> Any:
    if isinstance(old, dict) and isinstance(new, dict):
        return old | {key: _merge(old.get(key), value) for key, value in new.items()}
    return new
