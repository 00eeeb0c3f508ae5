"""Every elementary op, held to NumPy in its values and to finite differences in both its derivatives.

`TABLE` has one row an op: a function that draws inputs (shapes of 0 to 4 axes, axes of length 0 and 1, inputs
that broadcast, permuted and reversed strides) and says what to compute and what NumPy says to it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from helpers import leaf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minispike import check_grads, grad, ops
from minispike.ops.functions import SQRT_HALF
from minispike.tensor import Tensor

Array = np.ndarray[Any, Any]
Draw = Callable[[st.SearchStrategy[Any]], Any]

erf_reference = np.vectorize(math.erf, otypes=[np.float64])


@dataclass
class Case:
    """One drawn call: arrays in float64, what to compute of them, and NumPy's word on it."""

    arrays: list[Array]
    f: Callable[..., Tensor]
    reference: Callable[..., Any]


# --- what is drawn

SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3)
WITH_AXES = hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=3)
FULL = hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=3)
PAIRS = hnp.mutually_broadcastable_shapes(num_shapes=2, min_dims=0, max_dims=4, min_side=0, max_side=3)
LENGTHS = st.integers(0, 3)


def spread(rng: np.random.Generator, size: int) -> Array:
    """Numbers from -2 to 2."""
    return rng.uniform(-2.0, 2.0, size)


def positive(rng: np.random.Generator, size: int) -> Array:
    """Numbers from 0.5 to 2."""
    return rng.uniform(0.5, 2.0, size)


def not_zero(rng: np.random.Generator, size: int) -> Array:
    """Numbers of either sign, at least 0.3 from 0."""
    return rng.uniform(0.3, 2.0, size) * rng.choice([-1.0, 1.0], size)


