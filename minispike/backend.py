"""Where arrays live: NumPy on the CPU or CuPy on a GPU, chosen by one flag.

This is the only module that imports CuPy, and it does so when CuPy is first asked for. The chosen backend
decides where *new* arrays are made; a function that already holds arrays asks `array_module` instead, so
that an op runs where its tensors are, and brings what stands beside them (numbers, masks, labels) there.
There is no silent fall-back: a backend that cannot be had is an error with its cause.
"""

import difflib
import importlib
import math
import os
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from minispike.errors import BackendError, problem

Array = Any
"""An array of the backend: ``numpy.ndarray`` or ``cupy.ndarray``."""

ENVIRONMENT_VARIABLE = "MINISPIKE_BACKEND"

_ON_THE_CPU = (
    "--backend numpy (with --resume RUN: the setting backend in RUN/config.toml, and, of several seeds,"
    " in RUN/seeds.json and each RUN/seed-N/config.toml)"
)


def _import_cupy() -> ModuleType:
    """CuPy, once it is known to import and to see a device."""
    try:
        cupy = importlib.import_module("cupy")
    except Exception as cause:  # a broken CUDA set-up raises far more than ImportError
        raise BackendError(
            problem(
                "backend 'cupy'",
                expected="the package CuPy, installed for this machine's CUDA",
                got=f"{type(cause).__name__}: {cause}",
                hint=f'pip install "minispike[cuda12]" or "minispike[cuda13]", or {_ON_THE_CPU}',
            )
        ) from cause
    try:
        devices = cupy.cuda.runtime.getDeviceCount()
        if devices < 1:
            raise RuntimeError("the CUDA runtime counts 0 devices")
    except Exception as cause:
        raise BackendError(
            problem(
                "backend 'cupy'",
                expected="at least one CUDA device",
                got=f"{type(cause).__name__}: {cause}",
                hint=f"nvidia-smi to see the driver's view, or {_ON_THE_CPU}",
            )
        ) from cause
    return cupy


_LOADERS: dict[str, Callable[[], ModuleType]] = {"numpy": lambda: np, "cupy": _import_cupy}
_modules: dict[str, ModuleType] = {}
_current: str | None = None


def backends() -> tuple[str, ...]:
    """The names that `use` accepts.

    Example:
        >>> from minispike.backend import backends
        >>> backends()
        ('numpy', 'cupy')
    """
    return tuple(_LOADERS)


def load(name: str) -> ModuleType:
    """The array module of a backend.

    Args:
        name: ``"numpy"`` or ``"cupy"``.

    Raises:
        BackendError: the name is unknown (the hint has the nearest), or the backend cannot be had on this machine.

    Example:
        >>> from minispike.backend import load
        >>> load("numpy").__name__
        'numpy'
        >>> load("coopy")
        Traceback (most recent call last):
            ...
        minispike.errors.BackendError: backend: expected numpy or cupy, got 'coopy'; try --backend cupy
    """
    if name not in _LOADERS:
        raise _unknown(name)
    if name not in _modules:
        _modules[name] = _LOADERS[name]()
    return _modules[name]


def _unknown(name: str) -> BackendError:
    """The error for a name that is no backend's: where it was said, and the name that was perhaps meant."""
    near = (difflib.get_close_matches(name.lower(), _LOADERS, n=1, cutoff=0.4) or ["numpy"])[0]
    from_environment = _current is None and name == os.environ.get(ENVIRONMENT_VARIABLE)
    place, flag = (ENVIRONMENT_VARIABLE, f"{ENVIRONMENT_VARIABLE}=") if from_environment else ("backend", "--backend ")
    return BackendError(problem(place, expected=" or ".join(_LOADERS), got=repr(name), hint=flag + near))


class use:  # noqa: N801 - reads as a verb: use("cupy"), with use("cupy"):
    """Make new arrays on this backend, from now on or for the length of a ``with`` block.

    Args:
        name: ``"numpy"`` or ``"cupy"``.

    Raises:
        BackendError: the backend cannot be had; the one in use stays.

    Example:
        >>> from minispike import Tensor, use
        >>> with use("numpy"):
        ...     type(Tensor([1.0, 2.0]).array).__name__
        'ndarray'
    """

    def __init__(self, name: str) -> None:
        global _current
        load(name)
        self._before = _current
        _current = name

    def __enter__(self) -> "use":
        return self

    def __exit__(self, *_: object) -> None:
        global _current
        _current = self._before


