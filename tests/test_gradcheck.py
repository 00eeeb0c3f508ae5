"""The gradient checker catches every kind of wrong gradient, and never a right one."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from helpers import assert_sentence, leaf, random_leaf

from minispike import check_grads, grad, ops
from minispike.backend import array_module
from minispike.errors import GradientError
from minispike.nn import functional as F
from minispike.nn.attention import SoftmaxAttention, merge_heads, softmax_attention_composed, split_heads
from minispike.nn.layers import LayerNorm, Linear
from minispike.nn.losses import CrossEntropy
from minispike.nn.module import Module, ModuleList
from minispike.ops.op import FusedOp, Op
from minispike.smooth import spikes_are_smooth
from minispike.snn.attention import SpikingAttention
from minispike.snn.neurons import LIF, LIFNeuron, lif, lif_composed
from minispike.tensor import Tensor, get_default_dtype

Gradients = Sequence[Any]


class Custom(Op):
    """An op of two functions: values, and gradients from (grad, out, *inputs)."""

    def __init__(self, forward: Callable[..., Any], backward: Callable[..., Gradients]) -> None:
        self.forward_function, self.backward_function = forward, backward

    def forward(self, *arrays: Any) -> Any:
        return self.forward_function(*arrays)

    def backward(self, grad: Tensor, out: Tensor, *inputs: Tensor) -> Gradients:
        return self.backward_function(grad, out, *inputs)


# --- gradients that are wrong


def custom(forward: Callable[..., Any], backward: Callable[..., Gradients]) -> Callable[..., Tensor]:
    return lambda *inputs: Custom(forward, backward)(*inputs)


class UncentredLayerNorm(F.LayerNorm):
    """Forgets that the mean depends on the input."""

    def backward_arrays(self, grad: Any) -> Any:
        return (grad * self.weight * self.inverse, *super().backward_arrays(grad)[1:])


class UnscaledLayerNorm(F.LayerNorm):
    """Forgets that the variance depends on the input."""

    def backward_arrays(self, grad: Any) -> Any:
        dx = grad * self.weight
        return ((dx - dx.mean(axis=-1, keepdims=True)) * self.inverse, *super().backward_arrays(grad)[1:])


class AssigningEmbedding(F.Embedding):
    """Lets the last of several equal ids win, instead of adding them up."""

    def backward_arrays(self, grad: Any) -> Any:
        dw = np.zeros_like(self.weight)
        dw[self.ids] = grad
        return (dw,)


class SummedCrossEntropy(CrossEntropy):
    """Forgets that the loss is a mean over rows."""

    def backward_arrays(self, grad: Any) -> Any:
        return [g * len(self.labels) for g in super().backward_arrays(grad)]


class UnnormalisedAttention(SoftmaxAttention):
    """Forgets that the weights of a softmax sum to 1."""

    def backward_arrays(self, grad: Any) -> Any:
        g = split_heads(grad, self.heads)
        dscores = (g @ self.v.swapaxes(-1, -2)) * self.weights * self.scale
        dk = dscores.swapaxes(-1, -2) @ self.q
        return merge_heads(dscores @ self.k), merge_heads(dk), super().backward_arrays(grad)[2]


class SwappedAttention(SpikingAttention):
    """Gives the queries the gradient of the keys."""

    def backward_arrays(self, grad: Any) -> Any:
        dq, dk, dv = super().backward_arrays(grad)
        return dk, dq, dv


class LateLIF(LIF):
    """Reads the gradient of the spikes one time step late."""

    def backward_arrays(self, grad: Any) -> Any:
        return super().backward_arrays(np.roll(grad, 1, axis=0))


class ForgetfulLIF(LIF):
    """Forgets that a potential reaches the next time step."""

    def backward_arrays(self, grad: Any) -> Any:
        self.constants = dataclasses.replace(self.constants, decay=0.0)
        return super().backward_arrays(grad)


class DetachedLIF(LIF):
    """Drops the gradient that flows through the reset, although the neuron has it."""

    def backward_arrays(self, grad: Any) -> Any:
        self.constants = dataclasses.replace(self.constants, detach_reset=True)
        return super().backward_arrays(grad)


class UnresetLIF(LIF):
    """Forgets that a spike cuts the path through the potential."""

    def backward_arrays(self, grad: Any) -> Any:
        self.constants = dataclasses.replace(self.constants, reset=None)
        return super().backward_arrays(grad)


class NarrowLIF(LIF):
    """Takes the derivative of another surrogate."""

    def backward_arrays(self, grad: Any) -> Any:
        narrow = dataclasses.replace(self.constants.surrogate, alpha=2.1)
        self.constants = dataclasses.replace(self.constants, surrogate=narrow)
        return super().backward_arrays(grad)


class OneStepLIF(LIF):
    """Counts a constant input once instead of at every time step."""

    def backward_arrays(self, grad: Any) -> Any:
        return [g / self.steps for g in super().backward_arrays(grad)]


ATTACHED = LIFNeuron(threshold=0.4, detach_reset=False)


def through(kind: type[LIF], neuron: LIFNeuron = LIFNeuron(threshold=0.4), steps: int = 4) -> Any:  # noqa: B008
    return lambda x: kind(neuron, steps, with_state=False)(x)


def product_rule_without_one_term(grad: Tensor, out: Tensor, a: Tensor, b: Tensor) -> Gradients:
    return grad * b, None


def numpy_tanh(a: Any) -> Any:
    return array_module(a).tanh(a)


IDS = np.array([0, 2, 2, 1])
MATRIX = (3, 3)
CHOSEN = np.array([True, False, True])

WRONG: dict[str, tuple[Callable[..., Any], list[tuple[int, ...]]]] = {
    "sign": (custom(np.negative, lambda g, out, a: (g,)), [(3,)]),
    "sign of the second": (custom(np.subtract, lambda g, out, a, b: (g, g)), [(3,), (3,)]),
    "factor 2": (custom(lambda a: a * a, lambda g, out, a: (g * a,)), [(3,)]),
    "factor 1.00001": (custom(lambda a: a * 3.0, lambda g, out, a: (g * 3.00003,)), [(3,)]),
    "missing term": (custom(np.multiply, product_rule_without_one_term), [(3,), (3,)]),
    "missing reduction": (
        custom(lambda a, b: a + b, lambda g, out, a, b: (g, g[0])), [(4, 3), (3,)]
    ),
    "mean without 1/n": (custom(lambda a: a.mean(axis=0), lambda g, out, a: (g + a * 0.0,)), [(4, 3)]),
    "transposed": (custom(np.matmul, lambda g, out, a, b: (g @ b, a.transpose() @ g)), [MATRIX, MATRIX]),
    "transposed result": (
        custom(np.matmul, lambda g, out, a, b: ((g @ b.transpose()).transpose(), a.transpose() @ g)),
        [MATRIX, MATRIX],
    ),
    "output for input": (custom(numpy_tanh, lambda g, out, a: (g * (1.0 - a * a),)), [(3,)]),
    "quotient": (custom(np.divide, lambda g, out, a, b: (g / b, -g * a / b)), [(3,), (3,)]),
    "swapped branches": (
        lambda a, b: custom(
            lambda a, b: np.where(CHOSEN, a, b),
            lambda g, out, a, b: (ops.where(~CHOSEN, g, 0.0), ops.where(CHOSEN, g, 0.0)),
        )(a, b),
        [(3,), (3,)],
    ),
    "uncut clip": (custom(lambda a: np.clip(a, -0.1, 0.1), lambda g, out, a: (g,)), [(8,)]),
    "swapped parts": (
        custom(lambda a, b: np.concatenate([a, b]), lambda g, out, a, b: (g[3:], g[:3])), [(3,), (3,)]
    ),
    "reversed axis": (custom(lambda a: a[::-1].copy(), lambda g, out, a: (g,)), [(4,)]),
    "off by one": (
        custom(np.cumsum, lambda g, out, a: (ops.stack([g[i + 1 :].sum() for i in range(4)]),)),
        [(4,)],
    ),
    "detached": (lambda a: a * ops.exp(a).numpy(), [(3,)]),
    "cut graph": (lambda a: a + Tensor((a * a).numpy()), [(3,)]),
    "uncentred layer norm": (lambda *a: UncentredLayerNorm(1e-5)(*a), [(3, 5), (5,), (5,)]),
    "unscaled layer norm": (lambda *a: UnscaledLayerNorm(1e-5)(*a), [(3, 5), (5,), (5,)]),
    "assigning embedding": (lambda w: AssigningEmbedding(IDS)(w), [(3, 2)]),
    "summed cross entropy": (lambda x: SummedCrossEntropy(IDS)(x), [(4, 3)]),
    "unnormalised attention": (lambda *a: UnnormalisedAttention(2, None)(*a), [(2, 3, 4)] * 3),
    "swapped attention": (lambda *a: SwappedAttention(2, 0.5, None)(*a), [(1, 2, 3, 4)] * 3),
    "late by one step": (through(LateLIF), [(4, 3)]),
    "no path through time": (through(ForgetfulLIF), [(4, 3)]),
    "no gradient of the reset": (through(DetachedLIF, ATTACHED), [(4, 3)]),
    "no reset in the gradient": (through(UnresetLIF), [(4, 3)]),
    "another surrogate": (through(NarrowLIF), [(4, 3)]),
    "constant input counted once": (through(OneStepLIF), [(1, 3)]),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_gradient_is_caught(name: str) -> None:
    f, shapes = WRONG[name]
    for seed in range(10):
        inputs = [random_leaf(shape, 100 * seed + i) for i, shape in enumerate(shapes)]
        with pytest.raises(GradientError) as caught:
            check_grads(f, *inputs, seed=seed, spikes="smooth")
        assert_sentence(caught.value)
        assert isinstance(caught.value, AssertionError)


def test_there_are_many_kinds_of_wrong() -> None:
    assert len(WRONG) >= 15


SECOND: dict[str, Callable[[Tensor], Tensor]] = {
    "forgotten graph": custom(np.exp, lambda g, out, a: (g * Tensor(out.numpy()),)),
    "constant slope": custom(lambda a: a**3, lambda g, out, a: (g * 3.0 * a.numpy() ** 2,)),
    "wrong function": lambda a: custom(
        lambda a: a**4, lambda g, out, a: (g * custom(lambda a: 4 * a**3, lambda g, out, a: (g * a,))(a),)
    )(a),
}


@pytest.mark.parametrize("name", SECOND)
def test_a_wrong_second_derivative_is_caught_by_order_2_alone(name: str) -> None:
    x = random_leaf((3,), 1)
    check_grads(SECOND[name], x)
    with pytest.raises(GradientError):
        check_grads(SECOND[name], x, order=2)


def test_the_message_tells_the_input_and_the_ratio() -> None:
    f = custom(lambda a, b: a * b, lambda g, out, a, b: (g * b, g * a * 2.0))
    with pytest.raises(GradientError) as caught:
        check_grads(lambda d: f(d["left"], d["right"]), {"left": random_leaf((3,)), "right": random_leaf((3,), 1)})
    message = str(caught.value)
    assert "args[0]['right'] of shape (3,)" in message
    assert "ratio 2" in message
    assert "relative error 0.5" in message


# --- gradients that are right


def network(x: Tensor, w: Tensor, u: Tensor) -> Tensor:
    hidden = ops.gelu(x @ w)
    shares = ops.softmax(hidden @ u, axis=-1)
    return ops.log(shares + 0.5).mean(0) + (hidden * hidden).sum() * 0.1


def spiking(x: Tensor, w: Tensor, u: Tensor) -> Tensor:
    return lif(F.layer_norm(F.linear(x, w), u[0], u[1]), LIFNeuron(threshold=0.3, detach_reset=False), time_steps=3)


RIGHT: dict[str, tuple[Callable[..., Any], list[tuple[int, ...]], int]] = {
    "network": (network, [(3, 4), (4, 5), (5, 2)], 2),
    "spiking": (spiking, [(1, 2, 4), (5, 4), (2, 5)], 1),
    "composed": (lambda x: lif_composed(x, LIFNeuron(reset=None)), [(4, 3)], 1),
    "large": (lambda x: ops.exp(x * 3.0) * 1e4, [(6,)], 2),
    "small": (lambda x: ops.tanh(x) * 1e-6, [(6,)], 2),
    "constant": (lambda x: x * 0.0 + 1.0, [(3,)], 2),
    "cancelling": (lambda x: (x * 1e3 - x * 999.0).sum(), [(40,)], 2),
    "attention": (lambda q, k, v: softmax_attention_composed(q, k, v, 2), [(1, 3, 4)] * 3, 2),
    "several": (lambda x, y: {"a": x * y, "b": [ops.sigmoid(x), (y,)]}, [(2,), (2,)], 2),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_gradient_is_never_flagged(name: str) -> None:
    f, shapes, order = RIGHT[name]
    for seed in range(200 if name in ("network", "large", "cancelling") else 40):
        inputs = [random_leaf(shape, 1000 * seed + i) for i, shape in enumerate(shapes)]
        report = check_grads(f, *inputs, order=order, seed=seed, spikes="smooth")
        assert report.worst_error < 1e-6
        assert report.checks == len(shapes) * order


@pytest.mark.thorough
@pytest.mark.parametrize("name", RIGHT)
def test_a_right_gradient_is_never_flagged_thorough(name: str) -> None:
    f, shapes, order = RIGHT[name]
    for seed in range(1000):
        inputs = [random_leaf(shape, 1000 * seed + i) for i, shape in enumerate(shapes)]
        check_grads(f, *inputs, order=order, seed=seed, spikes="smooth")


# --- points where there is no gradient

KINKS: dict[str, tuple[Callable[[Tensor], Tensor], float]] = {
    "relu": (ops.relu, 0.0),
    "absolute beside 0": (ops.absolute, 3e-5),
    "maximum beside the other": (lambda x: ops.maximum(x, 0.5), 0.50001),
    "clip": (lambda x: ops.clip(x, -1.0, 1.0), 1.0),
    "step": (lambda x: x * 0.0 + lif(x.reshape(1, -1), LIFNeuron(tau=1.0)).reshape(-1), 1.0),
}


@pytest.mark.parametrize("name", KINKS)
@pytest.mark.parametrize("others", [0, 100_000])
def test_a_kink_is_told_from_a_wrong_gradient(name: str, others: int) -> None:
    f, point = KINKS[name]
    x = leaf(np.array([point] + [2.5] * others))
    with pytest.raises(GradientError, match="differentiable point") as caught:
        check_grads(lambda x: f(x) + x * 10.0, x)
    assert_sentence(caught.value)


def test_a_wrong_gradient_of_a_bent_function_is_not_called_a_kink() -> None:
    steep = custom(lambda a: np.sin(50.0 * a), lambda g, out, a: (g * Tensor(51.0 * np.cos(50.0 * a.array)),))
    with pytest.raises(GradientError, match="finite difference"):
        check_grads(steep, random_leaf((5,)))


def test_hard_spikes_cannot_be_checked_and_the_error_says_so() -> None:
    x = random_leaf((4, 3))
    for f in (lif, lambda x, n: lif_composed(x, n)[0]):
        with pytest.raises(GradientError, match="spikes='smooth'"):
            check_grads(lambda x, f=f: f(x, LIFNeuron(threshold=0.4)), x)
    assert not spikes_are_smooth()


def test_an_output_that_is_not_a_number_is_caught() -> None:
    with pytest.raises(GradientError), np.errstate(invalid="ignore"):
        check_grads(ops.sqrt, leaf([-1.0]))


# --- what goes in, and what is put back


class Pair(Module):
    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.first = Linear(3, 4, rng, std=1.0)
        self.rest = ModuleList([LayerNorm(4), Linear(4, 2, rng, std=1.0)])

    def forward(self, x: Tensor) -> Tensor:
        hidden = ops.tanh(self.first(x))
        for layer in self.rest:
            hidden = layer(hidden)
        return hidden


def test_modules_and_nested_inputs() -> None:
    model, x = Pair(), np.random.default_rng(1).normal(size=(2, 3))
    given = {"models": [model], "x": (x, None, "text", 3, np.arange(3)), "w": [random_leaf((2,), 4)]}
    seen: list[Any] = []

    def f(d: dict[str, Any], scale: float) -> Any:
        seen.append(d["x"][1:])
        assert isinstance(d["x"][0], Tensor)
        return {"out": [d["models"][0](d["x"][0]) * scale], "w": d["w"][0] * d["w"][0]}

    report = check_grads(f, given, 2.0)
    assert report.checks == len(model.parameters()) + 2
    for rest in seen:
        assert rest[:3] == (None, "text", 3)
        assert rest[3] is given["x"][4]
    for p in model.parameters():
        assert p.dtype == np.float32


def test_a_tensor_that_is_given_twice_is_one_input() -> None:
    x = random_leaf((3,))
    assert check_grads(lambda a, b: a * b, x, x).checks == 1


def test_tensors_without_gradient_are_constants() -> None:
    x, c = random_leaf((3,)), Tensor(np.ones(3))
    assert check_grads(lambda a, b: a * b, x, c).checks == 1


def test_a_tensor_that_an_op_made_can_be_checked() -> None:
    x = random_leaf((3,))
    assert check_grads(lambda a: a * a * a, x * 2.0, order=2).checks == 2


def snapshot(tensors: Sequence[Tensor]) -> list[Any]:
    return [(id(t.array), t.dtype, t.requires_grad, t.grad, t.version, t.numpy().tobytes()) for t in tensors]


@pytest.mark.parametrize("wrong", [False, True])
@pytest.mark.parametrize("order", [1, 2])
def test_everything_is_put_back(wrong: bool, order: int) -> None:
    x = random_leaf((3,), 1, np.float32)
    x.grad = Tensor([1.0, 2.0, 3.0])
    w, c = random_leaf((3,), 2, np.float64), Tensor([1.0, 2.0, 3.0])
    before = snapshot([x, w, c])
    f = custom(np.multiply, lambda g, out, a, b: (g * b, g * a * (3.0 if wrong else 1.0)))

    def job(x: Tensor, w: Tensor, c: Tensor) -> Tensor:
        assert x.dtype == np.float64
        assert get_default_dtype() is np.float64
        assert spikes_are_smooth()
        return f(x, w) + c

    if wrong:
        with pytest.raises(GradientError):
            check_grads(job, x, w, c, order=order, spikes="smooth")
    else:
        check_grads(job, x, w, c, order=order, spikes="smooth")
    assert snapshot([x, w, c]) == before
    assert get_default_dtype() is np.float32
    assert not spikes_are_smooth()


def test_an_error_of_the_function_puts_everything_back() -> None:
    x = random_leaf((3,), 1, np.float32)
    before = snapshot([x])
    calls: list[int] = []

    def f(x: Tensor) -> Tensor:
        calls.append(1)
        if len(calls) == 4:
            raise ZeroDivisionError
        return x * x

    with pytest.raises(ZeroDivisionError):
        check_grads(f, x)
    assert snapshot([x]) == before


def test_nothing_to_check() -> None:
    for job in (
        lambda: check_grads(lambda: Tensor(1.0)),
        lambda: check_grads(lambda x: x, Tensor([1.0])),
        lambda: check_grads(lambda x: x.detach(), leaf([1.0])),
        lambda: check_grads(lambda x: 3.0, leaf([1.0])),
    ):
        with pytest.raises(GradientError) as caught:
            job()
        assert_sentence(caught.value)


def test_empty_inputs_pass() -> None:
    check_grads(lambda x: x * 2.0, leaf(np.zeros((0, 3))), order=2)


def test_detached_values_are_held_at_the_base_point() -> None:
    """The gradient through a detached factor is that of a constant, and smooth mode checks it as such."""
    x = random_leaf((3,))
    check_grads(lambda x: x * ops.exp(x).detach(), x, spikes="smooth")
    (g,) = grad((x * ops.exp(x).detach()).sum(), [x])
    assert g is not None
    np.testing.assert_array_equal(g.data, np.exp(x.data))


def test_a_fused_op_of_ones_own() -> None:
    class Square(FusedOp):
        def forward(self, a: Any) -> Any:
            self.a = a
            return a * a

        def backward_arrays(self, grad: Any) -> Any:
            return (2.0 * self.a * grad,)

    assert check_grads(lambda x: Square()(x), random_leaf((2, 3))).worst_error < 1e-9
