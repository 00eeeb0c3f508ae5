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
            eps^2 where the function is smooth; at a kink about the jump of the slope, however small eps; at a jump,
            and under noise, the more, the smaller eps.
        size: of what the function's value is summed from.
        eps: the step.
    """

    slope: float
    bend: float
    size: float
    eps: float

    @property
    def rounding(self) -> float:
        """How much of the slope may be rounding of the values, if these are exact to a few last places."""
        return 8 * _LAST_PLACE * self.size / self.eps

    def far_from(self, gradient: float) -> float:
        """The distance between the slope and what a gradient says it is."""
        return abs(gradient - self.slope)


def five_point(function: Callable[[float], tuple[float, float]], eps: float) -> Difference:
    """The slope of a function of one number at 0.

    Args:
        function: from the distance to its value there, and the size of what that is summed from.
        eps: the step.
    """
    found = {step: function(step * eps) for step in (-2, -1, 0, 1, 2)}
    samples = {step: value for step, (value, _) in found.items()}
    slope = sum(weight * samples[step] for step, weight in _FIVE_POINT) / eps
    thirds = (samples[i + 2] - 3 * samples[i + 1] + 3 * samples[i] - samples[i - 1] for i in (-1, 0))
    return Difference(slope, max(abs(third) for third in thirds) / eps, max(size for _, size in found.values()), eps)
