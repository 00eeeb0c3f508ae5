"""Whether one input's gradient is right: backward against finite differences, and what is said where they differ."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minispike.backend import Array, array_module, asarray, lock, to_numpy
from minispike.diagnosis import Part, likeliest_cause
from minispike.differences import Difference, five_point
from minispike.errors import GradientError, problem
from minispike.nesting import tensors_in
from minispike.smooth import FrozenValues, frozen_values
from minispike.tensor import Tensor, no_grad

BENT = 100
"""What counts as a change of the slope: so many times what the slope itself may be off."""


@dataclass(frozen=True)
class Limits:
    """What `minispike.gradcheck.check_grads` was told to allow, and its step."""

    rtol: float
    atol: float
    eps: float


def put(leaf: Tensor, array: Array) -> None:
    """Give a leaf other values, which nobody may change in place."""
    lock(array)
    leaf.array = array


def dot(a: Array, b: Array) -> float:
    """The sum of the products of two arrays."""
    return float((to_numpy(a) * to_numpy(b)).sum())


class WeightedSum:
    """<f, c> of the inputs less what it is at the base point, for a fixed covector c.

    Detached values stay as they are at the base point.

    Args:
        f: of no arguments; its inputs are changed where they are.
        outputs: arrays, at the base point.
        covectors: one for each of them.
        frozen: the detached values.
    """

    def __init__(
        self, f: Callable[[], Any], outputs: Sequence[Array], covectors: Sequence[Array], frozen: FrozenValues
    ) -> None:
        self.f, self.frozen = f, frozen
        self.base = [to_numpy(array) for array in outputs]
        self.weights = [to_numpy(c) for c in covectors]
        self.weight = sum(float(np.abs(w).sum()) for w in self.weights)

    def __call__(self) -> tuple[float, float]:
        """The sum, and the size of what it is summed from: of outputs that have not changed it has nothing.

        Raises:
            GradientError: f does not give outputs of the same shapes any more.
        """
        self.frozen.replay()
        with frozen_values(self.frozen), no_grad():
            outputs = [to_numpy(t.array) for t in tensors_in(self.f())]
        known = [array.shape for array in self.base]
        if (shapes := [array.shape for array in outputs]) != known:
            expected, hint = f"outputs of the shapes {known} each time it is called", "no state outside of f"
            raise GradientError(problem("f", expected=expected, got=str(shapes), hint=hint))
        total, size = 0.0, 0.0
        for array, base, weight in zip(outputs, self.base, self.weights, strict=True):
            change = array - base
            total += float((change * weight).sum())
            size += float(np.abs(array * weight * (change != 0)).sum())
        return total, size

    def part(self, part: Part) -> "WeightedSum":
        """The same for a part of one output alone."""
        number, key = part
        chosen = [np.zeros_like(weight) for weight in self.weights]
        chosen[number][key] = self.weights[number][key]
        return WeightedSum(self.f, self.base, chosen, self.frozen)

    def along(self, leaf: Tensor, direction: Array, eps: float) -> Difference:
        """The slope along a direction of one input."""
        base = leaf.array

        def at(distance: float) -> tuple[float, float]:
            put(leaf, base + distance * direction)
            return self()

        try:
            return five_point(at, eps)
        finally:
            leaf.array = base


class Verdict:
    """One input's gradient against the finite differences along one direction."""

    def __init__(
        self, function: WeightedSum, name: str, leaf: Tensor, gradient: Any, direction: Array, limits: Limits
    ) -> None:
        self.function, self.name, self.leaf, self.gradient = function, name, leaf, gradient
        self.direction, self.limits = direction, limits
        self.analytic = dot(gradient, direction)
        self.unit = math.sqrt(float((gradient**2).sum()) * dot(direction, direction))
        self.scale = float(np.abs(to_numpy(leaf.array)).max(initial=0.0))
        self.amount = function.weight * max(1.0, self.scale)
        self.noise = 0.0  # of the values of f, once it has been seen to be more than a few last places

    def error(self, rng: np.random.Generator) -> float | None:
        """The relative error; None where rounding hides the slope, so that nothing can be told.

        Raises:
            GradientError: it is too large, or there is no gradient at this point.
        """
        first = self._look(1.0)
        if self._smooth(first) and self._right(first):
            return self._relative(first)
        if self._nothing() and self._hidden(first) and self._hidden(self._look(100.0)):
            return 0.0  # and so is the slope
        second = self._look(0.1)
        self._listen(first, second)
        if 0 < self.scale < 0.1:  # what is steep beside a small input may be smooth on its scale
            found = self._look(self.scale)
            if self._smooth(found) and self._right(found):
                return self._relative(found)
        if self._broken(first, second):
            raise GradientError(self._kink(second))
        tried = [first, second]
        for found in (second, first):
            if self._right(found):
                return self._relative(found)
        if self._hidden(first) or self._hidden(second) or not first.size:  # no output has changed at all
            for factor in (10.0, 100.0):
                tried.append(found := self._look(factor))
                if self._smooth(found) and self._right(found):
                    return self._relative(found)
        found = max([d for d in tried if self._smooth(d)] or tried, key=lambda d: d.eps)
        if self._hidden(found):
            if self._size(found) >= 1e2 * self._rounding(found):  # two digits are left
                return found.far_from(self.analytic) / self._size(found)
            return 0.0 if self._nothing() else None
        raise GradientError(self._wrong(found) + self._cause(found, rng))

    def _look(self, factor: float) -> Difference:
        """The finite difference with so many times the step."""
        found = self.function.along(self.leaf, self.direction, factor * self.limits.eps)
        if not math.isfinite(found.slope + self.analytic):
            raise GradientError(self._not_finite(found))
        return found

    def _listen(self, first: Difference, second: Difference) -> None:
        """Find noise: what a short step shows as bends, and a long one as smaller ones, where nothing jumps."""
        amount = second.bend * second.eps
        rough = second.bend > 3 * first.bend and amount <= 1e-9 * second.size
        if rough or amount <= 1e-12 * self.amount:
            self.noise = 4 * max(amount, first.bend * first.eps)

    def _size(self, found: Difference) -> float:
        return max(abs(self.analytic), abs(found.slope))

    def _relative(self, found: Difference) -> float:
        """The distance in units in which rtol is what is allowed."""
        return self.limits.rtol * found.far_from(self.analytic) / max(self._allowed(found), 1e-300)

    def _allowed(self, found: Difference) -> float:
        """By the limits, and the last places of outputs of the size of 1."""
        return self.limits.rtol * self._size(found) + self.limits.atol * self.unit + 1e-14 * self.function.weight

    def _right(self, found: Difference) -> bool:
        return found.far_from(self.analytic) <= self._allowed(found)

    def _rounding(self, found: Difference) -> float:
        return max(found.rounding, self.noise / found.eps)

    def _smooth(self, found: Difference) -> bool:
        """Whether the slope changes within the step by no more than a smooth one would, or by rounding."""
        return found.bend <= max(BENT * self._allowed(found), 8 * self._rounding(found))

    def _hidden(self, found: Difference) -> bool:
        """Whether what the derivatives differ by may be rounding."""
        return self._smooth(found) and found.far_from(self.analytic) <= self._rounding(found)

    def _nothing(self) -> bool:
        """Whether the whole gradient is 0, or what rounding makes of 0."""
        return self.unit <= 2.0**-45 * self.amount

    def _broken(self, first: Difference, second: Difference) -> bool:
        """Whether the slope changes as much within a short step as within a long one, or what is wrong with it grows
        with the step as it does where the slope has a kink."""
        far, farther = second.far_from(self.analytic), first.far_from(self.analytic)
        if not self._right(second) and not self._hidden(second) and 0.03 * farther < far < 0.3 * farther:
            return True
        return not self._smooth(second) and second.bend > 0.5 * first.bend

    def _subject(self) -> str:
        return f"gradient by {self.name} of shape {self.leaf.shape}"

    def _numbers(self, found: Difference) -> str:
        """Both derivatives, and the direction by its first numbers; the seed of the check makes the others."""
        numbers = to_numpy(self.direction).reshape(-1)
        more = ", ..." if numbers.size > 4 else ""
        shown = f"[{', '.join(f'{number:.3f}' for number in numbers[:4])}{more}]"
        return f"{self.analytic:.12g} by backward and {found.slope:.12g} by finite differences along {shown}"

    def _not_finite(self, found: Difference) -> str:
        hint = "another point, or a backward and a forward that divide by nothing that is 0 here"
        return problem(self._subject(), expected="finite numbers", got=self._numbers(found), hint=hint)

    def _kink(self, found: Difference) -> str:
        got = f"a slope that changes by about {found.bend:.2g} within {2 * found.eps:.0e}: {self._numbers(found)}"
        hint = "another point, a smaller eps where it is steep, float64 all through f, or spikes='smooth' for spikes"
        return problem(self._subject(), expected="a differentiable point, no kink or jump", got=got, hint=hint)

    def _wrong(self, found: Difference) -> str:
        size = max(self._size(found), 1e-300)
        flat = abs(found.slope) < 1e-6 * size
        ratio = "" if flat or not self.analytic else f", ratio {self.analytic / found.slope:.7g}"
        hint = "the backward of the ops between this input and the output"
        return problem(
            self._subject(),
            expected="the finite difference",
            got=f"{self._numbers(found)}, relative error {found.far_from(self.analytic) / size:.2g}{ratio}",
            hint=hint + (", or spikes='smooth' for a spiking function" if flat else ""),
        )

    def _cause(self, found: Difference, rng: np.random.Generator) -> str:
        """The likeliest cause of a wrong gradient, as the end of a sentence; empty if none is found."""

        def partials(places: Sequence[int]) -> "np.ndarray[Any, Any]":
            slopes = []
            for place in places:
                direction = np.zeros(self.leaf.shape)
                direction.reshape(-1)[place] = 1.0
                step = asarray(direction, module=array_module(self.leaf.array))
                slopes.append(self.function.along(self.leaf, step, found.eps).slope)
            return np.array(slopes)

        def counted(part: Part) -> bool:
            alone = self.function.part(part).along(self.leaf, self.direction, found.eps)
            return alone.far_from(self.analytic) <= 1e-4 * abs(self.analytic)

        cause = likeliest_cause(self.gradient, partials, counted, [array.shape for array in self.function.base], rng)
        return f", and the likeliest mistake: {cause}" if cause else ""
