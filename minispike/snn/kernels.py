"""The inner loops of a spiking neuron over time, without temporaries the size of a layer.

A layer is a matrix ``[T, N]``. The loop over time runs inside a loop over blocks of neurons, small enough for all
the arrays of a block to stay in a core's cache from one time step to the next: on a CPU a neuron costs memory
traffic, not arithmetic. The equations are those of `minispike.snn.neurons`.

Arrays on a GPU go to the kernels of `minispike.snn.kernels_cuda` instead, where `kernels_cuda.fuses` says so; what
these do not do (a surrogate without CUDA C, smooth spikes) runs on a GPU by the array operations of this file.
"""

import numpy as np

from minispike.backend import Array, array_module
from minispike.smooth import freeze, spikes_are_smooth
from minispike.snn import kernels_cuda
from minispike.snn.constants import Constants

BLOCK = 65536
"""Neurons a block on the CPU; at 4 bytes each of its few arrays takes 256 KiB."""


def _blocks(array: Array) -> list[slice]:
    """The blocks of neurons; a GPU takes the layer whole."""
    count = array.shape[1]
    size = BLOCK if array_module(array) is np else max(count, 1)
    return [slice(start, start + size) for start in range(0, count, size)]


def forward(
    x: Array, v: Array | None, c: Constants, spikes: Array, charged: Array, final: Array | None
) -> Array | None:
    """Run a layer over time.

    Args:
        x: ``[T, N]`` input, or ``[1, N]``: the same at every step.
        v: ``[N]`` membrane potential before the first step; None: at rest.
        c: the neuron.
        spikes, charged: ``[T, N]``, filled with the spikes and with the potential before reset.
        final: ``[N]``, filled with the potential after the last step; None: nobody asks for it.

    Returns:
        ``[T, N]`` spikes as the reset saw them, where these differ from ``spikes`` (frozen in a check), or None.
    """
    smooth = spikes_are_smooth()
    given = [a for a in (v, final) if a is not None]
    if not smooth and kernels_cuda.fuses(c, x, spikes, charged, *given):
        kernels_cuda.forward(x, v, c, spikes, charged, final)
        return None
    module, number, last = array_module(x), x.dtype.type, len(spikes) - 1
    seen = module.empty_like(spikes) if smooth and c.detach_reset else None
    for b in _blocks(spikes):
        decayed = number(c.decay) * number(c.resting) if v is None else c.decay * v[b]
        for t in range(last + 1):
            m, s = charged[t, b], spikes[t, b]
            module.multiply(x[t % len(x), b], c.gain, out=m)
            if t or v is not None or c.resting:  # most neurons begin at a potential of 0
                m += decayed
            if c.offset:
                m += c.offset
            if smooth:
                s[...] = c.surrogate.primitive(m - c.threshold)
            else:
                module.greater_equal(m, c.threshold, out=s)
            if seen is not None:
                seen[t, b] = freeze(s)
                s = seen[t, b]
            if t < last:
                decayed = _after_reset(m, s, c)
                decayed *= c.decay
        if final is not None:
            final[b] = _after_reset(m, s, c)
    return seen


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


def backward(
    grad: Array,
    dv: Array | None,
    c: Constants,
    spikes: Array,
    charged: Array,
    dx: Array,
    seen: Array | None = None,
) -> None:
    """Run the gradient of `forward` back through time.

    Args:
        grad: ``[T, N]`` gradient of the spikes.
        dv: ``[N]`` gradient of the final potential; changed in place to that of the first. None: the final potential
            was not asked for, and the first is a constant.
        c: the neuron.
        spikes, charged, seen: as `forward` left them.
        dx: of the shape of x, filled with its gradient.
    """
    if kernels_cuda.fuses(c, grad, spikes, charged, dx, *([] if dv is None else [dv])):
        kernels_cuda.backward(grad, dv, c, spikes if seen is None else seen, charged, dx)
        return
    steps = len(grad)
    spikes = spikes if seen is None else seen
    for b in _blocks(grad):
        carried = None if dv is None else dv[b]  # gradient of the potential after step t
        for t in reversed(range(steps)):
            dm = _charge_gradient(grad[t, b], carried, c, spikes[t, b], charged[t, b])
            if len(dx) == steps:
                array_module(dm).multiply(dm, c.gain, out=dx[t, b])
            elif t == steps - 1:
                array_module(dm).multiply(dm, c.gain, out=dx[0, b])
            else:
                dx[0, b] += c.gain * dm
            dm *= c.decay
            carried = dm
        if dv is not None:
            dv[b] = carried


def _charge_gradient(grad: Array, carried: Array | None, c: Constants, s: Array, m: Array) -> Array:
    """The gradient of the potential before reset, as a new array.

    Args:
        grad: of the spikes.
        carried: of the potential after reset; None: zero.
        c: the neuron.
        s, m: spikes, and potential before reset.
    """
    dm = c.surrogate.derivative(m - c.threshold)
    if carried is None:
        dm *= grad
        return dm
    if c.detach_reset:
        dm *= grad
    else:  # the spike also moved the potential: by reset - m (hard), by -threshold (soft)
        moved = carried * (-c.threshold) if c.reset is None else carried * (c.reset - m)
        moved += grad
        dm *= moved
    if c.reset is None:
        dm += carried
    else:
        kept = 1 - s
        kept *= carried
        dm += kept
    return dm
