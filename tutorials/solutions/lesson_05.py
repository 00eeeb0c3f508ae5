"""Answers to the exercises of lesson 05."""

import math

import numpy as np


def rate_deviation(grey: float, steps: int) -> float:
    """That of the mean of T coins."""
    return math.sqrt(grey * (1.0 - grey) / steps)


def latency_coded(grey: np.ndarray, steps: int) -> np.ndarray:
    """In step ``t`` (from 0) fires what lies in ``(1 - (t + 1) / T, 1 - t / T]``."""
    t = np.arange(steps)[:, None]
    return ((grey > 1 - (t + 1) / steps) & (grey <= 1 - t / steps) & (grey > 0)).astype(float)
