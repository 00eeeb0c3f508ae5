"""Ops that sum, rearrange, pick and join: what changes a shape but no number."""

import math
import operator
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, SupportsIndex

import numpy as np

from minispike.backend import Array, array_module, copied
from minispike.errors import ShapeError, problem
from minispike.ops.arithmetic import Gradients, neg
from minispike.ops.functions import exp, log, mask_of
from minispike.ops.op import Op
from minispike.tensor import Tensor, TensorLike

Axis = int | tuple[int, ...] | None


def _axes(axis: Axis, ndim: int) -> tuple[int, ...]:
    """The axes as a tuple of non-negative numbers."""
    axes = range(ndim) if axis is None else (axis,) if isinstance(axis, SupportsIndex) else axis
    for a in axes:
        if not -ndim <= a < ndim:
            raise ShapeError(problem("axis", expected=f"-{ndim} <= axis < {ndim}", got=str(a), hint="axis=-1"))
    return tuple(sorted(a % ndim for a in axes))


def _with_kept_axes(a: Tensor, axes: tuple[int, ...], ndim: int) -> Tensor:
    """A reduced tensor with its lost axes back, of length 1."""
    lengths = iter(a.shape)
    return a.reshape(*(1 if i in axes else next(lengths) for i in range(ndim)))


class Sum(Op):
    """The sum along axes; its gradient is the same for every summand."""

    reads_values = False

    def __init__(self, axis: Axis, keepdims: bool) -> None:
        self.axis, self.keepdims = axis, keepdims

    def forward(self, a: Array) -> Array:
        self.axes = _axes(self.axis, a.ndim)
        return array_module(a).asarray(a.sum(axis=self.axes, keepdims=self.keepdims))

    def backward(self, grad: Tensor, out: Tensor, *inputs: Tensor) -> Gradients:
        (a,) = inputs
        if not self.keepdims:
            grad = _with_kept_axes(grad, self.axes, a.ndim)
        return (broadcast_to(grad, a.shape),)


class Max(Op):
    """The largest element along axes; equal ones share the gradient evenly."""

    def __init__(self, axis: Axis, keepdims: bool) -> None:
        self.axis, self.keepdims = axis, keepdims

    def forward(self, a: Array) -> Array:
        self.axes = _axes(self.axis, a.ndim)
        if any(a.shape[i] == 0 for i in self.axes):
            raise ShapeError(problem("max", expected="elements to choose from", got=f"shape {a.shape}", hint="sum"))
        return array_module(a).asarray(a.max(axis=self.axes, keepdims=self.keepdims))

    def backward(self, grad: Tensor, out: Tensor, *inputs: Tensor) -> Gradients:
        (a,) = inputs
        if not self.keepdims:
            grad, out = (_with_kept_axes(t, self.axes, a.ndim) for t in (grad, out))
        winners = mask_of(a.array == out.array, grad)
        return (grad * winners / sum_(winners, self.axes, keepdims=True),)


class BroadcastTo(Op):
    """The array repeated to a shape."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def forward(self, a: Array) -> Array:
        return array_module(a).broadcast_to(a, self.shape)

    def backward(self, grad: Tensor, out: Tensor, *inputs: Tensor) -> Gradients:
        return (grad,)  # the engine sums over what was stretched


class Reshape(Op):
    """The same numbers in another shape."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def forward(self, a: Array) -> Array:
        try:
            return a.reshape(self.shape)
        except ValueError:
            message = problem(
                "reshape", expected=f"{a.size} elements", got=f"shape {self.shape}", hint="-1 for one axis"
            )
            raise ShapeError(message) from None

    def backward(self, grad: Tensor, out: Tensor, *inputs: Tensor) -> Gradients:
        return (grad.reshape(*inputs[0].shape),)


class Transpose(Op):
    """The axes in another order; backward puts them back."""

    def __init__(self, axes: tuple[int, ...]) -> None:
        self.axes = axes

    def forward(self, a: Array) -> Array:
        if sorted(x % max(a.ndim, 1) for x in self.axes) != list(range(a.ndim)):
            expected = f"each of {a.ndim} axes once"
            raise ShapeError(problem("transpose", expected=expected, got=str(self.axes), hint="transpose()"))
        return a.transpose(self.axes)

    def backward(self, grad: Tensor, out: Tensor, *inputs: Tensor) -> Gradients:
        inverse = sorted(range(len(self.axes)), key=lambda i: self.axes[i] % len(self.axes))
        return (grad.transpose(*inverse),)


