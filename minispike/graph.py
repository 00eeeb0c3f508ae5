"""The graph behind a tensor, and the walk that takes a gradient from its root to its leaves.

A `Node` is the memory of one op call. Tensors (or a `Shadow`, which stands for one whose values nobody reads) and
nodes link to each other and to nothing else, so a graph lives as long as somebody holds its root. The walk is
iterative: a spiking network unrolled in time is deep.
"""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, cast

from minispike.backend import Array, lock, unlock
from minispike.errors import AutogradError, MinispikeError, problem
from minispike.modes import Watcher, switched, watcher

if TYPE_CHECKING:
    from minispike.ops.op import Op
    from minispike.tensor import Tensor


class Shadow:
    """What a graph holds of a tensor whose values no backward will read: its history, shape and type.

    So the values live as long as somebody holds the tensor, and not as long as the graph.

    Example:
        >>> from minispike import Tensor
        >>> x = Tensor([1.0, 2.0], requires_grad=True)
        >>> held = (x + 1.0).sum().node.inputs[0]  # backward of this sum asks for the shape alone
        >>> type(held).__name__, held.shape, hasattr(held, "array")
        ('Shadow', (2,), False)
    """

    __slots__ = ("dtype", "node", "shape")
    requires_grad, version = True, 0

    def __init__(self, tensor: "Tensor") -> None:
        self.node, self.shape, self.dtype = tensor.node, tensor.shape, tensor.dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)


def _held(tensor: "Tensor", op: "Op") -> "Tensor":
    """What the graph holds of an input of ``op``: a leaf as it is, and a tensor that an op has made if one of the two
    reads its values in backward."""
    maker = tensor.node.op if tensor.node is not None else None
    if maker is None or maker.reads_values or op.reads_values:
        return tensor
    return cast("Tensor", Shadow(tensor))


def identity(tensor: "Tensor") -> int:
    """By what the walk knows a tensor: one that an op has made by its node, which its shadows have too.

    Example:
        >>> from minispike import Tensor
        >>> from minispike.graph import identity
        >>> y = Tensor([1.0, 2.0], requires_grad=True) + 1.0
        >>> shadow = y.sum().node.inputs[0]
        >>> shadow is y, identity(shadow) == identity(y)
        (False, True)
    """
    return id(tensor) if tensor.node is None else id(tensor.node)


class Node:
    """The memory of one op call: the op, its inputs, and how often each input had been changed in place.

    Example:
        >>> from minispike import Tensor
        >>> x = Tensor(3.0, requires_grad=True)
        >>> node = (x * x).node
        >>> type(node).__name__, type(node.op).__name__, [tensor is x for tensor in node.inputs]
        ('Node', 'Mul', [True, True])
        >>> x.assign(4.0)
        >>> node.versions, x.version  # backward of the product would take 4 for the 3 that it has seen: it is refused
        ((0, 0), 1)
    """

    __slots__ = ("inputs", "op", "versions")

    def __init__(self, op: "Op", inputs: Sequence["Tensor"]) -> None:
        self.op: Op | None = op
        self.inputs: tuple[Tensor, ...] = tuple(_held(t, op) for t in inputs)
        self.versions = tuple(t.version for t in inputs)

    def free(self) -> None:
        """Drop the op and what it saved; the node stays as a mark that the graph was here."""
        self.op, self.inputs = None, ()

    def alive_op(self) -> "Op":
        """The op, if a backward pass may still go through it."""
        if self.op is None:
            raise AutogradError(
                problem(
                    "backward",
                    expected="a graph that no backward pass has freed",
                    got="a second pass through the same graph",
                    hint="backward(retain_graph=True) in the first pass",
                )
            )
        for tensor, version in zip(self.inputs, self.versions, strict=True):
            if tensor.version != version:
                raise AutogradError(
                    problem(
                        f"backward of {type(self.op).__name__}",
                        expected="inputs as they were in the forward pass",
                        got=f"a tensor of shape {tensor.shape} that was assigned to since",
                        hint="backward() before the assignment, or assigning to a copy",
                    )
                )
        return self.op


