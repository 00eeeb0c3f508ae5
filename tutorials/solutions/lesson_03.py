"""Answers to the exercises of lesson 03."""

import math


def steps_to_first_spike(x: float, tau: float, threshold: float) -> int | None:
    """The closed form of the lesson; step by step would do as well."""
    if x <= threshold:
        return None
    if tau == 1:
        return 1
    return math.ceil(math.log(1 - threshold / x) / math.log(1 - 1 / tau))


def input_for_a_spike_every(n: int, tau: float, threshold: float) -> float:
    """Just enough after n steps is ``threshold / (1 - d^n)``; a little more, lest rounding have the last word."""
    decay = 1 - 1 / tau
    return 1.0001 * threshold / (1 - decay**n)


def soft_step(v: float, x: float, tau: float, threshold: float) -> tuple[float, float]:
    """Charge, fire, and take off the threshold."""
    m = v + (x - v) / tau
    s = 1.0 if m >= threshold else 0.0
    return s, m - s * threshold
