"""Products, and sums, means and norms over the last axis or all others: what linear layers and norms are made of.

An array ``[..., D]`` is a matrix of rows; it may have any number of axes before the last.
"""

import numpy as np

from minispike.backend import Array, array_module, empty


def as_rows(a: Array) -> Array:
    """``[..., D]`` as a matrix ``[N, D]``.

    Example:
        >>> import numpy as np
        >>> from minispike.nn.rows import as_rows
        >>> as_rows(np.zeros((2, 3, 4))).shape
        (6, 4)
    """
    return a.reshape(-1, a.shape[-1])


def product(a: Array, b: Array) -> Array:
    """The product of two matrices, ``[N, K]`` and ``[K, M]``, in an array of `backend.empty`.

    Example:
        >>> import numpy as np
        >>> from minispike.nn.rows import product
        >>> product(np.array([[1.0, 2.0]]), np.array([[10.0], [1.0]])).tolist()
        [[12.0]]
    """
    return multiply_into(empty((len(a), b.shape[1]), a, b), a, b)


def multiply_into(out: Array, a: Array, b: Array) -> Array:
    """Fill ``out`` with the products of the matrices ``a [..., N, K]`` and ``b [..., K, M]``; returns it.

    Example:
        >>> import numpy as np
        >>> from minispike.nn.rows import multiply_into
        >>> out = np.empty((1, 1))
        >>> multiply_into(out, np.array([[1.0, 2.0]]), np.array([[10.0], [1.0]])) is out, out.tolist()
        (True, [[12.0]])
    """
    return array_module(a).matmul(a, b, out=out)


def ones(count: int, beside: Array) -> Array:
    """A vector that adds up, in a matrix product, the columns or the rows: several times as fast as their sum.

    Args:
        count: its length.
        beside: an array whose type and place it has.

    Example:
        >>> import numpy as np
        >>> from minispike.nn.rows import ones
        >>> rows = np.array([[1.0, 2.0], [10.0, 20.0]])
        >>> (ones(2, rows) @ rows).tolist(), (rows @ ones(2, rows)).tolist()
        ([11.0, 22.0], [3.0, 30.0])
    """
    return array_module(beside).ones(count, dtype=beside.dtype)


def spread(vector: Array, count: int) -> Array:
    """A vector ``[D]`` beside ``count`` rows: on a CPU written out for each, ``[count, D]``, for NumPy multiplies and
    adds arrays of one shape about twice as fast as it broadcasts; on a GPU ``[1, D]``.

    Example:
        >>> import numpy as np
        >>> from minispike.nn.rows import spread
        >>> spread(np.array([1.0, 2.0]), 3).tolist()
        [[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]]
    """
    return np.tile(vector, (count, 1)) if array_module(vector) is np else vector[None]


def means(rows: Array) -> Array:
    """The mean of each row, ``[..., D]`` to ``[..., 1]``.

    Example:
        >>> import numpy as np
        >>> from minispike.nn.rows import means
        >>> means(np.array([[1.0, 3.0], [10.0, 20.0]])).tolist()
        [[2.0], [15.0]]
    """
    size = rows.shape[-1]
    return (rows @ ones(size, rows))[..., None] * (1.0 / max(size, 1))


def column_sums(rows: Array) -> Array:
    """The sum of all rows, ``[..., D]`` to ``[D]``.

    Example:
        >>> import numpy as np
        >>> from minispike.nn.rows import column_sums
        >>> column_sums(np.array([[[1.0, 3.0]], [[10.0, 20.0]]])).tolist()
        [11.0, 23.0]
    """
    sums = ones(rows.shape[-2], rows) @ rows
    return sums if sums.ndim == 1 else sums.sum(axis=tuple(range(sums.ndim - 1)))


def column_means(rows: Array) -> Array:
    """The mean of all rows, ``[N, D]`` to ``[D]``.

    Example:
        >>> import numpy as np
        >>> from minispike.nn.rows import column_means
        >>> column_means(np.array([[1.0, 3.0], [11.0, 21.0]])).tolist()
        [6.0, 12.0]
    """
    return column_sums(rows) * (1.0 / max(len(rows), 1))


def normalise(centred: Array, eps: float, scratch: Array) -> Array:
    """Bring rows of mean 0 to variance 1, in place.

    Args:
        centred: ``[..., D]``, each row of mean 0; overwritten.
        eps: added to the variance (dimensionless).
        scratch: an array of the shape of the rows; overwritten.

    Returns:
        What the rows were multiplied with, ``[..., 1]``.

    Example:
        >>> import numpy as np
        >>> from minispike.nn.rows import normalise
        >>> rows = np.array([[-2.0, 2.0], [-0.5, 0.5]])
        >>> normalise(rows, 0.0, np.empty_like(rows)).tolist(), rows.tolist()
        ([[0.5], [2.0]], [[-1.0, 1.0], [-1.0, 1.0]])
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

    Example:
        >>> import numpy as np
        >>> from minispike.nn.rows import norm_gradients
        >>> grad, normal, inverse, weight = (np.array([row]) for row in ([1.0, 0.0], [-1.0, 1.0], [0.5], [1.0, 1.0]))
        >>> dweight, dbias = norm_gradients(grad, normal, inverse, weight, out=grad, scratch=np.empty_like(grad))
        >>> grad.tolist(), dweight.tolist(), dbias.tolist()
        ([[0.25, 0.25]], [-1.0, 0.0], [1.0, 0.0])
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
