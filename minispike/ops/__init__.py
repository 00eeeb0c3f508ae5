"""The ops: elementary ones, which can be differentiated any number of times.

Importing this package gives `Tensor` its operators (``+``, ``@``, ``==``, ``[...]``) and methods (``sum``, ...).
"""

from minispike.ops.arithmetic import add, div, matmul, mul, neg, power, sub, swap_last
from minispike.ops.comparison import COMPARISONS
from minispike.ops.functions import (
    absolute,
    cast_to,
    clip,
    erf,
    exp,
    gelu,
    log,
    maximum,
    minimum,
    relu,
    sigmoid,
    sqrt,
    tanh,
    where,
)
from minispike.ops.shape import (
    broadcast_to,
    concatenate,
    einsum,
    getitem,
    log_softmax,
    max_,
    mean,
    min_,
    reshape,
    softmax,
    stack,
    sum_,
    take,
    transpose,
)
from minispike.tensor import Tensor

__all__ = [
    "absolute", "add", "broadcast_to", "cast_to", "clip", "concatenate", "div", "einsum", "erf", "exp", "gelu",
    "getitem", "log", "log_softmax", "matmul", "max_", "maximum", "mean", "min_", "minimum", "mul", "neg", "power",
    "relu", "reshape", "sigmoid", "softmax", "sqrt", "stack", "sub", "sum_", "swap_last", "take", "tanh",
    "transpose", "where",
]  # fmt: skip

_METHODS = {
    "__add__": add,
    "__radd__": lambda a, b: add(b, a),
    "__sub__": sub,
    "__rsub__": lambda a, b: sub(b, a),
    "__mul__": mul,
    "__rmul__": lambda a, b: mul(b, a),
    "__truediv__": div,
    "__rtruediv__": lambda a, b: div(b, a),
    "__pow__": power,
    "__neg__": neg,
    "__abs__": absolute,
    "__matmul__": matmul,
    "__rmatmul__": lambda a, b: matmul(b, a),
    "__getitem__": getitem,
    "sum": sum_,
    "mean": mean,
    "max": max_,
    "min": min_,
    "reshape": reshape,
    "transpose": transpose,
    "astype": cast_to,
    **COMPARISONS,
}
for _name, _function in _METHODS.items():
    setattr(Tensor, _name, _function)
