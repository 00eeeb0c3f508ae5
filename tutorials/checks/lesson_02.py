"""Exercises of lesson 02: measured derivatives."""

from collections.abc import Callable
from typing import Any

import numpy as np

from checks.verdict import Verdict, tell
from minispike import Tensor, grad, ops


def cubic(x: np.ndarray) -> float:
    """Sum of the cubes: its slope from one side alone is off by the step times the curvature."""
    return float((x**3).sum())


def slope(answer: Callable[..., Any]) -> Verdict:
    """Exercise 1."""
    x, direction = np.array([1.0, -2.0, 0.5]), np.array([0.3, -1.0, 2.0])
    exact = float((3 * x**2 * direction).sum())

    def close(step: float) -> Callable[[Any], bool]:
        return lambda found: abs(float(found) - exact) <= 20 * step**2 + 1e-6

    words = [(cubic, x, direction, step) for step in (1e-2, 1e-3, 1e-4)]
    return tell(answer, [(case, close(case[-1])) for case in words])


def swish(answer: Callable[..., Any]) -> Verdict:
    """Exercise 2: against the gradient of the library's operations."""
    rng = np.random.default_rng(2)
    cases: list[Any] = []
    for _ in range(2):
        g, x = rng.normal(size=(2, 3)), Tensor(rng.normal(size=(2, 3)), requires_grad=True)
        (right,) = grad(x * ops.sigmoid(x), [x], Tensor(g))
        assert right is not None
        cases.append(((g, x.numpy()), right.numpy()))
    return tell(answer, cases)
