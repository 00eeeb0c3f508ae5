"""A strict stand-in for CuPy: arrays in the host's memory that refuse whatever CuPy's arrays refuse.

NumPy cannot read them, they mix with NumPy's arrays in no operation and no index, lists are no operands, a reduction
leaves an array without axes, no element is an object. A function, a method or a keyword exists only if it is on the
lists below, all of which CuPy has. Where CuPy is lenient (functions of NumPy's that it takes over, NumPy's arrays as
an index, numbers of NumPy's that decide a type), this is not.
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

ELEMENTWISE = frozenset(
    "abs absolute add arctan bitwise_and bitwise_or bitwise_xor copysign cos cosh divide equal exp expm1 floor_divide"
    " greater greater_equal invert isfinite isnan less less_equal log log1p logical_and logical_not logical_or maximum"
    " minimum multiply negative not_equal positive power remainder sign sin sqrt square subtract tanh true_divide"
    .split()
)  # fmt: skip
"""Functions of single numbers; their one keyword is ``out``."""

FUNCTIONS = {
    "all": "axis out keepdims", "any": "axis out keepdims", "arange": "dtype", "argmax": "axis dtype out keepdims",
    "argsort": "axis", "ascontiguousarray": "dtype", "broadcast_to": "", "clip": "out", "concatenate": "axis out",
    "cumsum": "axis dtype out", "dot": "out", "einsum": "", "empty": "dtype order", "empty_like": "dtype order",
    "full": "dtype order", "full_like": "dtype order", "matmul": "out", "max": "axis out keepdims",
    "mean": "axis dtype out keepdims", "min": "axis out keepdims", "moveaxis": "", "ones": "dtype order",
    "ones_like": "dtype order", "repeat": "axis", "reshape": "order", "roll": "axis", "stack": "axis out",
    "sum": "axis dtype out keepdims", "swapaxes": "", "take": "axis out", "transpose": "axes", "vdot": "",
    "where": "", "zeros": "dtype order", "zeros_like": "dtype order",
}  # fmt: skip
"""The other functions, each with its keywords."""

METHODS = {
    "all": "axis out keepdims", "any": "axis out keepdims", "argmax": "axis dtype out keepdims",
    "astype": "dtype order casting copy", "clip": "min max out", "copy": "order", "cumsum": "axis dtype out",
    "fill": "", "item": "", "max": "axis out keepdims", "mean": "axis dtype out keepdims",
    "min": "axis out keepdims", "ravel": "order", "repeat": "axis", "reshape": "order", "squeeze": "axis",
    "sum": "axis dtype out keepdims", "swapaxes": "", "take": "axis out", "tolist": "", "transpose": "",
}  # fmt: skip
"""The methods of an array, each with its keywords."""

ATTRIBUTES = frozenset("T base dtype itemsize nbytes ndim shape size strides".split())
CONSTANTS = frozenset("bool_ e float16 float32 float64 inf int32 int64 integer nan newaxis pi uint8".split())


def unwrapped(value: Any, lists: bool = True) -> Any:
    """The arrays behind an argument; numbers, shapes, types and strings are what they are."""
    if isinstance(value, ndarray):
        return value.host
    if isinstance(value, np.ndarray):
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    if isinstance(value, list) and not lists:
        raise TypeError("Unsupported type <class 'list'>")
    if isinstance(value, list | tuple):
        return type(value)(unwrapped(part) for part in value)
    if isinstance(value, slice):
        return slice(*(unwrapped(part) for part in (value.start, value.stop, value.step)))
    return value


def wrapped(value: Any) -> Any:
    """What is handed out for a result: arrays of this kind for arrays and numbers of NumPy's."""
    return ndarray(np.asarray(value)) if isinstance(value, np.ndarray | np.generic) else value


def called(function: Any, keywords: str, args: Any, settings: Any, lists: bool = True) -> Any:
    """What a function of NumPy's makes of arrays of this kind, if CuPy's takes these keywords."""
    if unknown := settings.keys() - set(keywords.split()):
        raise TypeError(f"{function.__name__} of CuPy has no argument {', '.join(sorted(unknown))}")
    given = [unwrapped(arg, lists) for arg in args]
    others = {name: unwrapped(value) for name, value in settings.items()}
    out = settings.get("out")
    if out is None:
        return wrapped(function(*given, **others))
    if not isinstance(out, ndarray):
        raise TypeError("return arrays must be of ArrayType")
    function(*given, **others)
    return out


