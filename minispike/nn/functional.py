"""The coarse ops of ordinary networks, with backwards written by hand, each beside its readable composition.

``linear`` and ``linear_composed`` (and so on) compute the same; the first is what networks use, the second says
in elementary ops what it means, can be differentiated twice, and is what the tests hold the first to.
"""

import math
from collections.abc import Sequence

import numpy as np

from minispike.backend import Array, array_module, scatter_add
from minispike.errors import ConfigError, ShapeError, problem
from minispike.ops import exp, log_softmax, mean, softmax, sqrt, sum_
from minispike.tensor import FusedOp, Tensor


def _rows(a: Array) -> Array:
    """``[..., D]`` as a matrix ``[N, D]``."""
    return a.reshape(-1, a.shape[-1])


class Linear(FusedOp):
    """``x W^T + b`` with a backward by hand; see `linear`."""

    def forward(self, x: Array, weight: Array, bias: Array | None = None) -> Array:
        if weight.ndim != 2 or (bias is not None and bias.shape != weight.shape[:1]):
            got = f"{weight.shape} and {'none' if bias is None else bias.shape}"
            hint = "the parameters of a Linear layer"
            raise ShapeError(problem("linear", expected="weight [out, in], bias [out]", got=got, hint=hint))
        if x.ndim == 0 or x.shape[-1] != weight.shape[1]:
            got, expected = f"shape {x.shape}", f"input [..., {weight.shape[1]}]"
            raise ShapeError(problem("linear", expected=expected, got=got, hint="the layer's in_features"))
        self.x, self.weight, self.has_bias = x, weight, bias is not None
        out = _rows(x) @ weight.T  # [N, out]
        if bias is not None:
            out += bias
        return out.reshape(*x.shape[:-1], weight.shape[0])

    def backward_arrays(self, grad: Array) -> Sequence[Array | None]:
        rows = _rows(grad)
        dx = (rows @ self.weight).reshape(self.x.shape) if self.needs[0] else None
        dw = rows.T @ _rows(self.x) if self.needs[1] else None
        return (dx, dw, rows.sum(axis=0)) if self.has_bias else (dx, dw)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x W^T + b``.

    Args:
        x: ``[..., in]``.
        weight: ``[out, in]``.
        bias: ``[out]``.

    Returns:
        ``[..., out]``.

    Raises:
        ShapeError: the last axis of x is not ``in``, or weight and bias do not fit together.
    """
    return Linear()(x, weight) if bias is None else Linear()(x, weight, bias)


def linear_composed(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`linear` in elementary ops."""
    out = x @ weight.transpose()
    return out if bias is None else out + bias


class LayerNorm(FusedOp):
    """Normalisation over the last axis with a backward by hand; see `layer_norm`."""

    def __init__(self, eps: float) -> None:
        self.eps = eps

    def forward(self, x: Array, weight: Array, bias: Array) -> Array:
        if x.ndim == 0 or not weight.shape == bias.shape == x.shape[-1:]:
            got = f"x {x.shape}, weight {weight.shape}, bias {bias.shape}"
            expected = "x [..., D], weight [D], bias [D]"
            raise ShapeError(problem("layer_norm", expected=expected, got=got, hint="the layer's width"))
        module = array_module(x)
        centred = x - x.mean(axis=-1, keepdims=True)
        variance = module.einsum("...d,...d->...", centred, centred)[..., None] / x.shape[-1]
        self.inverse = 1.0 / module.sqrt(variance + self.eps)  # [..., 1]
        centred *= self.inverse
        self.normal, self.weight = centred, weight
        out = centred * weight
        out += bias
        return out

    def backward_arrays(self, grad: Array) -> Sequence[Array | None]:
        module = array_module(grad)
        normal, size = self.normal, grad.shape[-1]
        dw = module.einsum("nd,nd->d", _rows(grad), _rows(normal))
        db = _rows(grad).sum(axis=0)
        if not self.needs[0]:
            return None, dw, db
        # d normal -> d x: take out the parts along 1 and along `normal`, which normalisation has fixed.
        dx = grad * self.weight
        along_normal = module.einsum("...d,...d->...", dx, normal)[..., None] / size
        along_one = dx.mean(axis=-1, keepdims=True)
        dx -= along_one
        dx -= normal * along_normal
        dx *= self.inverse
        return dx, dw, db


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    """``(x - mean) / sqrt(variance + eps) * weight + bias`` over the last axis (Ba et al. 2016, arXiv 1607.06450).

    Args:
        x: ``[..., D]``.
        weight, bias: ``[D]``.
        eps: added to the variance (dimensionless).

    Raises:
        ShapeError: weight or bias is not as long as the last axis of x.
    """
    return LayerNorm(eps)(x, weight, bias)


