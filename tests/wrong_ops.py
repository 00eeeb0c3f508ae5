"""Mistakes in the elementary ops, and in the engine that adds up what they return."""

import math
from typing import Any

import numpy as np
from wrong_gradients import Mistake, disguised

from minispike import graph, ops
from minispike.backend import array_module
from minispike.ops import functions, shape
from minispike.ops.arithmetic import Div, MatMul, Mul, Neg, Power, Sub
from minispike.ops.functions import (
    Absolute,
    Clip,
    Erf,
    Exp,
    Gelu,
    Log,
    Maximum,
    Relu,
    Sigmoid,
    Sqrt,
    Tanh,
    Where,
    mask_of,
)
from minispike.ops.shape import BroadcastTo, Concatenate, Einsum, GetItem, Max, PutInto, Reshape, Sum, Transpose
from minispike.tensor import Tensor

VECTOR = [(3,)]
VECTORS = [(3,), (3,)]
MATRIX = [(3, 3)]
MATRICES = [(3, 3), (3, 3)]
CHOSEN = np.array([True, False, True])
REPEATED = np.array([0, 2, 2, 1])


def positive(x: Tensor) -> Tensor:
    return x * x + 0.5


def assigned(right: Any, op: PutInto, a: Any) -> Any:
    out = array_module(a).zeros(op.shape, dtype=a.dtype)
    out[op.key] = a
    return out


def derivative_of_the_tanh_approximation(right: Any, op: Gelu, g: Tensor, out: Tensor, a: Tensor) -> Any:
    c = math.sqrt(2.0 / math.pi)
    t = ops.tanh(c * (a + 0.044715 * a * a * a))
    return (g * (0.5 * (1.0 + t) + 0.5 * a * (1.0 - t * t) * c * (1.0 + 0.134145 * a * a)),)


ARITHMETIC = {
    "sub: sign of the second": Mistake(ops.sub, VECTORS, Sub, "backward", lambda right, op, g, out, a, b: (g, g)),
    "neg: sign forgotten": Mistake(ops.neg, VECTOR, Neg, "backward", lambda right, op, g, out, a: (g,)),
    "mul: one term of the product rule": Mistake(
        ops.mul, VECTORS, Mul, "backward", lambda right, op, g, out, a, b: (g * b, None)
    ),
    "mul: factors exchanged": Mistake(
        ops.mul, VECTORS, Mul, "backward", lambda right, op, g, out, a, b: (g * a, g * b)
    ),
    "div: divisor not squared": Mistake(
        lambda a, b: ops.div(a, positive(b)), VECTORS, Div, "backward",
        lambda right, op, g, out, a, b: (g / b, -g * a / b),
    ),
    "power: exponent not lowered": Mistake(
        lambda a: a**3, VECTOR, Power, "backward", lambda right, op, g, out, a: (g * op.exponent * out,)
    ),
    "power: exponent not a factor": Mistake(
        lambda a: a**3, VECTOR, Power, "backward", lambda right, op, g, out, a: (g * ops.power(a, op.exponent - 1),)
    ),
    "matmul: factor not transposed": Mistake(
        ops.matmul, MATRICES, MatMul, "backward",
        lambda right, op, g, out, a, b: (ops.matmul(g, b), ops.matmul(ops.swap_last(a), g)),
    ),
    "matmul: gradient transposed": Mistake(
        ops.matmul, MATRICES, MatMul, "backward",
        lambda right, op, *args: [ops.swap_last(g) for g in right(op, *args)],
    ),
    "matmul: factors in the wrong order": Mistake(
        ops.matmul, MATRICES, MatMul, "backward",
        lambda right, op, g, out, a, b: (ops.matmul(ops.swap_last(b), g), ops.matmul(g, ops.swap_last(a))),
    ),
}  # fmt: skip