def elementwise(function: Any, args: Any, settings: Any) -> Any:
    """`called` for a function of single numbers, whose type no number of NumPy's may decide."""
    arrays = [arg.dtype for arg in args if isinstance(arg, ndarray)]
    for arg in args:
        if isinstance(arg, np.inexact) and any(d.kind == "f" and d.itemsize < arg.dtype.itemsize for d in arrays):
            raise TypeError(f"a {arg.dtype} of NumPy's beside {arrays[0]}: the result's type depends on the version")
    return called(function, "out", args, settings, lists=False)


class ndarray(NDArrayOperatorsMixin):  # noqa: N801 - CuPy's name
    """An array; the operators come from the mixin, by way of `__array_ufunc__`."""

    def __init__(self, host: "np.ndarray[Any, Any]") -> None:
        if host.dtype.kind not in "biufc":
            raise ValueError(f"Unsupported dtype {host.dtype}")
        self.host = host

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy array"
            " explicitly."
        )

    def __array_ufunc__(self, function: Any, method: str, *args: Any, **settings: Any) -> Any:
        if function is np.matmul:  # NumPy counts it among them, for the operator's sake
            return called(function, "out", args, settings)
        if method != "__call__" or function.__name__ not in ELEMENTWISE:
            raise TypeError(f"{function.__name__}.{method} of CuPy's arrays")
        if isinstance(out := settings.get("out"), tuple):
            (settings["out"],) = out
        return elementwise(function, args, settings)

    def __array_function__(self, function: Any, *_: Any) -> Any:
        raise TypeError(f"numpy.{function.__name__} of arrays of CuPy's: the function of its array module is meant")

    def __getattr__(self, name: str) -> Any:
        if name in ATTRIBUTES:
            return wrapped(getattr(self.host, name))
        if name not in METHODS:
            raise AttributeError(f"'cupy.ndarray' object has no attribute {name!r}")
        method = getattr(self.host, name)
        if name in ("item", "tolist"):
            return method
        return lambda *args, **settings: called(method, METHODS[name], args, settings)

    @property
    def flags(self) -> SimpleNamespace:
        flags = self.host.flags
        return SimpleNamespace(c_contiguous=flags.c_contiguous, f_contiguous=flags.f_contiguous, owndata=flags.owndata)

    def get(self) -> "np.ndarray[Any, Any]":
        return self.host.copy()

    def __getitem__(self, key: Any) -> Any:
        return wrapped(self.host[unwrapped(key)])

    def __setitem__(self, key: Any, value: Any) -> None:
        self.host[unwrapped(key)] = unwrapped(value, lists=False)

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
    listed = isinstance(value, list) and value and all(isinstance(part, np.ndarray) for part in value)
    host = value if listed or isinstance(value, np.ndarray) else unwrapped(value)
    return ndarray(np.array(host, dtype=dtype, order=order))


class Elementwise:
    """A function of single numbers."""

    def __init__(self, function: Any) -> None:
        self.function = function

    def __call__(self, *args: Any, **settings: Any) -> Any:
        return elementwise(self.function, args, settings)

    def at(self, target: ndarray, index: Any, values: Any) -> None:
        """``add.at``."""
        self.function.at(*unwrapped((target, index, values)))


class CuPy(ModuleType):
    """The module."""

    def __init__(self) -> None:
        super().__init__("cupy")
        runtime = SimpleNamespace(
            getDeviceCount=lambda: 1,
            getDeviceProperties=lambda _: {"name": b"the host's memory, as if it were a GPU's"},
        )
        self.cuda, self.__version__ = SimpleNamespace(runtime=runtime), "0 (a stand-in)"
        self.ndarray, self.array = ndarray, array

    @staticmethod
    def asarray(value: Any, dtype: Any = None, order: Any = "K") -> ndarray:
        """An array of this kind, copied only where it must be."""
        return array(value, dtype, copy=False, order=order)

    def __getattr__(self, name: str) -> Any:
        if name in CONSTANTS:
            return getattr(np, name)
        if name in ELEMENTWISE:
            return Elementwise(getattr(np, name))
        if name not in FUNCTIONS:
            raise AttributeError(f"module 'cupy' has no attribute {name!r}")
        return lambda *args, **settings: called(getattr(np, name), FUNCTIONS[name], args, settings)


def installed(patch: pytest.MonkeyPatch) -> CuPy:
    """A stand-in that `minispike.backend` takes for CuPy, with nothing fused; the backend in use is NumPy."""
    module = CuPy()
    patch.setitem(sys.modules, "cupy", module)
    patch.delenv(backend.ENVIRONMENT_VARIABLE, raising=False)
    patch.setattr(backend, "_modules", {})
    patch.setattr(backend, "_current", None)
    patch.setattr(kernels_cuda, "fuses", lambda *_: False)
    return module
