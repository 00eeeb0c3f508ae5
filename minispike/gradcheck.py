"""The gradient checker: an analytic gradient against finite differences, along one random direction.

For a function f of all its inputs, a random direction u and a random covector c,

    analytic = <J^T c, u>        (one backward pass)
    numeric  = d/de <f(x + e u), c> at e = 0

agree for a right gradient, and for a wrong one differ with probability 1. The numeric derivative is the
five-point central difference, whose error is O(eps^4), in float64. (The directional form is that of HIPS
autograd's ``check_grads``.)
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from minispike.backend import array_module, asarray, to_numpy
from minispike.diagnosis import likeliest_cause
from minispike.errors import GradientError, problem
from minispike.smooth import FrozenValues, frozen_values, smooth_spikes
from minispike.tensor import Tensor, default_dtype, enable_grad, grad, no_grad

_FIVE_POINT = ((-2, 1 / 12), (-1, -2 / 3), (1, 2 / 3), (2, -1 / 12))


@dataclass(frozen=True)
class GradientReport:
    """What `check_grads` found: the largest relative error over the inputs and orders, and their number."""

    worst_error: float
    checks: int


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

    Args:
        f: returns a tensor, or a tuple, list or dictionary of tensors.
        args: tensors, modules (their parameters are checked), arrays of floats (checked as tensors), or any
            nesting of these in lists, tuples and dictionaries. Everything else is handed on as it is.
            Tensors and parameters are held in float64 during the check, and restored.
        order: 1, or 2 to check the gradient of the gradient as well.
        rtol: allowed error relative to the larger of the two derivatives.
        atol: allowed absolute error, in units of |u| |c|.
        eps: step of the finite difference, relative to the size of the direction (1 at most an element); where the
            function bends too much for it, a tenth of it is tried before the point counts as not differentiable.
        seed: of the direction and the covector.
        spikes: ``"smooth"`` lets every surrogate run its primitive; with ``"hard"`` a spiking function cannot
            be checked (its numeric derivative is 0). Values that f detaches are held at the base point in both.

    Returns:
        The report.

    Raises:
        GradientError: a gradient is wrong, or f is not differentiable at this point, or ``order`` or ``rtol`` is
            none.
    """
    if order not in (1, 2):
        raise GradientError(problem("order", expected="1 or 2", got=repr(order), hint="order=1"))
    if not 0 < rtol < np.inf:
        raise GradientError(problem("rtol", expected="a number > 0", got=repr(rtol), hint="rtol=1e-6"))
    rng = np.random.default_rng(seed)
    with default_dtype(np.float64), smooth_spikes(spikes == "smooth"):
        leaves: list[tuple[str, Tensor]] = []
        inputs = [_prepare(arg, f"args[{i}]", leaves) for i, arg in enumerate(args)]
        if not leaves:
            hint = "Tensor(x, requires_grad=True)"
            raise GradientError(problem("check_grads", expected="a tensor to differentiate by", got="none", hint=hint))
        before = [(t, t.array, t.requires_grad) for _, t in leaves]
        try:
            for _, t in leaves:
                t.array, t.requires_grad = t.array.astype(np.float64), True
            limits = _Limits(rtol, atol, eps)
            report = _check(lambda: f(*inputs), leaves, rng, limits, create_graph=order > 1)
            if order > 1:
                second = _gradient_function(lambda: f(*inputs), leaves, rng)
                report2 = _check(second, leaves, rng, limits, may_be_constant=True)
                report = GradientReport(max(report.worst_error, report2.worst_error), report.checks + report2.checks)
            return report
        finally:
            for t, array, requires_grad in before:
                t.array, t.requires_grad = array, requires_grad


@dataclass(frozen=True)
class _Limits:
    rtol: float
    atol: float
    eps: float


