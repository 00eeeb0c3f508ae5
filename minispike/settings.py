"""Settings: nested frozen dataclasses <-> plain mappings <-> TOML <-> ``key=value`` on a command line.

A dataclass is the one place where a setting's name, type, default and meaning stand; all is read off it.
A field is an ``int``, ``float``, ``bool``, ``str`` or ``Literal``, a ``tuple[X, ...]`` of one of those, any
of them ``| None``, or another dataclass: a section. Its help goes into ``field(metadata={"help": "..."})``.

Types are strict: an integer is taken where a float is wanted, and nothing else is converted. TOML has no
null: None is written as the string ``"none"``, and in a field that may be None this string always means None.
"""

import difflib
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, get_args, get_origin

from minispike.errors import ConfigError, MinispikeError, problem
from minispike.setting_types import Slot, convert, find_slot, fits, is_section, slots_of, type_text
from minispike.toml_text import NONE, flat, load_toml, toml_document, toml_value

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")


class FieldHelp(NamedTuple):
    """One setting in a command's help.

    Attributes:
        key: dotted, such as ``student.depth``.
        type: in words.
        default: as TOML, or ``required``.
        help: what it means.

    Example:
        >>> from minispike.settings import fields_help
        >>> from minispike.train.schedule import Schedule
        >>> row = fields_help(Schedule)[0]
        >>> row.key, row.type, row.default
        ('warmup', 'float', '0.1')
    """

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

    Example:
        >>> from minispike.settings import from_mapping
        >>> from minispike.train.schedule import Schedule
        >>> from_mapping(Schedule, {"warmup": 0.2})
        Schedule(warmup=0.2, shape='cosine', floor=0.0)
        >>> from_mapping(Schedule, {"warm_up": 0.2})
        Traceback (most recent call last):
            ...
        minispike.errors.ConfigError: warm_up: expected one of the keys of config, got an unknown key; try warmup
    """
    return _read(cls, mapping, where, None)


def to_mapping(instance: "DataclassInstance") -> dict[str, Any]:
    """The settings as nested dicts of TOML's own values: tuples become lists, None becomes ``"none"``.

    Nothing is left out, so `from_mapping` gives ``instance`` back even after a default has changed.

    Raises:
        ConfigError: if a field that may be None holds the text ``"none"``, which would be read back as None.

    Example:
        >>> from minispike.distill.losses import Alignment
        >>> from minispike.settings import to_mapping
        >>> to_mapping(Alignment(layers=(2, 4)))
        {'layers': [2, 4], 'reach': 'last', 'masked': True, 'per_batch': False}
    """
    slots = slots_of(type(instance))
    return {name: _plain(name, slot.optional, getattr(instance, name)) for name, slot in slots.items()}


def left_out(instance: "DataclassInstance", mapping: Mapping[str, Any]) -> list[str]:
    """The dotted keys of those settings for which ``mapping``, that ``instance`` was read from, has no value.

    Example:
        >>> from minispike.settings import left_out
        >>> from minispike.train.schedule import Schedule
        >>> left_out(Schedule(warmup=0.2), {"warmup": 0.2})
        ['shape', 'floor']
    """
    known = {key for key, _ in flat(dict(mapping))}
    return [key for key, _ in flat(to_mapping(instance)) if key not in known]


def to_toml(instance: "DataclassInstance") -> str:
    """The settings as a TOML document; ``from_mapping(cls, tomllib.loads(to_toml(x))) == x``.

    Floats are written with all their digits, and as ``inf`` or ``nan`` where they are that.

    Raises:
        ConfigError: as `to_mapping`.

    Example:
        >>> from minispike.settings import to_toml
        >>> from minispike.train.schedule import Schedule
        >>> print(to_toml(Schedule(floor=0.01)), end="")
        warmup = 0.1
        shape = "cosine"
        floor = 0.01
    """
    return "\n".join(toml_document(to_mapping(instance))).lstrip("\n") + "\n"


def read_toml(cls: type[T], path: str | Path, base: T | None = None) -> T:
    """Read ``cls`` from a TOML file; what the file leaves out comes from ``base``, or else from the defaults.

    Args:
        cls: a dataclass.
        path: the file, in UTF-8.
        base: an instance of ``cls``; None, the default: the defaults of its fields.

    Raises:
        ConfigError: as `from_mapping`, with the file's name in front; for a file that cannot be read, or is
            not UTF-8; for a syntax error, with file and line.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from minispike.settings import read_toml
        >>> from minispike.train.schedule import Schedule
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "schedule.toml"
        ...     _ = path.write_text('shape = "linear"')
        ...     read_toml(Schedule, path, base=Schedule(floor=0.01))
        Schedule(warmup=0.1, shape='linear', floor=0.01)
    """
    mapping = load_toml(Path(path))
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

    Example:
        >>> from minispike.config import preset
        >>> from minispike.settings import override
        >>> config = override(preset("tiny"), ["student.depth=6", "stage2.schedule=linear"])
        >>> config.student.depth, config.stage2.schedule
        (6, 'linear')
    """
    changes: Any = {}
    for assignment in assignments:
        key, equals, text = (part.strip() for part in assignment.partition("="))
        if not (key and equals):
            hint = f"{key or 'key'}={text or 'value'}"
            raise ConfigError(problem("override", expected="key=value", got=repr(assignment), hint=hint))
        change = _parse(text, find_slot(type(instance), key), key)
        for part in reversed(key.split(".")):
            change = {part: change}
        changes = _merge(changes, change)
    return _read(type(instance), changes, "config", instance)


