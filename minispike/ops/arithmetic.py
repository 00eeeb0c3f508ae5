"""Arithmetic: ``+``, ``-``, ``*``, ``/``, ``-a``, powers and ``@``.

Every op is a class with its forward and its backward side by side, and below it the function that calls it. Backward
is written in ops again, so all of these can be differentiated as often as one likes.
"""

import math
from collections.abc import Sequence
from numbers import Real

import numpy as np

from minispike.backend import Array
from minispike.errors import ShapeError, problem
from minispike.ops.op import Op, Products
from minispike.tensor import Tensor, TensorLike

Gradients = Sequence[Tensor | None]
"""What backward returns: one gradient an input, None for one that wants none."""


class Add(Op):
    """``a + b``."""

    reads_values = False

    def forward(self, a: Array, b: Array) -> Array:
        return a + b

    def backward(self, grad: Tensor, out: Tensor, *inputs: Tensor) -> Gradients:
        return grad, grad


def add(a: TensorLike, b: TensorLike) -> Tensor:
    """``a + b``, element by element; shapes broadcast as NumPy's do.

    Raises:
        ShapeError: the shapes do not fit together.

    Example:
        >>> from minispike import Tensor, ops
        >>> b = Tensor(10.0, requires_grad=True)
        >>> ops.add([1.0, 2.0, 3.0], b).sum().backward()
        >>> b.grad.item()  # one for each element that b was added to
        3.0
    """
    return Add()(a, b)


class Sub(Op):
    """``a - b``."""

    def forward(self, a: Array, b: Array) -> Array:
        return a - b

    def backward(self, grad: Tensor, out: Tensor, *inputs: Tensor) -> Gradients:
        return grad, -grad


def sub(a: TensorLike, b: TensorLike) -> Tensor:
    """``a - b``, element by element; shapes broadcast as NumPy's do.

    Raises:
        ShapeError: the shapes do not fit together.

    Example:
        >>> from minispike import ops
        >>> ops.sub([3.0, 5.0], 1.0).numpy().tolist()
        [2.0, 4.0]
    """
    return Sub()(a, b)


class Mul(Op):
    """``a * b``."""

    def forward(self, a: Array, b: Array) -> Array:
        return a * b

    def backward(self, grad: Tensor, out: Tensor, *inputs: Tensor) -> Gradients:
        a, b = inputs
        return (grad * b if a.requires_grad else None), (grad * a if b.requires_grad else None)


def mul(a: TensorLike, b: TensorLike) -> Tensor:
    """``a * b``, element by element; shapes broadcast as NumPy's do.

    Raises:
        ShapeError: the shapes do not fit together.

    Example:
        >>> from minispike import Tensor, ops
        >>> a = Tensor([3.0, 5.0], requires_grad=True)
        >>> ops.mul(a, [2.0, 4.0]).sum().backward()
        >>> a.grad.numpy().tolist()  # the other factor
        [2.0, 4.0]
    """
    return Mul()(a, b)


class Div(Op):
    """``a / b``."""

    def forward(self, a: Array, b: Array) -> Array:
        return a / b

    def backward(self, grad: Tensor, out: Tensor, *inputs: Tensor) -> Gradients:
        a, b = inputs
        return grad / b, (-grad * a / (b * b) if b.requires_grad else None)


def div(a: TensorLike, b: TensorLike) -> Tensor:
    """``a / b``, element by element; shapes broadcast as NumPy's do.

    Raises:
        ShapeError: the shapes do not fit together.

    Example:
        >>> from minispike import Tensor, ops
        >>> b = Tensor(2.0, requires_grad=True)
        >>> ops.div(8.0, b).backward()
        >>> b.grad.item()  # -a / b^2
        -2.0
    """
    return Div()(a, b)


class Neg(Op):
    """``-a``."""

    def forward(self, a: Array) -> Array:
        return -a

    def backward(self, grad: Tensor, out: Tensor, *inputs: Tensor) -> Gradients:
        return (-grad,)


def neg(a: TensorLike) -> Tensor:
    """``-a``, element by element.

    Example:
        >>> from minispike import ops
        >>> ops.neg([1.0, -2.0]).numpy().tolist()
        [-1.0, 2.0]
    """
    return Neg()(a)


