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
    """Within the block, in this thread, the switch ``name`` has another value."""
    before = getattr(_state, name)
    setattr(_state, name, value)
    try:
        yield
    finally:
        setattr(_state, name, before)


@contextmanager
def no_grad() -> Iterator[None]:
    """Within the block, in this thread, ops record no graph."""
    with switched("grad_enabled", False):
        yield


@contextmanager
def enable_grad() -> Iterator[None]:
    """Within the block, in this thread, ops record the graph again, inside a `no_grad` block too."""
    with switched("grad_enabled", True):
        yield


@contextmanager
def default_dtype(dtype: Any) -> Iterator[None]:
    """Within the block, in this thread, new tensors and parameters are of this type (float32 or float64).

    Raises:
        ShapeError: the type is not float32 or float64.
    """
    with switched("dtype", float_type(dtype).type):
        yield


def float_type(dtype: Any) -> "np.dtype[Any]":
    """The type that ``dtype`` names, as NumPy's object.

    Raises:
        ShapeError: it is not float32 or float64.
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
    """The type that lists, numbers and integer arrays get when they become tensors."""
    return _state.dtype


def grad_enabled() -> bool:
    """Whether ops of this thread record the graph."""
    return _state.grad_enabled


def watcher() -> Watcher | None:
    """Who carries out the ops of this thread; None: the engine itself."""
    return _state.watcher


def is_float(value: Any) -> bool:
    """Whether a value is an array, or a number of NumPy's, of float32 or float64."""
    return hasattr(value, "dtype") and value.dtype in _FLOATS
