"""Exercises of lesson 07: attention without softmax."""

from collections.abc import Callable
from typing import Any

import numpy as np

from checks.verdict import Verdict, tell
from minispike import Tensor
from minispike.snn.attention import spiking_attention


def one_head(answer: Callable[..., Any]) -> Verdict:
    """Exercise 1: against the library's."""
    rng = np.random.default_rng(0)
    cases: list[Any] = []
    for length, width in [(3, 2), (5, 4), (2, 6)]:
        qkv = tuple((rng.random((length, width)) < 0.6).astype(float) for _ in range(3))
        right = spiking_attention(*(Tensor(a[None, None]) for a in qkv), 1).numpy()[0, 0]
        cases.append((qkv, right))
    return tell(answer, cases)


def multiplications(answer: Callable[[int, int], Any]) -> Verdict:
    """Exercise 2: counted in loops."""

    def counted(length: int, width: int) -> tuple[int, int]:
        def product(rows: int, inner: int, columns: int) -> int:
            return sum(inner for _ in range(rows) for _ in range(columns))

        scores_first = product(length, width, length) + product(length, length, width)
        return scores_first, product(width, length, width) + product(length, width, width)

    return tell(answer, [(words, counted(*words)) for words in [(3, 2), (10, 4), (4, 10)]])
