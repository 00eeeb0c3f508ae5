"""Every fused neuron equals its composition in value and gradient, and passes `check_grads`."""

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from fused_pairs import Pair, assert_same
from helpers import random_leaf

from minispike import check_grads, grad, smooth_spikes
from minispike.smooth import FrozenValues, frozen_values
from minispike.snn import kernels
from minispike.snn.neurons import LIF, LIFNeuron, lif, lif_composed, lif_with_state
from minispike.snn.surrogate import SURROGATES, Surrogate
from minispike.tensor import Tensor

# --- neurons

NEURONS = [
    LIFNeuron(tau, 0.7, reset, detach, decay, surrogate())
    for tau, reset, detach, decay, surrogate in itertools.product(
        [2.0, 1.0, 7.5], [0.0, None, -0.2], [True, False], [True, False], SURROGATES.values()
    )
    if tau == 2.0 or surrogate is SURROGATES["atan"]
] + [LIFNeuron(float("inf"), 0.7, reset, detach, False) for reset in (0.0, None) for detach in (True, False)]


def name_of(neuron: LIFNeuron) -> str:
    kind = "soft" if neuron.reset is None else f"to{neuron.reset}"
    parts = [f"tau{neuron.tau}", kind, type(neuron.surrogate).__name__]
    return "-".join(parts + ["detached"] * neuron.detach_reset + ["decaying"] * neuron.decay_input)


def spikes_and_state(x: Tensor, neuron: LIFNeuron, v: Tensor | None = None, **kw: Any) -> tuple[Tensor, Tensor]:
    spikes, _, potentials = lif_composed(x, neuron, v, **kw)
    return spikes, potentials[len(potentials) - 1]


@pytest.mark.parametrize("neuron", NEURONS, ids=name_of)
def test_lif(neuron: LIFNeuron) -> None:
    x, v = random_leaf((5, 2, 3), 1), random_leaf((2, 3), 2)
    assert_same(Pair(lambda x: lif(x, neuron), lambda x: lif_composed(x, neuron)[0], [x]))
    with_state = Pair(lambda x, v: lif_with_state(x, neuron, v), lambda x, v: spikes_and_state(x, neuron, v), [x, v])
    assert_same(with_state)
    assert_same(Pair(lambda x: lif_with_state(x, neuron), lambda x: spikes_and_state(x, neuron), [x]))


SMOOTH = [n for n in NEURONS if type(n.surrogate).__name__ not in ("Triangle", "Rectangle")]


@pytest.mark.parametrize("neuron", SMOOTH, ids=name_of)
def test_lif_gradients(neuron: LIFNeuron) -> None:
    x, v = random_leaf((4, 3), 1), random_leaf((3,), 2)
    for f in (lif_with_state, spikes_and_state):
        check_grads(lambda x, v, f=f: f(x, neuron, v), x, v, spikes="smooth", rtol=1e-7)
    check_grads(lambda x: lif(x, neuron), x, spikes="smooth", rtol=1e-7)
    check_grads(lambda x: lif(x, neuron, time_steps=4), x[:1].detach().numpy(), spikes="smooth", rtol=1e-7)


@pytest.mark.parametrize("name", ["triangle", "rectangle"])
def test_lif_gradients_away_from_the_kinks(name: str) -> None:
    """The derivative of these two has corners or jumps; the seeds keep the potentials away from them."""
    neuron = LIFNeuron(threshold=0.1, surrogate=SURROGATES[name](0.3))
    x, v = random_leaf((4, 3), 1), random_leaf((3,), 2)
    check_grads(lambda x, v: lif_with_state(x, neuron, v), x, v, spikes="smooth", rtol=1e-7)


@pytest.mark.parametrize("shape", [(3,), (1, 4), (3, 0), (2, 1, 2, 3)])
@pytest.mark.parametrize("reset", [0.0, None, -0.2])
def test_lif_shapes(shape: tuple[int, ...], reset: float | None) -> None:
    neuron = LIFNeuron(threshold=0.3, reset=reset, detach_reset=False)
    x, v = random_leaf(shape, 1), random_leaf(shape[1:], 2)
    assert_same(Pair(lambda x, v: lif_with_state(x, neuron, v), lambda x, v: spikes_and_state(x, neuron, v), [x, v]))


def test_lif_of_strided_input() -> None:
    neuron = LIFNeuron(threshold=0.3)
    x = random_leaf((3, 2, 4), 1)
    for view in (lambda x: x.transpose(2, 1, 0), lambda x: x[:, ::-1, ::2], lambda x: x.transpose(1, 0, 2)):
        assert_same(
            Pair(
                lambda x, view=view: lif(view(x), neuron),
                lambda x, view=view: lif_composed(view(x), neuron)[0],
                [x],
            )
        )


