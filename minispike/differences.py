"""Derivatives by finite differences along a direction, and how far each can be trusted."""

from collections.abc import Callable
from dataclasses import dataclass

_FIVE_POINT = ((-2, 1 / 12), (-1, -2 / 3), (1, 2 / 3), (2, -1 / 12))
_LAST_PLACE = 2.0**-52


@dataclass(frozen=True)
class Difference:
    """The slope of a function at 0.

    Attributes:
        slope: by the five-point central difference, whose error is O(eps^4).
        bend: how abruptly the slope changes within two steps: the largest third difference, over eps. Of the order
            eps^2 where the function is smooth; at a kink about the jump of the slope, however small eps; at a jump
            the more, the smaller eps.
        rounding: how much of the slope may be rounding of the function's values.
        eps: the step.
    """

    slope: float
    bend: float
    rounding: float
    eps: float

    def far_from(self, gradient: float) -> float:
        """The distance between the slope and what a gradient says it is."""
        return abs(gradient - self.slope)


def five_point(function: Callable[[float], float], eps: float, size: float) -> Difference:
    """The slope of a function of one number at 0.

    Args:
        function: of the distance from 0.
        eps: the step.
        size: of the terms that the function's value is summed from, which says how it is rounded.
    """
    samples = {step: function(step * eps) for step in (-2, -1, 0, 1, 2)}
    slope = sum(weight * samples[step] for step, weight in _FIVE_POINT) / eps
    thirds = (samples[i + 2] - 3 * samples[i + 1] + 3 * samples[i] - samples[i - 1] for i in (-1, 0))
    return Difference(slope, max(abs(third) for third in thirds) / eps, 8 * _LAST_PLACE * size / eps, eps)
