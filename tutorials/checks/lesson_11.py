"""Exercises of lesson 11: what an answer costs."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from checks.verdict import Verdict, tell
from minispike.energy import AC_PICOJOULE, MAC_PICOJOULE


def steps(answer: Callable[[float, float, float], Any]) -> Verdict:
    """Exercise 1: step by step, until it does not pay; with the last prices 8 steps cost just as much."""

    def most(rate: float, addition: float, mac: float) -> int:
        return next(t for t in itertools.count() if rate * (t + 1) * addition >= mac)

    tried = [(rate, AC_PICOJOULE, MAC_PICOJOULE) for rate in (0.2, 0.05, 0.9, 1.3, 7.0)]
    return tell(answer, ((words, most(*words)) for words in [*tried, (0.5, 1.0, 4.0)]))


def cheaper(answer: Callable[[np.ndarray, int], Any]) -> Verdict:
    """Exercise 2: input by input."""

    def charged(counts: np.ndarray, outputs: int) -> float:
        spent = 0.0
        for count in counts.ravel().tolist():
            spent += min(count * AC_PICOJOULE, MAC_PICOJOULE) * outputs
        return spent

    tried = [
        (np.array([[0, 1, 2, 3]]), 10),
        (np.array([[0, 9, 0], [1, 5, 6]]), 4),
        (np.array([[25, 0], [12, 7]]), 2),
    ]
    return tell(answer, ((words, charged(*words)) for words in tried))


def share(answer: Callable[[int, float, float], Any]) -> Verdict:
    """Exercise 3: batch by batch, until it is enough."""

    def enough(weights: int, word: float, arithmetic: float) -> int:
        return next(b for b in itertools.count(1) if weights * word / b < arithmetic)

    tried = [(1000, 640.0, 30_000.0), (500, 5.0, 10_000.0), (2000, 5.0, 2500.0), (98_304, 640.0, 1.8e6)]
    return tell(answer, ((words, enough(*words)) for words in tried))
