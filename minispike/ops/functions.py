"""Functions of single numbers, applied element by element: exp, tanh, gelu, maximum, where, ...

Every op is a class with its forward and its backward side by side, and below it the function that calls it. Backward
is written in ops again, so all of these can be differentiated as often as one likes.
"""

from typing import Any

import numpy as np

from minispike.backend import Array, array_module, asarray
from minispike.modes import float_type, grad_enabled
from minispike.ops.arithmetic import Gradients, neg
from minispike.ops.op import Op, as_tensors
from minispike.ops.special import erf_array
from minispike.tensor import Tensor, TensorLike

SQRT_HALF = 0.7071067811865476
TWO_OVER_SQRT_PI = 1.1283791670955126
ONE_OVER_SQRT_TWO_PI = 0.3989422804014327


class Exp(Op):
    """``e ** a``; its derivative is itself."""

    def forward(self, a: Array) -> Array:
        return array_module(a).exp(a)

    def backward(self, grad: Tensor, out: Tensor, *inputs: Tensor) -> Gradients:
        return (grad * out,)


def exp(a: TensorLike) -> Tensor:
    """``e ** a``, element by element.

    Example:
        >>> from minispike import Tensor, ops
        >>> a = Tensor([0.0, 1.0], requires_grad=True)
        >>> ops.exp(a).sum().backward()
        >>> a.grad  # exp again
        Tensor([1.     2.7183], float32)
    """
    return Exp()(a)


class Log(Op):
    """The natural logarithm; its derivative is ``1 / a``."""

    def forward(self, a: Array) -> Array:
        return array_module(a).log(a)

    def backward(self, grad: Tensor, out: Tensor, *inputs: Tensor) -> Gradients:
        return (grad / inputs[0],)


def log(a: TensorLike) -> Tensor:
    """The natural logarithm, element by element; -inf at 0 and NaN below it.

    Example:
        >>> from minispike import Tensor, ops
        >>> a = Tensor([1.0, 4.0], requires_grad=True)
        >>> ops.log(a).sum().backward()
        >>> a.grad.numpy().tolist()  # 1 / a
        [1.0, 0.25]
    """
    return Log()(a)


class Sqrt(Op):
    """The square root; its derivative is ``1 / (2 sqrt(a))``."""

    def forward(self, a: Array) -> Array:
        return array_module(a).sqrt(a)

    def backward(self, grad: Tensor, out: Tensor, *inputs: Tensor) -> Gradients:
        return (grad / (2.0 * out),)


def sqrt(a: TensorLike) -> Tensor:
    """The square root, element by element; NaN below 0. At 0 its gradient is infinite.

    Example:
        >>> from minispike import Tensor, ops
        >>> a = Tensor([1.0, 4.0], requires_grad=True)
        >>> ops.sqrt(a).sum().backward()
        >>> a.grad.numpy().tolist()  # 1 / (2 sqrt(a))
        [0.5, 0.25]
    """
    return Sqrt()(a)


class Tanh(Op):
    """The hyperbolic tangent; its derivative is ``1 - tanh(a)^2``."""

    def forward(self, a: Array) -> Array:
        return array_module(a).tanh(a)

    def backward(self, grad: Tensor, out: Tensor, *inputs: Tensor) -> Gradients:
        return (grad * (1.0 - out * out),)


def tanh(a: TensorLike) -> Tensor:
    """The hyperbolic tangent, element by element: from -1 to 1.

    Example:
        >>> from minispike import ops
        >>> ops.tanh([-1.0, 0.0, 100.0])
        Tensor([-0.7616  0.      1.    ], float32)
    """
    return Tanh()(a)


class Sigmoid(Op):
    """``1 / (1 + exp(-a))``, through tanh, which cannot overflow."""

    def forward(self, a: Array) -> Array:
        return 0.5 * array_module(a).tanh(0.5 * a) + 0.5

    def backward(self, grad: Tensor, out: Tensor, *inputs: Tensor) -> Gradients:
        return (grad * out * (1.0 - out),)


def sigmoid(a: TensorLike) -> Tensor:
    """``1 / (1 + exp(-a))``, element by element: from 0 to 1. No ``a`` overflows.

    Example:
        >>> from minispike import ops
        >>> ops.sigmoid([-1000.0, 0.0, 1.0])
        Tensor([0.     0.5    0.7311], float32)
    """
    return Sigmoid()(a)


