"""What linear layers, layer norms and embeddings compute: coarse ops with backwards written by hand.

Each stands beside its readable composition: ``linear`` and ``linear_composed`` (and so on) compute the same. The
first is what networks use; the second says in elementary ops what it means, can be differentiated twice, and is what
the tests hold the first to. Attention and losses do the same in `minispike.nn.attention` and `minispike.nn.losses`.
"""

from collections.abc import Sequence
from typing import Any

from minispike.backend import Array, array_module, copied, scatter_add
from minispike.errors import ShapeError, problem
from minispike.ops import mean, sqrt
from minispike.ops.op import FusedOp
from minispike.tensor import Tensor


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


def integer_array(value: Any, beside: Tensor, name: str) -> Array:
    """A copy of integers where a tensor lies: a graph keeps it, and would not see the caller's own array change.

    Args:
        value: an array of either backend, or nested lists of equal length.
        beside: the tensor.
        name: what errors call the integers.

    Raises:
        ShapeError: ``value`` is something else.
    """
    try:
        array = copied(value, module=array_module(beside.array))
        got = f"{type(value).__name__} of {array.dtype}"
    except (TypeError, ValueError) as cause:  # lists of unequal length; what CuPy does not take
        array, got = None, str(cause)
    if array is None or array.dtype.kind not in "iu":
        hint = "ids.astype(int), and lists of equal length"
        raise ShapeError(problem(name, expected="integers", got=got, hint=hint))
    return array


def embedding(ids: Array, weight: Tensor) -> Tensor:
    """Rows of a table.

    Args:
        ids: integers ``[...]`` in ``[0, V)``, an array or nested lists.
        weight: ``[V, D]``.

    Returns:
        ``[..., D]``.

    Raises:
        ShapeError: an id lies outside the table, or is no integer.
    """
    return Embedding(integer_array(ids, weight, "ids"))(weight)


def embedding_composed(ids: Array, weight: Tensor) -> Tensor:
    """`embedding` in elementary ops."""
    return weight[ids]
