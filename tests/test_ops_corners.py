"""What the table of `test_ops` does not reach: operators, ties, kinks, large numbers, and mistakes."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers import assert_sentence, gradient, leaf, random_leaf

from minispike import check_grads, grad, ops
from minispike.errors import ShapeError
from minispike.tensor import Tensor


def test_operators_and_methods_are_the_ops() -> None:
    x, y = Tensor([[1.0, -2.0], [3.0, 4.0]]), Tensor([[5.0, 6.0], [7.0, 8.0]])
    a, b = x.numpy(), y.numpy()
    for result, expected in (
        (x + y, a + b), (x - y, a - b), (x * y, a * b), (x / y, a / b), (x @ y, a @ b), (x**2, a**2),
        (-x, -a), (abs(x), abs(a)), (1.0 + x, 1 + a), (1.0 - x, 1 - a), (2.0 * x, 2 * a), (1.0 / x, 1 / a),
        (x[1], a[1]), (x.sum(0), a.sum(0)), (x.mean(1), a.mean(1)), (x.max(0), a.max(0)), (x.min(), a.min()),
        (x.reshape(4), a.reshape(4)), (x.transpose(), a.T), (x.astype(np.float64), a),
        (x.sum((0, 1), keepdims=True), a.sum(keepdims=True)),
    ):  # fmt: skip
        np.testing.assert_allclose(result.numpy(), expected, rtol=1e-6)


def test_a_number_loses_no_digits_beside_a_float64_tensor() -> None:
    x = leaf([1.0, 0.0])
    for result in (x * 0 + 0.1, ops.maximum(x * 0, 0.1), ops.minimum(x + 1, 0.1), ops.minimum(0.1, x + 1)):
        assert result.dtype == np.float64 and result.numpy().tolist() == [0.1, 0.1]


def test_equal_numbers_share_the_gradient() -> None:
    x, y = leaf([1.0, 2.0]), leaf([1.0, 0.0])
    (gx, gy) = grad(ops.maximum(x, y).sum(), [x, y])
    np.testing.assert_array_equal(gx.numpy(), [0.5, 1.0])  # type: ignore[union-attr]
    np.testing.assert_array_equal(gy.numpy(), [0.5, 0.0])  # type: ignore[union-attr]
    z = leaf([[3.0, 1.0, 3.0], [2.0, 2.0, 2.0]])
    (gz,) = grad(z.max(axis=1).sum(), [z])
    np.testing.assert_allclose(gz.numpy(), [[0.5, 0, 0.5], [1 / 3, 1 / 3, 1 / 3]])  # type: ignore[union-attr]


def test_derivatives_at_the_kinks_are_as_documented() -> None:
    x = leaf([0.0])
    for f, expected in ((ops.relu, 0.0), (ops.absolute, 0.0), (lambda a: ops.clip(a, 0.0, 1.0), 1.0)):
        assert grad(f(x), [x])[0].item() == expected  # type: ignore[union-attr]


@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_softmax_of_nothing() -> None:
    for f in (ops.softmax, ops.log_softmax):
        x = leaf(np.ones((2, 0)))
        (g,) = grad(f(x).sum(), [x])
        assert g is not None
        assert g.shape == (2, 0)


@pytest.mark.parametrize("condition", [[True, False], np.array([2, 0]), True, np.array([[0.5, 0.0]])])
def test_where_takes_any_kind_of_condition(condition: Any) -> None:
    a, b = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    result = ops.where(condition, a, b)
    chosen = np.broadcast_to(np.asarray(condition, bool), result.shape)
    np.testing.assert_array_equal(result.numpy(), np.where(chosen, a.numpy(), b.numpy()))
    (g,) = grad(result.sum(), [a])
    np.testing.assert_array_equal(g.numpy(), chosen.reshape(-1, 2).sum(axis=0))  # type: ignore[union-attr]


def test_repeated_positions_add_up() -> None:
    x = leaf([1.0, 2.0, 3.0])
    (g,) = grad(x[np.array([0, 0, 2, 0])].sum() + x[[1, 1]].sum() + ops.take(x, [2], 0).sum(), [x])
    np.testing.assert_array_equal(g.numpy(), [3.0, 2.0, 2.0])  # type: ignore[union-attr]


def test_cast_carries_the_gradient_back() -> None:
    x = leaf([1.0, 2.0], np.float32)
    y = ops.cast_to(x, np.float64)
    assert y.dtype == np.float64
    (y * np.array([3.0, 4.0])).sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == np.float32
    np.testing.assert_array_equal(x.grad.numpy(), [3.0, 4.0])


def test_softmax_of_large_numbers() -> None:
    for dtype in (np.float32, np.float64):
        x = leaf([[1e4, 1e4 - 1.0, -1e4]], dtype)
        powers = np.array([[1.0, math.exp(-1.0), 0.0]])
        shares = powers / powers.sum()
        np.testing.assert_allclose(ops.softmax(x).numpy(), shares, rtol=1e-6)
        np.testing.assert_allclose(ops.log_softmax(x).numpy()[0, :2], np.log(shares[0, :2]), rtol=1e-3)
    assert np.isfinite(ops.sigmoid(Tensor([-1e4, 1e4])).numpy()).all()


@pytest.mark.parametrize(
    "job",
    [
        lambda x: ops.add(x, np.ones(4)),
        lambda x: ops.maximum(x, np.ones(4)),
        lambda x: ops.where([True, False], x, 0.0),
        lambda x: ops.matmul(x, x),
        lambda x: ops.matmul(x, 2.0),
        lambda x: ops.matmul(np.ones((2, 4, 2)), np.ones((3, 2, 4))),
        lambda x: ops.power(x, x),
        lambda x: ops.power(x, "2"),
        lambda x: ops.sum_(x, 2),
        lambda x: ops.sum_(x, (0, 0)),
        lambda x: ops.max_(x, -3),
        lambda x: ops.max_(np.ones((0, 2)), 0),
        lambda x: ops.min_(np.ones(0)),
        lambda x: ops.mean(x, 5),
        lambda x: ops.broadcast_to(x, (3, 3)),
        lambda x: ops.reshape(x, 5),
        lambda x: ops.reshape(x, -1, -1),
        lambda x: ops.transpose(x, 0),
        lambda x: ops.transpose(x, 0, 0),
        lambda x: ops.transpose(x, 0, 3),
        lambda x: ops.swap_last(Tensor([1.0])),
        lambda x: ops.take(x, [0], 2),
        lambda x: ops.concatenate([x, np.ones((2, 4))]),
        lambda x: ops.concatenate([x, x], 2),
        lambda x: ops.concatenate([]),
        lambda x: ops.stack([x, Tensor(np.ones(3))]),
        lambda x: ops.stack([x, x], 3),
        lambda x: ops.stack([]),
        lambda x: ops.einsum("ij,jk", x, x),
        lambda x: ops.einsum("ii,jk->k", x, x),
        lambda x: ops.einsum("ij,jk->il", x, x),
        lambda x: ops.einsum("ij,jk->ik", x, x),
        lambda x: ops.einsum("ij,jk->ik", np.ones((2, 1)), x),
        lambda x: ops.einsum("ijk,jk->ik", x, x),
        lambda x: ops.softmax(x, 2),
        lambda x: ops.log_softmax(x, -3),
        lambda x: ops.cast_to(x, np.int64),
    ],
)
def test_mistakes(job: Callable[[Tensor], Any]) -> None:
    with pytest.raises(ShapeError) as caught:
        job(Tensor(np.ones((2, 3))))
    assert_sentence(caught.value)


def test_an_array_on_the_left_of_a_product() -> None:
    a, x = np.array([[1.0, 2.0], [3.0, 4.0]]), random_leaf((2, 2))
    np.testing.assert_allclose((a @ x).numpy(), a @ x.numpy(), rtol=1e-14)


def test_the_power_of_0_is_constant_at_0_too() -> None:
    x = leaf([0.0, 2.0])
    (x**0).sum().backward()
    np.testing.assert_array_equal(gradient(x), [0.0, 0.0])


def test_vectors_times_batches_of_matrices() -> None:
    vector, batch = random_leaf((3,), 1), random_leaf((2, 3, 4), 2)
    check_grads(ops.matmul, vector, batch, order=2)
    check_grads(ops.matmul, random_leaf((2, 4, 3), 3), vector, order=2)


def test_repeated_positions_beside_a_slice_add_up() -> None:
    for key in ((slice(None), [0, 0, 2]), (..., [0, 0, 2]), (slice(0, 2), None, [0, 0, 2])):
        x = leaf(np.ones((2, 3)))
        x[key].sum().backward()
        np.testing.assert_array_equal(gradient(x), [[2.0, 0.0, 1.0]] * 2)


def test_softmax_of_rows_that_are_far_apart() -> None:
    x = Tensor([[0.0, 0.0], [-2000.0, -2000.0], [2000.0, 2000.0]])
    np.testing.assert_allclose(ops.softmax(x).numpy(), np.full((3, 2), 0.5), rtol=1e-6)
    np.testing.assert_allclose(ops.log_softmax(x).numpy(), np.full((3, 2), np.log(0.5)), rtol=1e-6)
