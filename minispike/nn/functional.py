"""What linear layers, layer norms and embeddings compute: coarse ops with backwards written by hand.

Each stands beside its readable composition: ``linear`` and ``linear_composed`` (and so on) compute the same. The
first is what networks use; the second says in elementary ops what it means, can be differentiated twice, and is what
the tests hold the first to. Attention and losses do the same in `minispike.nn.attention` and `minispike.nn.losses`.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from minispike.backend import Array, array_module, copied, empty, scatter_add
from minispike.errors import ShapeError, problem
from minispike.nn.rows import (
    as_rows,
    column_means,
    column_sums,
    means,
    norm_gradients,
    normalise,
    product,
)
from minispike.ops import mean, sqrt
from minispike.ops.op import FusedOp, Products
from minispike.row_gradient import RowGradient
from minispike.tensor import Tensor


def check_linear(x: Array, weight: Array, bias: Array | None) -> None:
    """See that the shapes of a linear map fit.

    Args:
        x: ``[..., in]``.
        weight: ``[out, in]``.
        bias: ``[out]``, or None.

    Raises:
        ShapeError: they do not.

    Example:
        >>> import numpy as np
        >>> from minispike.nn.functional import check_linear
        >>> check_linear(np.ones(3), np.ones((5, 2)), None)
        Traceback (most recent call last):
            ...
        minispike.errors.ShapeError: linear: expected input [..., 2], got shape (3,); try the layer's in_features
    """
    if weight.ndim != 2 or (bias is not None and bias.shape != weight.shape[:1]):
        got = f"{weight.shape} and {'none' if bias is None else bias.shape}"
        hint = "the parameters of a Linear layer"
        raise ShapeError(problem("linear", expected="weight [out, in], bias [out]", got=got, hint=hint))
    if x.ndim == 0 or x.shape[-1] != weight.shape[1]:
        got, expected = f"shape {x.shape}", f"input [..., {weight.shape[1]}]"
        raise ShapeError(problem("linear", expected=expected, got=got, hint="the layer's in_features"))


def linear_products(x: Tensor, weight: Tensor, dx: bool, dw: bool = True) -> Products:
    """Of a linear map the products of matrices: one forward, and one backward for each of the gradients computed.

    Args:
        x: ``[..., in]``.
        weight: ``[out, in]``.
        dx, dw: whether the gradients of x and of the weight are computed.

    Example:
        >>> import numpy as np
        >>> from minispike import Tensor
        >>> from minispike.nn.functional import linear_products
        >>> linear_products(Tensor(np.ones((4, 3))), Tensor(np.ones((2, 3))), dx=True)  # how many, rows, inner, columns
        ([(1, 4, 3, 2)], [(1, 4, 2, 3), (1, 2, 4, 3)])
    """
    rows, (out, inner) = math.prod(x.shape[:-1]), weight.shape
    return [(1, rows, inner, out)], [*dx * [(1, rows, out, inner)], *dw * [(1, out, rows, inner)]]


def check_norm(shape: tuple[int, ...], weight: Array, bias: Array) -> None:
    """See that a norm over the last axis fits an array of this shape.

    Args:
        shape: of the array, ``[..., D]``.
        weight, bias: ``[D]``.

    Raises:
        ShapeError: it does not.

    Example:
        >>> import numpy as np
        >>> from minispike.nn.functional import check_norm
        >>> check_norm((4, 3), np.ones(2), np.ones(2))
        Traceback (most recent call last):
            ...
        minispike.errors.ShapeError: layer_norm: expected x [..., D], weight [D], bias [D], got x (4, 3), ...
    """
    if not shape or not weight.shape == bias.shape == shape[-1:]:
        got = f"x {shape}, weight {weight.shape}, bias {bias.shape}"
        expected = "x [..., D], weight [D], bias [D]"
        raise ShapeError(problem("layer_norm", expected=expected, got=got, hint="the layer's width"))


class Linear(FusedOp):
    """``x W^T + b`` with a backward by hand; see `linear`."""

    def forward(self, x: Array, weight: Array, bias: Array | None = None) -> Array:
        check_linear(x, weight, bias)
        self.x, self.weight, self.has_bias = x, weight, bias is not None
        out = product(as_rows(x), weight.T)  # [N, out]
        if bias is not None:
            out += bias
        return out.reshape(*x.shape[:-1], weight.shape[0])

    def backward_arrays(self, grad: Array) -> Sequence[Array | None]:
        rows = as_rows(grad)
        dx = product(rows, self.weight).reshape(self.x.shape) if self.needs[0] else None
        dw = rows.T @ as_rows(self.x) if self.needs[1] else None
        return (dx, dw, column_sums(rows)) if self.has_bias else (dx, dw)

    def products(self, *inputs: Tensor) -> Products:
        x, weight, *_ = inputs
        return linear_products(x, weight, *self.needs[:2])


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

    Example:
        >>> from minispike import Tensor
        >>> from minispike.nn.functional import linear
        >>> x, weight, bias = Tensor([1.0, 2.0]), Tensor([[3.0, 4.0], [5.0, 6.0]]), Tensor([0.0, 100.0])
        >>> linear(x, weight, bias).numpy().tolist()  # a row of the weight for each output
        [11.0, 117.0]
    """
    return Linear()(x, weight) if bias is None else Linear()(x, weight, bias)


