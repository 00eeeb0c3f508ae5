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
        cases: what it is tried on. A function in place of an expected value judges a single number.
        tolerance: between numbers, relative to numbers above 1.
    """
    name = _said(answer)
    for words, expected in cases:
        called = f"{name}({', '.join(map(_said, words))})"
        try:
            found = answer(*words)
        except Exception as error:
            return Verdict(False, f"Not yet: {called} raises {type(error).__name__}: {error}")
        if found is ... or (isinstance(found, tuple) and any(part is ... for part in found)):
            return Verdict(False, f"{name} is still to be written.")
        note = _of_another_kind(found, 0.0 if callable(expected) else expected)
        if note or not _right(found, expected, tolerance):
            return Verdict(False, f"Not yet: {called} gives {_said(found)}{note}.")
    return Verdict(True, f"Right: {name}.")


def _said(word: Any) -> str:
    """An answer, an argument or a result, as one would write it."""
    with np.printoptions(precision=3, suppress=True):
        return str(getattr(word, "__name__", None) or repr(word))


def _of_another_kind(found: Any, expected: Any) -> str:
    """What is wrong with a result before one looks at its numbers, which gives nothing away; empty if nothing is."""
    if found is None or expected is None:
        return ""
    if isinstance(found, Tensor):
        return ", a Tensor; .item() or .numpy() takes its numbers out"
    if isinstance(expected, str):
        return "" if isinstance(found, str) else f", of type {type(found).__name__}; a string is asked for"
    if isinstance(expected, tuple):
        if not isinstance(found, tuple | list) or len(found) != len(expected):
            return f"; {len(expected)} results are asked for"
        return next(filter(None, map(_of_another_kind, found, expected)), "")
    try:
        numbers = np.asarray(found)
    except ValueError:  # rows of several lengths
        return ", which is no array of numbers"
    if numbers.dtype.kind not in "biuf":
        return f", of type {type(found).__name__}; numbers are asked for"
    if numbers.shape != np.shape(expected):
        asked = f"shape {np.shape(expected)}" if np.shape(expected) else "a single number"
        return f", of shape {numbers.shape}; {asked} is asked for"
    return "; that is no number" if np.isnan(numbers).any() else ""


def _right(found: Any, expected: Any, tolerance: float) -> bool:
    """Whether a result of the right kind is as good as what is expected, or will do for who judges it."""
    if callable(expected):
        try:
            return found is not None and bool(expected(found))
        except Exception:  # a number with which the judge can do nothing
            return False
    if found is None or expected is None:
        return found is expected
    if isinstance(expected, tuple):
        return all(_right(a, b, tolerance) for a, b in zip(found, expected, strict=True))
    if isinstance(expected, str):
        return bool(found == expected)
    return bool(np.all(np.abs(np.subtract(found, expected)) <= tolerance * np.maximum(1.0, np.abs(expected))))
