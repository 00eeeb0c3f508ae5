"""Softmax attention in all heads with a backward written by hand, beside its readable composition.

Attention between spikes, without the softmax, is in `minispike.snn.attention`.
"""

import math
from collections.abc import Sequence

import numpy as np

from minispike.backend import Array, array_module, asarray
from minispike.errors import ShapeError, problem
from minispike.ops import softmax
from minispike.ops.op import FusedOp, Products
from minispike.tensor import Tensor


class SoftmaxAttention(FusedOp):
    """Attention in all heads with a backward by hand; see `softmax_attention`."""

    def __init__(self, heads: int, bias: Array | None) -> None:
        self.heads, self.bias = heads, bias

    def forward(self, q: Array, k: Array, v: Array) -> Array:
        module = array_module(q)
        self.q, self.k, self.v = (split_heads(a, self.heads) for a in (q, k, v))  # [B, H, L, d]
        self.scale = 1.0 / math.sqrt(self.q.shape[-1])
        scores = self.q @ self.k.swapaxes(-1, -2)  # [B, H, L, L]
        scores *= self.scale
        if self.bias is not None:
            scores += self.bias
        scores -= scores.max(axis=-1, keepdims=True)
        module.exp(scores, out=scores)
        scores /= scores.sum(axis=-1, keepdims=True)
        self.weights = scores
        return merge_heads(scores @ self.v)

    def backward_arrays(self, grad: Array) -> Sequence[Array | None]:
        grad = split_heads(grad, self.heads)
        dv = self.weights.swapaxes(-1, -2) @ grad
        dweights = grad @ self.v.swapaxes(-1, -2)
        dweights *= self.weights
        dweights -= self.weights * dweights.sum(axis=-1, keepdims=True)
        dweights *= self.scale
        return (
            merge_heads(dweights @ self.k),
            merge_heads(dweights.swapaxes(-1, -2) @ self.q),
            merge_heads(dv),
        )

    def products(self, *inputs: Tensor) -> Products:
        *stack, length, width = self.q.shape
        scores = (math.prod(stack), length, width, length)  # q k^T
        weighted = (math.prod(stack), length, length, width)  # weights v
        return [scores, weighted], [scores] + [weighted] * 3


def softmax_attention(q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Array | None = None) -> Tensor:
    """``softmax(q k^T / sqrt(d)) v`` in every head (Vaswani et al. 2017, arXiv 1706.03762).

    Args:
        q, k, v: ``[B, L, D]``; D is split into contiguous heads of ``d = D / heads``.
        heads: number of heads; must divide D.
        mask: booleans ``[B, L]``, True where a key is a token. None: all are.

    Returns:
        ``[B, L, D]``.

    Raises:
        ShapeError: shapes differ, heads does not divide D, or the mask is not ``[B, L]``.

    Example:
        >>> import numpy as np
        >>> from minispike import Tensor
        >>> from minispike.nn.attention import softmax_attention
        >>> q, v = Tensor(np.zeros((1, 2, 1))), Tensor([[[2.0], [4.0]]])  # [B, L, D]
        >>> softmax_attention(q, q, v, heads=1).numpy().tolist()  # equal scores: the mean of the values
        [[[3.0], [3.0]]]
        >>> softmax_attention(q, q, v, heads=1, mask=np.array([[True, False]])).numpy().tolist()
        [[[2.0], [2.0]]]
    """
    check_attention("softmax_attention", "[B, L, D]", (q, k, v), heads)
    if mask is not None and mask.shape != q.shape[:2]:
        expected, got = f"shape {q.shape[:2]}", f"shape {mask.shape}"
        raise ShapeError(problem("mask", expected=expected, got=got, hint="the mask of the same batch"))
    return SoftmaxAttention(heads, attention_bias(mask, q))(q, k, v)