def linear_composed(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`linear` in elementary ops, which can be differentiated twice; Args and Returns are the same.

    Example:
        >>> from minispike import Tensor, grad
        >>> from minispike.nn.functional import linear_composed
        >>> x, weight = Tensor([2.0], requires_grad=True), Tensor([[3.0]])
        >>> (first,) = grad((linear_composed(x, weight) ** 2).sum(), [x], create_graph=True)
        >>> grad(first.sum(), [x])[0].item()  # the second derivative of (3 x)^2
        18.0
    """
    out = x @ weight.transpose()
    return out if bias is None else out + bias


class LayerNorm(FusedOp):
    """Normalisation over the last axis with a backward by hand; see `layer_norm`."""

    def __init__(self, eps: float) -> None:
        self.eps = eps

    def forward(self, x: Array, weight: Array, bias: Array) -> Array:
        check_norm(x.shape, weight, bias)
        self.weight, rows, module = weight, as_rows(x), array_module(x)
        self.normal, out = empty(rows.shape, x), empty(rows.shape, x, weight)
        module.subtract(rows, means(rows), out=self.normal)
        self.inverse = normalise(self.normal, self.eps, out)
        module.multiply(self.normal, weight, out=out)
        out += bias
        return out.reshape(x.shape)

    def backward_arrays(self, grad: Array) -> Sequence[Array | None]:
        dx, scratch = (empty(self.normal.shape, grad, self.normal) for _ in range(2))
        dx[...] = as_rows(grad)
        dw, db = norm_gradients(dx, self.normal, self.inverse, self.weight[None], dx, scratch)
        dx -= means(dx)
        return dx.reshape(grad.shape), dw, db


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    """``(x - mean) / sqrt(variance + eps) * weight + bias`` over the last axis (Ba et al. 2016, arXiv 1607.06450).

    Args:
        x: ``[..., D]``.
        weight, bias: ``[D]``.
        eps: added to the variance (dimensionless), default 1e-5.

    Returns:
        ``[..., D]``.

    Raises:
        ShapeError: weight or bias is not as long as the last axis of x.

    Example:
        >>> from minispike import Tensor
        >>> from minispike.nn.functional import layer_norm
        >>> x = Tensor([[1.0, 3.0], [10.0, 70.0]])
        >>> layer_norm(x, Tensor([2.0, 2.0]), Tensor([0.0, 1.0]), eps=0.0).numpy().tolist()
        [[-2.0, 3.0], [-2.0, 3.0]]
    """
    return LayerNorm(eps)(x, weight, bias)


def layer_norm_composed(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    """`layer_norm` in elementary ops, which can be differentiated twice; Args and Returns are the same.

    Example:
        >>> from minispike import Tensor
        >>> from minispike.nn.functional import layer_norm_composed
        >>> layer_norm_composed(Tensor([1.0, 3.0]), Tensor([2.0, 2.0]), Tensor([0.0, 1.0]), eps=0.0).numpy().tolist()
        [-2.0, 3.0]
    """
    centred = x - mean(x, -1, keepdims=True)
    variance = mean(centred * centred, -1, keepdims=True)
    return centred / sqrt(variance + eps) * weight + bias


def centred(weight: Array, bias: Array, *, out: Array | None = None) -> tuple[Array, Array]:
    """The weight and bias of a linear map less their mean over the outputs: all that a norm after it sees of them.

    What it does not see has no gradient, so the gradients of both are what they were less their mean, too.

    Args:
        weight, bias: ``[out, in]`` and ``[out]``.
        out: an array for the weight less its mean, which may be ``weight``; None: a new one.

    Returns:
        Weight and bias, of the same shapes.

    Example:
        >>> import numpy as np
        >>> from minispike.nn.functional import centred
        >>> weight, bias = centred(np.array([[1.0, 2.0], [3.0, 6.0]]), np.array([1.0, 3.0]))
        >>> weight.tolist(), bias.tolist()
        ([[-1.0, -2.0], [1.0, 2.0]], [-1.0, 1.0])
    """
    out = empty(weight.shape, weight) if out is None else out
    return array_module(weight).subtract(weight, column_means(weight), out=out), bias - bias.sum() / max(len(bias), 1)


class NormedLinear(FusedOp):
    """A linear map and the layer norm that follows it, with a backward by hand; see `normed_linear`.

    The norm subtracts the mean over the outputs. The mean of what a linear map puts out is what the mean of its
    weights puts out: so it is subtracted from the weights, once, and no pass over the activations is needed. The
    gradient of the weights loses its mean in the same way.
    """

    def __init__(self, eps: float) -> None:
        self.eps = eps

    def forward(self, x: Array, weight: Array, bias: Array, norm_weight: Array, norm_bias: Array) -> Array:
        check_linear(x, weight, bias)
        check_norm((*x.shape[:-1], len(weight)), norm_weight, norm_bias)
        self.x, self.norm_weight = x, norm_weight
        self.centred, shift = centred(weight, bias)
        self.normal = product(as_rows(x), self.centred.T)  # [N, out]
        self.normal += shift
        out = empty(self.normal.shape, self.normal, norm_weight)
        self.inverse = normalise(self.normal, self.eps, out)
        array_module(x).multiply(self.normal, norm_weight, out=out)
        out += norm_bias
        return out.reshape(*x.shape[:-1], len(weight))

    def backward_arrays(self, grad: Array) -> Sequence[Array | None]:
        rows, scratch = (empty(self.normal.shape, grad, self.normal) for _ in range(2))
        rows[...] = as_rows(grad)
        dw_norm, db_norm = norm_gradients(rows, self.normal, self.inverse, self.norm_weight[None], rows, scratch)
        dx = product(rows, self.centred).reshape(self.x.shape) if self.needs[0] else None
        dw = rows.T @ as_rows(self.x)
        return dx, *centred(dw, column_sums(rows), out=dw), dw_norm, db_norm

    def products(self, *inputs: Tensor) -> Products:
        x, weight, *_ = inputs
        return linear_products(x, weight, self.needs[0])


def normed_linear(
    x: Tensor, weight: Tensor, bias: Tensor, norm_weight: Tensor, norm_bias: Tensor, eps: float = 1e-5
) -> Tensor:
    """`layer_norm` of `linear` as one op, which needs fewer passes over what it computes.

    Args:
        x: ``[..., in]``.
        weight, bias: of the linear map, ``[out, in]`` and ``[out]``.
        norm_weight, norm_bias: of the layer norm, ``[out]``.
        eps: added to the variance (dimensionless), default 1e-5.

    Returns:
        ``[..., out]``.

    Raises:
        ShapeError: as `linear` and `layer_norm`.

    Example:
        >>> from minispike import Tensor
        >>> from minispike.nn.functional import normed_linear
        >>> one, zero = Tensor([1.0, 1.0]), Tensor([0.0, 0.0])
        >>> x, weight = Tensor([5.0]), Tensor([[1.0], [3.0]])  # the norm is of 5 and 15
        >>> normed_linear(x, weight, zero, one, zero, eps=0.0).numpy().tolist()
        [-1.0, 1.0]
    """
    return NormedLinear(eps)(x, weight, bias, norm_weight, norm_bias)


def normed_linear_composed(
    x: Tensor, weight: Tensor, bias: Tensor, norm_weight: Tensor, norm_bias: Tensor, eps: float = 1e-5
) -> Tensor:
    """`normed_linear` in elementary ops, which can be differentiated twice; Args and Returns are the same.

    Example:
        >>> from minispike import Tensor
        >>> from minispike.nn.functional import normed_linear_composed
        >>> one, zero = Tensor([1.0, 1.0]), Tensor([0.0, 0.0])
        >>> normed_linear_composed(Tensor([5.0]), Tensor([[1.0], [3.0]]), zero, one, zero, eps=0.0).numpy().tolist()
        [-1.0, 1.0]
    """
    return layer_norm_composed(linear_composed(x, weight, bias), norm_weight, norm_bias, eps)


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
        if array_module(grad) is np and self.ids.size:
            return (RowGradient.added_up(len(self.weight), self.ids.reshape(-1), as_rows(grad)),)
        dw = array_module(grad).zeros_like(self.weight)
        scatter_add(dw, self.ids.reshape(-1), as_rows(grad))
        return (dw,)


def integer_array(value: Any, beside: Tensor, name: str) -> Array:
    """A copy of integers where a tensor lies: a graph keeps it, and would not see the caller's own array change.

    Args:
        value: an array of either backend, or nested lists of equal length.
        beside: the tensor.
        name: what errors call the integers.

    Raises:
        ShapeError: ``value`` is something else.

    Example:
        >>> from minispike import Tensor
        >>> from minispike.nn.functional import integer_array
        >>> integer_array([[0.5]], Tensor(0.0), "ids")
        Traceback (most recent call last):
            ...
        minispike.errors.ShapeError: ids: expected integers, got list of float64; try ids.astype(int), and lists of ...
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

    Example:
        >>> from minispike import Tensor
        >>> from minispike.nn.functional import embedding
        >>> weight = Tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], requires_grad=True)
        >>> embedding([2, 0, 2], weight).sum().backward()
        >>> weight.grad.numpy().tolist()  # row 2 was read twice, row 1 never
        [[1.0, 1.0], [0.0, 0.0], [2.0, 2.0]]
    """
    return Embedding(integer_array(ids, weight, "ids"))(weight)


def embedding_composed(ids: Array, weight: Tensor) -> Tensor:
    """`embedding` in elementary ops, which can be differentiated twice; Args and Returns are the same.

    Example:
        >>> from minispike import Tensor
        >>> from minispike.nn.functional import embedding_composed
        >>> embedding_composed([2, 0], Tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])).numpy().tolist()
        [[5.0, 6.0], [1.0, 2.0]]
    """
    return weight[ids]