def current() -> str:
    """The backend in use: what `use` said last, else the environment variable MINISPIKE_BACKEND, else NumPy.

    Example:
        >>> from minispike.backend import current, use
        >>> with use("numpy"):
        ...     current()
        'numpy'
    """
    return _current or os.environ.get(ENVIRONMENT_VARIABLE) or "numpy"


def default_module() -> Any:
    """The array module in which new arrays are made.

    Raises:
        BackendError: the backend in use cannot be had; only the environment variable can name one that was never tried.

    Example:
        >>> from minispike.backend import default_module, use
        >>> with use("numpy"):
        ...     default_module().ones(2).tolist()
        [1.0, 1.0]
    """
    return load(current())


def array_module(*arrays: Array) -> Any:
    """The array module of the arguments: CuPy if any of them is a CuPy array, else NumPy.

    Example:
        >>> import numpy as np
        >>> from minispike.backend import array_module
        >>> module = array_module(np.array([1.0, 4.0]))  # CuPy for an array of CuPy's: the same line runs on both
        >>> module.sqrt(np.array([1.0, 4.0])).tolist()
        [1.0, 2.0]
    """
    for array in arrays:
        if type(array).__module__.partition(".")[0] == "cupy":
            return load("cupy")
    return np


def asarray(value: Any, dtype: Any = None, *, module: Any = None) -> Array:
    """``value`` as an array of a backend, copied there if it lies elsewhere, and else as it is.

    Args:
        value: an array of either backend, a number, or nested lists.
        dtype: of the result; None: as it is.
        module: the array module; None: of the backend in use.

    Example:
        >>> import numpy as np
        >>> from minispike.backend import asarray
        >>> a = np.array([1.0, 2.0])
        >>> asarray(a, module=np) is a, asarray([1, 2], float, module=np).tolist()
        (True, [1.0, 2.0])
    """
    module = module or default_module()
    return module.asarray(to_numpy(value) if module is np else value, dtype=dtype)


def copied(value: Any, dtype: Any = None, *, module: Any) -> Array:
    """A copy of ``value`` as an array of ``module``: what a graph keeps, since the caller may change his own.

    Args:
        value: an array of either backend, a number, or nested lists.
        dtype: of the result; None: as it is.
        module: the array module.

    Example:
        >>> import numpy as np
        >>> from minispike.backend import copied
        >>> mine = np.array([1.0, 2.0])
        >>> kept = copied(mine, module=np)
        >>> mine[0] = 9.0
        >>> kept.tolist()
        [1.0, 2.0]
    """
    return module.array(to_numpy(value) if module is np else value, dtype=dtype, order="C")


CACHE_LINE = 64
"""Bytes that a processor moves at once; also those of its widest vector."""


def empty(shape: tuple[int, ...], *beside: Array) -> Array:
    """An array where others lie and of the type that they have together, not filled; on a CPU at a cache line.

    NumPy's own arrays begin anywhere. A write of a whole vector then touches two lines, and an operation that writes
    such an array takes up to twice as long: so this is where layers get the large arrays that they write.

    Args:
        shape: of the array.
        beside: arrays of either backend, one at least; of float32 and float64 come float64.

    Example:
        >>> import numpy as np
        >>> from minispike.backend import empty
        >>> a = empty((2, 3), np.ones(1, np.float32), np.ones(1, np.float64))
        >>> a.shape, a.dtype.name, a.ctypes.data % 64
        ((2, 3), 'float64', 0)
    """
    module, dtype = array_module(*beside), np.result_type(*(array.dtype for array in beside))
    if module is not np:
        return module.empty(shape, dtype=dtype)
    size = math.prod(shape) * dtype.itemsize
    raw = np.empty(size + CACHE_LINE, dtype=np.uint8)
    start = -raw.ctypes.data % CACHE_LINE
    return raw[start : start + size].view(dtype).reshape(shape)