FUNCTIONS = {
    "exp: input for output": Mistake(ops.exp, VECTOR, Exp, "backward", lambda right, op, g, out, a: (g * a,)),
    "log: times for divided by": Mistake(
        lambda x: ops.log(positive(x)), VECTOR, Log, "backward", lambda right, op, g, out, a: (g * a,)
    ),
    "sqrt: without the 2": Mistake(
        lambda x: ops.sqrt(positive(x)), VECTOR, Sqrt, "backward", lambda right, op, g, out, a: (g / out,)
    ),
    "tanh: input for output": Mistake(
        ops.tanh, VECTOR, Tanh, "backward", lambda right, op, g, out, a: (g * (1.0 - a * a),)
    ),
    "tanh: square forgotten": Mistake(
        ops.tanh, VECTOR, Tanh, "backward", lambda right, op, g, out, a: (g * (1.0 - out),)
    ),
    "sigmoid: one factor": Mistake(ops.sigmoid, VECTOR, Sigmoid, "backward", lambda right, op, g, out, a: (g * out,)),
    "sigmoid: one part in 100,000 too large": Mistake(
        ops.sigmoid, VECTOR, Sigmoid, "backward", lambda right, op, g, *rest: right(op, g * 1.00001, *rest)
    ),
    "erf: factor 2 / sqrt(pi) forgotten": Mistake(
        ops.erf, VECTOR, Erf, "backward", lambda right, op, g, out, a: (g * ops.exp(-(a * a)),)
    ),
    "erf: bell curve of variance 1": Mistake(
        ops.erf, VECTOR, Erf, "backward",
        lambda right, op, g, out, a: (g * 2.0 / math.sqrt(math.pi) * ops.exp(-0.5 * (a * a)),),
    ),
    "gelu: one term of the product rule": Mistake(
        ops.gelu, VECTOR, Gelu, "backward",
        lambda right, op, g, out, a: (g * 0.5 * (1.0 + ops.erf(a / math.sqrt(2.0))),),
    ),
    "gelu: of its approximation by tanh": Mistake(
        ops.gelu, VECTOR, Gelu, "backward", derivative_of_the_tanh_approximation
    ),
    "relu: sign of the gradient for that of the input": Mistake(
        ops.relu, [(8,)], Relu, "backward", lambda right, op, g, out, a: (g * mask_of(g.array > 0, g),)
    ),
    "absolute: sign forgotten": Mistake(
        ops.absolute, [(8,)], Absolute, "backward", lambda right, op, g, out, a: (g,)
    ),
    "clip: not cut": Mistake(
        lambda a: ops.clip(a, -0.1, 0.1), [(8,)], Clip, "backward", lambda right, op, g, out, a: (g,)
    ),
    "maximum: all to the smaller": Mistake(
        ops.maximum, VECTORS, Maximum, "backward", lambda right, op, *args: right(op, *args)[::-1]
    ),
    "maximum: all to each of two equals": Mistake(
        lambda a: ops.maximum(a, a), VECTOR, Maximum, "backward",
        lambda right, op, g, out, a, b: (g * mask_of(a >= b, g), g * mask_of(b >= a, g)),
    ),
    "where: branches exchanged": Mistake(
        lambda a, b: ops.where(CHOSEN, a, b), VECTORS, Where, "backward",
        lambda right, op, *args: right(op, *args)[::-1],
    ),
    "where: all to both branches": Mistake(
        lambda a, b: ops.where(CHOSEN, a, b), VECTORS, Where, "backward", lambda right, op, g, out, a, b: (g, g)
    ),
}  # fmt: skip