class Erf(Op):
    """The error function; its derivative is the bell curve ``2/sqrt(pi) exp(-a^2)``."""

    def forward(self, a: Array) -> Array:
        return erf_array(a)

    def backward(self, grad: Tensor, out: Tensor, *inputs: Tensor) -> Gradients:
        (a,) = inputs
        return (grad * TWO_OVER_SQRT_PI * exp(-(a * a)),)


def erf(a: TensorLike) -> Tensor:
    """The error function, element by element, to about 1e-15 in float64 and 1e-7 in float32.

    Example:
        >>> from minispike import Tensor, ops
        >>> ops.erf(Tensor([0.0, 1.0], dtype="float64")).numpy().round(10).tolist()
        [0.0, 0.8427007929]
    """
    return Erf()(a)


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


def gelu(a: TensorLike) -> Tensor:
    """``a * Phi(a)``, element by element: the exact Gaussian error linear unit of BERT (arXiv 1606.08415).

    Phi is the normal distribution function, ``(1 + erf(a / sqrt(2))) / 2``.

    Example:
        >>> from minispike import ops
        >>> ops.gelu([-1.0, 0.0, 1.0])  # the first and the last differ by 1
        Tensor([-0.1587  0.      0.8413], float32)
    """
    return Gelu()(a)


def mask_of(condition: Array, like: Tensor) -> Tensor:
    """A boolean array as a constant tensor of zeros and ones, of the type of ``like``.

    Example:
        >>> import numpy as np
        >>> from minispike import Tensor
        >>> from minispike.ops.functions import mask_of
        >>> mask_of(np.array([True, False]), Tensor(0.5))
        Tensor([1. 0.], float32)
    """
    return Tensor._of(condition.astype(like.dtype))


class Relu(Op):
    """``max(a, 0)``; the derivative at 0 is taken to be 0."""

    def forward(self, a: Array) -> Array:
        return array_module(a).maximum(a, 0.0)

    def backward(self, grad: Tensor, out: Tensor, *inputs: Tensor) -> Gradients:
        return (grad * mask_of(inputs[0].array > 0, grad),)


def relu(a: TensorLike) -> Tensor:
    """``max(a, 0)``, element by element; no gradient flows where a <= 0.

    Example:
        >>> from minispike import Tensor, ops
        >>> a = Tensor([-1.0, 0.0, 2.0], requires_grad=True)
        >>> ops.relu(a).sum().backward()
        >>> a.grad.numpy().tolist()
        [0.0, 0.0, 1.0]
    """
    return Relu()(a)


class Absolute(Op):
    """``|a|``; the derivative at 0 is taken to be 0."""

    def forward(self, a: Array) -> Array:
        return array_module(a).abs(a)

    def backward(self, grad: Tensor, out: Tensor, *inputs: Tensor) -> Gradients:
        return (grad * Tensor._of(array_module(grad.array).sign(inputs[0].array)),)


def absolute(a: TensorLike) -> Tensor:
    """``|a|``, element by element; the gradient at 0 is 0.

    Example:
        >>> from minispike import Tensor, ops
        >>> a = Tensor([-2.0, 0.0, 3.0], requires_grad=True)
        >>> ops.absolute(a).sum().backward()
        >>> a.grad.numpy().tolist()
        [-1.0, 0.0, 1.0]
    """
    return Absolute()(a)


