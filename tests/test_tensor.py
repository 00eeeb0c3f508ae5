"""Tensors: their types, their values, and the switches of a thread."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers import assert_sentence, gradient, leaf, random_leaf

from minispike import default_dtype, no_grad, ops
from minispike.errors import AutogradError
from minispike.nn.module import Parameter
from minispike.tensor import Tensor, enable_grad, get_default_dtype, grad_enabled

F32, F64 = np.dtype(np.float32), np.dtype(np.float64)


# --- types


@pytest.mark.parametrize(
    "value",
    [
        2.0, 3, True, [1.0, 2.0], [[1, 2], [3, 4]], np.arange(3), np.array([True, False]), np.uint8(7),
        np.ones(2, np.float16), np.ones(2, np.longdouble), np.float16(2.0), [], [[1.0], [2.0]], [np.ones(2)],
    ],
)  # fmt: skip
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_no_floating_array_becomes_the_default_type(value: Any, dtype: Any) -> None:
    with default_dtype(dtype):
        assert Tensor(value).dtype == dtype
        assert ops.exp(value).dtype == dtype
        assert Parameter(value).dtype == dtype
    assert get_default_dtype() is np.float32


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("default", [np.float32, np.float64])
def test_floating_arrays_keep_their_type(dtype: Any, default: Any) -> None:
    with default_dtype(default):
        array = np.ones(3, dtype)
        assert Tensor(array).dtype == Tensor(Tensor(array)).dtype == ops.exp(array).dtype == dtype
        for number in (np.array(1.0, dtype), array.sum()):
            assert Tensor(number).dtype == ops.exp(number).dtype == dtype
        assert ops.add(array, 2.0).dtype == np.result_type(dtype, default)
        assert Parameter(array).dtype == default
        assert Tensor(array, dtype=np.float64).dtype == F64


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "other",
    [2, 0.5, True, [1.0, 2.0], np.arange(1, 3), np.array([True, True]), np.float64(0.5), np.array(0.5),
     np.ones(2, np.float16)],
)  # fmt: skip
def test_numbers_take_the_type_of_the_tensor_they_meet(dtype: Any, other: Any) -> None:
    x = Tensor([1.0, 2.0], dtype=dtype)
    for result in (x + other, other + x, x - other, other - x, x * other, other * x, x / other, other / x):
        assert isinstance(result, Tensor)
        assert result.dtype == dtype
        assert result.shape == (2,)
    assert ops.maximum(other, x).dtype == dtype
    assert (x**0.5).dtype == (x ** np.float64(0.5)).dtype == (x ** np.int64(2)).dtype == dtype
    assert ops.clip(x, np.float64(0.0), np.float64(1.0)).dtype == dtype
    assert ops.where(np.array([True, False]), x, other).dtype == dtype


def test_arrays_and_tensors_follow_numpy() -> None:
    single, double = np.ones((2, 2), np.float32), np.ones((2, 2), np.float64)
    for a in (single, double):
        for b in (single, double):
            expected = (a * b).dtype
            assert (Tensor(a) * Tensor(b)).dtype == expected
            assert (Tensor(a) * b).dtype == (a * Tensor(b)).dtype == expected
            assert (Tensor(a) @ b).dtype == (a @ Tensor(b)).dtype == expected
            assert ops.concatenate([Tensor(a), b]).dtype == expected
    assert (Tensor(np.float32(1.0), dtype=np.float32) * Tensor(double)).dtype == F64


def test_array_times_tensor_is_one_op() -> None:
    x = random_leaf((3,))
    array = np.arange(3.0)
    for result, expected in (
        (array * x, array * x.array), (array - x, array - x.array), (array + x, array + x.array),
        (array / x, array / x.array), (np.float64(2.0) * x, 2.0 * x.array), (array @ x, array @ x.array),
    ):  # fmt: skip
        assert isinstance(result, Tensor)
        np.testing.assert_array_equal(result.data, expected)
    (array * x).sum().backward()
    np.testing.assert_array_equal(gradient(x), array)


def test_a_tensor_copies_its_value() -> None:
    array = np.ones(2)
    x = Tensor(array)
    array[0] = 5.0
    copy = x.numpy()
    copy[1] = 7.0
    np.testing.assert_array_equal(x.data, [1.0, 1.0])


def test_gradients_have_the_type_and_shape_of_their_tensor() -> None:
    for dtype, other in ((np.float32, np.float64), (np.float64, np.float32)):
        x = leaf(np.ones((3, 1)), dtype)
        y = leaf(np.ones((2, 1, 4)), other)
        (x * y).sum().backward()
        for t, expected in ((x, 8.0), (y, 3.0)):
            assert t.grad is not None
            assert t.grad.dtype == t.dtype
            assert t.grad.shape == t.shape
            np.testing.assert_array_equal(t.grad.data, np.full(t.shape, expected))


def test_a_seed_takes_the_type_of_the_output() -> None:
    x = leaf([1.0, 2.0], np.float32)
    for seed in ([1.0, 2.0], np.array([1.0, 2.0]), Tensor(np.array([1.0, 2.0])), np.array([1, 2])):
        x.grad = None
        x.backward(seed)
        assert x.grad is not None
        assert x.grad.dtype == F32
        (x * 2.0).backward(seed)
        np.testing.assert_array_equal(gradient(x), [3.0, 6.0])


# --- values


def test_results_are_arrays_even_without_axes() -> None:
    x = leaf(2.0)
    y = x * x
    (y + ops.erf(y) + ops.gelu(y).sum()).backward()
    for tensor in (y, x.grad, Tensor(np.float32(1.0)) + 1.0, Tensor([1.0, 2.0]).max()):
        assert isinstance(tensor, Tensor)
        assert isinstance(tensor.array, np.ndarray)
        assert tensor.shape == ()


def test_data_is_read_only_and_assign_is_the_way() -> None:
    for shape in ((2, 2), ()):
        x = Tensor(np.ones(shape))
        with pytest.raises(ValueError, match="read-only"):
            x.data[...] = 0.0
        x.assign(np.full(shape, 3.0))
        np.testing.assert_array_equal(x.data, np.full(shape, 3.0))


def test_assign_leaves_what_was_made_before() -> None:
    x = leaf(np.ones((2, 2)))
    row, apart, view = x.detach()[0], x.detach(), x.data
    x.assign(np.zeros((2, 2), np.float32))
    assert x.dtype == F64
    for old in (row.data, apart.data, view):
        assert (old == 1.0).all()


def test_setitem_is_refused() -> None:
    with pytest.raises(AutogradError) as caught:
        Tensor([1.0, 2.0])[0] = 3.0
    assert_sentence(caught.value)


def test_len_item_bool_float_repr() -> None:
    x = leaf([[2.5]], np.float32)
    assert (len(x), x.item(), float(x), bool(x), bool(x * 0.0)) == (1, 2.5, 2.5, True, False)
    assert (x.shape, x.ndim, x.size, x.dtype) == ((1, 1), 2, 1, F32)
    assert repr(x) == "Tensor([[2.5]], float32, requires_grad=True)"
    y = x * 2.0
    assert repr(y) == "Tensor([[5.]], float32, requires_grad=True, made by Mul)"
    y.backward()
    assert "freed" in repr(y)
    with pytest.raises(TypeError):
        len(Tensor(1.0))
    assert [row.item() for row in Tensor([1.0, 2.0])] == [1.0, 2.0]
    with pytest.raises(AttributeError):
        x.unknown  # noqa: B018


# --- switches


def run_in_thread(job: Callable[[], Any]) -> Any:
    result: list[Any] = []
    thread = threading.Thread(target=lambda: result.append(job()))
    thread.start()
    thread.join(timeout=10)
    return result[0]


def test_switches_belong_to_one_thread() -> None:
    with no_grad(), default_dtype(np.float64):
        assert not grad_enabled()
        assert run_in_thread(grad_enabled)
        assert run_in_thread(get_default_dtype) is np.float32
        assert run_in_thread(lambda: (leaf(1.0) * 2.0).requires_grad)
    assert grad_enabled()

    inside, leave = threading.Event(), threading.Event()

    def worker() -> bool:
        with no_grad():
            inside.set()
            assert leave.wait(10)
            return (leaf(1.0) * 2.0).requires_grad

    result: list[bool] = []
    thread = threading.Thread(target=lambda: result.append(worker()))
    thread.start()
    assert inside.wait(10)
    assert grad_enabled()
    assert (leaf(1.0) * 2.0).requires_grad
    leave.set()
    thread.join(timeout=10)
    assert result == [False]


def test_no_grad_nests_and_ends_on_an_error() -> None:
    x = leaf(1.0)
    with no_grad():
        y = x * 2.0
        assert not y.requires_grad
        assert y.node is None
        with enable_grad():
            assert (x * 2.0).requires_grad
        assert not grad_enabled()
    with pytest.raises(ZeroDivisionError), no_grad():
        raise ZeroDivisionError
    assert grad_enabled()


def test_a_constant_is_copied() -> None:
    x, factor = Tensor([1.0, 2.0], requires_grad=True), np.array([1.0, 2.0], dtype=np.float32)
    product = (x * factor).sum()
    factor[0] = 50.0
    product.backward()
    assert x.grad is not None
    assert x.grad.numpy().tolist() == [1.0, 2.0]
