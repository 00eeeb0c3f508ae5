"""Exercises of lesson 06: what an operation waits for."""

import itertools
from collections.abc import Callable
from typing import Any

from checks.verdict import Verdict, tell

_MANY = 1 << 40
"""Rows: with more the intensity of a linear map grows no further to speak of."""


def rows(answer: Callable[[float, int], Any]) -> Verdict:
    """Exercise 1: against rows that are tried one after the other."""

    def reaches(n: int, ridge: float, width: int) -> bool:
        moved = n * width + width * width + n * width
        return 2 * n * width * width >= ridge * 4 * moved

    def smallest(ridge: float, width: int) -> int | None:
        if not reaches(_MANY, ridge, width):
            return None
        return next(n for n in itertools.count(1) if reaches(n, ridge, width))

    tried = [(10.0, 256), (3.5, 64), (8.0, 1024), (20.0, 64), (16.0, 64)]
    return tell(answer, ((words, smallest(*words)) for words in tried))


def launch(answer: Callable[[float, float, float], Any]) -> Verdict:
    """Exercise 2: moving as many takes as long as a launch."""

    def as_long(launch: float, bandwidth: float, bytes_each: float) -> Callable[[Any], bool]:
        return lambda found: abs(float(found) * bytes_each / bandwidth - launch) <= 1e-6 * launch

    tried = [(10e-6, 4.8e12, 8.0), (0.5e-6, 16e9, 12.0), (5e-6, 1e12, 4.0)]
    return tell(answer, ((words, as_long(*words)) for words in tried))
