"""Answers to the exercises of lesson 06."""

import math


def rows_to_reach(ridge: float, width: int) -> int | None:
    """``2 N D^2 / (4 (2 N D + D^2)) >= ridge``, solved for N; with N the intensity only comes close to ``D / 4``."""
    if width <= 4 * ridge:
        return None
    return math.ceil(2 * ridge * width / (width - 4 * ridge))


def numbers_worth_a_launch(launch: float, bandwidth: float, bytes_each: float) -> float:
    """The bytes that come by in that time. The example: 6,000,000 numbers, 23,438 tokens."""
    return launch * bandwidth / bytes_each
