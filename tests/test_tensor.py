"""Tensors: their types, their values, and the switches of a thread."""

import operator
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers import assert_sentence, gradient, leaf, random_leaf

from minispike import default_dtype, no_grad, ops
from minispike.backend import array_module, asarray, to_numpy
from minispike.errors import AutogradError, ShapeError
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
    array, values = np.arange(3.0), x.numpy()
    for result, expected in (
        (array * x, array * values), (array - x, array - values), (array + x, array + values),
        (array / x, array / values), (np.float64(2.0) * x, 2.0 * values), (array @ x, array @ values),
    ):  # fmt: skip
        assert isinstance(result, Tensor)
        np.testing.assert_array_equal(result.numpy(), expected)
    (array * x).sum().backward()
    np.testing.assert_array_equal(gradient(x), array)


def test_a_tensor_copies_its_value() -> None:
    array = np.ones(2)
    x = Tensor(array)
    array[0] = 5.0
    copy = x.numpy()
    copy[1] = 7.0
    np.testing.assert_array_equal(x.numpy(), [1.0, 1.0])


def test_gradients_have_the_type_and_shape_of_their_tensor() -> None:
    for dtype, other in ((np.float32, np.float64), (np.float64, np.float32)):
        x = leaf(np.ones((3, 1)), dtype)
        y = leaf(np.ones((2, 1, 4)), other)
        (x * y).sum().backward()
        for t, expected in ((x, 8.0), (y, 3.0)):
            assert t.grad is not None
            assert t.grad.dtype == t.dtype
            assert t.grad.shape == t.shape
            np.testing.assert_array_equal(t.grad.numpy(), np.full(t.shape, expected))


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
        assert isinstance(tensor.array, array_module(tensor.array).ndarray)
        assert tensor.shape == ()


def test_data_is_read_only_and_assign_is_the_way(array_backend: str) -> None:
    for shape in ((2, 2), ()):
        x = Tensor(np.ones(shape))
        if array_backend == "numpy":  # CuPy's arrays cannot be locked
            with pytest.raises(ValueError, match="read-only"):
                x.data[...] = 0.0
        x.assign(np.full(shape, 3.0))
        np.testing.assert_array_equal(x.numpy(), np.full(shape, 3.0))


def test_array_is_read_only_too_wherever_the_tensor_comes_from(array_backend: str) -> None:
    if array_backend != "numpy":
        pytest.skip("CuPy's arrays cannot be locked")
    x = leaf(np.ones((2, 2)))
    y = (x * x).transpose().reshape(4)
    y.sum().backward(retain_graph=True)
    assert x.grad is not None
    for tensor in (x, Tensor(2.0), Parameter([1.0]), y, y[1:], y.sum(), x.detach(), x.grad, x.grad + x.grad):
        with pytest.raises(ValueError, match="read-only"):
            tensor.array[...] = 5.0
        with pytest.raises(ValueError, match="read-only"):
            tensor.array += 1.0
    x.assign(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="read-only"):
        x.array[...] = 5.0
    with pytest.raises(AutogradError, match="assigned to since"):
        y.sum().backward()


