"""Exercises of lesson 12: silent and screaming networks."""

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import numpy as np

from checks.verdict import Verdict, tell
from minispike.record import membrane_trace
from minispike.snn.neurons import LIFNeuron
from minispike.snn.surrogate import ATan


def rate(answer: Callable[[float, float, int], Any]) -> Verdict:
    """Exercise 1: against neurons that run, one for each of many equally likely inputs."""
    normal, count = NormalDist(), 40_000
    inputs = np.array([[normal.inv_cdf((i + 0.5) / count) for i in range(count)]])

    def counted(tau: float, threshold: float, steps: int) -> Callable[[Any], bool]:
        right = membrane_trace(inputs, LIFNeuron(tau=tau, threshold=threshold), steps).spikes.mean()
        return lambda found: bool(abs(float(found) - right) <= 1e-4)

    tried = [(2.0, 1.0, 1), (2.0, 1.0, 4), (10.0, 1.0, 4), (4.0, 0.3, 8)]
    return tell(answer, ((words, counted(*words)) for words in tried))


def alpha(answer: Callable[[float], Any]) -> Verdict:
    """Exercise 2: against many others."""

    def largest(u: float) -> Callable[[Any], bool]:
        heights = [float(ATan(other).derivative(np.array([u]))[0]) for other in np.geomspace(0.001, 1000, 20_001)]
        enough = max(heights) * (1 - 1e-6)

        def is_largest(found: Any) -> bool:
            inside = 0 < float(found) < math.inf  # of other numbers there is no surrogate
            return inside and float(ATan(float(found)).derivative(np.array([u]))[0]) >= enough

        return is_largest

    return tell(answer, (((u,), largest(u)) for u in (-1.0, -0.25, 6.0)))