class GetItem(Op):
    """``a[key]`` for integers, slices, None, `...`, boolean and integer arrays."""

    def __init__(self, key: Any) -> None:
        self.key = key

    def forward(self, a: Array) -> Array:
        module = array_module(a)
        self.key = _own(self.key, module)
        return module.asarray(a[self.key])

    def backward(self, grad: Tensor, out: Tensor, *inputs: Tensor) -> Gradients:
        return (PutInto(self.key, inputs[0].shape)(grad),)


class PutInto(Op):
    """The reverse of `GetItem`: zeros of a shape, with values *added* at a key."""

    def __init__(self, key: Any, shape: tuple[int, ...]) -> None:
        self.key, self.shape = key, shape

    def forward(self, a: Array) -> Array:
        module = array_module(a)
        out = module.zeros(self.shape, dtype=a.dtype)
        if _is_basic(self.key):
            out[self.key] = a
        else:
            module.add.at(out, self.key, a)  # repeated indices add up, which an assignment would not do
        return out

    def backward(self, grad: Tensor, out: Tensor, *inputs: Tensor) -> Gradients:
        return (grad[self.key],)


def _own(key: Any, module: Any) -> Any:
    """The key with copies of its arrays and lists, where ``a`` lies.

    Backward uses it again, and the caller may change them before.
    """
    if isinstance(key, tuple):
        return tuple(_own(part, module) for part in key)
    if not isinstance(key, list) and (not hasattr(key, "copy") or isinstance(key, np.generic)):
        return key
    return copied(key, int if isinstance(key, list) and not key else None, module=module)


def _is_basic(key: Any) -> bool:
    """Whether a key picks every element at most once: integers, slices, None and `...` alone."""
    parts = key if isinstance(key, tuple) else (key,)
    return all(part is None or part is Ellipsis or isinstance(part, int | slice) for part in parts)


class Concatenate(Op):
    """Arrays joined along an axis; backward cuts the gradient where they met."""

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def forward(self, *arrays: Array) -> Array:
        return array_module(*arrays).concatenate(arrays, axis=self.axis)

    def backward(self, grad: Tensor, out: Tensor, *inputs: Tensor) -> Gradients:
        axis = self.axis % out.ndim
        ends = [0]
        for tensor in inputs:
            ends.append(ends[-1] + tensor.shape[axis])
        before = (slice(None),) * axis
        return [grad[(*before, slice(start, end))] for start, end in pairwise(ends)]


