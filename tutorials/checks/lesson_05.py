"""Exercises of lesson 05: a spiking classifier."""

from collections.abc import Callable
from typing import Any

import numpy as np

from checks.verdict import Verdict, tell


def deviation(answer: Callable[[float, int], Any]) -> Verdict:
    """Exercise 1: against what is measured, over many pixels."""

    def measured(grey: float, steps: int) -> Callable[[Any], bool]:
        rates = np.random.default_rng(0).binomial(steps, grey, size=200_000) / steps
        return lambda found: abs(float(found) - rates.std()) <= 0.01 * rates.std()

    tried = [(0.5, 4), (0.1, 4), (0.9, 100)]
    return tell(answer, ((words, measured(*words)) for words in tried))


def latency(answer: Callable[[np.ndarray, int], Any]) -> Verdict:
    """Exercise 2."""
    cases: list[Any] = []
    for grey, steps in [([1.0, 0.8, 0.3, 0.05, 0.0], 4), ([0.51, 0.49], 2), ([0.9], 1)]:
        spikes = np.zeros((steps, len(grey)))
        for i, g in enumerate(grey):
            if g > 0:
                (step,) = (t for t in range(steps) if 1 - (t + 1) / steps < g <= 1 - t / steps)
                spikes[step, i] = 1
        cases.append(((np.array(grey), steps), spikes))
    return tell(answer, cases)
