"""Answers to the exercises of the lessons that are wrong, as people get them wrong: two an exercise."""

import importlib
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from minispike.snn.surrogate import Surrogate


class Exercise(NamedTuple):
    """A lesson, a check of its, the name of the answer, and two that are wrong."""

    lesson: str
    check: str
    answer: str
    wrong: tuple[Any, Any]


class OfOneWidth(Surrogate):
    """Right where alpha is 1."""

    def primitive(self, u: Any) -> Any:
        z = np.clip(u, -1.0, 1.0)
        return 0.5 * (1.0 + z + np.sin(np.pi * z) / np.pi)

    def derivative(self, u: Any) -> Any:
        z = np.clip(u, -1.0, 1.0)
        return 0.5 * (1.0 + np.cos(np.pi * z))


class FromZero(Surrogate):
    """The right bump; its step begins at -1/2."""

    def primitive(self, u: Any) -> Any:
        z = np.clip(self.alpha * u, -1.0, 1.0)
        return 0.5 * (z + np.sin(np.pi * z) / np.pi)

    def derivative(self, u: Any) -> Any:
        z = np.clip(self.alpha * u, -1.0, 1.0)
        return 0.5 * self.alpha * (1.0 + np.cos(np.pi * z))


def in_continuous_time(x: float, tau: float, threshold: float) -> Any:
    return math.ceil(-tau * math.log(1 - threshold / x)) if x > threshold else None


def for_ever(x: float, tau: float, threshold: float) -> Any:
    m = 0.0
    for n in range(1, 1000):
        m += (x - m) / tau
        if m > threshold:
            return n
    return 1000


def hard_step(v: float, x: float, tau: float, threshold: float) -> tuple[float, float]:
    m = v + (x - v) / tau
    return (1.0, 0.0) if m >= threshold else (0.0, m)


def undivided_step(v: float, x: float, tau: float, threshold: float) -> tuple[float, float]:
    m = v - v / tau + x
    return (1.0, m - threshold) if m >= threshold else (0.0, m)


def one_sided(f: Callable[[Any], float], x: Any, direction: Any, step: float) -> float:
    return (f(x + step * direction) - f(x)) / step


def not_halved(f: Callable[[Any], float], x: Any, direction: Any, step: float) -> float:
    return (f(x + step * direction) - f(x - step * direction)) / step


def without_the_product_rule(grad: Any, x: Any) -> Any:
    s = 1.0 / (1.0 + np.exp(-x))
    return grad * x * s * (1.0 - s)


def of_the_lesson(grad: Any, x: Any) -> Any:
    s = 1.0 / (1.0 + np.exp(-x))
    return grad * (s + x * s)


def variance(grey: float, steps: int) -> float:
    return grey * (1.0 - grey) / steps


def of_the_count(grey: float, steps: int) -> float:
    return math.sqrt(grey * (1.0 - grey) * steps)


def bright_late(grey: Any, steps: int) -> Any:
    right: Any = importlib.import_module("solutions.lesson_05").latency_coded(grey, steps)
    return right[::-1]


def every_step_after(grey: Any, steps: int) -> Any:
    right: Any = importlib.import_module("solutions.lesson_05").latency_coded(grey, steps)
    return np.maximum.accumulate(right, axis=0)


def with_the_weight_left_out(ridge: float, width: int) -> Any:
    return 1 if width >= 4 * ridge else None


def with_one_flop_each(ridge: float, width: int) -> Any:
    return math.ceil(4 * ridge * width / (width - 8 * ridge)) if width > 8 * ridge else None


def with_bits_for_bytes(launch: float, bandwidth: float, bytes_each: float) -> float:
    return launch * bandwidth / (8 * bytes_each)


def turned_over(launch: float, bandwidth: float, bytes_each: float) -> float:
    return launch * bytes_each / bandwidth


