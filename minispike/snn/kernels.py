"""The inner loops of a spiking neuron over time, without temporaries the size of a layer.

A layer is ``[T, ...]``. On a CPU a neuron costs memory traffic, not arithmetic: so an op hands over one block of
neurons after the other (`blocks`), small enough for all its arrays to stay in a core's cache from one time step to
the next. The equations are those of `minispike.snn.neurons`.

Arrays on a GPU go to the kernels of `minispike.snn.kernels_cuda` instead, where `kernels_cuda.fuses` says so; what
these do not do (a surrogate without CUDA C, smooth spikes) runs on a GPU by the array operations of this file.
"""

from collections.abc import Sequence

import numpy as np

from minispike.backend import Array, array_module, empty
from minispike.smooth import freeze, spikes_are_smooth
from minispike.snn import kernels_cuda
from minispike.snn.constants import Constants

BLOCK = 131072
"""Numbers of a block's arrays on a CPU, all time steps together; at 4 bytes each array takes half a MiB."""

LEAST = 16384
"""Numbers of a block in one time step, if the layer has so many: with fewer, calls take longer than what they do."""


def blocks(array: Array, steps: int) -> list[slice]:
    """The blocks of a layer ``[T or 1, N, ...]`` over ``steps`` time steps, as slices of N; a GPU takes it whole.

    None is empty: a layer without neurons has no block.

    Example:
        >>> import numpy as np
        >>> from minispike.snn.kernels import blocks
        >>> layer = np.zeros((1, 80, 1024))  # 80 tokens, 1024 neurons each; 4 * 32 * 1024 is BLOCK
        >>> [(block.start, block.stop) for block in blocks(layer, steps=4)]
        [(0, 32), (32, 64), (64, 80)]
    """
    count = array.shape[1]
    if array_module(array) is not np:
        return [slice(0, count)] if count else []
    numbers = max(array[0, :1].size, 1)
    size = max(max(BLOCK // steps, LEAST) // numbers, 1)
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def block_scratch(layer: Array, steps: int, blocks: Sequence[slice]) -> Array:
    """An array ``[steps, n, ...]`` for one block of ``layer`` ``[T, N, ...]`` after the other to overwrite.

    Example:
        >>> import numpy as np
        >>> from minispike.snn.kernels import block_scratch
        >>> layer = np.zeros((1, 80, 1024))
        >>> block_scratch(layer, 4, [slice(0, 32), slice(32, 64), slice(64, 80)]).shape  # the first is the largest
        (4, 32, 1024)
    """
    return empty((steps, blocks[0].stop if blocks else 0, *layer.shape[2:]), layer)


def forward(
    x: Array,
    v: Array | None,
    c: Constants,
    spikes: Array,
    charged: Array,
    final: Array | None,
    scratch: Array,
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
        scratch: ``[...]``, overwritten.
        seen: what an earlier run has returned, for the resets of this one; None: these see its own spikes.

    Returns:
        ``[T, ...]`` spikes as the reset saw them, where these differ from ``spikes`` (frozen in a check), or None.

    Example:
        >>> import numpy as np
        >>> from minispike.snn.kernels import forward
        >>> from minispike.snn.neurons import LIFNeuron
        >>> spikes, charged, v = np.empty((3, 1)), np.empty((3, 1)), np.empty(1)
        >>> forward(np.array([[1.5]]), None, LIFNeuron(tau=2.0).constants(), spikes, charged, v, scratch=np.empty(1))
        >>> charged.ravel().tolist(), spikes.ravel().tolist(), v.tolist()  # m = v / 2 + 1.5 / 2
        ([0.75, 1.125, 0.75], [0.0, 1.0, 0.0], [0.75])
    """
    given = [a for a in (v, final) if a is not None]
    if not spikes_are_smooth() and kernels_cuda.fuses(c, x, spikes, charged, *given):
        kernels_cuda.forward(x, v, c, spikes, charged, final)
        return None
    return _array_forward(x, v, c, spikes, charged, final, scratch, seen)


def _array_forward(
    x: Array,
    v: Array | None,
    c: Constants,
    spikes: Array,
    charged: Array,
    final: Array | None,
    scratch: Array,
    seen: Array | None,
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
            _reset(m, s, c, out=scratch)
            decayed = module.multiply(scratch, c.decay, out=scratch)
    if final is not None:
        _reset(m, s, c, out=final)
    return frozen


def _reset(m: Array, s: Array, c: Constants, out: Array) -> None:
    """Fill ``out`` with the potential after the spikes ``s``."""
    module = array_module(m)
    if c.reset is None:
        module.multiply(s, -c.threshold, out=out)
        out += m
        return
    module.subtract(1, s, out=out)
    out *= m
    if c.reset:
        out += s * c.reset


def backward(
    grad: Array, dv: Array | None, c: Constants, spikes: Array, charged: Array, dx: Array, scratch: Array
) -> None:
    """Run the gradient of `forward` back through time.

    Args:
        grad: ``[T, ...]`` gradient of the spikes.
        dv: ``[...]`` gradient of the final potential; changed in place to that of the first. None: the final potential
            was not asked for, and the first is a constant.
        c: the neuron.
        spikes: as the resets of `forward` saw them.
        charged: as `forward` left it.
        dx: of the shape of x, filled with its gradient; may be ``charged``, if that is needed no more.
        scratch: ``[T, ...]``, overwritten; may be ``spikes``, if these are needed no more.

    Example:
        >>> import numpy as np
        >>> from minispike.snn.kernels import backward
        >>> from minispike.snn.neurons import LIFNeuron
        >>> from minispike.snn.surrogate import Rectangle
        >>> charged, spikes, dx = np.array([[0.75], [1.125]]), np.array([[0.0], [1.0]]), np.empty((2, 1))
        >>> c = LIFNeuron(tau=2.0, surrogate=Rectangle()).constants()  # whose derivative is 1 near the threshold
        >>> backward(np.array([[0.0], [1.0]]), None, c, spikes, charged, dx, scratch=np.empty((2, 1)))
        >>> dx.ravel().tolist()  # half of each input is taken in, and half of the first is left at the second step
        [0.25, 0.5]
    """
    if kernels_cuda.fuses(c, grad, spikes, charged, dx, *([] if dv is None else [dv])):
        kernels_cuda.backward(grad, dv, c, spikes, charged, dx)
    else:
        _array_backward(grad, dv, c, spikes, charged, dx, scratch)


def _array_backward(
    grad: Array, dv: Array | None, c: Constants, spikes: Array, charged: Array, dx: Array, scratch: Array
) -> None:
    """`backward` by array operations."""
    module = array_module(grad)
    lift = None if c.detach_reset or c.reset is None else c.reset - charged
    above = dx if dx.shape == grad.shape else empty(grad.shape, dx)
    slope = c.surrogate.derivative(module.subtract(charged, c.threshold, out=above))
    if getattr(slope, "shape", None) != grad.shape:  # one number for all, as of a straight-through surrogate
        above[...] = slope
        slope = above
    kept = _kept_by_reset(c, spikes, lift, slope, out=scratch)
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


def _kept_by_reset(c: Constants, spikes: Array, lift: Array | None, slope: Array, out: Array) -> Array:
    """What of a small change of the potential is left after the reset, ``[T, ...]``, in ``out``.

    After a hard reset nothing where it spiked, after a soft one everything. Where the reset is not detached, the spike
    that changes too moves the potential as well: by ``lift``, ``reset - m`` (hard), or by ``-threshold`` (soft).
    """
    if c.reset is None:
        out[...] = 1 if c.detach_reset else 1 - c.threshold * slope
        return out
    array_module(slope).subtract(1, spikes, out=out)
    if lift is not None:
        out += slope * lift
    return out
