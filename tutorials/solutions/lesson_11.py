"""Answers to the exercises of lesson 11."""

import math

import numpy as np


def most_steps(rate: float, addition: float, mac: float) -> int:
    """The last whole number below ``mac / (addition rate)``."""
    return math.ceil(mac / (addition * rate)) - 1


def cheaper_of_two(counts: np.ndarray, outputs: int) -> float:
    """From a count of 6 on, multiplying is cheaper; a 0 costs nothing either way."""
    return float(np.minimum(0.9 * counts, 4.6).sum()) * outputs


def sentences_to_share(weights: int, word: float, arithmetic: float) -> int:
    """The first whole number above the share of the two."""
    return math.floor(weights * word / arithmetic) + 1