class Power(Op):
    """``a ** p`` for a fixed number p."""

    def __init__(self, exponent: float) -> None:
        self.exponent = exponent

    def forward(self, a: Array) -> Array:
        return a**self.exponent

    def backward(self, grad: Tensor, out: Tensor, *inputs: Tensor) -> Gradients:
        (a,) = inputs
        if self.exponent == 0:
            return (grad * 0.0,)
        if self.exponent == 1:
            return (grad,)
        return (grad * self.exponent * power(a, self.exponent - 1),)


def power(a: TensorLike, exponent: float) -> Tensor:
    """``a ** exponent``, element by element, for a fixed number.

    Raises:
        ShapeError: the exponent is no number (a tensor, say).

    Example:
        >>> from minispike import Tensor, ops
        >>> a = Tensor([1.0, 2.0], requires_grad=True)
        >>> ops.power(a, 3).sum().backward()
        >>> a.grad.numpy().tolist()  # 3 a^2
        [3.0, 12.0]
    """
    if not isinstance(exponent, Real):
        got = type(exponent).__name__
        raise ShapeError(problem("power", expected="a number as exponent", got=got, hint="exp(log(a) * b)"))
    return Power(float(exponent))(a)  # a float64 of NumPy's would make float32 arrays float64


class MatMul(Op):
    """``a @ b`` over the last two axes, as `numpy.matmul`; axes before them are broadcast."""

    def forward(self, a: Array, b: Array) -> Array:
        if a.ndim == 0 or b.ndim == 0 or a.shape[-1] != b.shape[-2 if b.ndim > 1 else 0]:
            raise ShapeError(
                problem(
                    "matmul",
                    expected="last axis of the first = last but one of the second",
                    got=f"shapes {a.shape} and {b.shape}",
                    hint="transpose or reshape one of them",
                )
            )
        return a @ b

    def backward(self, grad: Tensor, out: Tensor, *inputs: Tensor) -> Gradients:
        a, b = inputs
        # A vector is a matrix of one row (left) or one column (right), and the product lacks that axis.
        rows = a.reshape(1, *a.shape) if a.ndim == 1 else a
        columns = b.reshape(*b.shape, 1) if b.ndim == 1 else b
        if b.ndim == 1:
            grad = grad.reshape(*grad.shape, 1)
        if a.ndim == 1:
            grad = grad.reshape(*grad.shape[:-1], 1, grad.shape[-1])
        grad_a = matmul(grad, swap_last(columns)) if a.requires_grad else None
        grad_b = matmul(swap_last(rows), grad) if b.requires_grad else None
        if grad_a is not None and a.ndim == 1:
            grad_a = grad_a.reshape(*grad_a.shape[:-2], grad_a.shape[-1])
        if grad_b is not None and b.ndim == 1:
            grad_b = grad_b.reshape(*grad_b.shape[:-1])
        return grad_a, grad_b

    def products(self, *inputs: Tensor) -> Products:
        a, b = inputs
        rows, inner = a.shape[-2:] if a.ndim > 1 else (1, *a.shape)
        columns = b.shape[-1] if b.ndim > 1 else 1
        count = math.prod(np.broadcast_shapes(a.shape[:-2], b.shape[:-2]))
        of_a, of_b = (count, rows, columns, inner), (count, inner, rows, columns)
        return [(count, rows, inner, columns)], [*a.requires_grad * [of_a], *b.requires_grad * [of_b]]


def matmul(a: TensorLike, b: TensorLike) -> Tensor:
    """``a @ b``: the product of matrices, or of stacks of them.

    Args:
        a: ``[..., N, K]``, or a vector ``[K]``, which counts as one row.
        b: ``[..., K, M]``, or a vector ``[K]``, which counts as one column. Axes before the last two broadcast.

    Returns:
        ``[..., N, M]``, without the axis that a vector lacks.

    Raises:
        ShapeError: the inner axes differ, or those before them do not broadcast.

    Example:
        >>> from minispike import ops
        >>> ops.matmul([[1.0, 2.0], [3.0, 4.0]], [10.0, 1.0]).numpy().tolist()
        [12.0, 34.0]
    """
    return MatMul()(a, b)


def swap_last(a: Tensor) -> Tensor:
    """The matrix transpose: the last two axes swapped, ``[..., N, M]`` to ``[..., M, N]``.

    Example:
        >>> from minispike import Tensor, ops
        >>> ops.swap_last(Tensor([[[1.0, 2.0, 3.0]]])).numpy().tolist()
        [[[1.0], [2.0], [3.0]]]
    """
    return a.transpose(*range(a.ndim - 2), a.ndim - 1, a.ndim - 2)