def to_numpy(array: Array) -> "np.ndarray[Any, Any]":
    """The array on the host. NumPy arrays are returned as they are, not copied.

    Example:
        >>> import numpy as np
        >>> from minispike.backend import to_numpy
        >>> a = np.array([1.0, 2.0])
        >>> to_numpy(a) is a, type(to_numpy([1.0])).__name__
        (True, 'ndarray')
    """
    if type(array).__module__.partition(".")[0] == "cupy":
        return np.asarray(array.get())
    return np.asarray(array)


def synchronise(module: Any) -> None:
    """Wait until the device has done what it was told, as one must before reading a clock; NumPy is never behind.

    Args:
        module: the array module of the device.

    Example:
        >>> from time import perf_counter
        >>> from minispike.backend import default_module, synchronise
        >>> module, began = default_module(), perf_counter()
        >>> total = module.ones(1000).sum()  # on a GPU this line only asks for the sum
        >>> synchronise(module)  # after this one it has been added up
        >>> perf_counter() > began, float(total)  # and now the clock may be read
        (True, 1000.0)
    """
    if module is not np:
        module.cuda.runtime.deviceSynchronize()


def lock(array: Array) -> None:
    """Make an array of NumPy's read-only; CuPy's arrays have no such switch, and stay as they are.

    Example:
        >>> import numpy as np
        >>> from minispike.backend import lock
        >>> a = np.array([1.0, 2.0])
        >>> lock(a)
        >>> a[0] = 9.0
        Traceback (most recent call last):
            ...
        ValueError: assignment destination is read-only
    """
    if isinstance(array, np.ndarray):
        array.setflags(write=False)


def unlock(array: Array) -> None:
    """Undo `lock`, for code that knows that no graph relies on the values, and that locks the array again.

    Example:
        >>> import numpy as np
        >>> from minispike.backend import lock, unlock
        >>> a = np.array([1.0, 2.0])
        >>> lock(a), unlock(a), a.flags.writeable
        (None, None, True)
    """
    if isinstance(array, np.ndarray):
        array.setflags(write=True)


def scatter_add(target: Array, index: Array, values: Array) -> None:
    """``target[index[i]] += values[i]`` for every row ``i``, repeated indices included.

    Args:
        target: ``[V, D]``, changed in place.
        index: ``[N]`` integers in ``[0, V)``.
        values: ``[N, D]``.

    On NumPy rows of equal index are sorted together and summed by ``reduceat``, about three times as fast
    as ``add.at``, and in an order that depends on nothing but the index.

    Example:
        >>> import numpy as np
        >>> from minispike.backend import scatter_add
        >>> table = np.zeros((3, 1))
        >>> scatter_add(table, np.array([2, 0, 2]), np.array([[1.0], [10.0], [100.0]]))
        >>> table.tolist()  # table[index] += values would keep one of the two rows at 2
        [[10.0], [0.0], [101.0]]
    """
    if array_module(target) is not np:
        array_module(target).add.at(target, index, values)
        return
    if len(index):
        rows, sums = sum_rows(index, values)
        target[rows] += sums


def sum_rows(index: Array, values: Array) -> tuple[Array, Array]:
    """The sums of rows of equal index, on NumPy.

    Args:
        index: ``[N]`` integers, N > 0.
        values: ``[N, D]``.

    Returns:
        The indices, ascending, each once, ``[R]``, and the sum of the rows of each, ``[R, D]``.

    Example:
        >>> import numpy as np
        >>> from minispike.backend import sum_rows
        >>> rows, sums = sum_rows(np.array([2, 0, 2]), np.array([[1.0], [10.0], [100.0]]))
        >>> rows.tolist(), sums.tolist()
        ([0, 2], [[10.0], [101.0]])
    """
    order = np.argsort(index, kind="stable")
    rows = index[order]
    starts = np.flatnonzero(np.concatenate(([True], rows[1:] != rows[:-1])))
    return rows[starts], np.add.reduceat(values[order], starts, axis=0)