def sum_(a: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The sum over one axis, several, or all.

    Args:
        a: any shape.
        axis: a number, a tuple of numbers, or None, the default: all; negative ones count from the last.
        keepdims: leave an axis of length 1 where one was summed over; default False.

    Raises:
        ShapeError: there is no such axis.

    Example:
        >>> from minispike import ops
        >>> a = [[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]]
        >>> ops.sum_(a, axis=0).numpy().tolist(), ops.sum_(a, axis=1).numpy().tolist(), ops.sum_(a).item()
        ([11.0, 22.0, 33.0], [6.0, 60.0], 66.0)
    """
    return Sum(axis, keepdims)(a)


def mean(a: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The mean over one axis, several, or all (None, the default); 0 where there is nothing to take it of.

    Args:
        a, axis, keepdims: as for `sum_`.

    Raises:
        ShapeError: there is no such axis.

    Example:
        >>> from minispike import ops
        >>> a = [[1.0, 2.0], [10.0, 20.0]]
        >>> ops.mean(a, axis=-1, keepdims=True).numpy().tolist()
        [[1.5], [15.0]]
    """
    total = sum_(a, axis, keepdims)
    shape = a.shape if isinstance(a, Tensor) else Tensor(a).shape
    return total * (1.0 / max(math.prod(shape[i] for i in _axes(axis, len(shape))), 1))


def max_(a: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The largest element along one axis, several, or all (None, the default); equal ones share the gradient.

    Args:
        a, axis, keepdims: as for `sum_`.

    Raises:
        ShapeError: there is no such axis, or no element.

    Example:
        >>> from minispike import Tensor, ops
        >>> a = Tensor([1.0, 7.0, 7.0], requires_grad=True)
        >>> ops.max_(a).backward()
        >>> a.grad.numpy().tolist()
        [0.0, 0.5, 0.5]
    """
    return Max(axis, keepdims)(a)


def min_(a: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The smallest element along one axis, several, or all (None, the default); equal ones share the gradient.

    Args:
        a, axis, keepdims: as for `sum_`.

    Raises:
        ShapeError: there is no such axis, or no element.

    Example:
        >>> from minispike import ops
        >>> ops.min_([[1.0, 5.0], [4.0, 2.0]], axis=0).numpy().tolist()
        [1.0, 2.0]
    """
    return neg(max_(neg(a), axis, keepdims))


def broadcast_to(a: TensorLike, shape: tuple[int, ...]) -> Tensor:
    """``a`` repeated to a shape, without copying; the gradient is summed over what was repeated.

    Raises:
        ShapeError: the shape of ``a`` does not broadcast to this one.

    Example:
        >>> from minispike import Tensor, ops
        >>> a = Tensor([1.0, 2.0], requires_grad=True)
        >>> ops.broadcast_to(a, (3, 2)).sum().backward()
        >>> a.grad.numpy().tolist()
        [3.0, 3.0]
    """
    return BroadcastTo(shape)(a)


def _integers(name: str, given: "tuple[int | Sequence[int], ...]") -> tuple[int, ...]:
    """A shape, or axes, as NumPy takes them: ``2, 3`` as well as ``(2, 3)``."""
    numbers = given[0] if len(given) == 1 and isinstance(given[0], Sequence) else given
    try:
        return tuple(operator.index(n) for n in numbers)  # type: ignore[arg-type]
    except TypeError:
        expected, hint = "integers, or one tuple of them", f"tensor.{name}(1, 0)"
        raise ShapeError(problem(name, expected=expected, got=str(given), hint=hint)) from None


def reshape(a: TensorLike, *shape: int | Sequence[int]) -> Tensor:
    """The same numbers in another shape, given as ``2, 3`` or ``(2, 3)``; one axis may be -1.

    Raises:
        ShapeError: the shape has another number of elements, or is not of integers.

    Example:
        >>> from minispike import ops
        >>> ops.reshape([1.0, 2.0, 3.0, 4.0], 2, -1).numpy().tolist()
        [[1.0, 2.0], [3.0, 4.0]]
    """
    return Reshape(_integers("reshape", shape))(a)


def transpose(a: Tensor, *axes: int | Sequence[int]) -> Tensor:
    """The axes in another order, given as ``1, 0`` or ``(1, 0)``; without arguments, reversed.

    Raises:
        ShapeError: not each axis is named once.

    Example:
        >>> from minispike import Tensor, ops
        >>> a = Tensor([[[1.0, 2.0, 3.0]]])  # [B, L, D] = [1, 1, 3]
        >>> ops.transpose(a, 2, 0, 1).shape, ops.transpose(a).shape
        ((3, 1, 1), (3, 1, 1))
    """
    return Transpose(_integers("transpose", axes) if axes else tuple(reversed(range(a.ndim))))(a)


def getitem(a: Tensor, key: Any) -> Tensor:
    """``a[key]``: integers, slices, None, ``...``, and arrays of booleans or integers, as in NumPy.

    Where a position is picked twice, its gradients add up. A key is copied, so that it may change later.

    Raises:
        IndexError: a position lies beyond an axis. (CuPy does not look at arrays of positions, and wraps them around.)

    Example:
        >>> from minispike import Tensor, ops
        >>> a = Tensor([10.0, 20.0, 30.0], requires_grad=True)
        >>> ops.getitem(a, [2, 0, 2]).sum().backward()
        >>> a.grad.numpy().tolist()
        [1.0, 0.0, 2.0]
    """
    return GetItem(key)(a)


def take(a: Tensor, index: Array, axis: int) -> Tensor:
    """The slices of ``a`` at integer positions along an axis (gather); positions may repeat.

    Args:
        a: ``[..., N, ...]``, with N along the axis.
        index: integers ``[...]`` from -N to N - 1.
        axis: of ``a``; the axes of ``index`` take its place.

    Raises:
        ShapeError: there is no such axis.
        IndexError: as `getitem`.

    Example:
        >>> import numpy as np
        >>> from minispike import Tensor, ops
        >>> a = Tensor([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]])
        >>> ops.take(a, np.array([2, 0]), axis=1).numpy().tolist()
        [[3.0, 1.0], [30.0, 10.0]]
    """
    return a[(slice(None),) * _axes(axis, a.ndim)[0] + (index,)]


def concatenate(tensors: Sequence[TensorLike], axis: int = 0) -> Tensor:
    """Tensors joined along an existing axis, by default the first.

    Raises:
        ShapeError: there are none, there is no such axis, or they differ along another one.

    Example:
        >>> from minispike import ops
        >>> ops.concatenate([[[1.0], [2.0]], [[3.0], [4.0]]], axis=1).numpy().tolist()
        [[1.0, 3.0], [2.0, 4.0]]
    """
    return Concatenate(axis)(*tensors)


def stack(tensors: Sequence[Tensor], axis: int = 0) -> Tensor:
    """Tensors of one shape joined along a new axis, by default the first.

    Raises:
        ShapeError: there are none, or their shapes differ.

    Example:
        >>> from minispike import Tensor, ops
        >>> steps = [Tensor([1.0, 0.0]), Tensor([0.0, 0.0]), Tensor([1.0, 1.0])]
        >>> ops.stack(steps).shape  # [T, neurons]
        (3, 2)
    """
    if not tensors:
        raise ShapeError(problem("stack", expected="tensors to join", got="none", hint="at least one"))
    (at,) = _axes(axis, tensors[0].ndim + 1)
    return concatenate([t.reshape(*t.shape[:at], 1, *t.shape[at:]) for t in tensors], axis=at)


def einsum(subscripts: str, a: TensorLike, b: TensorLike) -> Tensor:
    """Sums of products in Einstein's notation, for two tensors: ``einsum("bld,hd->blh", a, b)``.

    Each letter names an axis; letters missing from the output are summed over. A letter may stand once in
    each term. The derivative with respect to one factor is the einsum of the output's with the other.

    Raises:
        ShapeError: the notation is another, or a letter has two lengths.

    Example:
        >>> from minispike import ops
        >>> ops.einsum("ij,j->i", [[1.0, 2.0], [3.0, 4.0]], [10.0, 1.0]).numpy().tolist()
        [12.0, 34.0]
    """
    return Einsum(subscripts)(a, b)


class Einsum(Op):
    """Sums of products of two arrays."""

    def __init__(self, subscripts: str) -> None:
        terms = subscripts.replace(" ", "").replace("->", ",").split(",")
        if "->" not in subscripts or len(terms) != 3 or any(len(set(t)) != len(t) for t in terms):
            expected = "two terms and an output, each letter once a term"
            raise ShapeError(problem("einsum", expected=expected, got=repr(subscripts), hint="'ij,jk->ik'"))
        self.a, self.b, self.out = terms
        if not set(self.out) <= set(self.a) | set(self.b):
            expected = "output letters that occur in a term"
            raise ShapeError(problem("einsum", expected=expected, got=repr(subscripts), hint="'ij,jk->ik'"))

    def forward(self, a: Array, b: Array) -> Array:
        lengths = dict(zip(self.a, a.shape, strict=False))
        if any(lengths.get(letter, n) != n for letter, n in zip(self.b, b.shape, strict=False)):
            # NumPy would stretch an axis of length 1
            got = f"shapes {a.shape} for {self.a} and {b.shape} for {self.b}"
            raise ShapeError(problem("einsum", expected="one length a letter", got=got, hint="broadcast_to"))
        return array_module(a, b).einsum(f"{self.a},{self.b}->{self.out}", a, b)

    def backward(self, grad: Tensor, out: Tensor, *inputs: Tensor) -> Gradients:
        a, b = inputs
        return self._gradient(grad, self.a, a, self.b, b), self._gradient(grad, self.b, b, self.a, a)

    def _gradient(self, grad: Tensor, mine: str, me: Tensor, its: str, other: Tensor) -> Tensor:
        known = [letter for letter in mine if letter in self.out or letter in its]
        gradient = einsum(f"{self.out},{its}->{''.join(known)}", grad, other)
        # A letter that stands in this term alone was summed away: its gradient is the same all along the axis.
        kept = tuple(n if letter in known else 1 for letter, n in zip(mine, me.shape, strict=True))
        return broadcast_to(gradient.reshape(*kept), me.shape)


def _shift(a: Tensor, axis: int) -> Tensor:
    """The maximum along an axis, as a constant: softmax does not depend on what is subtracted, so that will do."""
    _axes(axis, a.ndim)
    if a.size == 0:
        return Tensor._beside(0.0, [a], a.dtype)
    return Tensor._of(a.array.max(axis=axis, keepdims=True))


def log_softmax(a: Tensor, axis: int = -1) -> Tensor:
    """``a - log(sum(exp(a)))`` along an axis, by default the last; shifted by the maximum, so nothing overflows.

    Raises:
        ShapeError: there is no such axis.

    Example:
        >>> from minispike import Tensor, ops
        >>> ops.log_softmax(Tensor([1000.0, 1000.0]))  # -log(2) each
        Tensor([-0.6931 -0.6931], float32)
    """
    shifted = a - _shift(a, axis)
    return shifted - log(sum_(exp(shifted), axis, keepdims=True))


def softmax(a: Tensor, axis: int = -1) -> Tensor:
    """``exp(a) / sum(exp(a))`` along an axis, by default the last; shifted by the maximum, so nothing overflows.

    Raises:
        ShapeError: there is no such axis.

    Example:
        >>> from minispike import Tensor, ops
        >>> ops.softmax(Tensor([[0.0, 0.0], [1000.0, 0.0]])).numpy().tolist()
        [[0.5, 0.5], [1.0, 0.0]]
    """
    powers = exp(a - _shift(a, axis))
    return powers / sum_(powers, axis, keepdims=True)
