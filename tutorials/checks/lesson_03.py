"""Exercises of lesson 03: one neuron. Every answer is held to neurons that run."""

from collections.abc import Callable
from typing import Any

import numpy as np

from checks.verdict import Verdict, tell
from minispike.record import membrane_trace
from minispike.snn.neurons import LIFNeuron


def _spike_steps(x: float, tau: float, threshold: float, steps: int = 400) -> list[int]:
    """In which steps, counted from 1, a neuron fires that is held at an input."""
    trace = membrane_trace(np.array([[x]]), LIFNeuron(tau=tau, threshold=threshold), time_steps=steps)
    return (np.flatnonzero(trace.spikes[:, 0]) + 1).tolist()


def first_spike(answer: Callable[[float, float, float], Any]) -> Verdict:
    """Exercise 1."""
    tried = [(1.5, 2.0, 1.0), (3.0, 2.0, 1.0), (1.01, 5.0, 1.0), (0.9, 2.0, 1.0), (0.99, 4.0, 1.0), (0.6, 3.0, 0.5)]
    return tell(answer, ((words, (_spike_steps(*words) or [None])[0]) for words in tried))


def period(answer: Callable[[int, float, float], Any]) -> Verdict:
    """Exercise 2."""

    def fires_every(n: int, tau: float, threshold: float) -> Callable[[Any], bool]:
        return lambda x: _spike_steps(float(x), tau, threshold, 5 * n) == [n, 2 * n, 3 * n, 4 * n, 5 * n]

    tried = [(1, 2.0, 1.0), (3, 2.0, 1.0), (5, 8.0, 1.0), (4, 3.0, 0.25)]
    return tell(answer, ((words, fires_every(*words)) for words in tried))


def soft_reset(answer: Callable[[float, float, float, float], Any]) -> Verdict:
    """Exercise 3."""

    def after(v: float, x: float, tau: float, threshold: float) -> tuple[float, float]:
        m = v + (x - v) / tau
        return (1.0, m - threshold) if m >= threshold else (0.0, m)

    tried = [
        (0.0, 1.0, 2.0, 1.0),
        (0.5, 2.5, 2.0, 1.0),
        (0.9, 0.1, 4.0, 1.0),
        (0.0, 2.0, 2.0, 1.0),
        (0.2, 1.0, 2.0, 0.5),
    ]
    return tell(answer, ((words, after(*words)) for words in tried))
