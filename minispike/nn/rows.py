"""Products, and sums, means and norms over the last axis or all others: what linear layers and norms are made of.

An array ``[..., D]`` is a matrix of rows; it may have any number of axes before the last.
"""

import numpy as np

from minispike.backend import Array, array_module, empty


def as_rows(a: Array) -> Array:
    """``[..., D]`` as a matrix ``[N, D]``."""
    return a.reshape(-1, a.shape[-1])


def product(a: Array, b: Array) -> Array:
    """The product of two matrices, in an array of `backend.empty`."""
    return multiply_into(empty((len(a), b.shape[1]), a, b), a, b)


def multiply_into(out: Array, a: Array, b: Array) -> Array:
    """Fill ``out`` with the products of the matrices ``a [..., N, K]`` and ``b [..., K, M]``; returns it."""
    return array_module(a).matmul(a, b, out=out)


def ones(count: int, beside: Array) -> Array:
    """A vector that adds up, in a matrix product, the columns or the rows: several times as fast as their sum."""
    return array_module(beside).ones(count, dtype=beside.dtype)


def spread(vector: Array, count: int) -> Array:
    """A vector ``[D]`` beside ``count`` rows: on a CPU written out for each, ``[count, D]``, for NumPy multiplies and
    adds arrays of one shape about twice as fast as it broadcasts; on a GPU ``[1, D]``."""
    return np.tile(vector, (count, 1)) if array_module(vector) is np else vector[None]


def means(rows: Array) -> Array:
    """The mean of each row, ``[..., 1]``."""
    size = rows.shape[-1]
    return (rows @ ones(size, rows))[..., None] * (1.0 / max(size, 1))


def column_sums(rows: Array) -> Array:
    """``[..., D]`` to ``[D]``."""
    sums = ones(rows.shape[-2], rows) @ rows
    return sums if sums.ndim == 1 else sums.sum(axis=tuple(range(sums.ndim - 1)))


def column_means(rows: Array) -> Array:
    """``[N, D]`` to ``[D]``."""
    return column_sums(rows) * (1.0 / max(len(rows), 1))


def normalise(centred: Array, eps: float, scratch: Array) -> Array:
    """Bring rows of mean 0 to variance 1, in place; what they were multiplied with, ``[..., 1]``.

    ``scratch`` is an array of the shape of the rows, and is overwritten.
    """
    module = array_module(centred)
    variance = module.einsum("...d,...d->...", centred, centred)[..., None] / centred.shape[-1]
    inverse = 1.0 / module.sqrt(variance + eps)
    scratch[...] = inverse  # written out to every row: see `spread`
    centred *= scratch
    return inverse


def norm_gradients(
    grad: Array, normal: Array, inverse: Array, weight: Array, out: Array, scratch: Array
) -> tuple[Array, Array]:
    """Back through a norm with weight and bias, from the gradient of its output to that of its rows less their mean.

    Args:
        grad: ``[..., D]``; overwritten.
        normal, inverse: as `normalise` left and returned them.
        weight: of the norm, beside the rows as `spread` puts it, or ``[1, D]``.
        out: ``[..., D]``, filled with the gradient of the rows; may be ``grad``.
        scratch: ``[..., D]``, overwritten; an array of its own.

    Returns:
        The gradients of weight and bias, ``[D]`` each.
    """
    module = array_module(grad)
    products = module.multiply(grad, normal, out=scratch)
    dweight, dbias = column_sums(products), column_sums(grad)
    lengthwise = (products @ weight[0])[..., None] / grad.shape[-1]  # what changes a row's length alone
    grad *= weight
    scratch[...] = lengthwise
    scratch *= normal
    grad -= scratch
    scratch[...] = inverse
    module.multiply(grad, scratch, out=out)
    return dweight, dbias
