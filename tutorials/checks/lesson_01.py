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
    for shape in [(), (2,), (2, 2)]:  # one number first, which can be followed by hand
        g, a, b = (rng.integers(1, 8, size=shape) * rng.choice([-0.5, 0.5], size=shape) for _ in range(3))
        inputs = [Tensor(a, requires_grad=True), Tensor(b, requires_grad=True)]
        right = [found.numpy() for found in grad(inputs[0] / inputs[1], inputs, Tensor(g)) if found is not None]
        cases.append(((g, a, b), tuple(right)))
    return tell(answer, cases)


def broadcasting(answer: Callable[..., Any]) -> Verdict:
    """Exercise 2: against the library's own."""
    rng = np.random.default_rng(1)
    cases: list[Any] = []
    for large, shape in [
        ((3, 2), (3, 2)), ((3, 2), (2,)), ((3, 2), (1, 2)), ((3, 2), (3, 1)), ((3, 2), ()), ((3, 2), (1,)),
        ((2, 3, 2), (3, 1)), ((2, 1, 2), (1, 1, 2)),
    ]:  # fmt: skip
        g = np.round(rng.normal(size=large), 1)
        small = Tensor(np.zeros(shape), requires_grad=True)
        (right,) = grad(Tensor(np.zeros(large)) + small, [small], Tensor(g))
        assert right is not None
        cases.append(((g, shape), right.numpy()))
    return tell(answer, cases)
