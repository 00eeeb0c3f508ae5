"""The gradient checker: an analytic gradient against finite differences, along one random direction.

For a function f of all its inputs, a random direction u and a random covector c,

    analytic = <J^T c, u>        (one backward pass)
    numeric  = d/de <f(x + e u), c> at e = 0

agree for a right gradient, and for a wrong one differ with probability 1. The numeric derivative is the
five-point central difference, whose error is O(eps^4), in float64. (The directional form is that of HIPS
autograd's ``check_grads``.)
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from minispike.backend import array_module, asarray, to_numpy
from minispike.errors import GradientError, problem
from minispike.nesting import mapped, tensors_in
from minispike.smooth import FrozenValues, frozen_values, smooth_spikes
from minispike.tensor import Tensor, default_dtype, enable_grad, grad, no_grad
from minispike.verdict import Limits, Verdict, WeightedSum, put


@dataclass(frozen=True)
class GradientReport:
    """What `check_grads` found.

    Attributes:
        worst_error: the largest relative error over the inputs and orders; beyond rtol only where rounding of the
            values of f leaves the slope fewer digits, two at least.
        checks: their number.
        detached: how many values were detached in f, and held where they are. The gradient through them is that of
            a constant, whether that is meant or not.
        unseen: the inputs of which nothing can be told, because rounding of the values of f hides their slope.

    Example:
        >>> import numpy as np
        >>> import minispike
        >>> report = minispike.check_grads(lambda x: x * x.detach(), np.array([1.0, 2.0]))
        >>> report.checks, report.detached, report.worst_error < 1e-6
        (1, 1, True)
    """

    worst_error: float
    checks: int
    detached: int = 0
    unseen: tuple[str, ...] = ()


def check_grads(
    f: Callable[..., Any],
    *args: Any,
    order: int = 1,
    rtol: float = 1e-6,
    atol: float = 1e-9,
    eps: float = 1e-4,
    seed: int = 0,
    spikes: Literal["hard", "smooth"] = "hard",
) -> GradientReport:
    """Check the gradient of ``f(*args)`` with respect to every tensor among ``args`` that requires one.

    An error is seen that is larger than ``rtol`` of an input's whole derivative along one direction. One in a small
    part of it, beside large ones, may be none: check that part alone, and outputs of different size one at a time.

    Args:
        f: returns a tensor, or a tuple, list, dictionary or dataclass of tensors; the same each time it is called. The
            parameters of a module are checked too.
        args: tensors, modules (their parameters are checked), arrays of floats (checked as tensors), or any
            nesting of these in lists, tuples, dictionaries and dataclasses. Everything else is handed on as it is.
            Tensors and parameters are held in float64 during the check, and restored.
        order: 1, or 2 to check the gradient of the gradient as well.
        rtol: allowed error relative to the larger of the two derivatives.
        atol: allowed absolute error, in units of the length of the gradient times that of the direction.
        eps: step of the finite difference, for a direction of at most 1 an element; a tenth of it is tried too where
            the function bends, and ten and a hundred times as much where rounding hides the slope; beside inputs that
            are all below 0.1, one as much smaller too.
        seed: of the direction and the covector.
        spikes: ``"smooth"`` lets every surrogate run its primitive; with ``"hard"`` a spiking function cannot
            be checked (its numeric derivative is 0). Values that f detaches are held at the base point in both.

    Returns:
        The report.

    Raises:
        GradientError: a gradient is wrong or not finite, f is not differentiable at this point or not the same each
            time, or an argument is none of the above.

    Example:
        >>> import minispike
        >>> from minispike.snn.neurons import LIFNeuron, lif
        >>> x = minispike.Tensor([[0.5], [1.2], [3.0]], requires_grad=True)  # [T, neurons]
        >>> report = minispike.check_grads(lambda x: lif(x, LIFNeuron()), x, spikes="smooth")
        >>> report.worst_error < 1e-6
        True
    """
    _check_arguments(f, order, rtol, atol, eps, seed, spikes)
    rng = np.random.default_rng(seed)
    with default_dtype(np.float64), smooth_spikes(spikes == "smooth"):
        leaves: list[tuple[str, Tensor]] = []

        def leaf(value: Any, name: str) -> Any:
            return _leaf(value, name, leaves)

        inputs = [mapped(arg, f"args[{i}]", leaf) for i, arg in enumerate(args)]
        leaf(f, "f")
        if not leaves:
            hint = "Tensor(x, requires_grad=True), or an array of floats"
            got = f"{', '.join(type(arg).__name__ for arg in args) or 'no arguments'}"
            raise GradientError(problem("check_grads", expected="a tensor to differentiate by", got=got, hint=hint))
        before = [(t, t.array, t.requires_grad) for _, t in leaves]
        try:
            for _, t in leaves:
                put(t, t.array.astype(np.float64))
                t.requires_grad = True
            limits = Limits(rtol, atol, eps)
            report = _check(lambda: f(*inputs), leaves, rng, limits, create_graph=order > 1)
            if order > 1:
                second = _gradient_function(lambda: f(*inputs), leaves, rng)
                report2 = _check(second, leaves, rng, limits, may_be_constant=True)
                worst = max(report.worst_error, report2.worst_error)
                unseen = tuple(name for name in report.unseen if name in report2.unseen)
                report = GradientReport(worst, report.checks + report2.checks, report.detached, unseen)
            return report
        finally:
            for t, array, requires_grad in before:
                t.array, t.requires_grad = array, requires_grad


def _check_arguments(f: Any, order: Any, rtol: Any, atol: Any, eps: Any, seed: Any, spikes: Any) -> None:
    """Raise a `GradientError` for the first argument that is none."""

    def number(value: Any) -> bool:
        return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)

    def whole(value: Any) -> bool:
        return isinstance(value, int | np.integer) and not isinstance(value, bool)

    for name, value, fine, expected, hint in (
        ("f", f, callable(f), "a function of the arguments after it", "check_grads(f, x)"),
        ("order", order, whole(order) and order in (1, 2), "1 or 2", "order=1"),
        ("rtol", rtol, number(rtol) and 0 < rtol < 1, "a number between 0 and 1", "rtol=1e-6"),
        ("atol", atol, number(atol) and 0 <= atol < 1, "a number from 0 to 1", "atol=1e-9"),
        ("eps", eps, number(eps) and 0 < eps < math.inf, "a number > 0", "eps=1e-4"),
        ("seed", seed, whole(seed) and seed >= 0, "a whole number >= 0", "seed=0"),
        ("spikes", spikes, isinstance(spikes, str) and spikes in ("hard", "smooth"), "'hard' or 'smooth'", "'smooth'"),
    ):
        if not fine:
            raise GradientError(problem(name, expected=expected, got=repr(value), hint=hint))


def _leaf(value: Any, name: str, leaves: list[tuple[str, Tensor]]) -> Any:
    """A value as f shall see it; every tensor to check is put on the list under its name."""
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        value = Tensor(value, requires_grad=True)
    if isinstance(value, Tensor):
        if value.requires_grad and all(value is not t for _, t in leaves):
            leaves.append((name, value))
    elif hasattr(value, "named_parameters"):
        for key, parameter in value.named_parameters():
            _leaf(parameter, f"{name}.{key}", leaves)
    return value


def _zeros_like(tensor: Tensor) -> Tensor:
    return Tensor._of(array_module(tensor.array).zeros_like(tensor.array))


def _random_like(array: Any, rng: np.random.Generator) -> Any:
    return asarray(rng.uniform(-1.0, 1.0, size=array.shape), module=array_module(array))


def _check(
    f: Callable[[], Any],
    leaves: Sequence[tuple[str, Tensor]],
    rng: np.random.Generator,
    limits: Limits,
    *,
    create_graph: bool = False,
    may_be_constant: bool = False,
) -> GradientReport:
    """Compare the two derivatives, one input at a time, so that the failing one can be named."""
    frozen = FrozenValues()
    with frozen_values(frozen):
        outputs = list(tensors_in(f()))
        covectors = [_random_like(t.array, rng) for t in outputs]
        pairs = [(t, c) for t, c in zip(outputs, covectors, strict=True) if t.requires_grad]
        if not pairs and not may_be_constant:
            hint = "ops of minispike, without detach() or no_grad()"
            raise GradientError(problem("check_grads", expected="outputs with a graph", got="none", hint=hint))
        gradients: list[Tensor | None] = [None] * len(leaves)
        if pairs:
            loss = _weighted_sum([t for t, _ in pairs], [c for _, c in pairs])
            with frozen_values(None):
                gradients = grad(loss, [t for _, t in leaves], create_graph=create_graph)

    function = WeightedSum(f, [t.array for t in outputs], covectors, frozen)
    _check_same_again(function)
    worst, unseen = 0.0, list[str]()
    for (name, leaf), gradient in zip(leaves, gradients, strict=True):
        g = np.zeros(leaf.shape) if gradient is None else to_numpy(gradient.array)
        error = Verdict(function, name, leaf, g, _random_like(leaf.array, rng), limits).error(rng)
        worst = max(worst, error or 0.0)
        if error is None:
            unseen.append(name)
    if len(unseen) == len(leaves):
        name, expected = f"gradient by {', '.join(unseen)}", "values of f that change with its inputs"
        got = "values beside whose rounding the slope is lost"
        hint = "smaller values of f, inputs of another scale, or a larger eps"
        raise GradientError(problem(name, expected=expected, got=got, hint=hint))
    return GradientReport(worst, len(leaves), len(frozen), tuple(unseen))


def _check_same_again(function: WeightedSum) -> None:
    """See that f gives at the same point what it gave before."""
    change, size = function()
    if abs(change) > 1e-12 * size:
        hint = "a generator that f makes itself: np.random.default_rng(0)"
        got = f"outputs that differ by {abs(change):.3g} (a weighted sum)"
        raise GradientError(problem("f", expected="the same outputs for the same inputs", got=got, hint=hint))


def _weighted_sum(outputs: Sequence[Tensor], covectors: Sequence[Any]) -> Tensor:
    """<f, c> over all outputs: a number, whose gradient is J^T c."""
    terms = [(t * Tensor._of(c)).sum() for t, c in zip(outputs, covectors, strict=True)]
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def _gradient_function(
    f: Callable[[], Any], leaves: Sequence[tuple[str, Tensor]], rng: np.random.Generator
) -> Callable[[], Any]:
    """The function that maps the inputs to J^T c, for a fixed covector c: its Jacobian is the second derivative."""
    with no_grad():
        covectors = [_random_like(t.array, rng) for t in tensors_in(f())]

    def gradient() -> list[Tensor]:
        with enable_grad():
            loss = _weighted_sum(list(tensors_in(f())), covectors)
            with frozen_values(None):  # the walk is what is checked: a detached value in it is none of f's
                found = grad(loss, [t for _, t in leaves], create_graph=True)
        return [_zeros_like(t) if g is None else g for g, (_, t) in zip(found, leaves, strict=True)]

    return gradient
