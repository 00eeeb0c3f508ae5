"""Exercises of lesson 04: surrogate gradients."""

from collections.abc import Callable
from typing import Any

import numpy as np

from checks.verdict import Verdict, tell
from minispike.snn.surrogate import ATan, Surrogate


def cosine_bump(answer: type[Surrogate]) -> Verdict:
    """Exercise 1, at three widths."""
    for alpha in (1.0, 0.5, 2.0):
        if not (found := _at_one_width(answer(alpha))):
            return found
    return Verdict(True, f"Right: {answer.__name__}.")


def _at_one_width(answer: Surrogate) -> Verdict:
    alpha, name = answer.alpha, type(answer).__name__
    at = np.array([-3.0, -0.9, -0.4, 0.0, 0.25, 0.7, 2.0]) / alpha

    def derivative(u: float) -> Any:
        found = answer.derivative(np.array([u]))
        return found if found is ... else float(found[0])

    def primitive(u: float) -> Any:
        found = answer.primitive(np.array([u]))
        return found if found is ... else float(found[0])

    def bump(u: float) -> float:
        return float(0.5 * alpha * (1 + np.cos(np.pi * alpha * u))) if abs(alpha * u) < 1 else 0.0

    def area(u: float) -> float:  # the trapezoidal rule, which is as good as exact on a smooth bump
        points = np.linspace(-1 / alpha, min(max(u, -1 / alpha), 1 / alpha), 20001)
        heights = np.array([bump(p) for p in points])
        return float(np.diff(points) @ (heights[1:] + heights[:-1]) / 2)

    derivative.__name__, primitive.__name__ = (f"{name}({alpha}).{which}" for which in ("derivative", "primitive"))
    of_the_bump = tell(derivative, [((float(u),), bump(float(u))) for u in at])
    return of_the_bump and tell(primitive, [((float(u),), area(float(u))) for u in at])


def width(answer: Callable[[float], Any]) -> Verdict:
    """Exercise 2."""

    def falls_to_half(alpha: float) -> Callable[[Any], bool]:
        def will_do(u: Any) -> bool:
            at = ATan(alpha).derivative(np.array([0.0, float(u)]))
            return float(u) > 0 and abs(at[1] - 0.5 * at[0]) < 1e-6 * at[0]

        return will_do

    return tell(answer, (((alpha,), falls_to_half(alpha)) for alpha in (2.0, 1.0, 7.5)))
