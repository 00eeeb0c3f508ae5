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
    """<f, c> of the inputs, for a fixed covector c, with the detached values of the base point.

    Args:
        f: of no arguments; its inputs are changed where they are.
        outputs: at the base point.
        covectors: one for each of them.
        frozen: the detached values.

    Raises:
        GradientError: when called: f does not give outputs of these shapes any more.
    """

    def __init__(
        self, f: Callable[[], Any], outputs: Sequence[Tensor], covectors: Sequence[Any], frozen: FrozenValues
    ) -> None:
        self._f, self._covectors, self._frozen = f, covectors, frozen
        self.shapes = [t.shape for t in outputs]
        pairs = zip(outputs, covectors, strict=True)
        self.size = sum(float(np.abs(to_numpy(t.array) * to_numpy(c)).sum()) for t, c in pairs)

    def __call__(self) -> float:
        self._frozen.replay()
        with frozen_values(self._frozen), no_grad():
            outputs = list(tensors_in(self._f()))
        if (shapes := [t.shape for t in outputs]) != self.shapes:
            expected, hint = f"outputs of the shapes {self.shapes} each time it is called", "no state outside of f"
            raise GradientError(problem("f", expected=expected, got=str(shapes), hint=hint))
        return sum(dot(t.array, c) for t, c in zip(outputs, self._covectors, strict=True))

    def part(self, part: Part) -> "WeightedSum":
        """The same for a part of one output alone."""
        number, key = part
        chosen = [array_module(c).zeros_like(c) for c in self._covectors]
        chosen[number][key] = self._covectors[number][key]
        function = object.__new__(WeightedSum)
        function.__dict__ |= {**self.__dict__, "_covectors": chosen}
        return function

    def along(self, leaf: Tensor, direction: Array, eps: float) -> Difference:
        """The slope along a direction of one input."""
        base = leaf.array

        def at(distance: float) -> float:
            put(leaf, base + distance * direction)
            return self()

        try:
            return five_point(at, eps, self.size)
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

    def error(self, rng: np.random.Generator) -> float | None:
        """The relative error; None where rounding hides the slope, so that nothing can be told.

        Raises:
            GradientError: it is too large, or there is no gradient at this point.
        """
        tried = list[Difference]()
        for factor in (1.0, 0.1, 10.0, 100.0):
            found = self.function.along(self.leaf, self.direction, factor * self.limits.eps)
            tried.append(found)
            if not math.isfinite(found.slope + self.analytic):
                raise GradientError(self._not_finite(found))
            if len(tried) == 2 and self._broken(*tried):
                raise GradientError(self._kink(found))
            smooth = tried if len(tried) == 2 else [d for d in (found,) if not self._bent(d)]
            if right := [d for d in smooth if d.far_from(self.analytic) <= self._allowed(d)]:
                least = self.unit * self.limits.atol / self.limits.rtol
                return right[-1].far_from(self.analytic) / max(self._size(right[-1]), least, 1e-300)
            if self._hidden(found) and self._nothing():
                return 0.0
            if len(tried) == 2 and not any(self._hidden(d) for d in tried):
                break
        found = min([d for d in tried if not self._bent(d)] or tried, key=lambda d: d.rounding)
        if self._hidden(found):
            return self._error_under_rounding(found)
        raise GradientError(self._wrong(found) + self._cause(found, rng))

    def _error_under_rounding(self, found: Difference) -> float | None:
        """The relative error where it is no larger than rounding is: if that leaves three digits."""
        lost = self._size(found) < 1e3 * found.rounding
        return None if lost else found.far_from(self.analytic) / self._size(found)

    def _nothing(self) -> bool:
        """Whether the whole gradient is 0, or what rounding makes of 0."""
        return self.unit <= 2.0**-45 * self.function.size

    def _size(self, found: Difference) -> float:
        return max(abs(self.analytic), abs(found.slope))

    def _allowed(self, found: Difference) -> float:
        return self.limits.rtol * self._size(found) + self.limits.atol * self.unit

    def _bent(self, found: Difference) -> bool:
        """Whether the slope changes within the step by more than a smooth one would, or rounding."""
        return found.bend > max(BENT * self._allowed(found), 8 * found.rounding)

    def _broken(self, first: Difference, second: Difference) -> bool:
        """Whether the slope changes as much within a short step as within a long one, or follows the step."""
        far, farther = second.far_from(self.analytic), first.far_from(self.analytic)
        follows = far < 0.5 * farther and far > self._allowed(second)
        return self._bent(second) and (second.bend > 0.5 * first.bend or follows)

    def _hidden(self, found: Difference) -> bool:
        """Whether what the derivatives differ by may be rounding."""
        return found.far_from(self.analytic) <= found.rounding and not self._bent(found)

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
        hint = "another point (a kink or a jump lies here), float64 all through f, or spikes='smooth' for spikes"
        return problem(self._subject(), expected="a differentiable point", got=got, hint=hint)

    def _wrong(self, found: Difference) -> str:
        size = max(self._size(found), 1e-300)
        flat = abs(found.slope) < 1e-6 * size
        ratio = "" if flat else f", ratio {self.analytic / found.slope:.7g}"
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

        cause = likeliest_cause(self.gradient, partials, counted, self.function.shapes, rng)
        return f", and the likeliest mistake: {cause}" if cause else ""