def layer_norm_composed(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    """`layer_norm` in elementary ops."""
    centred = x - mean(x, -1, keepdims=True)
    variance = mean(centred * centred, -1, keepdims=True)
    return centred / sqrt(variance + eps) * weight + bias


class Embedding(FusedOp):
    """Rows of a table; backward adds up the gradients of equal rows."""

    def __init__(self, ids: Array) -> None:
        self.ids = ids

    def forward(self, weight: Array) -> Array:
        if self.ids.dtype.kind not in "iu" or weight.ndim != 2:
            got, expected = f"{self.ids.dtype} and weight {weight.shape}", "integers and weight [V, D]"
            raise ShapeError(problem("embedding", expected=expected, got=got, hint="ids.astype(int)"))
        if self.ids.size and not 0 <= int(self.ids.min()) <= int(self.ids.max()) < len(weight):
            raise ShapeError(
                problem(
                    "embedding",
                    expected=f"ids from 0 to {len(weight) - 1}",
                    got=f"ids from {int(self.ids.min())} to {int(self.ids.max())}",
                    hint="the tokenizer that the model was made with",
                )
            )
        self.weight = weight
        return weight[self.ids]

    def backward_arrays(self, grad: Array) -> Sequence[Array | None]:
        dw = array_module(grad).zeros_like(self.weight)
        scatter_add(dw, self.ids.reshape(-1), _rows(grad))
        return (dw,)


def embedding(ids: Array, weight: Tensor) -> Tensor:
    """Rows of a table.

    Args:
        ids: integers ``[...]`` in ``[0, V)``.
        weight: ``[V, D]``.

    Returns:
        ``[..., D]``.

    Raises:
        ShapeError: an id lies outside the table, or is no integer.
    """
    return Embedding(array_module(weight.array).asarray(ids))(weight)


def embedding_composed(ids: Array, weight: Tensor) -> Tensor:
    """`embedding` in elementary ops."""
    return weight[ids]


class CrossEntropy(FusedOp):
    """Softmax and negative log-likelihood in one; its gradient is ``softmax - one_hot``."""

    def __init__(self, labels: Array) -> None:
        self.labels = labels

    def forward(self, logits: Array) -> Array:
        module = array_module(logits)
        count = len(logits)
        shifted = logits - logits.max(axis=-1, keepdims=True)
        powers = module.exp(shifted)
        total = powers.sum(axis=-1, keepdims=True)
        picked = (module.arange(count), self.labels)
        self.picked, self.probabilities = picked, powers / total
        return module.asarray((module.log(total[:, 0]) - shifted[picked]).sum() / max(count, 1))

    def backward_arrays(self, grad: Array) -> Sequence[Array | None]:
        out = self.probabilities * grad
        out[self.picked] -= grad
        out /= max(len(out), 1)
        return (out,)


def cross_entropy(logits: Tensor, labels: Array) -> Tensor:
    """The mean over rows of ``-log softmax(logits)[label]``.

    Args:
        logits: ``[N, C]``.
        labels: integers ``[N]`` in ``[0, C)``.

    Raises:
        ShapeError: shapes differ, or a label is out of range or no integer.
    """
    labels = array_module(logits.array).asarray(labels)
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        got = f"logits {logits.shape}, labels {labels.shape}"
        raise ShapeError(problem("cross_entropy", expected="[N, C] and [N]", got=got, hint="reshape(-1, C)"))
    if labels.size and labels.dtype.kind not in "iu":
        hint = "labels.astype(int)"
        raise ShapeError(problem("labels", expected="integers", got=str(labels.dtype), hint=hint))
    if labels.size and not 0 <= int(labels.min()) <= int(labels.max()) < logits.shape[1]:
        got = f"labels from {int(labels.min())} to {int(labels.max())}"
        expected = f"labels from 0 to {logits.shape[1] - 1}"
        raise ShapeError(problem("cross_entropy", expected=expected, got=got, hint="num_labels of the model"))
    return CrossEntropy(labels)(logits)


def cross_entropy_composed(logits: Tensor, labels: Array) -> Tensor:
    """`cross_entropy` in elementary ops."""
    rows = array_module(logits.array).arange(len(logits))
    return -mean(log_softmax(logits)[rows, labels])


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


def split_heads(a: Array, heads: int) -> Array:
    """``[..., L, D]`` as a view ``[..., H, L, D/H]``."""
    return a.reshape(*a.shape[:-1], heads, a.shape[-1] // heads).swapaxes(-2, -3)


def merge_heads(a: Array) -> Array:
    """``[..., H, L, d]`` back to ``[..., L, H d]``."""
    a = a.swapaxes(-2, -3)
    return a.reshape(*a.shape[:-2], a.shape[-2] * a.shape[-1])  # -1 would not do for an empty batch


def check_attention(name: str, layout: str, qkv: Sequence[Tensor], heads: int) -> None:
    """Raise a ShapeError unless queries, keys and values are all of one shape, whose last axis splits into heads."""
    shape = qkv[0].shape
    if any(t.shape != shape for t in qkv) or len(shape) != len(layout.split(",")):
        got = ", ".join(str(t.shape) for t in qkv)
        raise ShapeError(problem(name, expected=f"q, k, v all {layout}", got=got, hint="reshape"))
    if heads < 1 or shape[-1] % heads:
        got, expected = f"{heads} heads for width {shape[-1]}", "a number of heads that divides the width"
        raise ShapeError(problem(name, expected=expected, got=got, hint="heads=1"))


def attention_bias(mask: Array | None, dtype: object) -> Array | None:
    """What is added to the scores ``[B, H, Lq, Lk]`` so that nobody attends to padding; None without padding.

    Args:
        mask: booleans ``[B, L]``, True for tokens.
    """
    if mask is None or bool(mask.all()):
        return None
    module = array_module(mask)
    bias = module.where(mask, 0.0, -0.5 * float(np.finfo(np.float32).max)).astype(dtype)
    return bias[:, None, None, :]


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
    """
    check_attention("softmax_attention", "[B, L, D]", (q, k, v), heads)
    if mask is not None and mask.shape != q.shape[:2]:
        expected, got = f"shape {q.shape[:2]}", f"shape {mask.shape}"
        raise ShapeError(problem("mask", expected=expected, got=got, hint="the mask of the same batch"))
    return SoftmaxAttention(heads, attention_bias(mask, q.dtype))(q, k, v)


def softmax_attention_composed(q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Array | None = None) -> Tensor:
    """`softmax_attention` in elementary ops."""
    batch, length, width = q.shape

    def split(a: Tensor) -> Tensor:
        return a.reshape(batch, length, heads, width // heads).transpose(0, 2, 1, 3)  # [B, H, L, d]

    scores = split(q) @ split(k).transpose(0, 1, 3, 2) * (1.0 / math.sqrt(width // heads))
    bias = attention_bias(mask, q.dtype)
    weights = softmax(scores if bias is None else scores + bias)  # [B, H, L, L]
    return (weights @ split(v)).transpose(0, 2, 1, 3).reshape(batch, length, width)


def masked_mse(a: Tensor, b: Array, mask: Array | None = None) -> Tensor:
    """The mean of ``(a - b)^2``; with a mask over the tokens, of the tokens alone.

    Args:
        a: ``[B, L, D]``.
        b: a constant of the same shape.
        mask: booleans ``[B, L]``; None: every element counts, and the shape may be any.

    Raises:
        ShapeError: shapes differ.
    """
    if a.shape != b.shape or (mask is not None and (a.ndim != 3 or mask.shape != a.shape[:2])):
        got = f"{a.shape}, {tuple(b.shape)}" + ("" if mask is None else f" and mask {mask.shape}")
        expected, hint = "one shape [B, L, D], mask [B, L]", "teacher and student on the same batch"
        raise ShapeError(problem("masked_mse", expected=expected, got=got, hint=hint))
    difference = a - Tensor._of(b)
    if mask is None:
        return mean(difference * difference)
    per_token = mean(difference * difference, -1)  # [B, L]
    weights = mask.astype(a.dtype)
    return sum_(per_token * Tensor._of(weights)) * (1.0 / max(float(weights.sum()), 1.0))


def kl_divergence(teacher_logits: Array, logits: Tensor, temperature: float = 1.0) -> Tensor:
    """``T^2 KL(softmax(teacher / T) || softmax(logits / T))``, mean over the batch (Hinton et al. 2015).

    The factor T^2 keeps the size of the gradient independent of the temperature (arXiv 1503.02531).

    Args:
        teacher_logits: ``[B, C]``, a constant.
        logits: ``[B, C]``, the student's.
        temperature: T, dimensionless, > 0.

    Raises:
        ShapeError: shapes differ.
        ConfigError: the temperature is not positive.
    """
    if logits.ndim != 2 or teacher_logits.shape != logits.shape:
        got, hint = f"{tuple(teacher_logits.shape)} and {logits.shape}", "num_labels of the teacher"
        raise ShapeError(problem("kl_divergence", expected="both [B, C]", got=got, hint=hint))
    if not temperature > 0:
        hint = "temperature=1.0"
        raise ConfigError(problem("temperature", expected="a number > 0", got=str(temperature), hint=hint))
    target = log_softmax(Tensor._of(teacher_logits.astype(logits.dtype)) * (1.0 / temperature))
    ours = log_softmax(logits * (1.0 / temperature))
    return sum_(exp(target) * (target - ours)) * (temperature**2 / max(logits.shape[0], 1))