def without_its_scale(q: Any, k: Any, v: Any) -> Any:
    return q @ (k.T @ v)


def values_of_the_query(q: Any, k: Any, v: Any) -> Any:
    return (q @ k.T) @ q / 8


def of_one_product(length: int, width: int) -> tuple[int, int]:
    return length**2 * width, length * width**2


def swapped(length: int, width: int) -> tuple[int, int]:
    return 2 * length * width**2, 2 * length**2 * width


def over_padding_too(states: Any, mask: Any) -> Any:
    return states.mean(axis=1)


def over_all_tokens(states: Any, mask: Any) -> Any:
    return np.broadcast_to(states[mask].mean(axis=0), (len(mask), states.shape[2]))


def of_the_softmax_as_it_is(logits: Any) -> float:
    p = np.exp(logits) / np.exp(logits).sum()
    return float(-(p * np.log(p)).sum())


def in_bits(logits: Any) -> float:
    right: float = importlib.import_module("solutions.lesson_08").entropy(logits)
    return right / math.log(2)


def in_floating_point(block: int, blocks: int, layers: int) -> int:
    return math.ceil(block / blocks * layers)


def reaching_early(block: int, blocks: int, layers: int) -> int:
    return (block - 1) * layers // blocks + 1


def padding_is_zero(ours: Any, theirs: Any, mask: Any) -> float:
    return float((((ours - theirs) * mask[..., None]) ** 2).mean())


def mean_of_sentences(ours: Any, theirs: Any, mask: Any) -> float:
    return float(np.mean([((a - b)[m] ** 2).mean() for a, b, m in zip(ours, theirs, mask, strict=True)]))


def multiplied(logits: Any, temperature: float) -> Any:
    return np.exp(logits * temperature) / np.exp(logits * temperature).sum()


def softened_after(logits: Any, temperature: float) -> Any:
    powers = np.exp(logits - logits.max())
    return powers / powers.sum() / temperature


def unscaled(theirs: Any, ours: Any, temperature: float) -> Any:
    right: Any = importlib.import_module("solutions.lesson_10").distillation_gradient(theirs, ours, temperature)
    return right / temperature


def turned_round(theirs: Any, ours: Any, temperature: float) -> Any:
    return -importlib.import_module("solutions.lesson_10").distillation_gradient(theirs, ours, temperature)


def first_that_does_not_pay(rate: float, addition: float, mac: float) -> int:
    return math.ceil(mac / (addition * rate))


def last_that_costs_no_more(rate: float, addition: float, mac: float) -> int:
    return int(mac / (addition * rate))


def always_by_adding(counts: Any, outputs: int) -> float:
    return float(0.9 * counts.sum() * outputs)


def by_the_layer(counts: Any, outputs: int) -> float:
    return float(min(0.9 * counts.sum(), 4.6 * (counts > 0).sum()) * outputs)


def as_much_is_enough(weights: int, word: float, arithmetic: float) -> int:
    return math.ceil(weights * word / arithmetic)


def rounded_down(weights: int, word: float, arithmetic: float) -> int:
    return math.floor(weights * word / arithmetic)


def one_spike_at_most(tau: float, threshold: float, steps: int) -> float:
    needed = threshold / (1 - (1 - 1 / tau) ** steps)
    return math.erfc(needed / math.sqrt(2)) / 2 / steps


def without_a_gain(tau: float, threshold: float, steps: int) -> float:
    return math.erfc(threshold / math.sqrt(2)) / 2


def in_their_order(sentences: list[tuple[str, ...]], labels: list[int]) -> float:
    counts: dict[Any, list[int]] = {}
    for words, label in zip(sentences, labels, strict=True):
        counts.setdefault(words, []).append(label)
    return sum(max(map(found.count, found)) for found in counts.values()) / len(labels)


