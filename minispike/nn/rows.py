"""Sums, means and norms over the last axis, and over all others: what linear layers and layer norms are made of.

An array ``[..., D]`` is a matrix of rows; it may have any number of axes before the last.
"""

import numpy as np

from minispike.backend import Array, array_module


def as_rows(a: Array) -> Array:
    """``[..., D]`` as a matrix ``[N, D]``."""
    return a.reshape(-1, a.shape[-1])


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


def normalise(centred: Array, eps: float) -> Array:
    """Bring rows of mean 0 to variance 1, in place; what they were multiplied with, ``[..., 1]``."""
    module = array_module(centred)
    variance = module.einsum("...d,...d->...", centred, centred)[..., None] / centred.shape[-1]
    inverse = 1.0 / module.sqrt(variance + eps)
    centred *= _along_rows(inverse, centred)
    return inverse


def normalised_gradient(grad: Array, normal: Array, inverse: Array) -> None:
    """Make the gradient of the rows that became ``normal`` of ``grad``: what changes their length alone goes."""
    along = array_module(grad).einsum("...d,...d->...", grad, normal)[..., None] / grad.shape[-1]
    lengthwise = _along_rows(along, grad)
    lengthwise *= normal
    grad -= lengthwise
    lengthwise[...] = inverse
    grad *= lengthwise


def scale_gradients(grad: Array, normal: Array) -> tuple[Array, Array]:
    """The gradients of a norm's weight and bias, ``[D]`` each."""
    return column_sums(grad * normal), column_sums(grad)


def _along_rows(column: Array, rows: Array) -> Array:
    """``[..., 1]`` written out to the shape of ``rows``: see `spread`."""
    wide = array_module(rows).empty(rows.shape, dtype=rows.dtype)
    wide[...] = column
    return wide
