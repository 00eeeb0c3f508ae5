"""Answers to the exercises of lesson 12."""

import math


def expected_rate(tau: float, threshold: float, steps: int) -> float:
    """To fire j times, the first spike must come within ``steps // j`` steps; add up the chances for all j."""
    decay, spikes = 1 - 1 / tau, 0.0
    for j in range(1, steps + 1):
        needed = threshold / (1 - decay ** (steps // j))
        spikes += math.erfc(needed / math.sqrt(2)) / 2
    return spikes / steps


def best_alpha(u: float) -> float:
    """Where ``alpha / (1 + (pi/2 alpha u)^2)`` is flat in alpha: ``pi/2 alpha u`` is 1."""
    return 2.0 / (math.pi * abs(u))