def test_the_arrays_of_the_caller_stay_writable() -> None:
    values, index, mask = np.ones((2, 3)), np.array([0, 1]), np.array([True, False])
    x = leaf(values)
    y = (x + values)[index, index] * values[:, 0]
    loss = ops.where(mask, y, values[0, 0]).sum()
    for array in (values, index, mask):
        array[...] = 0  # and the graph does not see it
    loss.backward()
    np.testing.assert_array_equal(gradient(x), [[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])


def test_assign_leaves_what_was_made_before() -> None:
    x = leaf(np.ones((2, 2)))
    row, apart, view = x.detach()[0], x.detach(), x.data
    x.assign(np.zeros((2, 2), np.float32))
    assert x.dtype == F64
    for old in (row.numpy(), apart.numpy(), view):
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


# --- among NumPy's arrays


def test_numpy_reads_a_tensor_without_a_gradient(array_backend: str) -> None:
    x = Tensor([[1.0, 2.0]])
    assert np.array(x).dtype == F32 and np.array(x).flags.writeable
    if array_backend == "numpy":
        assert np.asarray(x).base is x.array or np.shares_memory(np.asarray(x), x.array)
        assert not np.asarray(x).flags.writeable
    assert np.asarray(x, np.float64).dtype == F64
    np.testing.assert_array_equal(np.concatenate([x, x]), [[1.0, 2.0]] * 2)
    np.testing.assert_array_equal(Tensor([x, x]).numpy(), [[[1.0, 2.0]]] * 2)
    with pytest.raises(ValueError, match="without a copy"):
        x.__array__(np.float64, copy=False)


def test_numpy_does_not_lose_a_gradient_without_a_word() -> None:
    x = leaf([1.0, 2.0])
    for job in (lambda: np.array(x), lambda: np.asarray(x * 2.0), lambda: Tensor([x, x]), lambda: np.stack([x, x])):
        with pytest.raises(AutogradError, match=r"numpy.asarray\(tensor\): .* try tensor.numpy\(\)") as caught:
            job()
        assert_sentence(caught.value)
    np.testing.assert_array_equal(x.numpy(), [1.0, 2.0])


def test_shapes_and_axes_as_numpy_takes_them() -> None:
    x = random_leaf((2, 3))
    for made in (x.reshape((3, 2)), x.reshape([3, 2]), x.reshape(3, 2), x.reshape((np.int64(3), -1))):
        np.testing.assert_array_equal(made.numpy(), x.numpy().reshape(3, 2))
    for made in (x.transpose((1, 0)), x.transpose([1, 0]), x.transpose(1, 0), x.transpose()):
        np.testing.assert_array_equal(made.numpy(), x.numpy().T)
    np.testing.assert_array_equal(x.sum(np.int64(0)).numpy(), x.numpy().sum(0))
    for job in (
        lambda: x.reshape("ab"),
        lambda: x.reshape(1.5, 4),
        lambda: x.transpose((0, (1,))),
        lambda: x.reshape(),
    ):
        with pytest.raises(ShapeError) as caught:
            job()
        assert_sentence(caught.value)


@pytest.mark.parametrize("compare", [operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge])
def test_comparisons_are_arrays_of_booleans(compare: Callable[[Any, Any], Any]) -> None:
    x = leaf([0.1, 1.0, 2.0], np.float32)
    for other in (1.0, 0.1, 2, [2.0, 1.0, 0.0], np.array([2.0, 1.0, 0.0]), Tensor([2.0, 1.0, 0.0])):
        array = np.asarray(other, np.float32)
        for found, expected in (
            (compare(x, other), compare(x.numpy(), array)),
            (compare(other, x), compare(array, x.numpy())),
        ):
            assert type(found) is type(x.array) and found.dtype == bool
            np.testing.assert_array_equal(to_numpy(found), expected)
    with pytest.raises(ShapeError) as caught:
        compare(x, np.ones(2))
    assert_sentence(caught.value)


def test_what_cannot_be_compared_is_not_equal() -> None:
    x = leaf([1.0, 2.0])
    for other in (None, "a", object(), [None]):
        assert (x == other) is False and (x != other) is True
        with pytest.raises(TypeError, match="not supported between instances"):
            _ = x < other
    assert len({x, x, leaf([1.0, 2.0])}) == 2  # a tensor is its own key, whatever its values
    np.testing.assert_array_equal(ops.where(x > 1.0, x, 0.0).numpy(), [0.0, 2.0])
    np.testing.assert_array_equal(x[x > 1.0].numpy(), [2.0])


def test_what_has_no_axes_or_more_than_one_element() -> None:
    for job in (lambda: iter(Tensor(1.0)), lambda: len(Tensor(1.0))):
        with pytest.raises(TypeError, match="without axes"):
            job()
    for shape in ((2,), (0,)):
        with pytest.raises(ShapeError, match=r"bool\(tensor\): .*any\(\)") as caught:
            bool(Tensor(np.ones(shape)))
        assert_sentence(caught.value)
        with pytest.raises(ShapeError):
            float(Tensor(np.ones(shape)))


@pytest.mark.parametrize("value", [None, "a", "1.5", [1, None], [[1], [1, 2]], np.array([1, "a"], object), 1j, {1}, {}])
def test_what_is_no_number_is_refused(value: Any) -> None:
    for job in (lambda: Tensor(value), lambda: Tensor([1.0]) + value, lambda: value * Tensor([1.0])):
        with pytest.raises(ShapeError, match="Tensor: expected real numbers") as caught:
            job()
        assert_sentence(caught.value)


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


def test_a_number_takes_the_widest_type_of_its_neighbours() -> None:
    single, double = Tensor([1.0], dtype=np.float32), Tensor([1.0], dtype=np.float64)
    for tensors in ([single, double], [double, single]):
        joined = ops.concatenate([*tensors, [0.1]])
        assert joined.dtype == np.float64
        assert joined.numpy()[2] == 0.1


def test_a_tensor_does_not_share_the_array_that_is_assigned() -> None:
    x, array = leaf([1.0, 2.0]), asarray([3.0, 4.0], np.float64)
    x.assign(array)
    array[...] = 5.0
    np.testing.assert_array_equal(x.numpy(), [3.0, 4.0])


def test_a_tensor_keeps_its_shape() -> None:
    x = leaf([1.0, 2.0])
    for value in ([[3.0, 4.0]], [[3.0], [4.0]], 3.0):
        with pytest.raises(ShapeError, match=r"assign: expected shape \(2,\)"):
            x.assign(value)
    np.testing.assert_array_equal(x.numpy(), [1.0, 2.0])
