"""Tensors that remember how they were made, and the backward pass that walks this memory.

A `Tensor` holds an array, and, when gradients are wanted, the `Node` that made it: the op and its inputs.
These links are the graph; there is no tape and no global list. `Tensor.backward` orders the graph without
recursion (a spiking network unrolled in time is deep), and hands every node the gradient of its output.

Promotion rules
    * Arrays and NumPy numbers of float32 and float64 keep their type; everything else (Python numbers, lists,
      integers, booleans, other floating types) becomes the default type, float32 unless `default_dtype` says
      float64.
    * A number, a list, or an array of another type or without axes that meets a tensor takes the tensor's type.
      Tensors and arrays of the two types among themselves follow NumPy (float32 with float64 gives float64).
    * A gradient always has the type and the shape of the tensor it belongs to.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from minispike import backend
from minispike.backend import Array, array_module
from minispike.errors import AutogradError, ShapeError, problem
from minispike.graph import Node, differentiate, identity
from minispike.modes import (
    default_dtype,
    enable_grad,
    float_type,
    get_default_dtype,
    grad_enabled,
    is_float,
    no_grad,
    switched,
)
from minispike.smooth import freeze

__all__ = [
    "Tensor", "TensorLike", "default_dtype", "enable_grad", "get_default_dtype", "grad",
    "grad_enabled", "no_grad",
]  # fmt: skip

TensorLike = Any
"""What an op accepts: a `Tensor`, an array, a Python number, a (nested) list of numbers."""


class Tensor:
    """An array of floating-point numbers, with the graph behind it.

    Args:
        value: array, number, or nested list; it is copied.
        requires_grad: whether `backward` shall leave a gradient in ``grad``; default False.
        dtype: float32 or float64; by default that of ``value`` if it is one of these, else the default type.

    Attributes:
        array: the values, of the backend. A graph goes by them later, so they must not be changed in place: NumPy
            refuses that ("read-only"), CuPy's arrays cannot. `assign` is the way.
        grad: the accumulated gradient (`Tensor` of the same shape) or None. Set it to None to start anew.

    Raises:
        ShapeError: the value is not of real numbers, its lists differ in length, or the type is another.

    Example:
        >>> from minispike import Tensor
        >>> x = Tensor([3.0, 4.0], requires_grad=True)
        >>> length = (x * x).sum() ** 0.5
        >>> length.backward()
        >>> length.item(), x.grad
        (5.0, Tensor([0.6 0.8], float32))
    """

    __slots__ = ("__weakref__", "array", "grad", "node", "requires_grad", "version")
    __array_ufunc__ = None  # ndarray * Tensor asks Tensor.__rmul__ instead of looping over elements
    __array_priority__ = 1000  # the same for CuPy arrays

    def __init__(self, value: TensorLike, requires_grad: bool = False, dtype: Any = None) -> None:
        self.array: Array = _numbers(value, dtype, backend.default_module())
        backend.lock(self.array)
        self.requires_grad = requires_grad
        self.grad: Tensor | None = None
        self.node: Node | None = None
        self.version = 0

    @classmethod
    def _of(cls, array: Array) -> "Tensor":
        """A tensor around an array that nobody else will change: no copy, no check; it is locked from now on."""
        if isinstance(array, np.generic):  # what NumPy returns in place of an array without axes
            array = np.asarray(array)
        backend.lock(array)
        self = Tensor.__new__(Tensor)
        self.array, self.requires_grad, self.grad, self.node, self.version = array, False, None, None, 0
        return self

    @classmethod
    def _beside(cls, value: TensorLike, neighbours: "Sequence[Tensor]", dtype: Any = None) -> "Tensor":
        """A constant that lies where the tensors beside it do, whatever backend is in use; the value is copied."""
        return cls._of(_numbers(value, dtype, array_module(*(t.array for t in neighbours))))

    @property
    def data(self) -> Array:
        """A view of the array, read-only where the backend has that; `assign` changes a tensor in place."""
        view = self.array[...]
        backend.lock(view)
        return view

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths of the axes."""
        return cast(tuple[int, ...], self.array.shape)

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return int(self.array.size)

    @property
    def dtype(self) -> Any:
        """float32 or float64."""
        return self.array.dtype

    def numpy(self) -> "np.ndarray[Any, Any]":
        """A copy of the values on the host, whether a gradient is wanted or not.

        Example:
            >>> from minispike import Tensor
            >>> x = Tensor([1.0, 2.0], requires_grad=True)
            >>> a = x.numpy()
            >>> a[0] = 9.0  # the copy's
            >>> x.numpy().tolist()
            [1.0, 2.0]
        """
        return np.array(backend.to_numpy(self.array))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> "np.ndarray[Any, Any]":
        """What `numpy.array(tensor)` and `numpy.asarray(tensor)` give: the values on the host.

        Raises:
            AutogradError: the tensor requires a gradient, which would be lost without a word.
        """
        if self.requires_grad:
            expected, got = "a tensor that requires no gradient", "one that does, and NumPy cannot carry it on"
            hint = "tensor.numpy() for the values, or an op of minispike.ops"
            raise AutogradError(problem("numpy.asarray(tensor)", expected=expected, got=got, hint=hint))
        array = backend.to_numpy(self.array)
        wanted = array.dtype if dtype is None else np.dtype(dtype)
        if copy is False and not (array is self.array and wanted == array.dtype):
            raise ValueError("these values cannot be had in this type and on the host without a copy")
        return array.astype(wanted, copy=bool(copy))

    def item(self) -> float:
        """The value of a tensor of one element.

        Raises:
            ShapeError: it has more or fewer.

        Example:
            >>> from minispike import Tensor
            >>> Tensor([[2.5]]).item()
            2.5
        """
        if self.size != 1:
            message = problem("item", expected="one element", got=f"shape {self.shape}", hint="sum() or mean()")
            raise ShapeError(message)
        return float(self.array.reshape(()).item())

    def assign(self, value: TensorLike) -> None:
        """Replace the values; graphs that saved the old ones will refuse to run backward.

        The tensor stays on its backend, and of its type. What was made from the old values (a reshaped or detached
        tensor, a view) keeps them.

        Args:
            value: of the tensor's shape: a tensor, an array, or nested lists; copied.

        Raises:
            ShapeError: the value has another shape.
            AutogradError: this tensor is not a leaf, so that its values are those of a function.

        Example:
            >>> from minispike import Tensor
            >>> x = Tensor([1.0, 2.0], requires_grad=True)
            >>> x.assign(x.numpy() - 0.5)
            >>> x
            Tensor([0.5 1.5], float32, requires_grad=True)
        """
        if self.node is not None:
            raise AutogradError(
                problem(
                    "assign",
                    expected="a tensor that no op of a graph has made",
                    got=_maker(self.node),
                    hint="detach(), or no_grad() around the op",
                )
            )
        given = value.array if isinstance(value, Tensor) else value
        new = backend.asarray(given, module=array_module(self.array))
        if new.shape != self.shape:
            raise ShapeError(
                problem("assign", expected=f"shape {self.shape}", got=f"shape {new.shape}", hint="reshape first")
            )
        self.array = new.astype(self.dtype, order="C", copy=True)
        backend.lock(self.array)
        self.version += 1

    def detach(self) -> "Tensor":
        """The same values, cut off from the graph.

        Example:
            >>> from minispike import Tensor
            >>> x = Tensor(3.0, requires_grad=True)
            >>> (x * x.detach()).backward()
            >>> x.grad.item()  # 2 x = 6 without the cut
            3.0
        """
        return Tensor._of(freeze(self.array))

    def backward(
        self, grad: TensorLike | None = None, *, retain_graph: bool = False, create_graph: bool = False
    ) -> None:
        """Add the gradient of this tensor to ``grad`` of every leaf that requires one.

        Args:
            grad: the gradient of whatever follows with respect to this tensor, of its shape. Needed unless
                the tensor has one element, for which it is 1.
            retain_graph: keep the graph for another backward pass.
            create_graph: record the backward pass too, for higher derivatives (implies ``retain_graph``).

        Raises:
            AutogradError: nothing to differentiate, a freed graph, a changed array, a first-order-only op.
            ShapeError: ``grad`` is missing or of another shape.

        Example:
            >>> from minispike import Tensor
            >>> x = Tensor([1.0, 2.0], requires_grad=True)
            >>> for _ in range(2):
            ...     (x**3).backward([1.0, 10.0])
            >>> x.grad.numpy().tolist()  # 3 x^2 times 1 and 10, and added up over the two calls
            [6.0, 240.0]
        """
        found = differentiate(self, _seed_gradient(self, grad), retain_graph or create_graph, create_graph)
        handed_out = {id(grad.array)} if isinstance(grad, Tensor) else set()
        with switched("grad_enabled", create_graph), switched("watcher", None):  # these sums are no op of the user's
            for leaf, value in found:
                value = value if create_graph else _unshared(value, handed_out)
                leaf.grad = value if leaf.grad is None else leaf.grad + value

    def __repr__(self) -> str:
        made_by = f", made by {_maker(self.node)}" if self.node is not None else ""
        wants = ", requires_grad=True" if self.requires_grad else ""
        return f"Tensor({np.array2string(self.numpy(), precision=4, threshold=20)}, {self.dtype}{wants}{made_by})"

    def __len__(self) -> int:
        if self.ndim == 0:
            raise TypeError("len() of a Tensor without axes")
        return self.shape[0]

    def __iter__(self) -> "Iterator[Tensor]":
        return (self[i] for i in range(len(self)))

    __hash__ = object.__hash__  # by identity, although == goes by the values

    def __bool__(self) -> bool:
        if self.size != 1:
            got, hint = f"shape {self.shape}", "(tensor > 0).any() or .all()"
            raise ShapeError(problem("bool(tensor)", expected="one element", got=got, hint=hint))
        return bool(self.item())

    def __float__(self) -> float:
        return self.item()

    def __setitem__(self, key: Any, value: Any) -> None:
        raise AutogradError(
            problem(
                "tensor[...] = value",
                expected="tensors that keep their values once the graph has seen them",
                got="an assignment to a part",
                hint="where(mask, value, tensor) for a new tensor, or tensor.assign(values)",
            )
        )

    if TYPE_CHECKING:  # given to the class by minispike.ops, the layer above
        # fmt: off
        def __add__(self, other: TensorLike) -> "Tensor": ...
        def __radd__(self, other: TensorLike) -> "Tensor": ...
        def __sub__(self, other: TensorLike) -> "Tensor": ...
        def __rsub__(self, other: TensorLike) -> "Tensor": ...
        def __mul__(self, other: TensorLike) -> "Tensor": ...
        def __rmul__(self, other: TensorLike) -> "Tensor": ...
        def __truediv__(self, other: TensorLike) -> "Tensor": ...
        def __rtruediv__(self, other: TensorLike) -> "Tensor": ...
        def __pow__(self, exponent: float) -> "Tensor": ...
        def __neg__(self) -> "Tensor": ...
        def __abs__(self) -> "Tensor": ...
        def __matmul__(self, other: TensorLike) -> "Tensor": ...
        def __rmatmul__(self, other: TensorLike) -> "Tensor": ...
        def __getitem__(self, key: Any) -> "Tensor": ...
        def sum(self, axis: "int | tuple[int, ...] | None" = None, keepdims: bool = False) -> "Tensor": ...
        def mean(self, axis: "int | tuple[int, ...] | None" = None, keepdims: bool = False) -> "Tensor": ...
        def max(self, axis: "int | tuple[int, ...] | None" = None, keepdims: bool = False) -> "Tensor": ...
        def min(self, axis: "int | tuple[int, ...] | None" = None, keepdims: bool = False) -> "Tensor": ...
        def __eq__(self, other: object) -> Array: ...
        def __ne__(self, other: object) -> Array: ...
        def __lt__(self, other: TensorLike) -> Array: ...
        def __le__(self, other: TensorLike) -> Array: ...
        def __gt__(self, other: TensorLike) -> Array: ...
        def __ge__(self, other: TensorLike) -> Array: ...
        def reshape(self, *shape: "int | Sequence[int]") -> "Tensor": ...
        def transpose(self, *axes: "int | Sequence[int]") -> "Tensor": ...
        def astype(self, dtype: Any) -> "Tensor": ...
        # fmt: on


