"""A strict stand-in for CuPy: arrays in the host's memory that refuse whatever CuPy's arrays refuse.

NumPy cannot read them, they mix with NumPy's arrays in no operation and no index, lists and tuples are no operands, a
reduction leaves an array without axes, no element is an object. A function or method exists only if its signature is
below, and there is no `random`: random numbers are drawn on the host. Where CuPy is lenient (functions of NumPy's that
it takes over, lists and NumPy's arrays as an index, numbers of NumPy's that decide a type), this is not.
"""

import inspect
import operator
import sys
from functools import cache
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.lib.mixins import NDArrayOperatorsMixin

from minispike import backend
from minispike.snn import kernels_cuda


class Signature(inspect.Signature):
    """A signature that is known by itself, not by what it says, so that a cache finds it at once."""

    __slots__ = ()
    __eq__ = object.__eq__
    __hash__ = object.__hash__


def signatures(lines: str) -> dict[str, Signature]:
    """Signatures by name, of lines as they stand in a manual."""
    parts = [line.strip().removesuffix(")").partition("(") for line in lines.strip().splitlines()]
    return {name: Signature.from_callable(eval(f"lambda {parameters}: None")) for name, _, parameters in parts}


# As CuPy 14.2 has them, or less. The names of the parameters say what may be an array (see `unwrapped`); a keyword that
# CuPy has elsewhere than NumPy stands behind a star, or is left out.

UNARY = (
    "abs absolute arctan cos cosh exp expm1 invert isfinite isnan log log1p logical_not negative positive sign sin sqrt"
    " square tanh"
).split()

BINARY = (
    "add bitwise_and bitwise_or bitwise_xor copysign divide equal floor_divide greater greater_equal less less_equal"
    " logical_and logical_or maximum minimum multiply not_equal power remainder subtract true_divide"
).split()

FUNCTIONS = signatures("""
    arange(start, stop=None, step=1, dtype=None)
    broadcast_to(array, shape)
    clip(a, a_min, a_max, out=None)
    concatenate(tup, axis=0, out=None)
    einsum(subscripts, *operands)
    empty(shape, dtype=float, order="C")
    empty_like(prototype, dtype=None, order="K")
    full(shape, fill_value, dtype=None, order="C")
    matmul(a, b, /, *, out=None)
    ones(shape, dtype=float, order="C")
    ones_like(a, dtype=None, order="K")
    repeat(a, repeats, axis=None)
    roll(a, shift, axis=None)
    stack(tup, axis=0, out=None)
    sum(a, axis=None, dtype=None, out=None, keepdims=False)
    vdot(a, b)
    where(condition, x, y)
    zeros(shape, dtype=float, order="C")
    zeros_like(a, dtype=None, order="K")
""")
FUNCTIONS |= signatures("\n".join(f"{name}(x, /, *, out=None)" for name in UNARY))
FUNCTIONS |= signatures("\n".join(f"{name}(x, y, /, *, out=None)" for name in BINARY))

METHODS = signatures("""
    all(self, axis=None, out=None, keepdims=False)
    any(self, axis=None, out=None, keepdims=False)
    argmax(self, axis=None, out=None, *, keepdims=False)
    astype(self, dtype, order="K", *, copy=True)
    clip(self, min=None, max=None, out=None)
    copy(self, order="C")
    cumsum(self, axis=None, dtype=None, out=None)
    fill(self, value)
    item(self)
    max(self, axis=None, out=None, keepdims=False)
    mean(self, axis=None, dtype=None, out=None, keepdims=False)
    min(self, axis=None, out=None, keepdims=False)
    ravel(self, order="C")
    repeat(self, repeats, axis=None)
    reshape(self, *shape, order="C")
    squeeze(self, axis=None)
    sum(self, axis=None, dtype=None, out=None, keepdims=False)
    swapaxes(self, axis1, axis2)
    take(self, indices, axis=None, out=None)
    tolist(self)
    transpose(self, *axes)
""")

