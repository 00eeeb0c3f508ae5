"""The tensors in nested lists, tuples, dictionaries and dataclasses."""

import copy
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from minispike.backend import array_module
from minispike.errors import GradientError, problem
from minispike.tensor import Tensor

_PLAIN = (int, float, complex, str, bytes, np.generic, np.ndarray, type(None))


def mapped(value: Any, name: str, change: Callable[[Any, str], Any]) -> Any:
    """``value`` with ``change(leaf, name)`` in place of whatever is no list, tuple, dictionary or dataclass.

    A collection in which nothing has changed stays itself.
    """
    if isinstance(value, dict):
        changed: Any = {key: mapped(part, f"{name}[{key!r}]", change) for key, part in value.items()}
        if all(changed[key] is part for key, part in value.items()):
            return value
        new = copy.copy(value)  # of whatever kind of dictionary it is
        new.update(changed)
        return new
    if isinstance(value, list | tuple):
        parts = [mapped(part, f"{name}[{i}]", change) for i, part in enumerate(value)]
        if all(new is old for new, old in zip(parts, value, strict=True)):
            return value
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)  # named tuples, and others
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}
        new = {key: mapped(part, f"{name}.{key}", change) for key, part in fields.items()}
        changes = {key: part for key, part in new.items() if part is not fields[key]}
        return dataclasses.replace(value, **changes) if changes else value
    return change(value, name)


def tensors_in(value: Any, name: str = "the output") -> Iterator[Tensor]:
    """Every tensor in what a function returned; numbers, words and arrays beside them are passed over.

    Raises:
        GradientError: there is something that might hold tensors, and is none of the known collections.
    """
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from tensors_in(part, f"{name}[{key!r}]")
    elif isinstance(value, list | tuple):
        for i, part in enumerate(value):
            yield from tensors_in(part, f"{name}[{i}]")
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from tensors_in(getattr(value, field.name), f"{name}.{field.name}")
    elif not isinstance(value, _PLAIN) and not isinstance(value, array_module(value).ndarray):
        expected = "tensors, or lists, tuples, dictionaries or dataclasses of them"
        raise GradientError(problem(name, expected=expected, got=type(value).__name__, hint="return the tensors in it"))
