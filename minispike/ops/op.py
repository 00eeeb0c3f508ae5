"""What an op is: a forward, a backward, and a call that remembers both in the graph.

`Op` has a backward written in other ops, `FusedOp` one written by hand on arrays. What an input becomes that is no
tensor is said at the top of `minispike.tensor`.
"""

from collections.abc import Sequence

import numpy as np

from minispike.backend import Array
from minispike.errors import AutogradError, MinispikeError, ShapeError, problem
from minispike.graph import Node
from minispike.modes import grad_enabled, is_float, watcher
from minispike.row_gradient import RowGradient
from minispike.tensor import Tensor, TensorLike

Product = tuple[int, int, int, int]
"""Products of matrices that are alike: how many, and the rows, the inner length and the columns of each."""

Products = tuple[Sequence[Product], Sequence[Product]]
"""What an op multiplies: forward, and backward."""


class Op:
    """One differentiable operation.

    A subclass writes ``forward(*arrays) -> array`` and, beside it, ``backward(grad, out, *inputs)``, which
    returns one gradient (or None) for each input. Backward receives and returns *tensors* and is written in
    other ops, so it can itself be differentiated: that is all there is to higher derivatives. It need not undo
    broadcasting; the engine does. Settings such as an axis are attributes of the op.

    Example:
        >>> import minispike
        >>> from minispike.ops.op import Op
        >>> class Cube(Op):
        ...     def forward(self, a):
        ...         return a**3
        ...     def backward(self, grad, out, a):
        ...         return (grad * (3.0 * a * a),)
        >>> minispike.check_grads(Cube(), minispike.Tensor([1.0, 2.0], requires_grad=True), order=2).checks
        2
    """

    reads_values = True
    """Whether backward reads values of ``out`` or ``inputs``, and not their shapes alone: the graph then keeps them."""

    def forward(self, *arrays: Array) -> Array:
        """The array of the output from those of the inputs, which it leaves as they are."""
        raise AssertionError(f"{type(self).__name__} has no forward")  # every op defines it

    def backward(self, grad: Tensor, out: Tensor, *inputs: Tensor) -> Sequence[Tensor | None]:
        """The gradients of the inputs, from that of the output.

        Args:
            grad: of the output, in its shape.
            out: what forward returned, as a tensor.
            inputs: what forward was given, as tensors.

        Returns:
            One tensor an input, in its shape or in one that its own broadcasts to; None for one that wants none.
        """
        raise AssertionError(f"{type(self).__name__} has no backward")  # every op defines it

    def products(self, *inputs: Tensor) -> Products:
        """The products of matrices that the op makes of these inputs, once forward has run; by default none."""
        return (), ()

    def __call__(self, *inputs: TensorLike) -> Tensor:
        tensors = as_tensors(inputs)
        arrays, watch = [t.array for t in tensors], watcher()
        try:
            out = self.forward(*arrays) if watch is None else watch(self, tensors, False, lambda: self.forward(*arrays))
        except ValueError as cause:  # NumPy's: shapes that do not broadcast, join or multiply
            if isinstance(cause, MinispikeError):
                raise
            name = type(self).__name__
            if "read-only" in str(cause):
                expected, got = "a forward that leaves its inputs as they are", "one that writes into one"
                raise AutogradError(problem(name, expected=expected, got=got, hint="a copy: a.copy()")) from cause
            got = f"{' and '.join(str(t.shape) for t in tensors) or 'no input'} ({cause})"
            hint = "reshape, transpose or broadcast_to first"
            raise ShapeError(problem(name, expected="shapes that fit together", got=got, hint=hint)) from cause
        if not is_float(out) or isinstance(out, Tensor):
            expected, hint = "an array of float32 or float64", "the function of the array module"
            name = f"forward of {type(self).__name__}"
            raise AutogradError(problem(name, expected=expected, got=_kind(out), hint=hint))
        result = Tensor._of(out)
        if grad_enabled() and any(t.requires_grad for t in tensors):
            result.requires_grad = True
            result.node = Node(self, tensors)
        return result

    def input_gradients(self, grad: Tensor, out: Tensor, node: Node, create_graph: bool) -> Sequence[Tensor | None]:
        """What the engine calls: the gradients of the inputs, as tensors."""
        return self.backward(grad, out, *node.inputs)


