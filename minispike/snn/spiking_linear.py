"""A spiking layer as one op: linear map, layer norm, neurons.

Most of a SpikeBERT is this layer. Its products of matrices are made for the whole layer at once; everything else is
done for one block of tokens after the other, small enough for its arrays to stay in a core's cache: forward the norm
and then all time steps of the neurons; backward the neurons back through time and then the norm. What backward needs
of the neurons, potentials and spikes, it computes again from the normalised currents: so a layer keeps one number for
each output, and its input, of which a spike or a count of spikes takes one byte.

The equations are those of `minispike.nn.functional.normed_linear` and `minispike.snn.neurons.lif`. The gain of the
neurons' input and its offset are constants, and are put into the weight and the bias of the norm.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from minispike.backend import Array, array_module, empty
from minispike.errors import ShapeError, problem
from minispike.nn.functional import centred, check_linear, check_norm, linear_products, normed_linear_composed
from minispike.nn.rows import as_rows, column_sums, norm_gradients, normalise, product, spread
from minispike.ops.op import FusedOp, Products
from minispike.smooth import smooth_spikes, spikes_are_smooth
from minispike.snn import kernels
from minispike.snn.neurons import LIFNeuron, check_steps, lif_composed
from minispike.tensor import Tensor


class SpikingLinear(FusedOp):
    """Linear map, layer norm and neurons with a backward by hand; see `spiking_linear`."""

    def __init__(self, neuron: LIFNeuron, steps: int, eps: float, counts: bool = False) -> None:
        c, self.counts = neuron.constants(), counts
        self.gain, self.offset = c.gain, c.offset
        self.constants, self.steps, self.eps = replace(c, gain=1.0, offset=0.0), steps, eps

    def forward(self, x: Array, weight: Array, bias: Array, norm_weight: Array, norm_bias: Array) -> Array:
        if x.ndim < 2:
            got, hint = f"shape {x.shape}", "x[:, None]"
            raise ShapeError(problem("spiking_linear", expected="x [T, ..., in]", got=got, hint=hint))
        check_linear(x, weight, bias)
        check_norm((*x.shape[:-1], len(weight)), norm_weight, norm_bias)
        self.smooth = spikes_are_smooth()
        self.x = x.astype(np.uint8) if self.counts and not self.smooth and any(self.needs) else x
        self.scale, self.shift = norm_weight * self.gain, norm_bias * self.gain + self.offset
        self.centred, bias = centred(weight, bias)
        self.normal = product(as_rows(x), self.centred.T).reshape(len(x), -1, len(weight))  # [T or 1, N, out]
        shape = self.normal.shape
        self.inverse = empty((*shape[:2], 1), self.normal)
        spikes = empty((self.steps, *shape[1:]), self.normal, self.scale)
        self.blocks, self.seen = kernels.blocks(self.normal, self.steps), []
        bias, scale, shift = self._spread(bias, self.scale, self.shift)
        charged, decayed = self._scratch(self.steps), self._scratch(1)[0]
        for b in self.blocks:
            normal, n = self.normal[:, b], b.stop - b.start
            normal += bias[:n]
            self.inverse[:, b] = normalise(normal, self.eps, charged[: len(x), :n])
            self.seen.append(self._fire(normal, scale[:n], shift[:n], charged[:, :n], spikes[:, b], decayed[:n]))
        return spikes.reshape(self.steps, *x.shape[1:-1], len(weight))

    def _scratch(self, steps: int) -> Array:
        """An array that one block after the other overwrites, ``[steps, n, out]``."""
        return kernels.block_scratch(self.normal, steps, self.blocks)

    def _spread(self, *vectors: Array) -> list[Array]:
        """Each of these beside the rows of a block."""
        return [spread(vector, self.blocks[0].stop if self.blocks else 0) for vector in vectors]

    def _fire(
        self,
        normal: Array,
        scale: Array,
        shift: Array,
        charged: Array,
        spikes: Array,
        decayed: Array,
        seen: Array | None = None,
    ) -> Array | None:
        """Run the neurons of a block on its normalised currents ``[T or 1, n, out]``.

        Fills ``charged`` with the potentials before reset, and ``spikes``; returns the spikes as the resets saw them if
        these are others. ``decayed`` is overwritten; ``seen`` are the spikes that the resets of an earlier run saw.
        """
        module = array_module(normal)
        current = charged if len(normal) == self.steps else empty(normal.shape, normal)
        module.multiply(normal, scale, out=current)
        current += shift
        return kernels.forward(current, None, self.constants, spikes, charged, None, decayed, seen)

    def backward_arrays(self, grad: Array) -> Sequence[Array | None]:
        module = array_module(grad)
        grad = grad.reshape(self.steps, *self.normal.shape[1:])
        drows = empty(self.normal.shape, self.normal)
        dscale, dshift, dbias = (module.zeros_like(self.scale) for _ in range(3))
        scale, shift = self._spread(self.scale, self.shift)
        charged, spikes, decayed = self._scratch(self.steps), self._scratch(self.steps), self._scratch(1)[0]
        for b, seen in zip(self.blocks, self.seen, strict=True):
            normal, part, n = self.normal[:, b], drows[:, b], b.stop - b.start
            m, s = charged[:, :n], spikes[:, :n]
            with smooth_spikes(self.smooth):
                self._fire(normal, scale[:n], shift[:n], m, s, decayed[:n], seen)
            current = m[: len(normal)]  # from here on their gradients
            kernels.backward(grad[:, b], None, self.constants, s if seen is None else seen, m, current, s)
            more = norm_gradients(current, normal, self.inverse[:, b], scale[:n], part, s[: len(normal)])
            for total, extra in zip((dscale, dshift, dbias), (*more, column_sums(part)), strict=True):
                total += extra
        rows = as_rows(drows)
        dx = product(rows, self.centred).reshape(self.x.shape) if self.needs[0] else None
        dw = rows.T @ as_rows(self.x.astype(grad.dtype, copy=False))
        return dx, *centred(dw, dbias, out=dw), dscale * self.gain, dshift * self.gain

    def products(self, *inputs: Tensor) -> Products:
        x, weight, *_ = inputs
        return linear_products(x, weight, self.needs[0])


def spiking_linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    neuron: LIFNeuron,
    *,
    eps: float = 1e-5,
    time_steps: int | None = None,
    counts: bool = False,
) -> Tensor:
    """Spikes of neurons at rest, whose input current is the layer norm of a linear map, as one op.

    Args:
        x: ``[T, ..., in]``, or ``[1, ..., in]`` for an input that stays the same over ``time_steps``.
        weight, bias: of the linear map, ``[out, in]`` and ``[out]``.
        norm_weight, norm_bias: of the layer norm, ``[out]``.
        neuron: the constants.
        eps: added to the variance (dimensionless), default 1e-5.
        time_steps: T, where x is not to say it.
        counts: x are spikes or counts of them, whole numbers from 0 to 255, which backward keeps in a byte each. It
            is not looked whether they are. Default False.

    Returns:
        Spikes ``[T, ..., out]``, 0 or 1 in the type that x and the weights have together.

    Raises:
        ShapeError: as `minispike.nn.functional.normed_linear` and `minispike.snn.neurons.lif`.

    Example:
        >>> from minispike import Tensor
        >>> from minispike.snn.neurons import LIFNeuron
        >>> from minispike.snn.spiking_linear import spiking_linear
        >>> weight, zero, gain = Tensor([[1.0], [-1.0]]), Tensor([0.0, 0.0]), Tensor([1.5, 1.5])
        >>> spikes = spiking_linear(Tensor([[7.0]]), weight, zero, gain, zero, LIFNeuron(), time_steps=4)  # [T, out]
        >>> spikes.transpose().numpy().tolist()  # of the currents 1.5 and -1.5
        [[0.0, 1.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0]]
    """
    steps = check_steps(x, None, time_steps)
    return SpikingLinear(neuron, steps, eps, counts)(x, weight, bias, norm_weight, norm_bias)


def spiking_linear_composed(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    neuron: LIFNeuron,
    *,
    eps: float = 1e-5,
    time_steps: int | None = None,
) -> Tensor:
    """`spiking_linear` in elementary ops, one time step after the other.

    Args:
        x, weight, bias, norm_weight, norm_bias, neuron, eps, time_steps: as for `spiking_linear`.

    Returns:
        Spikes ``[T, ..., out]``.

    Example:
        >>> from minispike import Tensor
        >>> from minispike.snn.neurons import LIFNeuron
        >>> from minispike.snn.spiking_linear import spiking_linear_composed
        >>> weight, zero, gain = Tensor([[1.0], [-1.0]]), Tensor([0.0, 0.0]), Tensor([3.0, 3.0])
        >>> spikes = spiking_linear_composed(Tensor([[7.0]]), weight, zero, gain, zero, LIFNeuron(), time_steps=2)
        >>> spikes.numpy().tolist()  # currents of 3 and -3
        [[1.0, 0.0], [1.0, 0.0]]
    """
    current = normed_linear_composed(x, weight, bias, norm_weight, norm_bias, eps)
    return lif_composed(current, neuron, time_steps=time_steps)[0]