def _numbers(value: TensorLike, dtype: Any, module: Any) -> Array:
    """A copy of ``value`` as an array of ``module``; of ``dtype``, or else by the rules at the top of this file."""
    if isinstance(value, Tensor):
        value = value.array
    if dtype is None:
        dtype = value.dtype if is_float(value) else get_default_dtype()
    try:
        array = backend.asarray(value, module=module)
        got = f"{type(value).__name__} of dtype {array.dtype}"
    except ValueError as cause:  # lists of unequal length
        array, got = None, str(cause)
    if array is None or array.dtype.kind not in "fiub":
        raise ShapeError(problem("Tensor", expected="real numbers", got=got, hint="a float32 array"))
    return array.astype(float_type(dtype), copy=True)


def _maker(node: Node) -> str:
    """The op of a node in words."""
    return "an op whose graph was freed" if node.op is None else type(node.op).__name__


def grad(
    output: Tensor,
    inputs: Sequence[Tensor],
    grad_output: TensorLike | None = None,
    *,
    retain_graph: bool = True,
    create_graph: bool = False,
    rows: bool = False,
) -> list[Tensor | None]:
    """The gradients of ``output`` with respect to ``inputs``, without touching anyone's ``grad``.

    Args:
        output: what is differentiated.
        inputs: tensors that require a gradient, leaves or made by ops.
        grad_output: as in `Tensor.backward`.
        retain_graph: keep the graph for another pass; false frees it on the way, which takes less memory.
        create_graph: record the backward pass, so that the gradients can be differentiated again.
        rows: the gradient of a table of which few rows were looked up may be a `minispike.row_gradient.RowGradient`,
            which holds these alone.

    Returns:
        One tensor an input, of its shape; None where ``output`` does not depend on it.

    Raises:
        AutogradError: as `Tensor.backward`, or an input does not require a gradient.

    Example:
        >>> from minispike import Tensor, grad
        >>> x = Tensor(2.0, requires_grad=True)
        >>> (first,) = grad(x**3, [x], create_graph=True)
        >>> (second,) = grad(first, [x])
        >>> first.item(), second.item(), x.grad  # 3 x^2, 6 x, and nothing left behind
        (12.0, 12.0, None)
    """
    for i, tensor in enumerate(inputs):
        if not tensor.requires_grad:
            got, hint = "one that does not", "requires_grad=True before the forward pass"
            raise AutogradError(
                problem(f"inputs[{i}]", expected="a tensor that requires a gradient", got=got, hint=hint)
            )
    wanted = {identity(tensor) for tensor in inputs}
    pairs = differentiate(output, _seed_gradient(output, grad_output), retain_graph, create_graph, wanted)
    found = {identity(tensor): gradient if rows else _whole(gradient) for tensor, gradient in pairs}
    return [found.get(identity(tensor)) for tensor in inputs]


