"""The gradient checker catches every kind of wrong gradient."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from custom_op import Gradients, custom
from helpers import assert_sentence, random_leaf

from minispike import check_grads, ops
from minispike.backend import array_module
from minispike.errors import GradientError
from minispike.nn import functional as F
from minispike.nn.attention import SoftmaxAttention, merge_heads, split_heads
from minispike.nn.losses import CrossEntropy
from minispike.snn.attention import SpikingAttention
from minispike.snn.neurons import LIF, LIFNeuron
from minispike.tensor import Tensor

# --- gradients that are wrong


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