class Clip(Op):
    """``a`` held within ``[low, high]``; the gradient passes where a was not cut."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high

    def forward(self, a: Array) -> Array:
        return array_module(a).clip(a, self.low, self.high)

    def backward(self, grad: Tensor, out: Tensor, *inputs: Tensor) -> Gradients:
        a = inputs[0].array
        return (grad * mask_of((a >= self.low) & (a <= self.high), grad),)


def clip(a: TensorLike, low: float, high: float) -> Tensor:
    """``a`` held within ``[low, high]``, element by element; no gradient flows where it is held.

    Args:
        a: any shape.
        low, high: numbers, in the unit of a; ``-math.inf`` and ``math.inf`` are no bounds.

    Example:
        >>> from minispike import Tensor, ops
        >>> a = Tensor([-2.0, 0.5, 1.0], requires_grad=True)
        >>> ops.clip(a, 0.0, 1.0).sum().backward()
        >>> a.grad.numpy().tolist()  # at an end it flows
        [0.0, 1.0, 1.0]
    """
    return Clip(float(low), float(high))(a)


class Maximum(Op):
    """The larger of two numbers; equal ones share the gradient in halves."""

    def forward(self, a: Array, b: Array) -> Array:
        return array_module(a, b).maximum(a, b)

    def backward(self, grad: Tensor, out: Tensor, *inputs: Tensor) -> Gradients:
        a, b = inputs[0].array, inputs[1].array
        first = 0.5 * mask_of(a > b, grad) + 0.5 * mask_of(a >= b, grad)
        return grad * first, grad * (1.0 - first)


def maximum(a: TensorLike, b: TensorLike) -> Tensor:
    """The larger of a and b, element by element, which gets the gradient; equal ones share it in halves.

    Raises:
        ShapeError: the shapes do not fit together.

    Example:
        >>> from minispike import Tensor, ops
        >>> a = Tensor([1.0, 2.0, 3.0], requires_grad=True)
        >>> ops.maximum(a, 2.0).sum().backward()
        >>> a.grad.numpy().tolist()
        [0.0, 0.5, 1.0]
    """
    return Maximum()(a, b)


def minimum(a: TensorLike, b: TensorLike) -> Tensor:
    """The smaller of a and b, element by element, which gets the gradient; equal ones share it in halves.

    Raises:
        ShapeError: the shapes do not fit together.

    Example:
        >>> from minispike import Tensor, ops
        >>> a = Tensor([1.0, 2.0, 3.0], requires_grad=True)
        >>> ops.minimum(a, 2.0).sum().backward()
        >>> a.grad.numpy().tolist()
        [1.0, 0.5, 0.0]
    """
    first, second = as_tensors((a, b))  # each knows the other's type and place before it is alone in neg
    return neg(maximum(neg(first), neg(second)))


class Where(Op):
    """``a`` where the condition holds, else ``b``; the condition is not differentiated."""

    def __init__(self, condition: Array) -> None:
        self.condition = condition

    def forward(self, a: Array, b: Array) -> Array:
        module = array_module(a, b)
        self.condition = asarray(self.condition, module=module)
        return module.where(self.condition, a, b)

    def backward(self, grad: Tensor, out: Tensor, *inputs: Tensor) -> Gradients:
        chosen = mask_of(self.condition, grad)
        return grad * chosen, grad * (1.0 - chosen)


def where(condition: Array, a: TensorLike, b: TensorLike) -> Tensor:
    """``a`` where ``condition`` holds, else ``b``, element by element; each gets the gradient where it was taken.

    Args:
        condition: array or list of booleans, such as a comparison of tensors gives; copied.
        a, b: of shapes that broadcast with it.

    Raises:
        ShapeError: the shapes do not fit together.

    Example:
        >>> from minispike import Tensor, ops
        >>> a = Tensor([-1.0, 0.5, 2.0])
        >>> ops.where(a > 0, a, 10.0 * a).numpy().tolist()
        [-10.0, 0.5, 2.0]
    """
    if not hasattr(condition, "astype"):
        condition = np.asarray(condition)
    return Where(condition.astype(bool))(a, b)  # copied


class Cast(Op):
    """The same numbers in another floating type."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype

    def forward(self, a: Array) -> Array:
        return a.astype(self.dtype)

    def backward(self, grad: Tensor, out: Tensor, *inputs: Tensor) -> Gradients:
        return (cast_to(grad, inputs[0].dtype),)


def cast_to(a: TensorLike, dtype: Any) -> Tensor:
    """``a`` as float32 or float64; the gradient comes back in the type of ``a``.

    Raises:
        ShapeError: the type is another.

    Example:
        >>> from minispike import Tensor, ops
        >>> a = Tensor([1.0, 2.0], requires_grad=True)
        >>> double = ops.cast_to(a, "float64")
        >>> double.sum().backward()
        >>> str(double.dtype), str(a.grad.dtype)
        ('float64', 'float32')
    """
    return Cast(float_type(dtype))(a)
