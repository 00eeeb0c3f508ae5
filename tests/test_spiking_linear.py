"""The spiking layer as one op: what it computes, block by block, is what its parts compute one after the other."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fused_pairs import Pair, assert_same
from helpers import assert_sentence, random_leaf

from minispike import check_grads, grad, no_grad, smooth_spikes
from minispike.backend import to_numpy
from minispike.errors import ShapeError
from minispike.nn import functional as F
from minispike.smooth import FrozenValues, frozen_values
from minispike.snn import kernels
from minispike.snn.neurons import LIFNeuron, lif
from minispike.snn.spiking_linear import SpikingLinear, spiking_linear, spiking_linear_composed
from minispike.snn.surrogate import FastSigmoid, Gaussian, Sigmoid
from minispike.tensor import Tensor

Array = Any

HARD = LIFNeuron(threshold=0.4)
NEURONS = {
    "hard": HARD,
    "hard, attached": replace(HARD, detach_reset=False),
    "to below zero": LIFNeuron(3.0, 0.3, -0.2),
    "to below zero, attached": LIFNeuron(3.0, 0.3, -0.2, detach_reset=False, surrogate=Gaussian()),
    "soft": replace(HARD, reset=None, surrogate=FastSigmoid()),
    "soft, attached": LIFNeuron(1.5, 0.3, None, detach_reset=False),
    "input does not decay": LIFNeuron(7.5, 0.5, 0.1, decay_input=False, surrogate=Sigmoid()),
    "no leak": LIFNeuron(float("inf"), 0.7, decay_input=False),
}
SMOOTH = {name: neuron for name, neuron in NEURONS.items() if not isinstance(neuron.surrogate, FastSigmoid)}


def layer(*shape: int, out: int = 4, seed: int = 0, dtype: Any = np.float64) -> list[Tensor]:
    """An input and the parameters of a layer."""
    shapes = (shape, (out, shape[-1]), (out,), (out,), (out,))
    return [random_leaf(each, 10 * seed + i, dtype) for i, each in enumerate(shapes)]


def pair(neuron: LIFNeuron, inputs: list[Tensor], **how: Any) -> Pair:
    return Pair(
        lambda *a: spiking_linear(*a, neuron, **how), lambda *a: spiking_linear_composed(*a, neuron, **how), inputs
    )


def in_small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of two tokens of a layer of 4 outputs and 3 time steps; the last one is of one, where they are odd."""
    monkeypatch.setattr(kernels, "BLOCK", 24)
    monkeypatch.setattr(kernels, "LEAST", 8)