def test_lif_of_more_neurons_than_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer is computed in blocks; the seams must not show."""
    neuron = LIFNeuron(threshold=0.3, detach_reset=False)
    x = random_leaf((2, 70_001), 1)
    assert_same(Pair(lambda x: lif(x, neuron), lambda x: lif_composed(x, neuron)[0], [x]))
    monkeypatch.setattr(kernels, "BLOCK", 12)
    monkeypatch.setattr(kernels, "LEAST", 2)
    x = random_leaf((3, 11), 1)
    for detach in (True, False):
        neuron = LIFNeuron(threshold=0.3, detach_reset=detach)
        assert_same(Pair(lambda x, n=neuron: lif(x, n), lambda x, n=neuron: lif_composed(x, n)[0], [x]))
        check_grads(lambda x, n=neuron: lif(x, n), x, spikes="smooth", rtol=1e-7)


@dataclass(frozen=True)
class StraightThrough(Surrogate):
    """One whose derivative is a number, the same everywhere."""

    def derivative(self, u: Any) -> Any:
        return 1.0


@pytest.mark.parametrize("reset", [0.0, None])
@pytest.mark.parametrize("detach", [True, False])
def test_a_surrogate_with_one_number_for_all(reset: float | None, detach: bool) -> None:
    neuron = LIFNeuron(threshold=0.3, reset=reset, detach_reset=detach, surrogate=StraightThrough())
    for x in (random_leaf((4, 3), 1), random_leaf((1, 3), 1)):
        pair = Pair(lambda x: lif(x, neuron, time_steps=4), lambda x: lif_composed(x, neuron, time_steps=4)[0], [x])
        assert_same(pair)


def test_blocks_of_many_time_steps_are_not_small() -> None:
    """Nor more than the layer; a block has about so many numbers in all, and at least a few of each step."""
    layer = np.empty((1, 70_000, 2), np.float32)
    for steps in (1, 4, 1000):
        sizes = [b.stop - b.start for b in kernels.blocks(layer, steps)]
        assert sum(sizes) == 70_000
        assert sizes[0] == max(kernels.BLOCK // steps, kernels.LEAST) // 2 or sizes == [70_000]
    assert kernels.blocks(layer[:, :0], 4) == []
    assert kernels.blocks(np.empty((1, 2, kernels.LEAST + 1)), kernels.BLOCK) == [slice(0, 1), slice(1, 2)]


def test_lif_leaves_what_it_is_given() -> None:
    x, v, seed = random_leaf((3, 4), 1), random_leaf((4,), 2), random_leaf((4, 4), 3).detach()
    before = [t.numpy() for t in (x, v, seed)]
    LIF(LIFNeuron(threshold=0.3), 3, with_state=True)(x, v).backward(seed)
    for t, old in zip((x, v, seed), before, strict=True):
        np.testing.assert_array_equal(t.numpy(), old)


@pytest.mark.parametrize("neuron", NEURONS[::7], ids=name_of)
def test_lif_in_single_precision(neuron: LIFNeuron) -> None:
    x, v = random_leaf((5, 40), 1, np.float32), random_leaf((40,), 2, np.float32)
    spikes, state = lif_with_state(x, neuron, v)
    assert spikes.dtype == state.dtype == np.float32
    double = lif_with_state(Tensor(x, dtype=np.float64), neuron, Tensor(v, dtype=np.float64))
    np.testing.assert_array_equal(spikes.numpy(), double[0].numpy())
    np.testing.assert_allclose(state.numpy(), double[1].numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("tau", [1.5, 3.0, 7.0])
def test_at_rest_is_the_resting_potential_to_the_last_bit(tau: float, dtype: Any) -> None:
    """Whether nobody says where a layer starts, or somebody says that it starts at rest."""
    x = np.random.default_rng(0).normal(0.2, 0.5, (3, 4000)).astype(dtype)
    for reset in (0.0, None, 0.15, -0.2, 0.7):
        neuron = LIFNeuron(tau, 0.4, reset)
        given = Tensor(np.full(4000, neuron.resting, dtype), dtype=dtype)
        found, expected = lif_with_state(Tensor(x), neuron), lif_with_state(Tensor(x), neuron, given)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_spikes_alone_of_a_layer_that_starts_from_a_potential() -> None:
    neuron = LIFNeuron(3.0, 0.3, detach_reset=False)
    x, v = random_leaf((4, 3), 1), random_leaf((3,), 2)
    assert_same(
        Pair(lambda x, v: LIF(neuron, 4, with_state=False)(x, v), lambda x, v: lif_composed(x, neuron, v)[0], [x, v])
    )


def test_a_replayed_reset_has_the_gradient_of_its_composition() -> None:
    """Away from the point where its spikes were recorded."""
    neuron = LIFNeuron(3.0, 0.3)
    x, elsewhere = random_leaf((4, 3), 1), random_leaf((4, 3), 2)
    found = []
    for layer in (lif, lambda x, neuron: lif_composed(x, neuron)[0]):
        values = FrozenValues()
        with smooth_spikes(), frozen_values(values):
            layer(x, neuron)
            values.replay()
            spikes = layer(elsewhere, neuron)
            found.append(grad(spikes.sum(), [elsewhere])[0].numpy())  # type: ignore[union-attr]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-12)