def describe(instance: "DataclassInstance") -> str:
    """The settings for the start of a log: aligned lines ``section.key = value``, each of them valid TOML.

    Example:
        >>> from minispike.settings import describe
        >>> from minispike.train.schedule import Schedule
        >>> print(describe(Schedule()))
        warmup = 0.1
        shape  = "cosine"
        floor  = 0.0
    """
    lines = list(flat(to_mapping(instance)))
    width = max((len(key) for key, _ in lines), default=0)
    return "\n".join(f"{key:<{width}} = {toml_value(value)}" for key, value in lines)


def fields_help(cls: "type[DataclassInstance]") -> list[FieldHelp]:
    """Key, type, default and meaning of each setting of ``cls``, in the order of its fields.

    Example:
        >>> from minispike.settings import fields_help
        >>> from minispike.train.schedule import Schedule
        >>> for row in fields_help(Schedule):
        ...     print(row.key, "-", row.help)
        warmup - share of the steps over which the rate rises
        shape - how the rate falls after the warm-up
        floor - share of the peak rate at the last step
    """
    return list(_help(cls, "", None))


# ---- Help


def _help(cls: Any, prefix: str, base: Any) -> Iterator[FieldHelp]:
    for name, slot in slots_of(cls).items():
        default = slot.default if base is None else getattr(base, name)
        if slot.optional or not is_section(slot.kind):
            text = "required" if default is MISSING else "{...}" if is_dataclass(default) else toml_value(default)
            yield FieldHelp(prefix + name, slot.expected, text, slot.help)
        if is_section(slot.kind):
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
        slots = slots_of(cls)
        for name in mapping:
            if name not in slots:
                raise self._unknown(str(name), prefix, list(slots))
        values = {}
        for name, slot in slots.items():
            old = slot.default if base is None else getattr(base, name)
            if name in mapping:
                values[name] = self._value(slot, mapping[name], prefix + name, old)
            elif old is MISSING and is_section(slot.kind) and not slot.optional:
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
            # ... and the advice "try depth=4" becomes "try student.depth=4"
            advice = re.sub(r"; try (?=(\w+)=)", lambda m: m[0] + prefix * (m[1] in slots), str(error))
            raise ConfigError(f"{place}{advice}") from error

    def _value(self, slot: Slot, value: Any, key: str, old: Any) -> Any:
        if slot.optional and value in (None, NONE):
            return None
        if is_section(slot.kind) and isinstance(value, Mapping):
            return self.section(slot.kind, value, f"{key}.", old if is_dataclass(old) else None)
        if fits(slot.kind, value):
            return convert(slot.kind, value)
        raise _wrong(slot, value, key, old)

    def _unknown(self, name: str, prefix: str, names: list[str]) -> ConfigError:
        keys = [row.key for row in fields_help(self.root)]
        near = [prefix + match for match in difflib.get_close_matches(name, names, n=1)]
        near = near or [key for key in keys if key.rpartition(".")[2] == name]
        near = near or difflib.get_close_matches(prefix + name, keys, n=1)
        hint = " or ".join(near[:3]) or f"one of {', '.join(names)}"
        expected = f"one of the keys of {prefix[:-1] or self.where}"
        return ConfigError(problem(prefix + name, expected=expected, got="an unknown key", hint=hint))


def _wrong(slot: Slot, value: Any, key: str, old: Any) -> ConfigError:
    """The error for a value of a wrong type. Its advice is a near choice, or else what would stand there."""
    choices = [choice for choice in get_args(slot.kind) if isinstance(choice, str)]
    near = difflib.get_close_matches(value, choices, n=1) if isinstance(value, str) else []
    hint = f"{key} = {toml_value(near[0]) if near else slot.example(old)}"
    expected = slot.expected
    if get_origin(slot.kind) is tuple and isinstance(value, (list, tuple)):
        kind = get_args(slot.kind)[0]
        place, value = next((place, item) for place, item in enumerate(value) if not fits(kind, item))
        key, expected = f"{key}[{place}]", type_text(kind)
    return ConfigError(problem(key, expected=expected, got=shown(value), hint=hint))


def shown(value: Any) -> str:
    """A refused value for an error: as TOML if it can be, cut if it is long, its type in brackets.

    Example:
        >>> from minispike.settings import shown
        >>> shown(0.5), shown("0.5")
        ('0.5 (float)', '"0.5" (str)')
    """
    if value is MISSING:
        return "nothing"
    try:
        text = toml_value(value)
    except TypeError:
        text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"


# ---- From a dataclass to a mapping, and from a command line


def _plain(name: str, optional: bool, value: Any) -> Any:
    if optional and value == NONE:
        expected = 'any text but "none", which stands for None here'
        raise ConfigError(problem(name, expected=expected, got='"none"', hint="None"))
    if is_dataclass(value) and not isinstance(value, type):
        return to_mapping(value)
    if isinstance(value, tuple):
        return list(value)
    return NONE if value is None else value


def _parse(text: str, slot: Slot | None, key: str) -> Any:
    """The value of an assignment on a command line, whose shell has eaten the quotes of a text."""
    if slot is None or (slot.optional and text == NONE):
        return text  # an unknown key is reported as such, whatever its value
    try:
        table = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        table = {}
    is_toml = table.keys() == {"value"}  # a line break in the text could bring in a second key
    takes_text = slot.kind is str or any(isinstance(choice, str) for choice in get_args(slot.kind))
    if takes_text and not text.startswith(('"', "'")) and not (is_toml and fits(slot.kind, table["value"])):
        return text
    if is_toml:
        return table["value"]
    hint = f"{key}={slot.example(slot.default)}"
    raise ConfigError(problem(key, expected=slot.expected, got=text or "nothing", hint=hint))


def _merge(old: Any, new: Any) -> Any:
    if isinstance(old, dict) and isinstance(new, dict):
        return old | {key: _merge(old.get(key), value) for key, value in new.items()}
    return new
