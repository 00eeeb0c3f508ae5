"""Mistakes in spiking neurons: in their gradient back through time, and in the surrogate."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from wrong_gradients import Mistake, disguised

from minispike.backend import array_module
from minispike.snn import kernels, neurons
from minispike.snn import spiking_linear as spiking_linear_module
from minispike.snn.constants import Constants
from minispike.snn.neurons import LIF, LIFNeuron, ParametricLIF, leaky_integrator, lif, lif_composed, lif_with_state
from minispike.snn.spiking_linear import SpikingLinear, spiking_linear
from minispike.snn.surrogate import ATan, FastSigmoid, Sigmoid, Spike, Triangle, spike
from minispike.tensor import Tensor

Array = Any

HARD = LIFNeuron(threshold=0.4)
HARD_ATTACHED = replace(HARD, detach_reset=False)
BELOW_ZERO_ATTACHED = replace(HARD_ATTACHED, reset=-0.3)
SOFT = replace(HARD, reset=None)
SOFT_ATTACHED = replace(SOFT, detach_reset=False)

OVER_TIME = [(4, 3)]
WITH_START = [(4, 3), (3,)]


@cache
def spikes(neuron: LIFNeuron) -> Callable[[Tensor], Tensor]:
    return lambda x: lif(x, neuron)


def spikes_and_potential(x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    return lif_with_state(x, HARD, v)


# --- in the walk back through time: (grad, dv, constants, spikes, charged, dx, scratch), as `kernels.backward`
# has them


def with_constants(**changes: Callable[[Constants], Any]) -> Callable[..., None]:
    """Backward through a neuron some of whose constants are others."""

    def wrong(right: Any, grad: Array, dv: Array, c: Constants, *rest: Any) -> None:
        right(grad, dv, replace(c, **{name: change(c) for name, change in changes.items()}), *rest)

    return wrong


def late(right: Any, grad: Array, *rest: Any) -> None:
    right(array_module(grad).roll(grad, 1, axis=0), *rest)


def early(right: Any, grad: Array, dv: Array, c: Constants, s: Array, m: Array, dx: Array, scratch: Array) -> None:
    right(grad, dv, c, s, m, dx, scratch)
    dx[...] = array_module(dx).roll(dx, -1, axis=0)


def without_last_step(right: Any, grad: Array, *rest: Any) -> None:
    grad = grad.copy()
    grad[-1] = 0.0
    right(grad, *rest)


def in_two_halves(right: Any, grad: Array, dv: Array, c: Constants, *over_time: Array) -> None:
    for half in (slice(0, 2), slice(2, 4)):
        right(grad[half], dv, c, *(a[half] for a in over_time))


def without_final_potential(right: Any, grad: Array, dv: Array, *rest: Any) -> None:
    dv[...] = 0.0
    right(grad, dv, *rest)


def constant_input_once(right: Any, op: LIF, grad: Array) -> Any:
    return [dx * (1.0 / op.steps) for dx in right(op, grad)]


TIME = {
    "late by a step": Mistake(spikes(HARD), OVER_TIME, kernels, "backward", late),
    "early by a step": Mistake(spikes(HARD), OVER_TIME, kernels, "backward", early),
    "no decay on the way back": Mistake(
        spikes(HARD), OVER_TIME, kernels, "backward", with_constants(decay=lambda c: 1.0)
    ),
    "decayed twice": Mistake(
        spikes(HARD), OVER_TIME, kernels, "backward", with_constants(decay=lambda c: c.decay**2)
    ),
    "no way back through time": Mistake(
        spikes(HARD), OVER_TIME, kernels, "backward", with_constants(decay=lambda c: 0.0)
    ),
    "way back cut in the middle": Mistake(spikes(HARD), OVER_TIME, kernels, "backward", in_two_halves),
    "gain of the input forgotten": Mistake(
        spikes(HARD), OVER_TIME, kernels, "backward", with_constants(gain=lambda c: 1.0)
    ),
    "last step forgotten": Mistake(spikes(HARD), OVER_TIME, kernels, "backward", without_last_step),
    "final potential forgotten": Mistake(
        spikes_and_potential, WITH_START, kernels, "backward", without_final_potential
    ),
    "first potential forgotten": Mistake(
        spikes_and_potential, WITH_START, LIF, "backward_arrays", lambda right, op, grad: (right(op, grad)[0], None)
    ),
    "first potential not decayed": Mistake(
        spikes_and_potential, WITH_START, LIF, "backward_arrays",
        lambda right, op, grad: (right(op, grad)[0], right(op, grad)[1] / op.constants.decay),
    ),
    "constant input counted once": Mistake(
        lambda x: lif(x, HARD, time_steps=4), [(1, 3)], LIF, "backward_arrays", constant_input_once
    ),
}  # fmt: skip


# --- at the reset: (constants, spikes, lift, slope of the surrogate, out), as `kernels._kept_by_reset` has them


def at_the_potential(right: Any, grad: Array, dv: Array, c: Constants, *rest: Any) -> None:
    right(grad, dv, replace(c, threshold=0.0), *rest)


def after_the_reset(right: Any, grad: Array, dv: Array, c: Constants, s: Array, m: Array, *rest: Any) -> None:
    potential = array_module(m).empty_like(m)
    kernels._reset(m, s, c, out=potential)
    right(grad, dv, c, s, potential, *rest)


def carried_through_the_surrogate(right: Any, c: Constants, s: Array, lift: Array, slope: Array, out: Array) -> Array:
    kept = right(c, s, lift, slope, out)
    kept += slope
    return kept


RESET = {
    "hard reset: its gradient dropped": Mistake(
        spikes(HARD_ATTACHED), OVER_TIME, kernels, "backward", with_constants(detach_reset=lambda c: True)
    ),
    "hard reset: not detached": Mistake(
        spikes(HARD), OVER_TIME, kernels, "backward", with_constants(detach_reset=lambda c: False)
    ),
    "soft reset: its gradient dropped": Mistake(
        spikes(SOFT_ATTACHED), OVER_TIME, kernels, "backward", with_constants(detach_reset=lambda c: True)
    ),
    "soft reset: not detached": Mistake(
        spikes(SOFT), OVER_TIME, kernels, "backward", with_constants(detach_reset=lambda c: False)
    ),
    "hard reset taken for a soft one": Mistake(
        spikes(HARD), OVER_TIME, kernels, "backward", with_constants(reset=lambda c: None)
    ),
    "soft reset taken for a hard one": Mistake(
        spikes(SOFT), OVER_TIME, kernels, "backward", with_constants(reset=lambda c: 0.0)
    ),
    "potential after reset taken for 0": Mistake(
        spikes(BELOW_ZERO_ATTACHED), OVER_TIME, kernels, "backward", with_constants(reset=lambda c: 0.0)
    ),
    "threshold added in a soft reset": Mistake(
        spikes(SOFT_ATTACHED), OVER_TIME, kernels, "_kept_by_reset",
        lambda right, c, *rest, **out: right(replace(c, threshold=-c.threshold), *rest, **out),
    ),
    "kept where it spiked": Mistake(
        spikes(HARD), OVER_TIME, kernels, "_kept_by_reset",
        lambda right, c, s, *rest, **out: right(c, 1.0 - s, *rest, **out),
    ),
    "composed: reset not detached": Mistake(
        lambda x: lif_composed(x, HARD)[0], OVER_TIME, Tensor, "detach",
        lambda right, tensor: disguised(right(tensor), tensor),
    ),
}  # fmt: skip

SURROGATE = {
    "surrogate at the potential, not at that above threshold": Mistake(
        spikes(HARD), OVER_TIME, kernels, "backward", at_the_potential
    ),
    "surrogate at the potential after reset": Mistake(
        spikes(HARD), OVER_TIME, kernels, "backward", after_the_reset
    ),
    "surrogate of another width": Mistake(
        spikes(HARD), OVER_TIME, kernels, "backward", with_constants(surrogate=lambda c: ATan(2.1))
    ),
    "surrogate of another kind": Mistake(
        spikes(HARD), OVER_TIME, kernels, "backward", with_constants(surrogate=lambda c: Sigmoid(4.0))
    ),
    "gradient of the potential through the surrogate too": Mistake(
        spikes(HARD), OVER_TIME, kernels, "_kept_by_reset", carried_through_the_surrogate
    ),
    "arc tangent: square forgotten": Mistake(
        spikes(HARD), OVER_TIME, ATan, "derivative",
        lambda right, surrogate, u: 1.0 / (1.0 + abs(np.pi * u)),
    ),
    "sigmoid: without alpha": Mistake(
        spikes(replace(HARD, surrogate=Sigmoid())), OVER_TIME, Sigmoid, "derivative",
        lambda right, surrogate, u: right(surrogate, u) / surrogate.alpha,
    ),
    "fast sigmoid: below threshold as above": Mistake(
        spikes(replace(HARD, surrogate=FastSigmoid())), OVER_TIME, FastSigmoid, "derivative",
        lambda right, surrogate, u: 1.0 / (1.0 + surrogate.alpha * u) ** 2,
    ),
    "triangle: negative beyond its base": Mistake(
        lambda x: lif(x * 4.0, replace(HARD, surrogate=Triangle())), OVER_TIME, Triangle, "derivative",
        lambda right, surrogate, u: surrogate.alpha * (1.0 - surrogate.alpha * abs(u)),
    ),
    "spike: the primitive for its derivative": Mistake(
        lambda u: spike(u, ATan()), [(3,)], Spike, "backward_arrays",
        lambda right, op, grad: (grad * op.surrogate.primitive(op.u),),
    ),
}  # fmt: skip

# --- in the layer that is one op


def layer(*inputs: Tensor) -> Tensor:
    return spiking_linear(*inputs, HARD, time_steps=3)


LAYER = [(1, 5, 4), (6, 4), (6,), (6,), (6,)]
OVER_TIME_LAYER = [(3, 5, 4), *LAYER[1:]]
IN_ORDER = ("input", "weight", "bias", "scale", "shift")


def other(name: str, change: Callable[[SpikingLinear, Array, Any], Any]) -> Callable[..., Any]:
    """Another gradient of one input than the right one."""

    def wrong(right: Any, op: SpikingLinear, grad: Array) -> Any:
        gradients = list(right(op, grad))
        place = IN_ORDER.index(name)
        gradients[place] = change(op, grad, gradients[place])
        return gradients

    return wrong


def straight_through(right: Any, grad: Array, *norm: Any) -> Any:
    unchanged, out = grad.copy(), norm[3]
    of_the_rest = right(grad, *norm)
    out[...] = unchanged
    return of_the_rest


IN_ONE = {
    "spiking layer: bias of the last block alone": Mistake(
        layer, LAYER, spiking_linear_module, "column_sums", lambda right, rows: right(rows[..., -1:, :])
    ),
    "spiking layer: scale without the gain of the neurons": Mistake(
        layer, OVER_TIME_LAYER, SpikingLinear, "backward_arrays", other("scale", lambda op, grad, dw: dw / op.gain)
    ),
    "spiking layer: shift without the gain of the neurons": Mistake(
        layer, OVER_TIME_LAYER, SpikingLinear, "backward_arrays", other("shift", lambda op, grad, db: db / op.gain)
    ),
    "spiking layer: straight through the norm": Mistake(
        layer, OVER_TIME_LAYER, spiking_linear_module, "norm_gradients", straight_through
    ),
    "spiking layer: weight not centred": Mistake(
        layer, OVER_TIME_LAYER, SpikingLinear, "backward_arrays",
        other("weight", lambda op, grad, dw: dw + 0.1 * abs(dw).max()),
    ),
    "spiking layer: a constant input of the last step": Mistake(
        layer, LAYER, SpikingLinear, "backward_arrays", other("input", lambda op, grad, dx: dx / op.steps)
    ),
    "spiking layer: potentials of other currents": Mistake(
        layer, OVER_TIME_LAYER, kernels, "backward",
        lambda right, grad, dv, c, s, m, *rest: right(grad, dv, c, s, 2.0 * m, *rest),
    ),
}  # fmt: skip

MEMBRANES = {
    "learned leak: without its sigmoid": Mistake(
        lambda neuron, x: neuron(x), [lambda rng: ParametricLIF(HARD), (4, 3)], neurons, "sigmoid",
        lambda right, w: disguised(right(w), w),
    ),
    "integrator: time runs backwards": Mistake(
        lambda x: leaky_integrator(x)[0], OVER_TIME, neurons, "stack",
        lambda right, potentials: disguised(right(potentials), right(potentials[::-1])),
    ),
}  # fmt: skip

NEURONS = TIME | RESET | SURROGATE | IN_ONE | MEMBRANES