@pytest.mark.parametrize("name", NEURONS)
@pytest.mark.parametrize("steps", [3, 1], ids=["over time", "constant"])
def test_the_layer_is_its_composition(name: str, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    in_small_blocks(monkeypatch)
    for shape in ((steps, 5, 6), (steps, 1, 1, 6), (steps, 2, 3, 6)):
        assert_same(pair(NEURONS[name], layer(*shape), time_steps=3))
    assert_same(pair(NEURONS[name], layer(steps, 2, 6), time_steps=3, eps=0.3))


@pytest.mark.parametrize("shape", [(3, 6), (3, 0, 6), (1, 2, 0, 6), (3, 2, 1)])
def test_shapes(shape: tuple[int, ...]) -> None:
    assert_same(pair(HARD, layer(*shape)))


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("steps", [3, 1], ids=["over time", "constant"])
def test_its_gradient(name: str, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With potentials and spikes computed again in backward, and resets that a check holds."""
    in_small_blocks(monkeypatch)
    neuron = SMOOTH[name]
    check_grads(lambda *a: spiking_linear(*a, neuron, time_steps=3), *layer(steps, 5, 6), spikes="smooth", rtol=1e-7)


def test_the_gradient_of_some_inputs_alone() -> None:
    inputs = layer(3, 2, 6)
    for alone in inputs:
        constants = [x if x is alone else x.detach() for x in inputs]
        check_grads(lambda *a: spiking_linear(*a, HARD), *constants, spikes="smooth", rtol=1e-7)


def test_backward_after_the_switch_is_off_again() -> None:
    """The layer remembers how its neurons fired, for it fires them again."""
    inputs, found = layer(3, 5, 6), []
    for f in (spiking_linear, spiking_linear_composed):
        with smooth_spikes():
            out = f(*inputs, HARD)
        found.append([to_numpy(g.array) for g in grad(out.sum(), inputs) if g is not None])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)


def test_a_replayed_reset_has_the_gradient_of_its_composition() -> None:
    """Away from the point where its spikes were recorded."""
    inputs, elsewhere, found = layer(3, 5, 6), layer(3, 5, 6, seed=1), []
    for f in (spiking_linear, spiking_linear_composed):
        values = FrozenValues()
        with smooth_spikes(), frozen_values(values):
            f(*inputs, HARD)
            values.replay()
            out = f(*elsewhere, HARD)
            found.append([to_numpy(g.array) for g in grad(out.sum(), elsewhere) if g is not None])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("steps", [4, 1])
def test_the_same_bits_as_its_fused_parts_where_the_gain_is_a_power_of_two(steps: int, dtype: Any) -> None:
    """So that what is recorded of a network, which shows the currents too, is what it computes."""
    inputs = layer(steps, 300, 16, out=32, dtype=dtype)
    found = spiking_linear(*inputs, LIFNeuron(), time_steps=4)
    expected = lif(F.normed_linear(*inputs), LIFNeuron(), time_steps=4)
    np.testing.assert_array_equal(found.numpy(), expected.numpy())
    assert found.dtype == dtype
    assert 0.01 < found.numpy().mean() < 0.9


def test_single_precision() -> None:
    inputs = layer(4, 50, 8, dtype=np.float32)
    gradients = [grad(spiking_linear(*these, HARD).sum(), these) for these in (inputs, doubled(inputs))]
    for a, b in zip(*gradients, strict=True):
        assert a is not None and b is not None
        assert a.dtype == np.float32
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-3, atol=1e-3)


def doubled(inputs: list[Tensor]) -> list[Tensor]:
    return [Tensor(x, requires_grad=True, dtype=np.float64) for x in inputs]


@pytest.mark.parametrize("smooth", [False, True])  # smooth ones are frozen in the resets
@pytest.mark.parametrize("neuron", [HARD, replace(HARD, reset=None)], ids=["hard", "soft"])
def test_twice_through_the_same_graph(neuron: LIFNeuron, smooth: bool) -> None:
    inputs = layer(3, 5, 6)
    with smooth_spikes(smooth):
        total = spiking_linear(*inputs, neuron).sum()
    first, second = grad(total, inputs), grad(total, inputs)
    for a, b in zip(first, second, strict=True):
        assert a is not None and b is not None
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_it_leaves_what_it_is_given() -> None:
    inputs = layer(3, 5, 6)
    before = [x.numpy() for x in inputs]
    seed = random_leaf((3, 5, 4), 9).detach()
    seed_before = seed.numpy()
    spiking_linear(*inputs, HARD).backward(seed)
    for x, old in zip((*inputs, seed), (*before, seed_before), strict=True):
        np.testing.assert_array_equal(x.numpy(), old)


def test_without_a_graph_the_spikes_are_the_same() -> None:
    inputs = layer(3, 5, 6)
    with no_grad():
        alone = spiking_linear(*inputs, HARD)
    assert alone.node is None
    np.testing.assert_array_equal(alone.numpy(), spiking_linear(*inputs, HARD).numpy())


def test_it_keeps_one_number_an_output_and_no_potentials() -> None:
    """But for the input, the weights and a number a token."""
    op = SpikingLinear(HARD, 4, 1e-5)
    x, *parameters = layer(4, 100, 8, out=64)
    op(x, *parameters)
    kept = [a for a in vars(op).values() if hasattr(a, "shape")]
    assert sum(a.size for a in kept if a.size > 64 * 8 and a is not op.x) == 4 * 100 * 64
    assert all(a is None for a in op.seen)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_counts_are_kept_in_a_byte_each(dtype: Any) -> None:
    """And give the same bits as the numbers do."""
    x, *parameters = layer(3, 5, 6, dtype=dtype)
    counts = np.random.default_rng(1).integers(0, 256, x.shape)
    x = Tensor(counts, requires_grad=True, dtype=dtype)
    op = SpikingLinear(HARD, 3, 1e-5, counts=True)
    found = grad(op(x, *parameters).sum(), [x, *parameters], retain_graph=True)
    assert op.x.dtype == np.uint8
    np.testing.assert_array_equal(to_numpy(op.x), counts)
    for a, b in zip(found, grad(spiking_linear(x, *parameters, HARD).sum(), [x, *parameters]), strict=True):
        assert a is not None and b is not None
        assert a.dtype == dtype
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    with smooth_spikes():
        op(x, *parameters)
    assert op.x.dtype == dtype


def test_mistakes() -> None:
    x, weight, *rest = layer(3, 2, 6)
    for call in (
        lambda: spiking_linear(x, weight.transpose(), *rest, HARD),
        lambda: spiking_linear(x, weight, random_leaf((5,), 1), *rest[1:], HARD),
        lambda: spiking_linear(x, weight, *rest, HARD, time_steps=4),
        lambda: spiking_linear(x[:0], weight, *rest, HARD),
        lambda: spiking_linear(x[:, 0, 0], weight, *rest, HARD),
    ):
        with pytest.raises(ShapeError) as caught:
            call()
        assert_sentence(caught.value)
