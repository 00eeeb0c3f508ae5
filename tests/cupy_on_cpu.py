"""A stand-in for CuPy where there is no GPU: arrays in the host's memory that are as far from NumPy's as CuPy's are.

NumPy cannot read them, they do not mix with NumPy's arrays in any operation or index, a reduction leaves an array
without axes, and there is no `setflags`. Where CuPy is lenient (some functions of NumPy's, some indices), this is not.
"""

import operator
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.lib.mixins import NDArrayOperatorsMixin

from minispike import backend
from minispike.snn import kernels_cuda


def unwrapped(value: Any) -> Any:
    """The arrays behind an argument; numbers, shapes, types and strings are what they are."""
    if isinstance(value, ndarray):
        return value.host
    if isinstance(value, np.ndarray):
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    if isinstance(value, list | tuple):
        return type(value)(unwrapped(part) for part in value)
    return value


def wrapped(value: Any) -> Any:
    """What is handed out for a result: arrays of this kind for arrays and numbers of NumPy's."""
    return ndarray(np.asarray(value)) if isinstance(value, np.ndarray | np.generic) else value


def called(function: Any, *args: Any, out: Any = None, **settings: Any) -> Any:
    """What a function of NumPy's makes of arrays of this kind."""
    if out is None:
        return wrapped(function(*unwrapped(args), **{key: unwrapped(value) for key, value in settings.items()}))
    out = out[0] if isinstance(out, tuple) else out
    assert isinstance(out, ndarray), "Return arguments must be arrays of CuPy's"
    function(*unwrapped(args), out=out.host, **settings)
    return out


class ndarray(NDArrayOperatorsMixin):  # noqa: N801 - CuPy's name
    """An array; the operators come from the mixin, by way of `__array_ufunc__`."""

    def __init__(self, host: "np.ndarray[Any, Any]") -> None:
        self.host = host

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def __array_ufunc__(self, function: Any, method: str, *args: Any, **settings: Any) -> Any:
        return called(getattr(function, method), *args, **settings)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "setflags":
            raise AttributeError(f"'cupy.ndarray' object has no attribute {name!r}")
        found = getattr(self.host, name)
        return (lambda *args, **settings: called(found, *args, **settings)) if callable(found) else wrapped(found)

    def get(self) -> "np.ndarray[Any, Any]":
        return self.host.copy()

    def __getitem__(self, key: Any) -> Any:
        return wrapped(self.host[unwrapped(key)])

    def __setitem__(self, key: Any, value: Any) -> None:
        self.host[unwrapped(key)] = unwrapped(value)

    def __len__(self) -> int:
        return len(self.host)

    def __bool__(self) -> bool:
        return bool(self.host)

    def __int__(self) -> int:
        return int(self.host)

    def __float__(self) -> float:
        return float(self.host)

    def __index__(self) -> int:
        return operator.index(self.host)


ndarray.__module__ = "cupy"


def array(value: Any, dtype: Any = None, copy: bool = True, order: Any = "K") -> ndarray:
    """A new array of values from anywhere, or with ``copy=False`` the same one, if it is of this kind and type."""
    if not copy and isinstance(value, ndarray) and dtype in (None, value.dtype):
        return value
    host = value if isinstance(value, np.ndarray) else unwrapped(value)
    made = np.array(host, dtype=dtype, order=order)
    if made.dtype.kind not in "biufc":
        raise ValueError(f"Unsupported dtype {made.dtype}")
    return ndarray(made)


class Function:
    """A function of NumPy's, for arrays of this kind."""

    def __init__(self, function: Any) -> None:
        self.function = function

    def __call__(self, *args: Any, **settings: Any) -> Any:
        return called(self.function, *args, **settings)

    def at(self, target: ndarray, index: Any, values: Any) -> None:
        """``add.at``."""
        self.function.at(*unwrapped((target, index, values)))


class CuPy(ModuleType):
    """The module."""

    def __init__(self) -> None:
        super().__init__("cupy")
        self.cuda = SimpleNamespace(runtime=SimpleNamespace(getDeviceCount=lambda: 1))
        self.ndarray, self.array = ndarray, array
        self.asarray = lambda value, dtype=None: array(value, dtype, copy=False)

    def __getattr__(self, name: str) -> Any:
        found = getattr(np, name)
        return found if isinstance(found, type) or not callable(found) else Function(found)


def installed(patch: pytest.MonkeyPatch) -> CuPy:
    """A stand-in that `minispike.backend` takes for CuPy, with nothing fused; the backend in use is NumPy."""
    module = CuPy()
    patch.setitem(sys.modules, "cupy", module)
    patch.delenv(backend.ENVIRONMENT_VARIABLE, raising=False)
    patch.setattr(backend, "_modules", {})
    patch.setattr(backend, "_current", None)
    patch.setattr(kernels_cuda, "fuses", lambda *_: False)
    return module