def distinct(rng: np.random.Generator, size: int) -> Array:
    """Numbers of which no two are closer than 0.04, near multiples of 0.05."""
    return (rng.permutation(size) - size // 2) * 0.05 + rng.uniform(-0.005, 0.005, size)


def off_grid(rng: np.random.Generator, size: int) -> Array:
    """Numbers at least 0.01 from 0.8 and -0.8."""
    values = spread(rng, size)
    return np.where(abs(abs(values) - 0.8) < 0.01, 0.5, values)


def array(draw: Draw, shape: tuple[int, ...], values: Any = spread) -> Array:
    """An array of a shape, its axes in any order in memory, some of them running backwards."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    order = draw(st.permutations(range(len(shape))))
    flips = tuple(slice(None, None, draw(st.sampled_from((1, -1)))) for _ in shape)
    stored = values(rng, math.prod(shape)).reshape([shape[i] for i in order])
    return np.asarray(stored.transpose(np.argsort(order))[flips])


def pointwise(f: Any, reference: Any, values: Any = spread) -> Callable[[Draw], Case]:
    return lambda draw: Case([array(draw, draw(SHAPES), values)], f, reference)


def pairwise(f: Any, reference: Any, second: Any = spread) -> Callable[[Draw], Case]:
    def row(draw: Draw) -> Case:
        a, b = draw(PAIRS).input_shapes
        return Case([array(draw, a), array(draw, b, second)], f, reference)

    return row


def extreme(f: Any, reference: Any) -> Callable[[Draw], Case]:
    """Two arrays none of whose numbers are near each other."""

    def row(draw: Draw) -> Case:
        a, b = draw(PAIRS).input_shapes
        low, high = array(draw, a, distinct), array(draw, b, distinct) + 0.025
        return Case([low, high], f, reference)

    return row


def reduction(f: Any, reference: Any, values: Any = spread, *, empty: bool = True) -> Callable[[Draw], Case]:
    def row(draw: Draw) -> Case:
        shape = draw(SHAPES)
        axes = st.sampled_from(range(-len(shape), len(shape))) if shape else st.none()
        axis = draw(st.none() | axes | hnp.valid_tuple_axes(len(shape)))
        if not empty:
            shape = tuple(max(n, 1) for n in shape)
        kept = draw(st.booleans())
        return Case([array(draw, shape, values)], lambda a: f(a, axis, kept), lambda a: reference(a, axis, kept))

    return row


def mean_reference(a: Array, axis: Any, kept: bool) -> Any:
    count = np.ones_like(a).sum(axis=axis, keepdims=kept)
    return a.sum(axis=axis, keepdims=kept) / np.maximum(count, 1.0)


def along_axis(f: Any, reference: Any) -> Callable[[Draw], Case]:
    def row(draw: Draw) -> Case:
        shape = list(draw(WITH_AXES))
        axis = draw(st.sampled_from(range(-len(shape), len(shape))))
        shape[axis] = max(shape[axis], 1)
        return Case([array(draw, tuple(shape))], lambda a: f(a, axis), lambda a: reference(a, axis))

    return row


def softmax_reference(a: Array, axis: int) -> Array:
    powers = np.exp(a)
    return powers / powers.sum(axis=axis, keepdims=True)


def row_power(draw: Draw) -> Case:
    p = draw(st.sampled_from([0, 1, 2, 3, -1, -2, 0.5, 2.5, -1.5]))
    values = not_zero if isinstance(p, int) else positive
    return Case([array(draw, draw(SHAPES), values)], lambda a: ops.power(a, p), lambda a: a ** float(p))


def row_broadcast_to(draw: Draw) -> Case:
    shapes = draw(PAIRS)
    target = shapes.result_shape
    return Case(
        [array(draw, shapes.input_shapes[0])],
        lambda a: ops.broadcast_to(a, target),
        lambda a: np.broadcast_to(a, target),
    )


def row_where(draw: Draw) -> Case:
    shapes = draw(hnp.mutually_broadcastable_shapes(num_shapes=3, max_dims=4, min_side=0, max_side=3))
    condition = array(draw, shapes.input_shapes[2]) > 0
    arrays = [array(draw, shape) for shape in shapes.input_shapes[:2]]
    return Case(arrays, lambda a, b: ops.where(condition, a, b), lambda a, b: np.where(condition, a, b))


def row_matmul(draw: Draw) -> Case:
    n, k, m = (draw(LENGTHS) for _ in range(3))
    batch = hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=2, min_side=0, max_side=2)
    a, b = draw(batch).input_shapes
    left = (k,) if draw(st.booleans()) and not a else (*a, n, k)
    right = (k,) if draw(st.booleans()) and not b else (*b, k, m)
    return Case([array(draw, left), array(draw, right)], ops.matmul, np.matmul)


def row_einsum(draw: Draw) -> Case:
    subscripts = draw(
        st.sampled_from(
            ["ij,jk->ik", "bld,hd->blh", "i,j->ij", "i,i->", "ij,ij->j", "ij,k->jk", "ijk,kl->", ",i->i",
             "ij,->ji", "bhid,bhjd->bhij", "ab,bc->ca", "abc,cd->ad"]
        )
    )  # fmt: skip
    a, b = subscripts.split("->")[0].split(",")
    lengths = {letter: draw(LENGTHS) for letter in "abcdhijkl"}
    arrays = [array(draw, tuple(lengths[letter] for letter in term)) for term in (a, b)]
    return Case(arrays, lambda a, b: ops.einsum(subscripts, a, b), lambda a, b: np.einsum(subscripts, a, b))


def row_reshape(draw: Draw) -> Case:
    shape = draw(SHAPES)
    target = draw(st.permutations([n for n in shape if n != 1] + [1] * draw(st.integers(0, 2))))
    if math.prod(shape) and target and draw(st.booleans()):
        target[draw(st.integers(0, len(target) - 1))] = -1
    return Case([array(draw, shape)], lambda a: ops.reshape(a, *target), lambda a: a.reshape(target))


def row_transpose(draw: Draw) -> Case:
    shape = draw(SHAPES)
    axes = [i - draw(st.sampled_from((0, len(shape)))) for i in draw(st.permutations(range(len(shape))))]
    if draw(st.booleans()):
        return Case([array(draw, shape)], ops.transpose, np.transpose)
    return Case([array(draw, shape)], lambda a: ops.transpose(a, *axes), lambda a: a.transpose(axes))


def row_swap_last(draw: Draw) -> Case:
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=4, min_side=0, max_side=3))
    return Case([array(draw, shape)], ops.swap_last, lambda a: a.swapaxes(-1, -2))


def row_getitem(draw: Draw) -> Case:
    shape = draw(SHAPES)
    keys = hnp.basic_indices(shape, allow_newaxis=True)
    if shape:
        keys |= hnp.arrays(bool, shape[: draw(st.integers(1, len(shape)))])
    if shape and shape[0]:
        keys |= st.lists(st.integers(-shape[0], shape[0] - 1), min_size=1, max_size=4)
    if shape and all(shape):
        keys |= hnp.integer_array_indices(shape, result_shape=hnp.array_shapes(max_dims=2, max_side=3))
    key = draw(keys)
    return Case([array(draw, shape)], lambda a: ops.getitem(a, key), lambda a: a[key])


def row_take(draw: Draw) -> Case:
    shape = draw(FULL)
    axis = draw(st.sampled_from(range(-len(shape), len(shape))))
    positions = st.integers(-shape[axis], shape[axis] - 1)
    shapes = hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3)
    index = draw(hnp.arrays(np.int64, shapes, elements=positions))
    return Case([array(draw, shape)], lambda a: ops.take(a, index, axis), lambda a: np.take(a, index, axis))


def row_concatenate(draw: Draw) -> Case:
    shape = list(draw(WITH_AXES))
    axis = draw(st.sampled_from(range(-len(shape), len(shape))))
    arrays = []
    for _ in range(draw(st.integers(1, 3))):
        shape[axis] = draw(LENGTHS)
        arrays.append(array(draw, tuple(shape)))
    return Case(arrays, lambda *a: ops.concatenate(a, axis), lambda *a: np.concatenate(a, axis))


def row_stack(draw: Draw) -> Case:
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
    axis = draw(st.sampled_from(range(-len(shape) - 1, len(shape) + 1)))
    arrays = [array(draw, shape) for _ in range(draw(st.integers(1, 3)))]
    return Case(arrays, lambda *a: ops.stack(a, axis), lambda *a: np.stack(a, axis))


TABLE: dict[str, Callable[[Draw], Case]] = {
    "absolute": pointwise(ops.absolute, np.abs, not_zero),
    "add": pairwise(ops.add, np.add),
    "broadcast_to": row_broadcast_to,
    "cast_to": pointwise(lambda a: ops.cast_to(a, a.dtype), lambda a: a),
    "clip": pointwise(lambda a: ops.clip(a, -0.8, 0.8), lambda a: np.clip(a, -0.8, 0.8), off_grid),
    "concatenate": row_concatenate,
    "div": pairwise(ops.div, np.divide, not_zero),
    "einsum": row_einsum,
    "erf": pointwise(ops.erf, erf_reference),
    "exp": pointwise(ops.exp, np.exp),
    "gelu": pointwise(ops.gelu, lambda a: a * (1.0 + erf_reference(a * SQRT_HALF)) / 2),
    "getitem": row_getitem,
    "log": pointwise(ops.log, np.log, positive),
    "log_softmax": along_axis(ops.log_softmax, lambda a, axis: np.log(softmax_reference(a, axis))),
    "matmul": row_matmul,
    "max_": reduction(ops.max_, lambda a, axis, kept: a.max(axis=axis, keepdims=kept), distinct, empty=False),
    "maximum": extreme(ops.maximum, np.maximum),
    "mean": reduction(ops.mean, mean_reference),
    "min_": reduction(ops.min_, lambda a, axis, kept: a.min(axis=axis, keepdims=kept), distinct, empty=False),
    "minimum": extreme(ops.minimum, np.minimum),
    "mul": pairwise(ops.mul, np.multiply),
    "neg": pointwise(ops.neg, np.negative),
    "power": row_power,
    "relu": pointwise(ops.relu, lambda a: np.maximum(a, 0.0), not_zero),
    "reshape": row_reshape,
    "sigmoid": pointwise(ops.sigmoid, lambda a: 1.0 / (1.0 + np.exp(-a))),
    "softmax": along_axis(ops.softmax, softmax_reference),
    "sqrt": pointwise(ops.sqrt, np.sqrt, positive),
    "stack": row_stack,
    "sub": pairwise(ops.sub, np.subtract),
    "sum_": reduction(ops.sum_, lambda a, axis, kept: a.sum(axis=axis, keepdims=kept)),
    "swap_last": row_swap_last,
    "take": row_take,
    "tanh": pointwise(ops.tanh, np.tanh),
    "transpose": row_transpose,
    "where": row_where,
}

QUICK = settings(max_examples=25, deadline=None, derandomize=True, database=None)
LONG = settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))


def test_every_op_has_a_row() -> None:
    assert sorted(TABLE) == sorted(ops.__all__)


# --- the three questions asked of every row


def check_values(case: Case) -> None:
    expected = np.asarray(case.reference(*case.arrays))
    result = case.f(*[Tensor(a) for a in case.arrays])
    assert result.shape == expected.shape
    assert result.dtype == np.float64
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-13, atol=1e-14)


def check_derivatives(case: Case) -> None:
    check_grads(case.f, *[leaf(a) for a in case.arrays], order=2, rtol=1e-6)


def check_single_precision(case: Case) -> None:
    """float32 gives float32, and what float64 gives to single precision, in value and gradient."""
    found = []
    seed: Array | None = None
    for dtype in (np.float64, np.float32):
        inputs = [leaf(a.astype(np.float32), dtype) for a in case.arrays]
        result = case.f(*inputs)
        if seed is None:
            seed = np.random.default_rng(0).uniform(-1.0, 1.0, result.shape)
        found.append([result, *grad(result, inputs, seed)])
    for single, double in zip(found[1], found[0], strict=True):
        assert single is not None
        assert double is not None
        assert single.dtype == np.float32
        assert single.shape == double.shape
        size = float(abs(double.numpy()).max(initial=1.0))
        np.testing.assert_allclose(single.numpy(), double.numpy(), rtol=2e-6, atol=2e-6 * size)


@pytest.mark.parametrize("name", TABLE)
@given(data=st.data())
@QUICK
def test_values_and_derivatives(name: str, data: st.DataObject) -> None:
    case = TABLE[name](data.draw)
    check_values(case)
    check_derivatives(case)


@pytest.mark.parametrize("name", TABLE)
@given(data=st.data())
@QUICK
def test_single_precision(name: str, data: st.DataObject) -> None:
    check_single_precision(TABLE[name](data.draw))


@pytest.mark.thorough
@pytest.mark.parametrize("name", TABLE)
@given(data=st.data())
@LONG
def test_all_of_it_on_many_more_inputs(name: str, data: st.DataObject) -> None:
    case = TABLE[name](data.draw)
    check_values(case)
    check_derivatives(case)
    check_single_precision(case)
