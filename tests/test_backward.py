"""The backward pass: graphs, gradients, higher derivatives, and every way in which it can be refused."""

import gc
import sys
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from custom_op import custom
from helpers import assert_sentence, gradient, leaf, random_leaf

from minispike import default_dtype, grad, no_grad, ops
from minispike.backend import to_numpy, unlock
from minispike.errors import AutogradError, ShapeError
from minispike.nn import functional as F
from minispike.nn.functional import layer_norm, layer_norm_composed
from minispike.ops.op import FusedOp, Op
from minispike.tensor import Tensor

# --- graphs


def deep(x: Tensor, nodes: int) -> Tensor:
    for _ in range(nodes // 2):
        x = (x + 0.5) - 0.5
    return x


def test_a_deep_graph_needs_no_recursion() -> None:
    x = leaf([1.0, 2.0])
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(300)
    try:
        y = deep(x, 20_000)
        y.sum().backward(retain_graph=True)
        np.testing.assert_array_equal(gradient(x), [1.0, 1.0])
        (g,) = grad(y.sum(), [x])
        assert g is not None
        del y, g  # a graph that was kept
        gc.collect()
        z = deep(x, 20_000)
        del z  # a graph that nobody went through
        w = deep(x * x, 20_000)
        w.sum().backward()
        del w  # a graph that backward freed
    finally:
        sys.setrecursionlimit(limit)
    np.testing.assert_allclose(gradient(x), [3.0, 5.0], rtol=1e-10)


def test_backward_frees_the_graph_as_it_goes() -> None:
    x = leaf(np.ones(4))
    y = ops.exp(x)
    z = y.sum()
    z.backward()
    assert z.node is not None
    assert z.node.inputs == ()
    assert z.node.op is None


def test_a_node_that_is_used_often() -> None:
    x = leaf(3.0)
    y = x * x
    (y * y + y + y * 2.0 - y).backward()  # x^4 + 2 x^2
    assert gradient(x) == 4 * 27 + 4 * 3


def test_many_uses_add_up_without_touching_other_gradients() -> None:
    x, w = random_leaf((3, 4), 1), random_leaf((3, 4), 2)
    total = x * w
    for _ in range(5):
        total = total + x + w
    total.sum().backward()
    np.testing.assert_allclose(gradient(x), w.numpy() + 5, rtol=1e-14)
    np.testing.assert_allclose(gradient(w), x.numpy() + 5, rtol=1e-14)


def test_diamonds() -> None:
    x = leaf([0.3, -0.7])
    left, right = ops.tanh(x), ops.exp(x)
    joined = left * right
    (joined * left + right).sum().backward()
    t, e = np.tanh(x.numpy()), np.exp(x.numpy())
    np.testing.assert_allclose(gradient(x), 2 * t * (1 - t * t) * e + t * t * e + e, rtol=1e-14)


def test_a_stack_of_diamonds_takes_linear_time() -> None:
    x = leaf(1.0)
    y = x
    for _ in range(200):  # 2^200 paths
        y = (y + y) * 0.5
    y.backward()
    assert gradient(x) == 1.0


def test_only_what_requires_a_gradient_gets_one() -> None:
    x, constant, unused = leaf(2.0), Tensor(3.0), leaf(1.0)
    (x * constant).backward()
    assert gradient(x) == 3.0
    assert constant.grad is None
    assert unused.grad is None


def test_gradients_accumulate_until_they_are_forgotten() -> None:
    x = leaf(2.0)
    (x * 3.0).backward()
    (x * 4.0).backward()
    assert gradient(x) == 7.0
    x.grad = None
    (x * 4.0).backward()
    assert gradient(x) == 4.0


def test_every_leaf_owns_its_gradient() -> None:
    """Gradients may be scaled in place, so no two may share an array, nor may one be a stretched view."""
    a, b, c = random_leaf((2, 3), 1), random_leaf((2, 3), 2), random_leaf((3, 2), 3)
    seed = Tensor(np.ones((2, 3)))
    (a + b + c.transpose()).backward(seed)
    d, e = random_leaf((3, 4)), leaf(1.0)
    (d.sum() + e).backward()
    arrays = [t.grad.array for t in (a, b, c, d, e) if t.grad is not None] + [seed.array]
    for i, array in enumerate(arrays):
        unlock(array)
        array *= i + 2.0
    for i, array in enumerate(arrays):
        np.testing.assert_array_equal(to_numpy(array), np.full(array.shape, i + 2.0))


def test_backward_from_a_leaf() -> None:
    x = leaf([1.0, 2.0])
    seed = Tensor([3.0, 4.0], dtype=np.float64)
    x.backward(seed)
    assert x.grad is not seed
    np.testing.assert_array_equal(gradient(x), [3.0, 4.0])


# --- refusals


def refused(job: Callable[[], Any], kind: type[Exception] = AutogradError) -> str:
    with pytest.raises(kind) as caught:
        job()
    assert_sentence(caught.value)
    return str(caught.value)


def test_a_second_pass_is_refused() -> None:
    x = leaf([1.0, 2.0])
    y = (x * x).sum()
    y.backward()
    assert "retain_graph" in refused(y.backward)
    np.testing.assert_array_equal(gradient(x), [2.0, 4.0])


def test_a_second_pass_through_a_shared_part_is_refused() -> None:
    x = leaf([1.0, 2.0])
    shared = x * x
    first, second = shared.sum(), (shared * 2.0).sum()
    first.backward()
    refused(second.backward)
    np.testing.assert_array_equal(gradient(x), [2.0, 4.0])  # the refused pass left nothing


def test_retain_graph_allows_more() -> None:
    x = leaf([1.0, 2.0])
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward(retain_graph=True)
    y.backward()
    np.testing.assert_array_equal(gradient(x), [6.0, 12.0])
    refused(y.backward)


def test_assignment_after_the_forward_pass_is_refused() -> None:
    x, w = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    y = (x * w).sum()
    w.assign([5.0, 6.0])
    assert "Mul" in refused(y.backward)
    (x * w).sum().backward()
    np.testing.assert_array_equal(gradient(x), [5.0, 6.0])


def test_only_leaves_can_be_assigned_to() -> None:
    y = ops.exp(leaf([1.0]))
    assert "Exp" in refused(lambda: y.assign([0.0]))
    y.detach().assign([0.0])
    assert y.item() == np.exp(1.0)


def test_a_detached_tensor_can_be_assigned_to_without_harm() -> None:
    x = leaf([1.0])
    y = ops.exp(x)
    y.detach().assign([0.0])
    y.backward()
    assert gradient(x) == np.exp(1.0)


def test_detach_cuts_the_graph() -> None:
    x = leaf([2.0])
    (x * x.detach()).backward()
    assert gradient(x) == 2.0
    assert not x.detach().requires_grad


def test_backward_without_a_graph_is_refused() -> None:
    refused(Tensor(1.0).backward)
    with no_grad():
        y = leaf(1.0) * 2.0
    refused(y.backward)
    refused(lambda: grad(Tensor(1.0), []))


def test_backward_needs_a_seed_unless_the_output_is_one_number() -> None:
    x = leaf([1.0, 2.0])
    assert "(2,)" in refused((x * 2.0).backward, ShapeError)
    refused(lambda: (x * 2.0).backward([1.0]), ShapeError)
    refused(lambda: (x * 2.0).backward(np.ones((2, 1))), ShapeError)
    refused(lambda: (x * 2.0).backward("up"), ShapeError)
    (x.sum().reshape(1, 1)).backward()
    np.testing.assert_array_equal(gradient(x), [1.0, 1.0])


@pytest.mark.parametrize(
    "job",
    [
        lambda: Tensor("words"),
        lambda: Tensor(None),
        lambda: Tensor([[1.0], [1.0, 2.0]]),
        lambda: Tensor(np.ones(2, complex)),
        lambda: Tensor([1.0], dtype=np.int64),
        lambda: Tensor([1.0], dtype=np.float16),
        lambda: Tensor([1.0], dtype="number"),
        lambda: Tensor([1.0]).astype(np.int32),
        lambda: Tensor([1.0]).astype(None),
        lambda: default_dtype(np.float16).__enter__(),
        lambda: default_dtype("number").__enter__(),
        lambda: Tensor([1.0, 2.0]).item(),
        lambda: bool(Tensor([1.0, 2.0])),
        lambda: Tensor([1.0]).assign([1.0, 2.0]),
        lambda: Tensor(np.ones((2, 3))) + np.ones((2, 4)),
        lambda: Tensor(np.ones((2, 3))) * Tensor(np.ones((3, 2))),
        lambda: Tensor(np.ones((2, 3))).reshape(7),
        lambda: Tensor(np.ones((2, 3))).sum(axis=2),
    ],
)
def test_mistakes_with_values_and_shapes(job: Callable[[], Any]) -> None:
    refused(job, ShapeError)


# --- grad()


def test_grad_does_not_touch_anyones_gradient() -> None:
    x, w = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    x.grad = kept = Tensor([9.0, 9.0])
    y = (x * w).sum()
    gx, gw = grad(y, [x, w])
    assert gx is not None
    assert gw is not None
    np.testing.assert_array_equal(gx.numpy(), [3.0, 4.0])
    np.testing.assert_array_equal(gw.numpy(), [1.0, 2.0])
    assert x.grad is kept
    assert w.grad is None
    assert grad(y, [w])[0] is not None  # the graph is kept


def test_grad_by_a_tensor_in_the_middle_or_elsewhere() -> None:
    x, elsewhere = leaf([1.0, 2.0]), leaf([0.0])
    middle = x * 3.0
    y = (middle * middle).sum()
    g_middle, g_x, none, g_y = grad(y, [middle, x, elsewhere, y])
    assert g_middle is not None
    assert g_x is not None
    assert g_y is not None
    assert none is None
    np.testing.assert_array_equal(g_middle.numpy(), [6.0, 12.0])
    np.testing.assert_array_equal(g_x.numpy(), [18.0, 36.0])
    assert g_y.item() == 1.0
    assert "inputs[1]" in refused(lambda: grad(y, [x, Tensor([1.0])]))


def test_grad_with_a_seed() -> None:
    x = leaf([1.0, 2.0])
    (g,) = grad(x * x, [x], [1.0, 10.0])
    assert g is not None
    np.testing.assert_array_equal(g.numpy(), [2.0, 40.0])


# --- higher derivatives


def derivative(y: Tensor, x: Tensor) -> Tensor:
    (g,) = grad(y.sum(), [x], create_graph=True)
    assert g is not None
    return g


def test_derivatives_of_the_fourth_power() -> None:
    x = leaf([0.5, -2.0, 3.0])
    y = x**4
    expected = [4 * x.numpy() ** 3, 12 * x.numpy() ** 2, 24 * x.numpy(), np.full(3, 24.0)]
    for values in expected:
        y = derivative(y, x)
        np.testing.assert_allclose(y.numpy(), values, rtol=1e-14)


def test_a_hessian_times_a_vector() -> None:
    rng = np.random.default_rng(0)
    a, v = rng.normal(size=(4, 4)), rng.normal(size=4)
    x = leaf(rng.normal(size=4))
    y = (x @ a) @ x * x.sum()  # q(x) s(x)
    g = derivative(y, x)
    (product,) = grad((g * v).sum(), [x])
    assert product is not None
    symmetric, one = a + a.T, np.ones(4)
    slope = symmetric @ x.numpy()
    hessian = symmetric * x.numpy().sum() + np.outer(slope, one) + np.outer(one, slope)
    np.testing.assert_allclose(product.numpy(), hessian @ v, rtol=1e-12)


def test_backward_with_create_graph_leaves_a_differentiable_gradient() -> None:
    x = leaf(3.0)
    (x**3).backward(create_graph=True)
    first = x.grad
    assert first is not None
    assert first.item() == 27.0
    x.grad = None
    first.backward()
    assert gradient(x) == 18.0


def test_without_create_graph_a_gradient_has_no_graph() -> None:
    x = leaf(3.0)
    seed = leaf(2.0)  # asks for a gradient itself
    (x**3).backward(seed)
    assert x.grad is not None
    assert not x.grad.requires_grad
    (g,) = grad(x**3, [x], seed)
    assert g is not None
    assert not g.requires_grad


def test_create_graph_records_under_no_grad_too() -> None:
    x = leaf(3.0)
    y = x**3
    with no_grad():
        (g,) = grad(y, [x], create_graph=True)
    assert g is not None
    assert grad(g, [x])[0].item() == 18.0  # type: ignore[union-attr]


def test_fused_ops_refuse_a_second_derivative() -> None:
    x, weight, bias = random_leaf((2, 3)), leaf(np.ones(3)), leaf(np.zeros(3))
    y = (layer_norm(x, weight, bias) ** 2).sum()
    message = refused(lambda: grad(y, [x], create_graph=True))
    assert "LayerNorm" in message
    assert "_composed" in message
    y.backward()
    z = (layer_norm_composed(x, weight, bias) ** 3).sum()
    (g,) = grad(z, [x], create_graph=True)
    assert g is not None
    assert g.requires_grad


def test_an_op_of_ones_own() -> None:
    class Cube(Op):
        def forward(self, a: Any) -> Any:
            return a**3

        def backward(self, grad: Tensor, out: Tensor, *inputs: Tensor) -> Any:
            return (grad * 3.0 * inputs[0] * inputs[0],)

    x = leaf([2.0])
    assert derivative(derivative(Cube()(x), x), x).item() == 12.0


# --- backwards of a user's own that are not what they should be

Backward = Callable[..., Any]


class Own(FusedOp):
    """Twice the first input, and a backward that somebody has written."""

    def __init__(self, backward: Backward) -> None:
        self.written = backward

    def forward(self, *arrays: Any) -> Any:
        return arrays[0] * 2.0

    def backward_arrays(self, grad: Any) -> Any:
        return self.written(grad)


def written_into(grad: Any) -> Any:
    grad *= 2.0
    return (grad,)


@pytest.mark.parametrize(
    ("backward", "told"),
    [
        (lambda g: g * 2, r"expected 1 gradient in a tuple, .* got one \w*ndarray; try return \(gradient,\)"),
        (lambda g: (g, g), "expected 1 gradient in a tuple, one for each input, .* got 2 of them"),
        (lambda g: None, ".* got one NoneType"),
        (lambda g: ([1.0, 2.0],), "expected an array of floats, or None, got list as number 0"),
        (lambda g: (2.0,), ".* got float as number 0"),
        (lambda g: (g[:1].repeat(5),), r"expected a gradient of shape \(3,\), .* got shape \(5,\)"),
        (lambda g: (g.sum().reshape(()),), r"expected a gradient of shape \(3,\), .* got shape \(\)"),
        (lambda g: (g.reshape(3, 1),), r"expected a gradient of shape \(3,\), .* got shape \(3, 1\)"),
    ],
)
def test_what_backward_must_return(backward: Backward, told: str) -> None:
    with pytest.raises(AutogradError, match=f"backward of Own: {told}") as caught:
        Own(backward)(random_leaf((3,))).sum().backward()
    assert_sentence(caught.value)


def test_a_backward_of_tensors_must_return_tensors() -> None:
    for returned in (np.ones(3), 2.0, "a"):
        with pytest.raises(AutogradError, match="backward of Custom: expected a tensor, or None, got") as caught:
            custom(lambda a: a * 2.0, lambda g, out, a, r=returned: (r,))(random_leaf((3,))).sum().backward()
        assert_sentence(caught.value)


def test_what_forward_must_return() -> None:
    for returned in ([1.0, 2.0], None, 2.0, Tensor(1.0), np.ones(3, int)):
        with pytest.raises(
            AutogradError, match="forward of Custom: expected an array of float32 or float64, got"
        ) as caught:
            custom(lambda a, r=returned: r, lambda g, out, a: (g,))(random_leaf((3,)))
        assert_sentence(caught.value)


def test_an_error_of_numpys_in_a_backward_names_the_op() -> None:
    with pytest.raises(AutogradError, match="backward of Own: expected shapes that fit together, got") as caught:
        Own(lambda g: (g @ g.reshape(1, 3),))(random_leaf((3,))).sum().backward()
    assert_sentence(caught.value)


def test_fewer_gradients_than_inputs() -> None:
    with pytest.raises(AutogradError, match="expected 2 gradients in a tuple, .* got 1 of them") as caught:
        Own(lambda g: (g,))(random_leaf((3,)), random_leaf((3,))).sum().backward()
    assert_sentence(caught.value)


def test_a_backward_must_not_write_into_its_gradient(array_backend: str) -> None:
    if array_backend != "numpy":
        pytest.skip("CuPy's arrays cannot be locked")
    with pytest.raises(AutogradError, match=r".*read-only; try a copy: grad.copy\(\)") as caught:
        Own(written_into)(random_leaf((3,))).sum().backward()
    assert_sentence(caught.value)


def test_a_stretched_tensor_of_fewer_axes() -> None:
    x, y = leaf([[3.0]]), random_leaf((2, 1, 4))
    (x * y).sum().backward()
    np.testing.assert_allclose(gradient(x), [[y.numpy().sum()]], rtol=1e-14)


def test_a_seed_of_another_shape_is_refused_although_it_would_fit() -> None:
    x = leaf([1.0, 2.0])
    for seed in ([[1.0, 1.0]], [[1.0], [1.0]]):
        for y in (x, x * 2.0):
            with pytest.raises(ShapeError, match=r"grad: expected shape \(2,\)"):
                y.backward(seed)


def test_leaves_that_get_equal_gradients_own_them() -> None:
    a, b = random_leaf((2,), 1), random_leaf((2,), 2)
    ((a + b) * 2.0).backward([1.0, 1.0])
    assert a.grad is not None and b.grad is not None
    assert a.grad.array is not b.grad.array


def test_create_graph_keeps_the_graph() -> None:
    x = leaf(3.0)
    y = x**3
    y.backward(create_graph=True)
    y.backward()
    assert gradient(x) == 54.0
    assert x.grad is not None and not x.grad.requires_grad  # the second pass was not recorded, nor its sum


def test_a_gradient_of_many_uses_is_read_only_like_any_other(array_backend: str) -> None:
    if array_backend != "numpy":
        pytest.skip("CuPy's arrays cannot be locked")
    x = leaf([1.0])
    (x + x + x + x).sum().backward()
    assert x.grad is not None
    with pytest.raises(ValueError, match="read-only"):
        x.grad.array[...] = 5.0


# --- what a graph holds


def test_values_that_no_backward_reads_live_as_long_as_their_tensor() -> None:
    """A sum is read by nobody behind sums and fused ops; a product, and what goes into one, is."""
    a, weight = leaf([[1.0, 2.0]]), leaf([[3.0, 4.0], [5.0, 6.0]])

    def alive(make: Callable[[Tensor], Tensor]) -> tuple[bool, Tensor]:
        middle = make(a)
        there = weakref.ref(middle)
        out = F.linear(middle + 1.0, weight).sum() + middle.sum()
        del middle
        return there() is not None, out

    for make, kept in (
        (lambda a: a + a, False),
        (lambda a: F.linear(a, weight), False),
        (lambda a: a * 2.0, True),
        (lambda a: ops.exp(a), True),
    ):
        found, out = alive(make)
        assert found == kept
        expected = F.linear(make(a) + 1.0, weight).sum() + make(a).sum()
        for ours, theirs in zip(grad(out, [a, weight]), grad(expected, [a, weight]), strict=True):
            assert ours is not None and theirs is not None
            np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


def test_the_gradient_of_a_tensor_that_the_graph_holds_as_a_shadow() -> None:
    """It is the same tensor to whoever asks for its gradient, and to all that was made from it."""
    a = leaf([1.0, 2.0])
    middle = a + 1.0
    out = (middle + middle).sum() + (middle * middle).sum() + F.linear(middle, leaf([[1.0, 1.0]])).sum()
    found = grad(out, [middle, a])
    for gradient_ in found:
        assert gradient_ is not None
        np.testing.assert_allclose(gradient_.numpy(), 3.0 + 2.0 * middle.numpy())