ATTRIBUTES = frozenset("T base dtype itemsize nbytes ndim shape size strides".split())
CONSTANTS = frozenset("bool_ e float16 float32 float64 inf int32 int64 integer nan newaxis pi uint8".split())

ARRAYS = frozenset("self a b array condition prototype out".split())
"""Parameters that are an array of this kind."""
NUMBERS = frozenset("x y a_min a_max min max indices value fill_value".split())
"""Those that are one, or a number."""
SEQUENCES = frozenset("tup operands".split())
"""Those that are several."""
DECIDING = frozenset("self a x y a_min a_max min max".split())
"""Those that have a part in the type of the result."""


def unwrapped(parameter: str, value: Any) -> Any:
    """The arrays behind an argument; a parameter that is on none of the lists above is no array."""
    if parameter in SEQUENCES and isinstance(value, list | tuple):
        return [unwrapped("a", part) for part in value]
    if isinstance(value, ndarray) and parameter in ARRAYS | NUMBERS:
        return value.host
    if isinstance(value, int | float | np.generic) and parameter in NUMBERS:
        return value
    if isinstance(value, ndarray | np.ndarray) or parameter in ARRAYS | NUMBERS | SEQUENCES:
        raise TypeError(f"Unsupported type {type(value)}")
    return value


def index(key: Any) -> Any:
    """The arrays behind an index."""
    if isinstance(key, tuple):
        return tuple(index(part) for part in key)
    if isinstance(key, ndarray):
        return key.host
    if key is None or key is Ellipsis or isinstance(key, slice | int | np.integer):
        return key
    raise TypeError(f"Unsupported type {type(key)} of an index")


def wrapped(value: Any) -> Any:
    """What is handed out for a result: arrays of this kind for arrays and numbers of NumPy's."""
    return ndarray(np.asarray(value)) if isinstance(value, np.ndarray | np.generic) else value


@cache
def places(signature: Signature, count: int, names: tuple[str, ...]) -> tuple[list[Any], dict[str, Any]]:
    """Where the arguments of a call go: the parameter, its default, and where the argument was, by position and name.

    Raises:
        TypeError: the function cannot be called with so many arguments, or with these names.
    """
    bound = signature.bind(*range(count), **{name: name for name in names})
    parameter: dict[int | str, tuple[str, Any]] = {}
    for name, place in bound.arguments.items():
        if isinstance(place, tuple):  # of *operands, each an array, or *axes
            parameter |= {one: ("a" if name in SEQUENCES else name, None) for one in place}
        else:
            parameter[place] = name, signature.parameters[name].default
    return (
        [(*parameter[place], place) for place in bound.args],
        {name: (*parameter[place], place) for name, place in bound.kwargs.items()},
    )


def called(function: Any, signature: Signature, args: Any, settings: Any) -> Any:
    """What a function of NumPy's makes of arrays of this kind, if CuPy's can be called so."""
    positional, named = places(signature, len(args), tuple(settings))

    def argument(parameter: str, default: Any, place: int | str) -> Any:
        value = args[place] if isinstance(place, int) else settings[place]
        value = value if value is default else unwrapped(parameter, value)
        if isinstance(value, np.generic) and parameter in DECIDING:
            decides_no_type(value, [arg.dtype for arg in (*args, *settings.values()) if isinstance(arg, ndarray)])
        return value

    result = function(*(argument(*each) for each in positional), **{n: argument(*each) for n, each in named.items()})
    out = settings.get("out")
    return wrapped(result) if out is None else out


def decides_no_type(number: Any, types: list[Any]) -> None:
    """A number of NumPy's among the operands may not change the type that the arrays would have without it."""
    if not types or np.result_type(*types, number.dtype) != np.result_type(*types):
        raise TypeError(f"a {number.dtype} of NumPy's beside {types}: it decides the type of the result")