def by_their_sets(sentences: list[tuple[str, ...]], labels: list[int]) -> float:
    counts: dict[Any, list[int]] = {}
    for words, label in zip(sentences, labels, strict=True):
        counts.setdefault(frozenset(words), []).append(label)
    return sum(max(map(found.count, found)) for found in counts.values()) / len(labels)


def for_small_sets_alone(p: float, n: int, epochs: int) -> float:
    chances = [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n)]
    return sum(1 - sum(chances[: k + 1]) ** epochs for k in range(n)) / n


def far_out(p: float, n: int, epochs: int) -> float:
    return p + math.sqrt(2 * math.log(epochs) * p * (1 - p) / n)


EXERCISES = [
    Exercise("00", "derivative", "derivative", (lambda x: 3 * x**2, lambda x: x**3 - 2 * x)),
    Exercise("00", "where", "where", (lambda thing: thing.__module__, lambda thing: thing.__name__ + ".py")),
    Exercise(
        "01", "division", "division_gradients",
        (lambda g, a, b: (g / b, g * a / b**2), lambda g, a, b: (g / b, -g / b**2)),
    ),
    Exercise(
        "01", "broadcasting", "unbroadcast",
        (lambda g, shape: g.sum(axis=0), lambda g, shape: np.broadcast_to(g.mean(), shape)),
    ),
    Exercise("02", "slope", "slope_along", (one_sided, not_halved)),
    Exercise("02", "swish", "swish_gradient", (without_the_product_rule, of_the_lesson)),
    Exercise("03", "first_spike", "steps_to_first_spike", (in_continuous_time, for_ever)),
    Exercise(
        "03", "period", "input_for_a_spike_every",
        (lambda n, tau, threshold: threshold, lambda n, tau, threshold: threshold * tau / n),
    ),
    Exercise("03", "soft_reset", "soft_step", (hard_step, undivided_step)),
    Exercise("04", "cosine_bump", "CosineBump", (OfOneWidth, FromZero)),
    Exercise("04", "width", "half_width", (lambda alpha: 1.0 / alpha, lambda alpha: -2.0 / (math.pi * alpha))),
    Exercise("05", "deviation", "rate_deviation", (variance, of_the_count)),
    Exercise("05", "latency", "latency_coded", (bright_late, every_step_after)),
    Exercise("06", "rows", "rows_to_reach", (with_the_weight_left_out, with_one_flop_each)),
    Exercise("06", "launch", "numbers_worth_a_launch", (with_bits_for_bytes, turned_over)),
    Exercise("07", "one_head", "one_head", (without_its_scale, values_of_the_query)),
    Exercise("07", "multiplications", "multiplications", (of_one_product, swapped)),
    Exercise("08", "masked_mean", "masked_mean", (over_padding_too, over_all_tokens)),
    Exercise("08", "entropy", "entropy", (of_the_softmax_as_it_is, in_bits)),
    Exercise("09", "layer", "teacher_layer", (in_floating_point, reaching_early)),
    Exercise("09", "loss", "block_loss", (padding_is_zero, mean_of_sentences)),
    Exercise("10", "softened_answer", "softened_answer", (multiplied, softened_after)),
    Exercise("10", "distillation_gradient", "distillation_gradient", (unscaled, turned_round)),
    Exercise("11", "steps", "most_steps", (first_that_does_not_pay, last_that_costs_no_more)),
    Exercise("11", "cheaper", "cheaper_of_two", (always_by_adding, by_the_layer)),
    Exercise("11", "share", "sentences_to_share", (as_much_is_enough, rounded_down)),
    Exercise("12", "rate", "expected_rate", (one_spike_at_most, without_a_gain)),
    Exercise("12", "alpha", "best_alpha", (lambda u: 1.0 / abs(u), lambda u: 2.0 / (math.pi * u))),
    Exercise("13", "limit", "bag_limit", (in_their_order, by_their_sets)),
    Exercise("13", "best", "expected_best", (for_small_sets_alone, far_out)),
]  # fmt: skip
