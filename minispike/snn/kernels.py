"""The inner loops of a spiking neuron over time, in place and without temporaries the size of a layer.

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

BLOCK = 32768
"""Neurons a block on the CPU; at 4 bytes the five arrays of a block take 640 KiB."""


def _blocks(array: Array) -> list[slice]:
    """The blocks of neurons; a GPU takes the layer whole."""
    count = array.shape[1]
    size = BLOCK if array_module(array) is np else max(count, 1)
    return [slice(start, start + size) for start in range(0, count, size)]


def forward(x: Array, v: Array, c: Constants, spikes: Array, charged: Array, final: Array) -> Array | None:
    """Run a layer over time.

    Args:
        x: ``[T, N]`` input, or ``[1, N]``: the same at every step.
        v: ``[N]`` membrane potential before the first step.
        c: the neuron.
        spikes, charged: ``[T, N]``, filled with the spikes and with the potential before reset.
        final: ``[N]``, filled with the potential after the last step.

    Returns:
        ``[T, N]`` spikes as the reset saw them, where these differ from ``spikes`` (frozen in a check), or None.
    """
    smooth = spikes_are_smooth()
    if not smooth and kernels_cuda.fuses(c, x, v, spikes, charged, final):
        kernels_cuda.forward(x, v, c, spikes, charged, final)
        return None
    module, steps = array_module(x), len(spikes)
    seen = module.empty_like(spikes) if smooth and c.detach_reset else None
    for b in _blocks(spikes):
        potential = v[b].copy()
        for t in range(steps):
            m, s = charged[t, b], spikes[t, b]
            module.multiply(x[t % len(x), b], c.gain, out=m)
            potential *= c.decay
            m += potential
            if c.offset:
                m += c.offset
            if smooth:
                s[...] = c.surrogate.primitive(m - c.threshold)
            else:
                s[...] = m >= c.threshold
            if seen is not None:
                seen[t, b] = freeze(s)
                s = seen[t, b]
            _reset(m, s, c, out=potential)
        final[b] = potential
    return seen


def _reset(m: Array, s: Array, c: Constants, out: Array) -> None:
    """The potential after the spikes ``s``, into ``out``."""
    module = array_module(m)
    if c.reset is None:
        module.multiply(s, -c.threshold, out=out)
        out += m
        return
    if c.reset:
        module.subtract(m, c.reset, out=out)
        out *= s
    else:
        module.multiply(m, s, out=out)
    module.subtract(m, out, out=out)


def backward(
    grad: Array, dv: Array, c: Constants, spikes: Array, charged: Array, dx: Array, seen: Array | None = None
) -> None:
    """Run the gradient of `forward` back through time.

    Args:
        grad: ``[T, N]`` gradient of the spikes.
        dv: ``[N]`` gradient of the final potential; changed in place to that of the first.
        c: the neuron.
        spikes, charged, seen: as `forward` left them.
        dx: of the shape of x, filled with its gradient.
    """
    if kernels_cuda.fuses(c, grad, dv, spikes, charged, dx):
        kernels_cuda.backward(grad, dv, c, spikes if seen is None else seen, charged, dx)
        return
    module, steps = array_module(grad), len(grad)
    repeated = len(dx) == 1 and steps > 1
    if repeated:
        dx[...] = 0
    for b in _blocks(grad):
        carried = dv[b]  # gradient of the potential after step t
        for t in reversed(range(steps)):
            m = charged[t, b]
            s = (spikes if seen is None else seen)[t, b]
            dm = c.surrogate.derivative(m - c.threshold)
            if c.detach_reset:
                dm *= grad[t, b]
            else:  # the spike also moved the potential: by reset - m (hard), by -threshold (soft)
                moved = carried * (-c.threshold) if c.reset is None else carried * (c.reset - m)
                moved += grad[t, b]
                dm *= moved
            dm += carried
            if c.reset is not None:
                dm -= carried * s
            if repeated:
                dx[0, b] += c.gain * dm
            else:
                module.multiply(dm, c.gain, out=dx[t, b])
            module.multiply(dm, c.decay, out=carried)
