"""Spiking self-attention: no softmax, because spikes are never negative (Zhou et al. 2023, arXiv 2209.15425)."""

import math
from collections.abc import Sequence

from minispike.backend import Array, array_module, copied, empty
from minispike.errors import ShapeError, problem
from minispike.nn.attention import check_attention, split_heads
from minispike.nn.rows import multiply_into
from minispike.ops import swap_last
from minispike.ops.op import FusedOp, Products
from minispike.tensor import Tensor


class SpikingAttention(FusedOp):
    """Attention without softmax with a backward by hand; see `spiking_attention`."""

    def __init__(self, heads: int, scale: float, mask: Array | None) -> None:
        self.heads, self.scale, self.mask = heads, scale, mask

    def forward(self, q: Array, k: Array, v: Array) -> Array:
        if self.mask is not None:
            v = v * self.mask
        self.q, self.k, self.v = map(self._heads, (q, k, v))  # views [T, B, H, L, d]
        length, width = self.q.shape[-2:]
        # (q k^T) v costs L^2 d, q (k^T v) costs L d^2: the same numbers, in whichever order is cheaper.
        self.keys_first = length > width
        out = empty(q.shape, q, k, v)
        if self.keys_first:
            multiply_into(self._heads(out), self.q, self.k.swapaxes(-1, -2) @ self.v)
        else:
            multiply_into(self._heads(out), self.q @ self.k.swapaxes(-1, -2), self.v)
        out *= self.scale  # last: until here the numbers are whole, and exact
        return out

    def _heads(self, a: Array) -> Array:
        """A view ``[T, B, H, L, d]`` of ``[T, B, L, D]``."""
        return split_heads(a, self.heads)

    def _scaled(self, product: Array) -> Array:
        """A product of two of the four, no larger than they are, times the scale, in place."""
        product *= self.scale
        return product

    def backward_arrays(self, grad: Array) -> Sequence[Array | None]:
        q, k, v = self.q, self.k, self.v
        g, merged = self._heads(grad), [empty(grad.shape, grad, q, k, v) for _ in range(3)]
        dq, dk, dv = map(self._heads, merged)
        if self.keys_first:
            kv = self._scaled(k.swapaxes(-1, -2) @ v)  # [T, B, H, d, d]
            dkv = self._scaled(q.swapaxes(-1, -2) @ g)
            multiply_into(dq, g, kv.swapaxes(-1, -2))
            multiply_into(dk, v, dkv.swapaxes(-1, -2))
            multiply_into(dv, k, dkv)
        else:
            scores = self._scaled(q @ k.swapaxes(-1, -2))  # [T, B, H, L, L]
            dscores = self._scaled(g @ v.swapaxes(-1, -2))
            multiply_into(dq, dscores, k)
            multiply_into(dk, dscores.swapaxes(-1, -2), q)
            multiply_into(dv, scores.swapaxes(-1, -2), g)
        if self.mask is not None:
            merged[2] *= self.mask
        return merged

    def products(self, *inputs: Tensor) -> Products:
        *stack, length, width = self.q.shape
        first = (math.prod(stack), length, width, length)  # q k^T
        second = (math.prod(stack), length, length, width)  # (q k^T) v
        if self.keys_first:
            first, second = (first[0], width, length, width), (first[0], length, width, width)  # k^T v, q (k^T v)
        return [first, second], [first] * 2 + [second] * 3


def spiking_attention(
    q: Tensor, k: Tensor, v: Tensor, heads: int, scale: float = 0.125, mask: Array | None = None
) -> Tensor:
    """``scale (q k^T) v`` in every head and time step, over tokens.

    Args:
        q, k, v: spikes ``[T, B, L, D]``; D is split into contiguous heads.
        heads: number of heads; must divide D.
        scale: dimensionless; 0.125 in the reference SpikeBERT, whatever the width of a head.
        mask: ``[B, L, 1]`` of ones (tokens) and zeros (padding, which is then not attended to). None: no padding.

    Returns:
        ``[T, B, L, D]``, multiples of ``scale``.

    Raises:
        ShapeError: shapes differ, heads does not divide D, or the mask is not ``[B, L, 1]``.

    Example:
        >>> from minispike import Tensor
        >>> from minispike.snn.attention import spiking_attention
        >>> q, k = Tensor([[[[1, 0], [1, 1]]]]), Tensor([[[[1, 1], [0, 1]]]])  # [T, B, L, D]
        >>> spiking_attention(q, k, v=q, heads=1, scale=1.0).numpy().tolist()  # q k^T counts [[1, 0], [2, 1]]
        [[[[1.0, 0.0], [3.0, 1.0]]]]
    """
    check_attention("spiking_attention", "[T, B, L, D]", (q, k, v), heads)
    if mask is not None and mask.shape != (*q.shape[1:3], 1):
        expected, got = f"shape {(*q.shape[1:3], 1)}", f"shape {mask.shape}"
        raise ShapeError(problem("mask", expected=expected, got=got, hint="mask[..., None]"))
    own = None if mask is None else copied(mask, q.dtype, module=array_module(q.array))
    return SpikingAttention(heads, scale, own)(q, k, v)


def spiking_attention_composed(
    q: Tensor, k: Tensor, v: Tensor, heads: int, scale: float = 0.125, mask: Array | None = None
) -> Tensor:
    """`spiking_attention` in elementary ops, which can be differentiated twice.

    Args:
        q, k, v, heads, scale, mask: as for `spiking_attention`.

    Returns:
        ``[T, B, L, D]``.

    Example:
        >>> import numpy as np
        >>> from minispike import Tensor
        >>> from minispike.snn.attention import spiking_attention_composed
        >>> q, mask = Tensor([[[[1, 0], [1, 1]]]]), np.array([[[1], [0]]])  # the second token is padding
        >>> spiking_attention_composed(q, q, q, heads=1, mask=mask).numpy().tolist()  # nobody reads it
        [[[[0.125, 0.0], [0.125, 0.0]]]]
    """
    steps, batch, length, width = q.shape

    def split(a: Tensor) -> Tensor:
        return a.reshape(steps, batch, length, heads, width // heads).transpose(0, 1, 3, 2, 4)  # [T, B, H, L, d]

    masked = v if mask is None else v * mask
    scores = split(q) @ swap_last(split(k))  # [T, B, H, L, L]
    out = scores @ split(masked) * scale
    return out.transpose(0, 1, 3, 2, 4).reshape(steps, batch, length, width)
