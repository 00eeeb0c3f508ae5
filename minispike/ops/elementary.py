"""Arithmetic and functions of single numbers, applied element by element, and matrix multiplication.

Every op is a class with its forward and its backward side by side, and a function that calls it. Backward is
written in ops again, so all of these can be differentiated as often as one likes.
"""

from collections.abc import Sequence
from numbers import Real
from typing import Any

from minispike.backend import Array, array_module, asarray
from minispike.errors import ShapeError, problem
from minispike.modes import float_type
from minispike.ops.special import erf_array
from minispike.tensor import Op, Tensor, TensorLike, grad_enabled

SQRT_HALF = 0.7071067811865476
TWO_OVER_SQRT_PI = 1.1283791670955126
ONE_OVER_SQRT_TWO_PI = 0.3989422804014327

Gradients = Sequence[Tensor | None]


class Add(Op):
    """``a + b``."""

    def forward(self, a: Array, b: Array) -> Array:
        return a + b

    def backward(self, grad: Tensor, out: Tensor, *inputs: Tensor) -> Gradients:
        return grad, grad


class Sub(Op):
    """``a - b``."""

    def forward(self, a: Array, b: Array) -> Array:
        return a - b

    def backward(self, grad: Tensor, out: Tensor, *inputs: Tensor) -> Gradients:
        return grad, -grad


class Mul(Op):
    """``a * b``."""

    def forward(self, a: Array, b: Array) -> Array:
        return a * b

    def backward(self, grad: Tensor, out: Tensor, *inputs: Tensor) -> Gradients:
        a, b = inputs
        return (grad * b if a.requires_grad else None), (grad * a if b.requires_grad else None)


class Div(Op):
    """``a / b``."""

    def forward(self, a: Array, b: Array) -> Array:
        return a / b

    def backward(self, grad: Tensor, out: Tensor, *inputs: Tensor) -> Gradients:
        a, b = inputs
        return grad / b, (-grad * a / (b * b) if b.requires_grad else None)


class Neg(Op):
    """``-a``."""

    def forward(self, a: Array) -> Array:
        return -a

    def backward(self, grad: Tensor, out: Tensor, *inputs: Tensor) -> Gradients:
        return (-grad,)


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


class Exp(Op):
    """``e ** a``; its derivative is itself."""

    def forward(self, a: Array) -> Array:
        return array_module(a).exp(a)

    def backward(self, grad: Tensor, out: Tensor, *inputs: Tensor) -> Gradients:
        return (grad * out,)


class Log(Op):
    """The natural logarithm; its derivative is ``1 / a``."""

    def forward(self, a: Array) -> Array:
        return array_module(a).log(a)

    def backward(self, grad: Tensor, out: Tensor, *inputs: Tensor) -> Gradients:
        return (grad / inputs[0],)


class Sqrt(Op):
    """The square root; its derivative is ``1 / (2 sqrt(a))``."""

    def forward(self, a: Array) -> Array:
        return array_module(a).sqrt(a)

    def backward(self, grad: Tensor, out: Tensor, *inputs: Tensor) -> Gradients:
        return (grad / (2.0 * out),)


class Tanh(Op):
    """The hyperbolic tangent; its derivative is ``1 - tanh(a)^2``."""

    def forward(self, a: Array) -> Array:
        return array_module(a).tanh(a)

    def backward(self, grad: Tensor, out: Tensor, *inputs: Tensor) -> Gradients:
        return (grad * (1.0 - out * out),)


class Sigmoid(Op):
    """``1 / (1 + exp(-a))``, through tanh, which cannot overflow."""

    def forward(self, a: Array) -> Array:
        return 0.5 * array_module(a).tanh(0.5 * a) + 0.5

    def backward(self, grad: Tensor, out: Tensor, *inputs: Tensor) -> Gradients:
        return (grad * out * (1.0 - out),)


class Erf(Op):
    """The error function; its derivative is the bell curve ``2/sqrt(pi) exp(-a^2)``."""

    def forward(self, a: Array) -> Array:
        return erf_array(a)

    def backward(self, grad: Tensor, out: Tensor, *inputs: Tensor) -> Gradients:
        (a,) = inputs
        return (grad * TWO_OVER_SQRT_PI * exp(-(a * a)),)


class Gelu(Op):
    """``a * Phi(a)``, Phi the normal distribution function (Hendrycks and Gimpel 2016, arXiv 1606.08415)."""

    def forward(self, a: Array) -> Array:
        self.distribution = erf_array(a * SQRT_HALF)
        self.distribution += 1.0
        self.distribution *= 0.5
        return a * self.distribution

    def backward(self, grad: Tensor, out: Tensor, *inputs: Tensor) -> Gradients:
        (a,) = inputs
        # Kept from forward; only when backward is itself differentiated is it computed as a function of a.
        known = Tensor._of(self.distribution)
        distribution = 0.5 * (1.0 + erf(a * SQRT_HALF)) if grad_enabled() else known
        density = ONE_OVER_SQRT_TWO_PI * exp(-0.5 * (a * a))
        return (grad * (distribution + a * density),)


class Relu(Op):
    """``max(a, 0)``; the derivative at 0 is taken to be 0."""

    def forward(self, a: Array) -> Array:
        return array_module(a).maximum(a, 0.0)

    def backward(self, grad: Tensor, out: Tensor, *inputs: Tensor) -> Gradients:
        return (grad * mask_of(inputs[0].array > 0, grad),)