SHAPES = {
    "sum: along the other axis": Mistake(
        lambda a: a.sum(axis=0), MATRIX, Sum, "backward",
        lambda right, op, g, out, a: [x.transpose() for x in right(op, g, out, a)],
    ),
    "mean: not divided by the number": Mistake(
        lambda a: shape.mean(a, 0), [(4, 3)], shape, "mean", lambda right, a, axis: disguised(right(a, axis), a.sum(0))
    ),
    "max: all to each of two equals": Mistake(
        lambda a: ops.stack([a, a]).max(axis=0), VECTOR, Max, "backward",
        lambda right, op, g, out, a: (g * mask_of(a == out, g),),
    ),
    "max: shared with the smaller": Mistake(
        lambda a: a.max(axis=0), [(4, 3)], Max, "backward",
        lambda right, op, g, out, a: (ops.broadcast_to(g * 0.25, a.shape),),
    ),
    "softmax: sum taken for a constant": Mistake(
        lambda a: shape.softmax(a), MATRIX, shape, "softmax",
        lambda right, a: disguised(right(a), ops.exp(a) * (1.0 / np.exp(a.numpy()).sum(-1, keepdims=True))),
    ),
    "softmax: along the other axis": Mistake(
        lambda a: shape.softmax(a), MATRIX, shape, "softmax", lambda right, a: disguised(right(a), right(a, 0))
    ),
    "log_softmax: sum taken for a constant": Mistake(
        lambda a: shape.log_softmax(a), MATRIX, shape, "log_softmax", lambda right, a: disguised(right(a), a)
    ),
    "broadcast_to: a mean": Mistake(
        lambda a: ops.broadcast_to(a, (4, 3)), VECTOR, BroadcastTo, "backward", lambda right, op, g, *_: (g * 0.25,)
    ),
    "reshape: in the order of the transpose": Mistake(
        lambda a: a.reshape(3, 2), [(2, 3)], Reshape, "backward", lambda right, op, g, out, a: (g.transpose(),)
    ),
    "transpose: not the inverse": Mistake(
        lambda a: a.transpose(1, 2, 0), [(2, 2, 2)], Transpose, "backward",
        lambda right, op, g, out, a: (g.transpose(1, 2, 0),),
    ),
    "getitem: assigned, not added": Mistake(lambda a: a[REPEATED], VECTOR, PutInto, "forward", assigned),
    "getitem: one place too early": Mistake(
        lambda a: a[1:], [(4,)], GetItem, "backward",
        lambda right, op, g, out, a: (PutInto(slice(0, 3), a.shape)(g),),
    ),
    "getitem: not turned back": Mistake(
        lambda a: a[::-1], [(4,)], GetItem, "backward", lambda right, op, g, out, a: (g,)
    ),
    "concatenate: parts exchanged": Mistake(
        lambda a, b: ops.concatenate([a, b]), VECTORS, Concatenate, "backward",
        lambda right, op, *args: right(op, *args)[::-1],
    ),
    "concatenate: cut one place too late": Mistake(
        lambda a, b: ops.concatenate([a, b]), [(3,), (2,)], Concatenate, "backward",
        lambda right, op, g, *rest: right(op, ops.concatenate([g[1:], g[:1]]), *rest),
    ),
    "einsum: letters exchanged": Mistake(
        lambda a, b: ops.einsum("ij,jk->ik", a, b), MATRICES, Einsum, "_gradient",
        lambda right, op, g, mine, *rest: right(op, g, mine[::-1], *rest),
    ),
    "einsum: a mean over a letter that is summed": Mistake(
        lambda a, b: ops.einsum("ij,j->j", a, b), [(4, 3), (3,)], Einsum, "backward",
        lambda right, op, g, out, a, b: (right(op, g, out, a, b)[0] * 0.25, right(op, g, out, a, b)[1]),
    ),
}  # fmt: skip

ENGINE = {
    "broadcasting: the first row for the sum": Mistake(
        ops.add, [(4, 3), (3,)], graph, "_fit",
        lambda right, g, source, op: right(g, source, op) if g.ndim == source.ndim else g[0],
    ),
    "broadcasting: summed over the wrong axis": Mistake(
        ops.add, [(3, 3), (3,)], graph, "_fit",
        lambda right, g, source, op: right(g, source, op) if g.ndim == source.ndim else g.sum(axis=1),
    ),
    "a tensor used twice: counted once": Mistake(
        lambda a: ops.mul(a, ops.exp(a)), VECTOR, Tensor, "__add__", lambda right, first, second: second
    ),
    "a tensor used three times: counted twice": Mistake(
        lambda a: ops.mul(ops.mul(a, ops.tanh(a)), ops.exp(a)), VECTOR, graph, "add_to", lambda right, total, g: None
    ),
}  # fmt: skip

OPS = ARITHMETIC | FUNCTIONS | SHAPES | ENGINE


SECOND = {
    "exp: output taken for a constant": Mistake(
        ops.exp, VECTOR, Exp, "backward", lambda right, op, g, out, a: (g * Tensor(out.numpy()),)
    ),
    "exp: output detached": Mistake(
        ops.exp, VECTOR, Exp, "backward", lambda right, op, g, out, a: (g * out.detach(),)
    ),
    "power: slope taken for a constant": Mistake(
        lambda a: a**3, VECTOR, Power, "backward", lambda right, op, g, out, a: (g * (3.0 * a.numpy() ** 2),)
    ),
    "tanh: slope with another slope": Mistake(
        ops.tanh, VECTOR, Tanh, "backward",
        lambda right, op, g, out, a: (g * disguised(1.0 - out * out, 1.0 - out),),
    ),
    "gelu: distribution taken for a constant": Mistake(
        ops.gelu, VECTOR, functions, "grad_enabled", lambda right: False
    ),
    "matmul: other factor taken for a constant": Mistake(
        ops.matmul, MATRICES, MatMul, "backward",
        lambda right, op, g, out, a, b: (
            ops.matmul(g, ops.swap_last(Tensor(b.numpy()))), ops.matmul(ops.swap_last(Tensor(a.numpy())), g)
        ),
    ),
}  # fmt: skip
"""First derivatives that are right, with second ones that are wrong."""
