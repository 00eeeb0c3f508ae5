"""Exercises of lesson 13: reading the paper."""

import itertools
import math
from collections.abc import Callable
from typing import Any

from checks.verdict import Verdict, tell

_Sentences = list[tuple[str, ...]]


def limit(answer: Callable[[_Sentences, list[int]], Any]) -> Verdict:
    """Exercise 1: against the best of all models there are, tried one by one."""

    def tried(sentences: _Sentences, labels: list[int]) -> float:
        bags = list({tuple(sorted(words)) for words in sentences})
        models = (dict(zip(bags, says, strict=True)) for says in itertools.product(set(labels), repeat=len(bags)))
        return max(
            sum(model[tuple(sorted(words))] == label for words, label in zip(sentences, labels, strict=True))
            / len(sentences)
            for model in models
        )

    good, twice = ("not", "bad", "but", "good"), ("good", "good", "bad")
    cases: list[tuple[_Sentences, list[int]]] = [
        ([good, good[::-1], twice], [1, 0, 0]),
        ([twice, twice[::-1], ("good", "bad", "bad")], [1, 1, 0]),
        ([good, good[::-1], good, twice, ("bad",)], [2, 1, 1, 0, 0]),
    ]
    return tell(answer, ((words, tried(*words)) for words in cases))


def best(answer: Callable[[float, int, int], Any]) -> Verdict:
    """Exercise 2: against the sum over everything that can happen."""

    def summed(p: float, n: int, epochs: int) -> float:
        chance = [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]
        outcomes = itertools.product(range(n + 1), repeat=epochs)
        return sum(max(rights) * math.prod(chance[k] for k in rights) for rights in outcomes) / n

    def of_the_lesson() -> float:
        """1,821 sentences, 85.39 % and 30 epochs, in whole numbers: of 10^(4 n) ways, those with up to k right."""
        n, right, ways, expected = 1821, 8539, 0, 0.0
        for k in range(n):
            ways += math.comb(n, k) * right**k * (10_000 - right) ** (n - k)
            expected += 1 - (ways / 10_000**n) ** 30
        return expected / n

    tried = [(0.5, 1, 1), (0.5, 1, 3), (0.8, 6, 4), (0.9, 20, 3)]
    cases = ((words, summed(*words)) for words in tried)  # each when it is come to
    of_lesson = (((0.8539, 1821, 30), of_the_lesson()) for _ in range(1))
    return tell(answer, itertools.chain(cases, of_lesson))
