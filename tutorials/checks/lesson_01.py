"""Exercises of lesson 01: autograd from scratch."""

from collections.abc import Callable
from typing import Any

import numpy as np

from checks.verdict import Verdict, tell
from minispike import Tensor, grad


def division(answer: Callable[..., Any]) -> Verdict:
    """Exercise 1: against the library's own."""
    rng = np.random.default_rng(0)
    cases: list[Any] = []
    for _ in range(3):
        g, a, b = (rng.uniform(0.5, 2.0, size=(2, 2)) * rng.choice([-1.0, 1.0], size=(2, 2)) for _ in range(3))
        inputs = [Tensor(a, requires_grad=True), Tensor(b, requires_grad=True)]
        right = [found.numpy() for found in grad(inputs[0] / inputs[1], inputs, Tensor(g)) if found is not None]
        cases.append(((g, a, b), tuple(right)))
    return tell(answer, cases)


def broadcasting(answer: Callable[..., Any]) -> Verdict:
    """Exercise 2: against the library's own."""
    rng = np.random.default_rng(1)
    cases: list[Any] = []
    for shape in [(3, 2), (2,), (1, 2), (3, 1), (), (1,)]:
        g = rng.normal(size=(3, 2))
        small = Tensor(np.zeros(shape), requires_grad=True)
        (right,) = grad(Tensor(np.zeros((3, 2))) + small, [small], Tensor(g))
        assert right is not None
        cases.append(((g, shape), right.numpy()))
    return tell(answer, cases)
