"""What a check says."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from minispike import Tensor

Case = tuple[tuple[Any, ...], Any]
"""What an answer is called with, and what it should give: a value, or a function that says whether it will do."""


@dataclass(frozen=True)
class Verdict:
    """True for a right answer; what is seen below the cell is the message."""

    right: bool
    message: str

    def __bool__(self) -> bool:
        return self.right

    def __repr__(self) -> str:
        return self.message


def tell(answer: Callable[..., Any], cases: Iterable[Case], tolerance: float = 1e-6) -> Verdict:
    """Call an answer with every case, and tell of the first that is wrong, or that all are right.

    Args:
        answer: a student's function. One that returns ``...``, as it is handed out, is not judged.
        cases: what it is tried on.
        tolerance: between numbers, relative to numbers above 1.
    """
    for words, expected in cases:
        called = f"{answer.__name__}({', '.join(map(_said, words))})"
        try:
            found = answer(*words)
        except Exception as error:
            return Verdict(False, f"Not yet: {called} raises {type(error).__name__}: {error}")
        if found is ...:
            return Verdict(False, f"{answer.__name__} is still to be written.")
        try:
            right = expected(found) if callable(expected) else _equal(found, expected, tolerance)
        except Exception:  # another kind of thing than was asked for
            right = False
        if not right:
            return Verdict(False, f"Not yet: {called} gives {_said(found)}{_of_another_kind(found, expected)}.")
    return Verdict(True, f"Right: {answer.__name__}.")


def _said(word: Any) -> str:
    """An argument or a result, as one would write it."""
    with np.printoptions(precision=3, suppress=True):
        return str(getattr(word, "__name__", None) or repr(word))


def _of_another_kind(found: Any, expected: Any) -> str:
    """What is wrong with a result before one looks at its numbers; it gives nothing away."""
    if isinstance(found, Tensor):
        return ", a Tensor; .item() or .numpy() takes its numbers out"
    if found is None or callable(expected) or expected is None:
        return ""
    if isinstance(expected, tuple):
        if not isinstance(found, tuple | list) or len(found) != len(expected):
            return f"; {len(expected)} results are asked for"
        return next(filter(None, map(_of_another_kind, found, expected)), "")
    try:
        if np.shape(found) != np.shape(expected):
            asked = f"shape {np.shape(expected)}" if np.shape(expected) else "a single number"
            return f", of shape {np.shape(found)}; {asked} is asked for"
        return "; that is no number" if np.isnan(found).any() else ""
    except (TypeError, ValueError):
        return f"; that is of type {type(found).__name__}"


def _equal(found: Any, expected: Any, tolerance: float) -> bool:
    """Whether two values are the same kind of thing, and as good as equal."""
    if isinstance(expected, tuple):
        pairs = zip(found, expected, strict=True)
        return all(_equal(a, b, tolerance) for a, b in pairs)
    if expected is None or found is None:
        return found is expected
    if isinstance(found, Tensor) or np.shape(found) != np.shape(expected):
        return False
    return bool(np.all(np.abs(np.subtract(found, expected)) <= tolerance * np.maximum(1.0, np.abs(expected))))