def softmax_attention_composed(q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Array | None = None) -> Tensor:
    """`softmax_attention` in elementary ops, which can be differentiated twice.

    Args:
        q, k, v, heads, mask: as for `softmax_attention`.

    Returns:
        ``[B, L, D]``.

    Example:
        >>> from minispike import Tensor
        >>> from minispike.nn.attention import softmax_attention, softmax_attention_composed
        >>> x = Tensor([[[1.0, 0.0], [0.0, 1.0]]])
        >>> abs(softmax_attention(x, x, x, heads=2) - softmax_attention_composed(x, x, x, heads=2)).max().item() < 1e-6
        True
    """
    batch, length, width = q.shape

    def split(a: Tensor) -> Tensor:
        return a.reshape(batch, length, heads, width // heads).transpose(0, 2, 1, 3)  # [B, H, L, d]

    scores = split(q) @ split(k).transpose(0, 1, 3, 2) * (1.0 / math.sqrt(width // heads))
    bias = attention_bias(mask, q)
    weights = softmax(scores if bias is None else scores + bias)  # [B, H, L, L]
    return (weights @ split(v)).transpose(0, 2, 1, 3).reshape(batch, length, width)


def split_heads(a: Array, heads: int) -> Array:
    """``[..., L, D]`` as a view ``[..., H, L, D/H]``.

    Example:
        >>> import numpy as np
        >>> from minispike.nn.attention import split_heads
        >>> split_heads(np.array([[1, 2, 3, 4], [5, 6, 7, 8]]), heads=2).tolist()
        [[[1, 2], [5, 6]], [[3, 4], [7, 8]]]
    """
    return a.reshape(*a.shape[:-1], heads, a.shape[-1] // heads).swapaxes(-2, -3)


def merge_heads(a: Array) -> Array:
    """``[..., H, L, d]`` back to ``[..., L, H d]``.

    Example:
        >>> import numpy as np
        >>> from minispike.nn.attention import merge_heads
        >>> merge_heads(np.array([[[1, 2], [5, 6]], [[3, 4], [7, 8]]])).tolist()
        [[1, 2, 3, 4], [5, 6, 7, 8]]
    """
    a = a.swapaxes(-2, -3)
    return a.reshape(*a.shape[:-2], a.shape[-2] * a.shape[-1])  # -1 would not do for an empty batch


def check_attention(name: str, layout: str, qkv: Sequence[Tensor], heads: int) -> None:
    """See that queries, keys and values are all of one shape, whose last axis splits into heads.

    Args:
        name: what errors call them.
        layout: the shape that is expected, such as ``"[B, L, D]"``.
        qkv: the three.
        heads: their number.

    Raises:
        ShapeError: they are not.

    Example:
        >>> import numpy as np
        >>> from minispike import Tensor
        >>> from minispike.nn.attention import check_attention
        >>> check_attention("attention", "[B, L, D]", [Tensor(np.zeros((1, 2, 6)))] * 3, heads=4)
        Traceback (most recent call last):
            ...
        minispike.errors.ShapeError: attention: expected a number of heads that divides the width, got 4 heads for ...
    """
    shape = qkv[0].shape
    if any(t.shape != shape for t in qkv) or len(shape) != len(layout.split(",")):
        got = ", ".join(str(t.shape) for t in qkv)
        raise ShapeError(problem(name, expected=f"q, k, v all {layout}", got=got, hint="reshape"))
    if heads < 1 or shape[-1] % heads:
        got, expected = f"{heads} heads for width {shape[-1]}", "a number of heads that divides the width"
        raise ShapeError(problem(name, expected=expected, got=got, hint="heads=1"))


def attention_bias(mask: Array | None, beside: Tensor) -> Array | None:
    """What is added to the scores ``[B, H, Lq, Lk]`` so that nobody attends to padding; None without padding.

    Args:
        mask: booleans ``[B, L]``, True for tokens.
        beside: the queries, whose type and place the result has.

    Returns:
        ``[B, 1, 1, L]``: 0 for tokens, and half the lowest number of float32 for padding.

    Example:
        >>> import numpy as np
        >>> from minispike import Tensor
        >>> from minispike.nn.attention import attention_bias
        >>> attention_bias(np.array([[True, False]]), Tensor(0.0)).tolist()
        [[[[0.0, -1.7014117331926443e+38]]]]
    """
    if mask is None or bool(mask.all()):
        return None
    module = array_module(beside.array)
    mask = asarray(mask, bool, module=module)
    bias = module.where(mask, 0.0, -0.5 * float(np.finfo(np.float32).max)).astype(beside.dtype)
    return bias[:, None, None, :]
