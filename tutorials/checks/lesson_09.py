"""Exercises of lesson 09: distilling representations."""

from collections.abc import Callable
from typing import Any

import numpy as np

from checks.verdict import Verdict, tell
from minispike import Tensor
from minispike.distill.losses import feature_loss, layer_map


def layer(answer: Callable[[int, int, int], Any]) -> Verdict:
    """Exercise 1: against the library's, which counts blocks from 0.

    Of 25 blocks: in floating point ``i / 25 * 25`` is not always i.
    """
    shapes = [(6, 12), (4, 6), (5, 12), (3, 3), (25, 25), (5, 2)]
    return tell(answer, [((i + 1, n, m), layer_map(n, m)[i]) for n, m in shapes for i in range(n)])


def loss(answer: Callable[..., Any]) -> Verdict:
    """Exercise 2: against the library's."""
    rng = np.random.default_rng(0)
    cases: list[Any] = []
    for lengths in [(3, 1), (4, 2, 1)]:
        mask = np.arange(max(lengths)) < np.array(lengths)[:, None]
        ours, theirs = np.round(rng.normal(size=(2, *mask.shape, 2)), 2)
        cases.append(((ours, theirs, mask), feature_loss([Tensor(ours)], [theirs], mask).item()))
    return tell(answer, cases)
