"""TOML as text: values and documents are written here, and files read with errors that name the line.

Python reads TOML (`tomllib`) but does not write it. Nothing here knows what a setting is.
"""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from minispike.errors import ConfigError, problem

NONE = "none"
"""The text that stands for None, for which TOML has no word."""


def toml_value(value: Any) -> str:
    """A value as TOML: in one line, tables too; None as the text that stands for it.

    Raises:
        TypeError: TOML has no such value.
    """
    if value is None:
        value = NONE
    if isinstance(value, str):  # JSON's strings are TOML's, but for the delete character
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):  # not repr(value): NumPy's float64 is a float that says np.float64(...)
        return float.__repr__(value)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(toml_value, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key} = {toml_value(item)}' for key, item in value.items())}}}"
    raise TypeError(f"expected a value that TOML can write, got {value!r}")


def toml_document(table: dict[str, Any], path: str = "") -> Iterator[str]:
    """The lines of a table, sections last: TOML gives whatever follows ``[section]`` to that section."""
    if path:
        yield f"\n[{path}]"
    sections = {key: value for key, value in table.items() if isinstance(value, dict)}
    yield from (f"{key} = {toml_value(value)}" for key, value in table.items() if key not in sections)
    for key, section in sections.items():
        yield from toml_document(section, f"{path}.{key}" if path else key)


def flat(table: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a nested table with its dotted key."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def load_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        ConfigError: it cannot be read, is not UTF-8 or is not TOML; with file and line.
    """
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