def _whole(gradient: Tensor) -> Tensor:
    """An ordinary tensor, where the gradient is one of some rows."""
    return gradient if type(gradient) is Tensor else Tensor._of(gradient.array)


def _unshared(gradient: Tensor, handed_out: set[int]) -> Tensor:
    """A gradient whose array belongs to one leaf alone, copied if backward gave it to several, or as a view.

    Whoever scales a gradient in place, which nothing forbids on CuPy, scales this one alone.
    """
    array = gradient.array
    if array.base is not None or id(array) in handed_out:
        return Tensor._of(array.copy())
    handed_out.add(id(array))
    return _whole(gradient)


def _seed_gradient(root: Tensor, seed: TensorLike | None) -> Tensor:
    """The gradient from which the walk starts."""
    if not root.requires_grad:
        raise AutogradError(
            problem(
                "backward",
                expected="a tensor that depends on one with requires_grad=True",
                got="one that does not",
                hint="requires_grad=True on the inputs, and no no_grad() around the forward pass",
            )
        )
    if seed is None:
        if root.size != 1:
            raise ShapeError(
                problem(
                    "backward",
                    expected="grad, since the output is not a single number",
                    got=f"no grad for shape {root.shape}",
                    hint="sum() or mean() first, or backward(grad)",
                )
            )
        seed = array_module(root.array).ones_like(root.array)
    tensor = seed if isinstance(seed, Tensor) else Tensor._beside(seed, [root], root.dtype)
    if tensor.shape != root.shape:
        message = problem("grad", expected=f"shape {root.shape}", got=f"shape {tensor.shape}", hint="a matching array")
        raise ShapeError(message)
    return tensor if tensor.dtype == root.dtype else tensor.astype(root.dtype)