def differentiate(
    root: "Tensor",
    seed: "Tensor",
    retain_graph: bool,
    create_graph: bool,
    wanted: Collection[int] = (),
) -> "list[tuple[Tensor, Tensor]]":
    """Walk the graph from ``root`` to its leaves; return each leaf that requires a gradient, with it.

    Tensors whose `identity` is in ``wanted`` are returned too, leaves or not.

    Example:
        >>> from minispike import Tensor
        >>> from minispike.graph import differentiate
        >>> x, y = Tensor(3.0, requires_grad=True), Tensor(5.0, requires_grad=True)
        >>> pairs = differentiate(x * y + x, Tensor(1.0), retain_graph=False, create_graph=False)
        >>> sorted((leaf.item(), gradient.item()) for leaf, gradient in pairs)  # x has y + 1, over two ways; y has x
        [(3.0, 6.0), (5.0, 3.0)]
    """
    order = _topological_order(root)
    operations = {identity(tensor): tensor.node.alive_op() for tensor in order if tensor.node is not None}
    found: list[tuple[Tensor, Tensor]] = []
    watch = watcher()  # of backwards as wholes, and neither of the ops within them nor of the sums that are made here
    with switched("grad_enabled", create_graph), switched("watcher", None):
        grads: dict[int, Tensor] = {identity(root): seed}
        owned: set[int] = set()  # gradients that are sums made here, and may be added to in place
        while order:  # taken off one by one, so that what is done with can be freed
            tensor = order.pop()
            gradient = grads.pop(identity(tensor), None)
            if gradient is None:
                continue
            node = tensor.node
            if node is None or identity(tensor) in wanted:
                found.append((tensor, gradient))
            if node is None:
                continue
            op = operations.pop(identity(tensor))
            for source, g in zip(node.inputs, _gradients(op, gradient, tensor, node, create_graph, watch), strict=True):
                if g is None or not source.requires_grad:
                    continue
                g = _fit(g, source, op)
                key = identity(source)
                if key not in grads:
                    grads[key] = g
                elif key in owned:
                    add_to(grads[key].array, g.array)
                else:
                    grads[key] = grads[key] + g
                    if not create_graph:
                        owned.add(key)
            if not retain_graph:
                node.free()
    return found


def _topological_order(root: "Tensor") -> "list[Tensor]":
    """Every tensor behind ``root`` that requires a gradient, inputs before outputs, without recursion."""
    order: list[Tensor] = []
    seen: set[int] = set()
    stack: list[tuple[Tensor, bool]] = [(root, False)]
    while stack:
        tensor, inputs_done = stack.pop()
        if inputs_done:
            order.append(tensor)
        elif identity(tensor) not in seen:
            seen.add(identity(tensor))
            stack.append((tensor, True))
            if tensor.node is not None:
                stack.extend((t, False) for t in tensor.node.inputs if t.requires_grad)
    return order


def _gradients(
    op: "Op", gradient: "Tensor", tensor: "Tensor", node: Node, create_graph: bool, watch: Watcher | None
) -> "Sequence[Tensor | None]":
    """What an op's backward returns, once it is known to be a gradient for each input."""
    name, count = f"backward of {type(op).__name__}", len(node.inputs)
    how = gradient, tensor, node, create_graph
    try:
        if watch is None:
            found = op.input_gradients(*how)
        else:
            found = watch(op, node.inputs, True, lambda: op.input_gradients(*how))
    except ValueError as cause:  # NumPy's
        if isinstance(cause, MinispikeError):
            raise
        expected, hint = "shapes that fit together", "a sum over what was broadcast, a transpose or a reshape"
        if "read-only" in str(cause):
            expected, hint = "a backward that leaves its gradient and what forward saved", "a copy: grad.copy()"
        raise AutogradError(problem(name, expected=expected, got=str(cause), hint=hint)) from cause
    if not isinstance(found, list | tuple) or len(found) != count:
        got = f"{len(found)} of them" if isinstance(found, list | tuple) else f"one {type(found).__name__}"
        expected = f"{count} gradient{'s' * (count != 1)} in a tuple, one for each input, None for one that wants none"
        hint = "return (gradient,)" if count == 1 else "return gradient_of_a, gradient_of_b"
        raise AutogradError(problem(name, expected=expected, got=got, hint=hint))
    for i, g in enumerate(found):
        if g is not None and not hasattr(g, "requires_grad"):
            expected, got = "a tensor, or None", f"{type(g).__name__} as number {i}"
            raise AutogradError(problem(name, expected=expected, got=got, hint="ops of tensors, or a FusedOp"))
    return found


def add_to(total: Array, array: Array) -> None:
    """Add in place to a sum that nobody else has seen.

    Example:
        >>> import numpy as np
        >>> from minispike.graph import add_to
        >>> total = np.array([1.0, 2.0])
        >>> add_to(total, np.array([10.0, 20.0]))
        >>> total.tolist(), total.flags.writeable  # locked again, as the array of a tensor is
        ([11.0, 22.0], False)
    """
    unlock(total)
    total += array
    lock(total)


def _fit(gradient: "Tensor", source: "Tensor", op: "Op") -> "Tensor":
    """The gradient in the shape and type of its tensor: broadcasting is undone here and nowhere else."""
    if gradient.shape != source.shape:
        added = gradient.ndim - source.ndim
        pairs = zip(gradient.shape[max(added, 0) :], source.shape, strict=False)
        if added < 0 or any(own not in (1, n) for n, own in pairs):
            got, hint = f"shape {gradient.shape}", "a sum over what was broadcast, a transpose or a reshape"
            expected = f"a gradient of shape {source.shape}, the input's, or one that was broadcast from it"
            raise AutogradError(problem(f"backward of {type(op).__name__}", expected=expected, got=got, hint=hint))
        stretched = [i + added for i, n in enumerate(source.shape) if n == 1 and gradient.shape[i + added] != 1]
        axes = (*range(added), *stretched)
        gradient = gradient.sum(axis=axes, keepdims=True).reshape(*source.shape)
    return gradient if gradient.dtype == source.dtype else gradient.astype(source.dtype)
