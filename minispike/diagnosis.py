"""What is probably wrong with a gradient: the mistakes that people make in a backward, tried one after the other.

Each mistake turns the right gradient into a wrong one in a way of its own. The right one is known from finite
differences, at some elements of an input or at all of them; whichever mistake explains the wrong one there, to four
digits, is the likeliest cause. That a gradient is wrong at all is decided elsewhere, in `minispike.gradcheck`.
"""

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

MOST = 64
"""Elements of an input at which the right gradient is found, at most; each costs five calls of the function, and as
many again for each row of the output that is suspected."""

CLOSE = 1e-4
"""What counts as equal: the difference, relative to the largest element."""


def likeliest_cause(
    wrong: Numbers,
    partials: Callable[[Sequence[int], int | None], Numbers],
    rng: np.random.Generator,
    rows: int,
) -> str:
    """A mistake that explains a wrong gradient, in words; empty if none does.

    Args:
        wrong: the gradient that backward gives, in the shape of the input.
        partials: the right partial derivatives at elements of the flattened input; with a number, those of this row
            of the output alone.
        rng: chooses the elements, where there are many.
        rows: the length of the output's first axis; 0 where it has none, or where there are several outputs.
    """
    flat = wrong.reshape(-1)
    places = np.arange(flat.size) if flat.size <= MOST else rng.choice(flat.size, MOST, replace=False)
    right = partials(places.tolist(), None)
    if np.any(right) and not np.any(flat):
        return "a gradient that does not arrive, after a detach(), an array in place of a tensor, or a None"
    for words, candidate in _mended(wrong):
        if _equal(candidate.reshape(-1)[places], right):
            return words
    found = flat[places]
    if (factor := _factor(found, right)) is not None:
        return _of_a_factor(factor, rows)
    if rows > 1:
        for n in (0, rows - 1):
            if _equal(found, partials(places.tolist(), n)):
                return f"a missing sum: only row {n} of the {rows} rows of the output has been counted"
    differs = ~np.isclose(found, right, rtol=0, atol=CLOSE * np.abs(right).max(initial=0.0))
    if differs.any() and not found[differs].any():
        share = f"{differs.sum()} of {len(places)} elements"
        return f"a part that is missing: no gradient arrives at {share}, and that of the others is right"
    return ""


def _mended(wrong: Numbers) -> Iterator[tuple[str, Numbers]]:
    """What the right gradient would be if a mistake had been made, with the mistake in words."""
    yield "a wrong sign", -wrong
    for first in range(wrong.ndim):
        for second in range(first + 1, wrong.ndim):
            if wrong.shape[first] == wrong.shape[second] > 1:
                yield f"a transposed gradient: axes {first} and {second} are exchanged", wrong.swapaxes(first, second)
    if wrong.ndim > 1:
        words = "a transposed gradient: its elements stand in the order of the transpose"
        yield words, wrong.reshape(wrong.shape[::-1]).transpose()
    for axis, length in enumerate(wrong.shape):
        if length > 2:
            for step, word in ((1, "late"), (-1, "early")):
                yield (
                    f"a shift by one: every element of axis {axis} is one place too {word}",
                    np.roll(wrong, -step, axis),
                )
        if length > 1:
            yield f"an axis that runs backwards: {axis}", np.flip(wrong, axis)


def _factor(found: Numbers, right: Numbers) -> float | None:
    """The number by which the right gradient must be multiplied to give the wrong one, if there is one."""
    size = float(right @ right)
    factor = float(found @ right) / size if size else 0.0
    return factor if factor and _equal(found, factor * right) else None


def _of_a_factor(factor: float, rows: int) -> str:
    """A factor in words: as a fraction, where it is a simple one."""
    simple = Fraction(factor).limit_denominator(64)
    text = str(simple) if abs(float(simple) - factor) <= CLOSE * abs(factor) else f"{factor:.6g}"
    sign = "a wrong sign and " if factor < 0 else ""
    text = text.lstrip("-")
    where = ""
    if rows > 1 and simple == Fraction(1, rows):
        where = f" (a mean over the {rows} rows of the output in place of a sum?)"
    elif rows > 1 and simple == rows:
        where = f" (a sum over the {rows} rows of the output in place of a mean?)"
    return f"{sign}a wrong factor: every element is {text} times what it should be{where}"


def _equal(a: Numbers, b: Numbers) -> bool:
    largest = float(np.abs(b).max(initial=0.0))
    return bool(largest) and bool(np.abs(a - b).max(initial=0.0) <= CLOSE * largest)