def _prepare(arg: Any, name: str, leaves: list[tuple[str, Tensor]]) -> Any:
    """The argument as f shall see it; every tensor to check is put on the list under its name."""
    if isinstance(arg, np.ndarray) and arg.dtype.kind == "f":
        arg = Tensor(arg, requires_grad=True)
    if isinstance(arg, Tensor):
        if arg.requires_grad and all(arg is not t for _, t in leaves):
            leaves.append((name, arg))
    elif isinstance(arg, dict):
        return {key: _prepare(value, f"{name}[{key!r}]", leaves) for key, value in arg.items()}
    elif isinstance(arg, list | tuple):
        values = [_prepare(value, f"{name}[{i}]", leaves) for i, value in enumerate(arg)]
        return type(arg)(*values) if hasattr(arg, "_fields") else type(arg)(values)  # named tuples, and others
    elif hasattr(arg, "named_parameters"):
        for key, parameter in arg.named_parameters():
            _prepare(parameter, f"{name}.{key}", leaves)
    return arg


def _tensors(output: Any) -> Iterator[Tensor]:
    """Every tensor in what a function returned."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, dict):
        for value in output.values():
            yield from _tensors(value)
    elif isinstance(output, list | tuple):
        for value in output:
            yield from _tensors(value)


def _zeros_like(tensor: Tensor) -> Tensor:
    return Tensor._of(array_module(tensor.array).zeros_like(tensor.array))


def _random_like(array: Any, rng: np.random.Generator) -> Any:
    return asarray(rng.uniform(-1.0, 1.0, size=array.shape), module=array_module(array))


def _check(
    f: Callable[[], Any],
    leaves: Sequence[tuple[str, Tensor]],
    rng: np.random.Generator,
    limits: _Limits,
    *,
    create_graph: bool = False,
    may_be_constant: bool = False,
) -> GradientReport:
    """Compare the two derivatives, one input at a time, so that the failing one can be named."""
    frozen = FrozenValues()
    with frozen_values(frozen):
        outputs = list(_tensors(f()))
        covectors = [_random_like(t.array, rng) for t in outputs]
        pairs = [(t, c) for t, c in zip(outputs, covectors, strict=True) if t.requires_grad]
        if not pairs and not may_be_constant:
            hint = "ops of minispike, without detach() or no_grad()"
            raise GradientError(problem("check_grads", expected="outputs with a graph", got="none", hint=hint))
        gradients: list[Tensor | None] = [None] * len(leaves)
        if pairs:
            loss = _weighted_sum([t for t, _ in pairs], [c for _, c in pairs])
            gradients = grad(loss, [t for _, t in leaves], create_graph=create_graph)

    def value() -> float:
        return _value(f, covectors, frozen)

    scale = max(float(np.sqrt(sum(float((to_numpy(c) ** 2).sum()) for c in covectors))), 1e-300)
    worst = 0.0
    for (name, leaf), gradient in zip(leaves, gradients, strict=True):
        direction = _random_like(leaf.array, rng)
        analytic = 0.0 if gradient is None else float((to_numpy(gradient.array) * to_numpy(direction)).sum())
        for eps in (limits.eps, 0.1 * limits.eps):  # the shorter step where the function bends within the longer one
            numeric, bend = _derivative(value, leaf, direction, eps)
            size = max(abs(analytic), abs(numeric))
            tolerance = limits.rtol * size + limits.atol * scale
            error = abs(analytic - numeric)
            if error <= tolerance or bend <= error:
                break
        if not error <= tolerance:
            message = _failure(name, leaf, direction, analytic, numeric, bend)
            if bend <= error:
                message += _cause(f, leaf, gradient, outputs, covectors, frozen, eps, rng)
            raise GradientError(message)
        worst = max(worst, error / max(size, scale * limits.atol / limits.rtol))
    return GradientReport(worst, len(leaves))


def _value(f: Callable[[], Any], covectors: Sequence[Any], frozen: FrozenValues) -> float:
    """<f, c>, with the detached values of the base point."""
    frozen.replay()
    with frozen_values(frozen), no_grad():
        pairs = zip(_tensors(f()), covectors, strict=True)
        return sum(float(np.sum(to_numpy(t.array) * to_numpy(c))) for t, c in pairs)


def _cause(
    f: Callable[[], Any],
    leaf: Tensor,
    gradient: Tensor | None,
    outputs: Sequence[Tensor],
    covectors: Sequence[Any],
    frozen: FrozenValues,
    eps: float,
    rng: np.random.Generator,
) -> str:
    """The likeliest cause of a wrong gradient, as the end of a sentence; empty if none is found."""
    rows = len(outputs[0]) if len(outputs) == 1 and outputs[0].ndim else 0

    def partials(places: Sequence[int], row: int | None) -> "np.ndarray[Any, Any]":
        chosen = covectors
        if row is not None:
            chosen = [array_module(covectors[0]).zeros_like(covectors[0])]
            chosen[0][row] = covectors[0][row]
        found = []
        for place in places:
            direction = np.zeros(leaf.shape)
            direction.reshape(-1)[place] = 1.0
            step = asarray(direction, module=array_module(leaf.array))
            found.append(_derivative(lambda: _value(f, chosen, frozen), leaf, step, eps)[0])
        return np.array(found)

    wrong = np.zeros(leaf.shape) if gradient is None else to_numpy(gradient.array)
    cause = likeliest_cause(wrong, partials, rng, rows)
    return f", and the likeliest mistake: {cause}" if cause else ""


def _derivative(value: Callable[[], float], leaf: Tensor, direction: Any, eps: float) -> tuple[float, float]:
    """The numeric derivative along a direction, and how abruptly the slope changes nearby.

    The latter is the largest third difference, over eps: of the order eps^2 where the function is smooth, and
    at a kink or jump at least twice what is wrong with the numeric derivative.
    """
    base = leaf.array
    samples: dict[int, float] = {}
    try:
        for step in (-2, -1, 0, 1, 2):
            leaf.array = base + (step * eps) * direction
            samples[step] = value()
    finally:
        leaf.array = base
    numeric = sum(weight * samples[step] for step, weight in _FIVE_POINT) / eps
    thirds = (samples[i + 2] - 3 * samples[i + 1] + 3 * samples[i] - samples[i - 1] for i in (-1, 0))
    return numeric, max(abs(third) for third in thirds) / eps


def _failure(name: str, leaf: Tensor, direction: Any, analytic: float, numeric: float, bend: float) -> str:
    """The sentence of a failed check."""
    difference = abs(analytic - numeric)
    size = max(abs(analytic), abs(numeric))
    if bend > difference:
        got = f"a slope that changes by about {bend:.2g} nearby"
        hint = "another point (a kink or a jump lies within eps), or spikes='smooth' for a spiking function"
        return problem(f"gradient by {name}", expected="a differentiable point", got=got, hint=hint)
    flat = abs(numeric) < 1e-6 * size
    ratio = "" if flat else f", ratio {analytic / numeric:.6g}"
    hint = "the backward of the ops between this input and the output"
    return problem(
        f"gradient by {name} of shape {leaf.shape}",
        expected=f"{numeric:.12g} (finite difference along {_shown(direction)})",
        got=f"{analytic:.12g} (backward), relative error {difference / max(size, 1e-300):.2g}{ratio}",
        hint=hint + (", or spikes='smooth' for a spiking function" if flat else ""),
    )


def _shown(direction: Any) -> str:
    """A direction by its first numbers; the seed of the check makes the others."""
    numbers = to_numpy(direction).reshape(-1)
    more = ", ..." if numbers.size > 4 else ""
    return f"[{', '.join(f'{number:.3f}' for number in numbers[:4])}{more}]"


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
        covectors = [_random_like(t.array, rng) for t in _tensors(f())]

    def gradient() -> list[Tensor]:
        with enable_grad():
            loss = _weighted_sum(list(_tensors(f())), covectors)
            with frozen_values(None):  # the walk is what is checked: a detached value in it is none of f's
                found = grad(loss, [t for _, t in leaves], create_graph=True)
        return [_zeros_like(t) if g is None else g for g, (_, t) in zip(found, leaves, strict=True)]

    return gradient