class ndarray(NDArrayOperatorsMixin):  # noqa: N801 - CuPy's name
    """An array; the operators come from the mixin, by way of `__array_ufunc__`."""

    __slots__ = ("host",)

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
        if method != "__call__" or function.__name__ not in FUNCTIONS:
            raise TypeError(f"{function.__name__}.{method} of CuPy's arrays")
        if isinstance(out := settings.get("out"), tuple):
            (settings["out"],) = out
        if not settings and len(args) == function.nin and all(type(arg) in (ndarray, float, int) for arg in args):
            return wrapped(function(*(arg.host if type(arg) is ndarray else arg for arg in args)))  # most calls
        return called(function, FUNCTIONS[function.__name__], args, settings)

    def __array_function__(self, function: Any, *_: Any) -> Any:
        raise TypeError(f"numpy.{function.__name__} of arrays of CuPy's: the function of its array module is meant")

    def __getattr__(self, name: str) -> Any:
        if name in ATTRIBUTES:
            return wrapped(getattr(self.host, name))
        if name not in METHODS:
            raise AttributeError(f"'cupy.ndarray' object has no attribute {name!r}, or tests/strict_cupy.py lacks it")
        return lambda *args, **settings: called(getattr(np.ndarray, name), METHODS[name], (self, *args), settings)

    @property
    def flags(self) -> SimpleNamespace:
        flags = self.host.flags
        return SimpleNamespace(c_contiguous=flags.c_contiguous, f_contiguous=flags.f_contiguous, owndata=flags.owndata)

    def get(self) -> "np.ndarray[Any, Any]":
        return self.host.copy()

    def __getitem__(self, key: Any) -> Any:
        return wrapped(self.host[index(key)])

    def __setitem__(self, key: Any, value: Any) -> None:
        self.host[index(key)] = unwrapped("value", value)

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
    return ndarray(np.array(value.host if isinstance(value, ndarray) else value, dtype=dtype, order=order))


def asarray(value: Any, dtype: Any = None, order: Any = "K") -> ndarray:
    """An array of this kind, copied only where it must be."""
    return array(value, dtype, copy=False, order=order)


def add_at(target: ndarray, indices: Any, values: Any) -> None:
    """``cupy.add.at``."""
    np.add.at(unwrapped("a", target), index(indices), unwrapped("value", values))


class CuPy(ModuleType):
    """The module."""

    def __init__(self) -> None:
        super().__init__("cupy")
        runtime = SimpleNamespace(
            getDeviceCount=lambda: 1,
            getDeviceProperties=lambda _: {"name": b"the host's memory, as if it were a GPU's"},
            deviceSynchronize=lambda: None,
        )
        pool = SimpleNamespace(free_all_blocks=lambda: None, used_bytes=lambda: 0, total_bytes=lambda: 0)
        self.get_default_memory_pool = lambda: pool  # in the host's memory, of which it does not keep count
        self.cuda, self.__version__ = SimpleNamespace(runtime=runtime), "0 (a stand-in)"
        self.ndarray, self.array, self.asarray = ndarray, array, asarray

    def __getattr__(self, name: str) -> Any:
        if name in CONSTANTS:
            return getattr(np, name)
        if name not in FUNCTIONS:
            raise AttributeError(f"module 'cupy' has no attribute {name!r}, or tests/strict_cupy.py lacks it")

        def function(*args: Any, **settings: Any) -> Any:
            return called(getattr(np, name), FUNCTIONS[name], args, settings)

        if name == "add":
            function.at = add_at  # type: ignore[attr-defined]
        return function


def installed(patch: pytest.MonkeyPatch) -> CuPy:
    """A stand-in that `minispike.backend` takes for CuPy, with nothing fused; the backend in use is NumPy."""
    module = CuPy()
    patch.setitem(sys.modules, "cupy", module)
    patch.delenv(backend.ENVIRONMENT_VARIABLE, raising=False)
    patch.setattr(backend, "_modules", {})
    patch.setattr(backend, "_current", None)
    patch.setattr(kernels_cuda, "fuses", lambda *_: False)
    return module
