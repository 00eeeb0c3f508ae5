"""What is probably wrong with a gradient: the mistakes that people make in a backward, tried one after the other.

Each mistake turns the right gradient into a wrong one in a way of its own. The right one is known from finite
differences, at some elements of an input or at all of them; whichever mistake explains the wrong one there, to four
digits, is the likeliest cause. That a gradient is wrong at all is decided elsewhere, in `minispike.verdict`.
"""

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Part = tuple[int, Any]
"""A part of a function's outputs: the number of one of them, and an index into it."""

MOST = 64
"""Elements of an input at which the right gradient is found, at most; each costs five calls of the function."""

CLOSE = 1e-4
"""What counts as equal: the difference, relative to the largest element."""


def likeliest_cause(
    wrong: Numbers,
    partials: Callable[[Sequence[int]], Numbers],
    counted: Callable[[Part], bool],
    shapes: Sequence[tuple[int, ...]],
    rng: np.random.Generator,
) -> str:
    """A mistake that explains a wrong gradient, in words; empty if none does.

    Args:
        wrong: the gradient that backward gives, in the shape of the input.
        partials: the right partial derivatives at elements of the flattened input.
        counted: whether the wrong gradient is that of a part of the outputs alone.
        shapes: of the outputs.
        rng: chooses the elements, where there are many.
    """
    flat = wrong.reshape(-1)
    places = np.arange(flat.size) if flat.size <= MOST else rng.choice(flat.size, MOST, replace=False)
    right = partials(places.tolist())
    if np.any(right) and not np.any(flat):
        return "a gradient that does not arrive, after an array in place of a tensor, or a None"
    found = flat[places]
    rows = shapes[0][0] if len(shapes) == 1 and shapes[0] else 0
    factor = _factor(found, right)
    if factor is not None and abs(factor - 1) < 10 * CLOSE:  # hardly wrong: nothing of the kinds below
        largest = np.abs(right).max(initial=0.0)
        precise = np.abs(found - factor * right).max(initial=0.0) <= 0.01 * abs(factor - 1) * largest
        return _of_a_factor(factor, rows) if precise and flat.size > 1 else ""
    for words, candidate, known in _mended(wrong):
        seen = known.reshape(-1)[places]
        if _equal(candidate.reshape(-1)[places][seen], right[seen]):
            return words
    if factor is not None and flat.size > 1:
        return _of_a_factor(factor, rows)
    for words, part in _parts(shapes):
        if counted(part):
            return words
    if factor is not None:  # of a single number, of which any other is some multiple
        simple = _fraction(factor, largest=4)
        return _of_a_factor(factor, rows) if simple is not None and abs(simple.numerator) <= 4 else ""
    differs = ~np.isclose(found, right, rtol=0, atol=CLOSE * np.abs(right).max(initial=0.0))
    if differs.any() and not found[differs].any() and not differs.all():
        share = f"{differs.sum()} of {len(places)} elements"
        return f"a part that is missing: no gradient arrives at {share}, and that of the others is right"
    return ""


def _mended(wrong: Numbers) -> Iterator[tuple[str, Numbers, NDArray[np.bool_]]]:
    """What the right gradient would be if a mistake had been made: the mistake in words, the gradient, and where it
    would be known."""
    everywhere = np.ones(wrong.shape, bool)
    yield "a wrong sign", -wrong, everywhere
    for first, second in combinations(range(wrong.ndim), 2):
        if wrong.shape[first] == wrong.shape[second] > 1:
            words = f"a transposed gradient: axes {first} and {second} are exchanged"
            yield words, wrong.swapaxes(first, second), everywhere
    if wrong.ndim > 1:
        words = "a transposed gradient: its elements stand in the order of the transpose"
        yield words, wrong.reshape(wrong.shape[::-1]).transpose(), everywhere
    for axis, length in enumerate(wrong.shape):
        if length > 2:
            for step, word in ((1, "late"), (-1, "early")):
                known = np.moveaxis(everywhere.copy(), axis, 0)
                known[-1 if step > 0 else 0] = False  # what was pushed out at the end
                words = f"a shift by one: every element of axis {axis} is one place too {word}"
                yield words, np.roll(wrong, -step, axis), np.moveaxis(known, 0, axis)
        if length > 1:
            yield f"an axis that runs backwards: {axis}", np.flip(wrong, axis), everywhere


def _parts(shapes: Sequence[tuple[int, ...]]) -> Iterator[tuple[str, Part]]:
    """What backward may have looked at in place of all outputs: one of them, one place of an axis or of two."""
    for number, shape in enumerate(shapes):
        output = "the output" if len(shapes) == 1 else f"output {number}"
        if len(shapes) > 1:
            yield f"outputs that were forgotten: only {output} of {len(shapes)} has been counted", (number, ...)
        for axis, length in enumerate(shape):
            for place in sorted({0, length // 2, length - 1}) if length > 1 else ():
                only = f"only {place} of 0 to {length - 1} has been counted"
                yield f"a missing sum over axis {axis} of {output}: {only}", (number, (*[slice(None)] * axis, place))
        for pair in combinations(range(len(shape)), 2):
            if all(shape[axis] > 1 for axis in pair):
                for place, which in ((0, "first"), (-1, "last")):
                    key = tuple(place if axis in pair else slice(None) for axis in range(len(shape)))
                    words = f"a missing sum over axes {pair[0]} and {pair[1]} of {output}"
                    yield f"{words}: only the {which} has been counted", (number, key)


def _factor(found: Numbers, right: Numbers) -> float | None:
    """The number by which the right gradient must be multiplied to give the wrong one, if there is one."""
    size = float(right @ right)
    factor = float(found @ right) / size if size else 0.0
    return factor if factor and _equal(found, factor * right) else None


def _fraction(factor: float, largest: int) -> Fraction | None:
    """A number as a fraction with a denominator of at most ``largest``, if it is one."""
    simple = Fraction(factor).limit_denominator(largest)
    return simple if abs(float(simple) - factor) <= 1e-6 * abs(factor) else None


def _of_a_factor(factor: float, rows: int) -> str:
    """A factor in words: as a fraction, where it is a simple one."""
    simple = _fraction(factor, largest=64)
    text = (str(simple) if simple is not None else f"{factor:.9g}").lstrip("-")
    sign = "a wrong sign and " if factor < 0 else ""
    where = ""
    if rows > 1 and simple == Fraction(1, rows):
        where = f" (a mean over the {rows} rows of the output in place of a sum?)"
    elif rows > 1 and simple == rows:
        where = f" (a sum over the {rows} rows of the output in place of a mean?)"
    return f"{sign}a wrong factor: every element is {text} times what it should be{where}"


def _equal(a: Numbers, b: Numbers) -> bool:
    largest = float(np.abs(b).max(initial=0.0))
    return bool(largest) and bool(np.abs(a - b).max(initial=0.0) <= CLOSE * largest)
