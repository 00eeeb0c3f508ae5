"""The inner loops of a spiking neuron over time, without temporaries the size of a layer.

A layer is ``[T, ...]``. On a CPU a neuron costs memory traffic, not arithmetic: so an op hands over one block of
neurons after the other (`blocks`), small enough for all its arrays to stay in a core's cache from one time step to
the next. The equations are those of `minispike.snn.neurons`.

Arrays on a GPU go to the kernels of `minispike.snn.kernels_cuda` instead, where `kernels_cuda.fuses` says so; what
these do not do (a surrogate without CUDA C, smooth spikes) runs on a GPU by the array operations of this file.
"""

import numpy as np

from minispike.backend import Array, array_module
from minispike.smooth import freeze, spikes_are_smooth
from minispike.snn import kernels_cuda
from minispike.snn.constants import Constants

BLOCK = 262144
"""Numbers of a block's arrays on a CPU, all time steps together; at 4 bytes each array takes 1 MiB."""

LEAST = 16384
"""Numbers of a block in one time step, if the layer has so many: with fewer, calls take longer than what they do."""


def blocks(array: Array, steps: int) -> list[slice]:
    """The blocks of a layer ``[T or 1, N, ...]`` over ``steps`` time steps, as slices of N; a GPU takes it whole."""
    count = array.shape[1]
    if array_module(array) is not np:
        return [slice(0, count)]
    numbers = max(array[0, :1].size, 1)
    size = max(max(BLOCK // steps, LEAST) // numbers, 1)
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def forward(
    x: Array,
    v: Array | None,
    c: Constants,
    spikes: Array,
    charged: Array,
    final: Array | None,
    seen: Array | None = None,
) -> Array | None:
    """Run neurons over time.

    Args:
        x: ``[T, ...]`` input, or ``[1, ...]``: the same at every step.
        v: ``[...]`` membrane potential before the first step; None: at rest.
        c: the neuron.
        spikes, charged: ``[T, ...]``, filled with the spikes and with the potential before reset. ``charged`` may be x,
            if the gain is 1.
        final: ``[...]``, filled with the potential after the last step; None: nobody asks for it.
        seen: what an earlier run has returned, for the resets of this one; None: these see its own spikes.

    Returns:
        ``[T, ...]`` spikes as the reset saw them, where these differ from ``spikes`` (frozen in a check), or None.
    """
    given = [a for a in (v, final) if a is not None]
    if not spikes_are_smooth() and kernels_cuda.fuses(c, x, spikes, charged, *given):
        kernels_cuda.forward(x, v, c, spikes, charged, final)
        return None
    return _array_forward(x, v, c, spikes, charged, final, seen)


def _array_forward(
    x: Array, v: Array | None, c: Constants, spikes: Array, charged: Array, final: Array | None, seen: Array | None
) -> Array | None:
    """`forward` by array operations."""
    module, number, last, smooth = array_module(x), x.dtype.type, len(spikes) - 1, spikes_are_smooth()
    frozen = module.empty_like(charged) if seen is None and smooth and c.detach_reset else seen
    if charged is not x:
        module.multiply(x, c.gain, out=charged)
    decayed = number(c.decay) * number(c.resting) if v is None else c.decay * v
    for t in range(last + 1):
        m, s = charged[t], spikes[t]
        if t or v is not None or c.resting:  # most neurons begin at a potential of 0
            m += decayed
        if c.offset:
            m += c.offset
        s[...] = c.surrogate.primitive(m - c.threshold) if smooth else m >= c.threshold
        if frozen is not None:
            if seen is None:
                frozen[t] = freeze(s)
            s = frozen[t]
        if t < last:
            decayed = _after_reset(m, s, c)
            decayed *= c.decay
    if final is not None:
        final[...] = _after_reset(m, s, c)
    return frozen


def _after_reset(m: Array, s: Array, c: Constants) -> Array:
    """The potential after the spikes ``s``, as a new array."""
    if c.reset is None:
        v = s * -c.threshold
        v += m
        return v
    v = 1 - s
    v *= m
    if c.reset:
        v += s * c.reset
    return v


def backward(grad: Array, dv: Array | None, c: Constants, spikes: Array, charged: Array, dx: Array) -> None:
    """Run the gradient of `forward` back through time.

    Args:
        grad: ``[T, ...]`` gradient of the spikes.
        dv: ``[...]`` gradient of the final potential; changed in place to that of the first. None: the final potential
            was not asked for, and the first is a constant.
        c: the neuron.
        spikes: as the resets of `forward` saw them.
        charged: as `forward` left it.
        dx: of the shape of x, filled with its gradient.
    """
    if kernels_cuda.fuses(c, grad, spikes, charged, dx, *([] if dv is None else [dv])):
        kernels_cuda.backward(grad, dv, c, spikes, charged, dx)
    else:
        _array_backward(grad, dv, c, spikes, charged, dx)


def _array_backward(grad: Array, dv: Array | None, c: Constants, spikes: Array, charged: Array, dx: Array) -> None:
    """`backward` by array operations."""
    module = array_module(grad)
    above = dx if dx.shape == grad.shape else module.empty(grad.shape, dtype=dx.dtype)
    slope = c.surrogate.derivative(module.subtract(charged, c.threshold, out=above))
    if getattr(slope, "shape", None) != grad.shape:  # one number for all, as of a straight-through surrogate
        above[...] = slope
        slope = above
    kept = _kept_by_reset(c, spikes, charged, slope)
    dm = slope  # from here on the gradient of the potential before reset
    dm *= grad
    if dv is not None:
        dm[-1] += kept[-1] * dv
    kept *= c.decay
    for t in range(len(dm) - 2, -1, -1):
        kept[t] *= dm[t + 1]
        dm[t] += kept[t]
    if dv is not None:
        module.multiply(dm[0], c.decay, out=dv)
    if c.gain != 1:
        dm *= c.gain
    if len(dx) < len(dm):
        dm.sum(axis=0, out=dx[0])
    elif dm is not dx:
        dx[...] = dm


def _kept_by_reset(c: Constants, spikes: Array, charged: Array, slope: Array) -> Array:
    """What of a small change of the potential is left after the reset, ``[T, ...]``, as a new array.

    After a hard reset nothing where it spiked, after a soft one everything. Where the reset is not detached, the spike
    that changes too moves the potential as well: by ``reset - m`` (hard) or by ``-threshold`` (soft).
    """
    if c.reset is None:
        if c.detach_reset:
            return array_module(slope).ones_like(slope)
        return 1 - c.threshold * slope
    kept = 1 - spikes
    if not c.detach_reset:
        kept += slope * (c.reset - charged)
    return kept