class FusedOp(Op):
    """An op whose backward is written by hand on arrays: fast, and differentiable once.

    ``forward`` keeps on ``self`` what ``backward_arrays(grad)`` needs, which returns one new array (or None, or a
    `RowGradient`) an input. Each fused op stands next to a composition of elementary ops that computes the same, and
    to which the tests hold it equal.

    Example:
        >>> import minispike
        >>> from minispike.ops.op import FusedOp
        >>> class Cube(FusedOp):
        ...     def forward(self, a):
        ...         self.a = a
        ...         return a**3
        ...     def backward_arrays(self, grad):
        ...         return (grad * (3.0 * self.a**2),)
        >>> minispike.check_grads(Cube(), minispike.Tensor([1.0, 2.0], requires_grad=True)).checks
        1
    """

    reads_values = False
    needs: tuple[bool, ...] = ()
    """Whether each input wants a gradient, so that backward can leave out what nobody reads."""

    def __call__(self, *inputs: TensorLike) -> Tensor:
        tensors = as_tensors(inputs)
        self.needs = tuple(grad_enabled() and t.requires_grad for t in tensors)
        return super().__call__(*tensors)

    def backward_arrays(self, grad: Array) -> Sequence[Array | RowGradient | None]:
        """The gradients of the inputs, from that of the output, as arrays.

        Args:
            grad: of the output, in its shape; it is read-only on NumPy, and must not be changed on CuPy.

        Returns:
            One new array an input, in its shape and type; None for one that wants none (see `needs`).
        """
        raise AssertionError(f"{type(self).__name__} has no backward_arrays")  # every fused op defines it

    def input_gradients(self, grad: Tensor, out: Tensor, node: Node, create_graph: bool) -> Sequence[Tensor | None]:
        if create_graph:
            raise AutogradError(
                problem(
                    f"second derivative of {type(self).__name__}",
                    expected="an op made of elementary ops",
                    got="a fused op, which can be differentiated once",
                    hint="its composition of elementary ops (the function of the same name with _composed)",
                )
            )
        gradients = self.backward_arrays(grad.array)
        if not isinstance(gradients, list | tuple):
            return gradients  # the engine says what it should be
        for i, g in enumerate(gradients):
            if g is not None and not isinstance(g, RowGradient) and (not is_float(g) or isinstance(g, Tensor)):
                expected, got = "an array of floats, or None", f"{_kind(g)} as number {i}"
                name, hint = f"backward of {type(self).__name__}", "an array of the input's shape and type"
                raise AutogradError(problem(name, expected=expected, got=got, hint=hint))
        return [g if g is None or isinstance(g, RowGradient) else Tensor._of(g) for g in gradients]


def _kind(value: object) -> str:
    """What a value is, with its type of numbers if it has one."""
    return f"{type(value).__name__} {getattr(value, 'dtype', '')}".strip()


def as_tensors(inputs: Sequence[TensorLike]) -> list[Tensor]:
    """The inputs of an op as tensors: numbers take the type of the tensors beside them, and lie where these do.

    Raises:
        ShapeError: an input is not of real numbers.

    Example:
        >>> from minispike import Tensor
        >>> from minispike.ops.op import as_tensors
        >>> as_tensors([Tensor([1.0, 2.0], dtype="float64"), 3])[1]
        Tensor(3., float64)
    """
    given = [i for i in inputs if isinstance(i, Tensor)]
    if len(given) == len(inputs):
        return given
    return [i if isinstance(i, Tensor) else _constant(i, given) for i in inputs]


def _constant(value: TensorLike, neighbours: Sequence[Tensor]) -> Tensor:
    """A value that takes part in an op without a graph of its own; copied, as a change of the caller's goes unseen."""
    if not neighbours:  # a new tensor, on the backend in use
        return Tensor(value)
    keeps_type = is_float(value) and value.ndim > 0
    return Tensor._beside(value, neighbours, None if keeps_type else np.result_type(*(t.dtype for t in neighbours)))
