"""Switches of one thread: whether ops record the graph, the type that new tensors get, and who watches the ops."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from minispike.errors import ShapeError, problem

if TYPE_CHECKING:
    from minispike.ops.op import Op
    from minispike.tensor import Tensor

Result = TypeVar("Result")

_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


class Watcher(Protocol):
    """Who carries out the ops of a thread for the engine, and so sees each of them: `minispike.profile` is one."""

    def __call__(self, op: "Op", inputs: "Sequence[Tensor]", backward: bool, work: Callable[[], Result]) -> Result:
        """What ``work`` returns: it is the forward, or the backward, of an op with these inputs."""
        ...


class _ThreadState(threading.local):
    """Switches that belong to one thread, so that workers do not disturb each other."""

    grad_enabled: bool = True
    dtype: Any = np.float32
    watcher: Watcher | None = None


_state = _ThreadState()


@contextmanager
def switched(name: str, value: Any) -> Iterator[None]:
    """Within the block, in this thread, the switch ``name`` has another value.

    Args:
        name: ``"grad_enabled"``, ``"dtype"`` or ``"watcher"``.
        value: of the switch, which is not checked; the one before comes back after the block, even after an error.

    Example:
        >>> from minispike.modes import grad_enabled, switched
        >>> with switched("grad_enabled", False):
        ...     grad_enabled()
        False
    """
    before = getattr(_state, name)
    setattr(_state, name, value)
    try:
        yield
    finally:
        setattr(_state, name, before)


@contextmanager
def no_grad() -> Iterator[None]:
    """Within the block, in this thread, ops record no graph.

    Example:
        >>> from minispike import Tensor, no_grad
        >>> x = Tensor([1.0, 2.0], requires_grad=True)
        >>> with no_grad():
        ...     y = x * x
        >>> y.requires_grad, (x * x).requires_grad
        (False, True)
    """
    with switched("grad_enabled", False):
        yield


@contextmanager
def enable_grad() -> Iterator[None]:
    """Within the block, in this thread, ops record the graph again, inside a `no_grad` block too.

    Example:
        >>> from minispike.tensor import Tensor, enable_grad, no_grad
        >>> x = Tensor([1.0, 2.0], requires_grad=True)
        >>> with no_grad(), enable_grad():
        ...     (x * x).requires_grad
        True
    """
    with switched("grad_enabled", True):
        yield


@contextmanager
def default_dtype(dtype: Any) -> Iterator[None]:
    """Within the block, in this thread, new tensors and parameters are of this type.

    Args:
        dtype: float32 or float64, by name or as NumPy's type. Outside all blocks it is float32.

    Raises:
        ShapeError: the type is not float32 or float64.

    Example:
        >>> import minispike
        >>> with minispike.default_dtype("float64"):
        ...     print(minispike.Tensor([1.0, 2.0]).dtype)
        float64
    """
    with switched("dtype", float_type(dtype).type):
        yield


def float_type(dtype: Any) -> "np.dtype[Any]":
    """The type that ``dtype`` names, as NumPy's object.

    Raises:
        ShapeError: it is not float32 or float64.

    Example:
        >>> from minispike.modes import float_type
        >>> float_type("float64")
        dtype('float64')
        >>> float_type(int)
        Traceback (most recent call last):
            ...
        minispike.errors.ShapeError: dtype: expected float32 or float64, got <class 'int'>; try numpy.float32
    """
    try:
        known = None if dtype is None else np.dtype(dtype)  # NumPy takes None for float64
    except TypeError:
        known = None
    if known is None or known not in _FLOATS:
        message = problem("dtype", expected="float32 or float64", got=str(dtype), hint="numpy.float32")
        raise ShapeError(message)
    return known


def get_default_dtype() -> Any:
    """The type that lists, numbers and integer arrays get when they become tensors.

    Example:
        >>> from minispike.tensor import get_default_dtype
        >>> get_default_dtype().__name__
        'float32'
    """
    return _state.dtype


def grad_enabled() -> bool:
    """Whether ops of this thread record the graph.

    Example:
        >>> from minispike.tensor import grad_enabled, no_grad
        >>> with no_grad():
        ...     grad_enabled()
        False
    """
    return _state.grad_enabled


def watcher() -> Watcher | None:
    """Who carries out the ops of this thread; None: the engine itself.

    Example:
        >>> from minispike.modes import watcher
        >>> watcher() is None
        True
    """
    return _state.watcher


def is_float(value: Any) -> bool:
    """Whether a value is an array, or a number of NumPy's, of float32 or float64.

    Example:
        >>> import numpy as np
        >>> from minispike.modes import is_float
        >>> is_float(np.float32(1.0)), is_float(np.arange(3)), is_float(1.0)
        (True, False, False)
    """
    return hasattr(value, "dtype") and value.dtype in _FLOATS
