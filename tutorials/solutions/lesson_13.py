"""Answers to the exercises of lesson 13."""

import math
from collections import Counter, defaultdict


def bag_limit(sentences: list[tuple[str, ...]], labels: list[int]) -> float:
    """Of the sentences of a bag, those with its commonest label can be right."""
    bags: defaultdict[tuple[str, ...], Counter[int]] = defaultdict(Counter)
    for words, label in zip(sentences, labels, strict=True):
        bags[tuple(sorted(words))][label] += 1
    return sum(max(counts.values()) for counts in bags.values()) / len(sentences)


def expected_best(p: float, n: int, epochs: int) -> float:
    """The mean of a number from 0 to n is the sum of the chances that it is above 0, 1, ..., n - 1."""
    below, expected = 0.0, 0.0
    for k in range(n):
        log_ways = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)  # of math.comb(n, k)
        below += math.exp(log_ways + k * math.log(p) + (n - k) * math.log(1 - p))
        expected += 1 - below**epochs
    return expected / n
