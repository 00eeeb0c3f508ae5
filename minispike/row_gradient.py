"""The gradient of a table of embeddings: zero but for the rows that were looked up.

A vocabulary has tens of thousands of rows, and a batch meets hundreds. What is zero is neither stored, nor added up,
nor sent from one process to another, and an optimiser need not move it. The training loop asks for such gradients
(``rows=True`` of `minispike.grad`); whoever else asks for a gradient gets an ordinary tensor.
"""

from typing import Any

import numpy as np

from minispike import backend
from minispike.backend import Array
from minispike.graph import add_to
from minispike.tensor import Tensor


class RowGradient(Tensor):
    """A gradient ``[V, D]`` some of whose rows are not zero; arrays of NumPy's.

    Args:
        length: V.
        rows: ``[R]`` their numbers, ascending, each once.
        values: ``[R, D]`` these rows.

    Example:
        >>> import numpy as np
        >>> from minispike.row_gradient import RowGradient
        >>> g = RowGradient.added_up(4, np.array([2, 0, 2]), np.array([[1.0], [10.0], [100.0]]))
        >>> g.rows.tolist(), g.values.tolist()  # row 2 was looked up twice
        ([0, 2], [[10.0], [101.0]])
        >>> g.array.tolist()
        [[10.0], [0.0], [101.0], [0.0]]
    """

    __slots__ = ("_dense", "length", "rows", "values")

    def __init__(self, length: int, rows: Array, values: Array) -> None:
        self.requires_grad, self.grad, self.node, self.version = False, None, None, 0
        self.length, self.rows, self.values = length, rows, values
        self._dense: Array = None

    @classmethod
    def added_up(cls, length: int, index: Array, values: Array) -> "RowGradient":
        """The gradient that adds ``values[i]`` to row ``index[i]`` for each i, repeated ones included."""
        return cls(length, *backend.sum_rows(index.astype(np.intp, copy=False), values))

    @property
    def array(self) -> Array:
        """All rows, ``[V, D]``."""
        if self._dense is None:
            dense = np.zeros(self.shape, dtype=self.dtype)
            dense[self.rows] = self.values
            backend.lock(dense)
            self._dense = dense
        return self._dense

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.length, self.values.shape[1])

    @property
    def size(self) -> int:
        return self.length * int(self.values.shape[1])

    @property
    def dtype(self) -> Any:
        return self.values.dtype


def numbers(gradient: Tensor) -> Array:
    """The numbers of a gradient that may be other than zero, in some shape.

    Example:
        >>> import numpy as np
        >>> from minispike.row_gradient import RowGradient, numbers
        >>> g = RowGradient(1000, np.array([7]), np.array([[3.0, 4.0]]))
        >>> g.shape, numbers(g).tolist()
        ((1000, 2), [[3.0, 4.0]])
        >>> float((numbers(g) ** 2).sum()) ** 0.5  # the norm of all 2000 numbers, of which two are read
        5.0
    """
    return gradient.values if isinstance(gradient, RowGradient) else gradient.array


def plus(total: Tensor, more: Tensor, *, in_place: bool) -> Tensor:
    """The sum of two gradients of one tensor; ``in_place``: nobody else holds the array of ``total``, if it has one.

    Example:
        >>> import numpy as np
        >>> from minispike.row_gradient import RowGradient, plus
        >>> a = RowGradient(1000, np.array([0, 2]), np.array([[1.0], [2.0]]))
        >>> b = RowGradient(1000, np.array([2, 7]), np.array([[10.0], [20.0]]))
        >>> total = plus(a, b, in_place=False)
        >>> total.rows.tolist(), total.values.tolist()
        ([0, 2, 7], [[1.0], [12.0], [20.0]])
    """
    if isinstance(total, RowGradient) and isinstance(more, RowGradient):
        index, values = (np.concatenate(pair) for pair in ((total.rows, more.rows), (total.values, more.values)))
        return RowGradient.added_up(total.length, index, values)
    if isinstance(total, RowGradient):
        total, more, in_place = more, total, False
    if not in_place:
        total = Tensor._of(total.array.copy())
    if isinstance(more, RowGradient):
        backend.unlock(total.array)
        total.array[more.rows] += more.values
        backend.lock(total.array)
    else:
        add_to(total.array, more.array)
    return total