class Absolute(Op):
    """``|a|``; the derivative at 0 is taken to be 0."""

    def forward(self, a: Array) -> Array:
        return array_module(a).abs(a)

    def backward(self, grad: Tensor, out: Tensor, *inputs: Tensor) -> Gradients:
        return (grad * Tensor._of(array_module(grad.array).sign(inputs[0].array)),)


class Clip(Op):
    """``a`` held within ``[low, high]``; the gradient passes where a was not cut."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high

    def forward(self, a: Array) -> Array:
        return array_module(a).clip(a, self.low, self.high)

    def backward(self, grad: Tensor, out: Tensor, *inputs: Tensor) -> Gradients:
        a = inputs[0].array
        return (grad * mask_of((a >= self.low) & (a <= self.high), grad),)


class Maximum(Op):
    """The larger of two numbers; equal ones share the gradient in halves."""

    def forward(self, a: Array, b: Array) -> Array:
        return array_module(a, b).maximum(a, b)

    def backward(self, grad: Tensor, out: Tensor, *inputs: Tensor) -> Gradients:
        a, b = inputs[0].array, inputs[1].array
        first = 0.5 * mask_of(a > b, grad) + 0.5 * mask_of(a >= b, grad)
        return grad * first, grad * (1.0 - first)


class Where(Op):
    """``a`` where the condition holds, else ``b``; the condition is not differentiated."""

    def __init__(self, condition: Array) -> None:
        self.condition = condition

    def forward(self, a: Array, b: Array) -> Array:
        return array_module(a, b).where(self.condition, a, b)

    def backward(self, grad: Tensor, out: Tensor, *inputs: Tensor) -> Gradients:
        chosen = mask_of(self.condition, grad)
        return grad * chosen, grad * (1.0 - chosen)


class Cast(Op):
    """The same numbers in another floating type."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype

    def forward(self, a: Array) -> Array:
        return a.astype(self.dtype)

    def backward(self, grad: Tensor, out: Tensor, *inputs: Tensor) -> Gradients:
        return (cast_to(grad, inputs[0].dtype),)


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


def mask_of(condition: Array, like: Tensor) -> Tensor:
    """A boolean array as a constant tensor of zeros and ones, of the type of ``like``."""
    return Tensor._of(condition.astype(like.dtype))


def swap_last(a: Tensor) -> Tensor:
    """The matrix transpose: the last two axes swapped."""
    return a.transpose(*range(a.ndim - 2), a.ndim - 1, a.ndim - 2)


def add(a: TensorLike, b: TensorLike) -> Tensor:
    """``a + b``."""
    return Add()(a, b)


def sub(a: TensorLike, b: TensorLike) -> Tensor:
    """``a - b``."""
    return Sub()(a, b)


def mul(a: TensorLike, b: TensorLike) -> Tensor:
    """``a * b``."""
    return Mul()(a, b)


def div(a: TensorLike, b: TensorLike) -> Tensor:
    """``a / b``."""
    return Div()(a, b)


def neg(a: TensorLike) -> Tensor:
    """``-a``."""
    return Neg()(a)


def power(a: TensorLike, exponent: float) -> Tensor:
    """``a ** exponent`` for a fixed number."""
    if not isinstance(exponent, Real):
        got = type(exponent).__name__
        raise ShapeError(problem("power", expected="a number as exponent", got=got, hint="exp(log(a) * b)"))
    return Power(float(exponent))(a)  # a float64 of NumPy's would make float32 arrays float64


def exp(a: TensorLike) -> Tensor:
    """``e ** a``."""
    return Exp()(a)


def log(a: TensorLike) -> Tensor:
    """The natural logarithm."""
    return Log()(a)


def sqrt(a: TensorLike) -> Tensor:
    """The square root."""
    return Sqrt()(a)


def tanh(a: TensorLike) -> Tensor:
    """The hyperbolic tangent."""
    return Tanh()(a)


def sigmoid(a: TensorLike) -> Tensor:
    """``1 / (1 + exp(-a))``."""
    return Sigmoid()(a)


def erf(a: TensorLike) -> Tensor:
    """The error function, to about 1e-15 in float64."""
    return Erf()(a)


def gelu(a: TensorLike) -> Tensor:
    """``a * Phi(a)``, the exact Gaussian error linear unit of BERT."""
    return Gelu()(a)


def relu(a: TensorLike) -> Tensor:
    """``max(a, 0)``."""
    return Relu()(a)


def absolute(a: TensorLike) -> Tensor:
    """``|a|``."""
    return Absolute()(a)


def clip(a: TensorLike, low: float, high: float) -> Tensor:
    """``a`` held within ``[low, high]``."""
    return Clip(float(low), float(high))(a)


def maximum(a: TensorLike, b: TensorLike) -> Tensor:
    """The larger of a and b, element by element."""
    return Maximum()(a, b)


def minimum(a: TensorLike, b: TensorLike) -> Tensor:
    """The smaller of a and b, element by element."""
    return neg(maximum(neg(a), neg(b)))


def where(condition: Array, a: TensorLike, b: TensorLike) -> Tensor:
    """``a`` where the boolean array ``condition`` holds, else ``b``."""
    if not hasattr(condition, "astype"):
        condition = asarray(condition)
    return Where(condition.astype(bool))(a, b)


def cast_to(a: TensorLike, dtype: Any) -> Tensor:
    """``a`` as float32 or float64.

    Raises:
        ShapeError: the type is another.
    """
    return Cast(float_type(dtype))(a)


def matmul(a: TensorLike, b: TensorLike) -> Tensor:
    """``a @ b``.

    Raises:
        ShapeError: the inner axes differ, or those before them do not broadcast.
    """
    return MatMul()(a, b)
