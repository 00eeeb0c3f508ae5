"""Neurons against recorded cases, tables worked out by hand, closed forms, and one another."""

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import assert_sentence, gradient, leaf, random_leaf

from minispike import check_grads, default_dtype
from minispike.errors import ConfigError
from minispike.nn.optim import AdamW
from minispike.snn.neurons import (
    LIFNeuron,
    ParametricLIF,
    integrate_and_fire,
    leaky_integrator,
    lif,
    lif_composed,
    lif_with_state,
)
from minispike.snn.surrogate import SURROGATES, ATan, Sigmoid, Surrogate, spike
from minispike.tensor import Tensor

Array = np.ndarray[Any, Any]


# --- recorded cases

RECORDED = [f"c{i:02d}" for i in range(72)]


@pytest.fixture(scope="module")
def recorded(shared: Path) -> tuple[dict[str, Any], dict[str, Array]]:
    cases = json.loads((shared / "parity" / "lif_vectors.json").read_text())["cases"]
    with np.load(shared / "parity" / "lif_vectors.npz") as arrays:
        return {case["key"]: case for case in cases}, dict(arrays)


def neuron_of(case: dict[str, Any]) -> LIFNeuron:
    surrogate = {"ATan": ATan, "Sigmoid": Sigmoid}[case["surrogate"]](case["alpha"])
    return LIFNeuron(
        case["tau"],
        case["v_threshold"],
        case["v_reset"],
        case["detach_reset"],
        case["decay_input"],
        surrogate,
    )


def assert_near(found: Any, expected: Array) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_there_are_72_recorded_cases(recorded: tuple[dict[str, Any], dict[str, Array]]) -> None:
    assert sorted(recorded[0]) == RECORDED


@pytest.mark.parametrize("key", RECORDED)
def test_recorded_case(recorded: tuple[dict[str, Any], dict[str, Array]], key: str) -> None:
    cases, arrays = recorded
    neuron = neuron_of(cases[key])
    weights = arrays["w"]
    state_weights = weights[::-1]  # of the potential after each step, in the loss of dx_with_v

    x = leaf(arrays["x"])
    spikes = lif(x, neuron)
    (spikes * weights).sum().backward()
    assert_near(spikes.numpy(), arrays[f"{key}/spike"])
    assert_near(gradient(x), arrays[f"{key}/dx"])

    x = leaf(arrays["x"])
    spikes, charged, potentials = lif_composed(x, neuron)
    (spikes * weights).sum().backward(retain_graph=True)
    assert_near(spikes.numpy(), arrays[f"{key}/spike"])
    assert_near(charged.numpy(), arrays[f"{key}/h"])
    assert_near(potentials.numpy(), arrays[f"{key}/v"])
    assert_near(gradient(x), arrays[f"{key}/dx"])
    x.grad = None
    ((spikes * weights).sum() + (potentials * state_weights.copy()).sum()).backward()
    assert_near(gradient(x), arrays[f"{key}/dx_with_v"])

    x = leaf(arrays["x"])  # the fused op gives the potential of the last step: go one step at a time
    v: Tensor | None = None
    loss = Tensor(0.0)
    for t in range(len(x)):
        spikes, v = lif_with_state(x[t : t + 1], neuron, v)
        assert_near(spikes.numpy()[0], arrays[f"{key}/spike"][t])
        assert_near(v.numpy(), arrays[f"{key}/v"][t])
        loss = loss + (spikes[0] * weights[t]).sum() + (v * state_weights[t].copy()).sum()
    loss.backward()
    assert_near(gradient(x), arrays[f"{key}/dx_with_v"])


@pytest.mark.parametrize(("name", "surrogate"), [("ATan_a2", ATan(2.0)), ("Sigmoid_a4", Sigmoid(4.0))])
def test_recorded_surrogates(
    recorded: tuple[dict[str, Any], dict[str, Array]], name: str, surrogate: Surrogate
) -> None:
    u, spikes, slope = (recorded[1][f"surrogate/{name}/{part}"] for part in ("u", "fwd", "grad"))
    x = leaf(u)
    y = spike(x, surrogate)
    y.backward(np.ones(len(u)))
    np.testing.assert_array_equal(y.numpy(), spikes)
    assert_near(gradient(x), slope)
    assert_near(surrogate.derivative(u.copy()), slope)


# --- by hand: all numbers are fractions of powers of two, so that float64 is exact

#         x       m        s  v
HARD = [
    (1.50, 0.750, 0, 0.750),
    (1.50, 1.125, 1, 0.000),
    (2.00, 1.000, 1, 0.000),  # fires on equality
    (0.50, 0.250, 0, 0.250),
    (-1.00, -0.375, 0, -0.375),
    (4.00, 1.8125, 1, 0.000),
]
SOFT = [
    (1.50, 0.750, 0, 0.750),
    (1.50, 1.125, 1, 0.125),
    (2.00, 1.0625, 1, 0.0625),
    (0.50, 0.28125, 0, 0.28125),
    (-1.00, -0.359375, 0, -0.359375),
    (4.00, 1.8203125, 1, 0.8203125),
]
TO_REST = [  # rest and reset at -0.25: m = v + (x - (v + 0.25)) / 2
    (1.50, 0.500, 0, 0.500),
    (1.50, 0.875, 0, 0.875),
    (2.00, 1.3125, 1, -0.25),
    (0.50, 0.000, 0, 0.000),
    (-1.00, -0.625, 0, -0.625),
    (4.00, 1.5625, 1, -0.25),
]
UNDECAYED = [  # m = v / 2 + x
    (0.75, 0.750, 0, 0.750),
    (0.75, 1.125, 1, 0.000),
    (0.50, 0.500, 0, 0.500),
    (0.75, 1.000, 1, 0.000),
    (-0.50, -0.500, 0, -0.500),
    (0.25, 0.000, 0, 0.000),
]
SUMMED = [  # no leak, soft reset: m = v + x
    (0.75, 0.750, 0, 0.750),
    (0.75, 1.500, 1, 0.500),
    (0.25, 0.750, 0, 0.750),
    (2.00, 2.750, 1, 1.750),
    (-0.50, 1.250, 1, 0.250),
    (0.25, 0.500, 0, 0.500),
]
TABLES = {
    "hard": (LIFNeuron(), HARD),
    "soft": (LIFNeuron(reset=None), SOFT),
    "to-rest": (LIFNeuron(reset=-0.25), TO_REST),
    "undecayed": (LIFNeuron(decay_input=False), UNDECAYED),
    "integrate": (integrate_and_fire(reset=None), SUMMED),
}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_six_steps_by_hand(name: str, dtype: Any) -> None:
    neuron, table = TABLES[name]
    x, m, s, v = (np.array(column, dtype)[:, None] for column in zip(*table, strict=True))
    spikes, charged, potentials = lif_composed(Tensor(x), neuron)
    for found, expected in ((spikes, s), (charged, m), (potentials, v), (lif(Tensor(x), neuron), s)):
        assert found.dtype == dtype
        np.testing.assert_array_equal(found.numpy(), expected)
    spikes, state = lif_with_state(Tensor(x), neuron)
    np.testing.assert_array_equal(spikes.numpy(), s)
    np.testing.assert_array_equal(state.numpy(), v[-1])


def test_a_gradient_by_hand() -> None:
    """Two steps, hard reset, tau 2: m1 = x1/2, no spike, m2 = m1/2 + x2/2, spike."""
    x = leaf([[1.5], [1.5]])
    lif(x, LIFNeuron()).backward(np.ones((2, 1)))
    slope = [1.0 / (1.0 + (math.pi * (m - 1.0)) ** 2) for m in (0.75, 1.125)]
    second = slope[1] * 0.5
    first = (slope[0] + slope[1] * 0.5) * 0.5
    np.testing.assert_allclose(gradient(x)[:, 0], [first, second], rtol=1e-14)
    x.grad = None
    attached = LIFNeuron(detach_reset=False)  # v1 = (1 - s1) m1, so that dv1/dm1 = 1 - s1 - m1 s1'
    lif(x, attached).backward(np.ones((2, 1)))
    first = (slope[0] + slope[1] * 0.5 * (1.0 - 0.75 * slope[0])) * 0.5
    np.testing.assert_allclose(gradient(x)[:, 0], [first, second], rtol=1e-14)


# --- state and shapes

NEURONS = [
    LIFNeuron(threshold=0.3),
    LIFNeuron(threshold=0.3, reset=None, detach_reset=False),
    LIFNeuron(3.0, 0.3, -0.2, False, False, Sigmoid()),
    integrate_and_fire(0.8),
]


@pytest.mark.parametrize("neuron", NEURONS)
def test_state_carried_over_equals_one_long_call(neuron: LIFNeuron) -> None:
    x = random_leaf((7, 2, 3), 1)
    weights, last = (
        np.random.default_rng(2).normal(size=(7, 2, 3)),
        np.random.default_rng(3).normal(size=(2, 3)),
    )
    spikes, state = lif_with_state(x, neuron)
    ((spikes * weights).sum() + (state * last).sum()).backward()
    expected, whole, whole_state = gradient(x), spikes.numpy(), state.numpy()

    for cuts in ([0, 3, 7], [0, 1, 2, 3, 4, 5, 6, 7], [0, 6, 7]):
        x.grad, v, loss = None, None, Tensor(0.0)
        for start, end in itertools.pairwise(cuts):
            spikes, v = lif_with_state(x[start:end], neuron, v)
            np.testing.assert_array_equal(spikes.numpy(), whole[start:end])
            loss = loss + (spikes * weights[start:end]).sum()
        assert v is not None
        np.testing.assert_array_equal(v.numpy(), whole_state)
        (loss + (v * last).sum()).backward()
        np.testing.assert_allclose(gradient(x), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("neuron", NEURONS)
def test_a_constant_input_equals_a_repeated_one(neuron: LIFNeuron) -> None:
    x = random_leaf((1, 2, 3), 1)
    weights = np.random.default_rng(2).normal(size=(5, 2, 3))
    gradients = []
    for f in (
        lambda x: lif(x, neuron, time_steps=5),
        lambda x: lif_with_state(x, neuron, time_steps=5)[0],
        lambda x: lif_composed(x, neuron, time_steps=5)[0],
        lambda x: lif(x[np.zeros(5, int)], neuron),
        lambda x: lif(x[np.zeros(5, int)], neuron, time_steps=5),
    ):
        x.grad = None
        spikes = f(x)
        assert spikes.shape == (5, 2, 3)
        (spikes * weights).sum().backward()
        gradients.append((spikes.numpy(), gradient(x)))
    for spikes, g in gradients[1:]:
        np.testing.assert_array_equal(spikes, gradients[0][0])
        np.testing.assert_allclose(g, gradients[0][1], rtol=1e-12, atol=1e-14)


def test_nothing_is_left_between_calls() -> None:
    """Another batch size, then the first again: no state is kept anywhere."""
    neuron = LIFNeuron(threshold=0.3)
    first = np.random.default_rng(1).normal(size=(4, 3, 2))
    before = lif(Tensor(first), neuron).numpy()
    assert lif(random_leaf((4, 5, 2)), neuron).shape == (4, 5, 2)
    np.testing.assert_array_equal(lif(Tensor(first), neuron).numpy(), before)
    assert lif(Tensor(first[:, :2]), neuron).shape == (4, 2, 2)
    np.testing.assert_array_equal(lif(Tensor(first[:, :2]), neuron).numpy(), before[:, :2])


@pytest.mark.parametrize("neuron", NEURONS)
@pytest.mark.parametrize("shape", [(1, 3), (4, 0, 3), (1, 0), (3,), (1,)])
def test_one_step_empty_batches_and_single_neurons(neuron: LIFNeuron, shape: tuple[int, ...]) -> None:
    x, v = random_leaf(shape, 1), random_leaf(shape[1:], 2)
    spikes, state = lif_with_state(x, neuron, v)
    assert spikes.shape == shape
    assert state.shape == shape[1:]
    (spikes.sum() + state.sum()).backward()
    assert gradient(x).shape == shape
    assert gradient(v).shape == shape[1:]
    composed = lif_composed(x, neuron, v)
    np.testing.assert_array_equal(spikes.numpy(), composed[0].numpy())


def test_spikes_are_zeros_and_ones() -> None:
    spikes = lif(random_leaf((6, 50)), LIFNeuron(threshold=0.3))
    assert set(np.unique(spikes.numpy())) == {0.0, 1.0}


def test_integrate_and_fire_counts() -> None:
    """Without a leak and with subtraction, the spikes of a constant input are its integral, rounded down."""
    x = Tensor(np.full((10, 1), 0.375))
    spikes, state = lif_with_state(x, integrate_and_fire(reset=None))
    np.testing.assert_array_equal(np.cumsum(spikes.numpy()[:, 0]), np.floor(0.375 * np.arange(1, 11)))
    assert state.item() == 0.75
    neuron = integrate_and_fire(0.5, -0.25, False, Sigmoid(3.0))
    assert neuron == LIFNeuron(math.inf, 0.5, -0.25, False, False, Sigmoid(3.0))


# --- the leaky integrator and the learned time constant


def test_leaky_integrator_has_a_closed_form() -> None:
    rng = np.random.default_rng(0)
    x, v = rng.normal(size=(5, 3)), rng.normal(size=3)
    for tau in (1.0, 2.0, 3.5):
        keep = 1.0 - 1.0 / tau
        potentials, last = leaky_integrator(Tensor(x), tau, Tensor(v))
        expected = [keep ** (t + 1) * v + sum(keep ** (t - k) * x[k] / tau for k in range(t + 1)) for t in range(5)]
        np.testing.assert_allclose(potentials.numpy(), expected, rtol=1e-12)
        np.testing.assert_array_equal(last.numpy(), potentials.numpy()[-1])
        from_rest, _ = leaky_integrator(Tensor(x), tau)
        np.testing.assert_allclose(from_rest.numpy(), expected - keep ** np.arange(1, 6)[:, None] * v, atol=1e-13)
    check_grads(lambda x, v: leaky_integrator(x, 2.5, v), leaf(x), leaf(v), order=2)
    assert leaky_integrator(Tensor(np.ones((2, 3), np.float32)))[0].dtype == np.float32


def test_parametric_lif_starts_as_the_neuron_it_is_given() -> None:
    neuron = LIFNeuron(3.0, 0.3)
    x, v = random_leaf((4, 5), 1), random_leaf((5,), 2)
    with default_dtype(np.float64):
        layer = ParametricLIF(neuron)
    for state in (None, v):
        for found, expected in zip(layer(x, state), lif_with_state(x, neuron, state), strict=True):
            np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-12, atol=1e-14)
    assert [name for name, _ in layer.named_parameters()] == ["w"]


@pytest.mark.parametrize(
    "neuron",
    [
        LIFNeuron(3.0, 0.3),
        LIFNeuron(1.5, 0.3, None, False, False),
        LIFNeuron(2.0, 0.3, -0.2, False, True, Sigmoid()),
    ],
)
def test_the_gradient_of_the_time_constant(neuron: LIFNeuron) -> None:
    layer = ParametricLIF(neuron)
    x, v = random_leaf((4, 5), 1), random_leaf((5,), 2)
    report = check_grads(lambda layer, x, v: layer(x, v), layer, x, v, spikes="smooth", rtol=1e-8)
    assert report.checks == 3


def test_the_time_constant_is_learned() -> None:
    """Potentials of a neuron with tau 4 that never fires, found again from tau 1.5."""
    x = np.random.default_rng(0).uniform(-1.0, 1.0, (6, 20))
    target = leaky_integrator(Tensor(x), 4.0)[1].numpy()
    with default_dtype(np.float64):
        layer = ParametricLIF(LIFNeuron(1.5, threshold=100.0))
        optimiser = AdamW(layer.named_parameters(), weight_decay=0.0)
        for _ in range(150):
            optimiser.zero_grad()
            difference = layer(Tensor(x))[1] - target
            (difference * difference).mean().backward()
            optimiser.step(0.05)
    assert 1.0 + math.exp(-layer.w.item()) == pytest.approx(4.0, rel=0.02)


WIDTHS = itertools.product(SURROGATES.values(), (0.0, -1.0, math.nan))


@pytest.mark.parametrize(
    "job",
    [
        lambda: LIFNeuron(tau=0.5),
        lambda: LIFNeuron(tau=-2.0),
        lambda: LIFNeuron(tau=math.nan),
        lambda: LIFNeuron(tau=math.inf),
        lambda: ParametricLIF(LIFNeuron(tau=1.0)),
        lambda: ParametricLIF(integrate_and_fire()),
        lambda: leaky_integrator(Tensor([1.0]), 0.9),
        lambda: leaky_integrator(Tensor([1.0]), math.nan),
        *(lambda kind=kind, alpha=alpha: kind(alpha) for kind, alpha in WIDTHS),
    ],
)
def test_impossible_constants(job: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        job()
    assert_sentence(caught.value)


def test_a_leaky_integrator_starts_in_the_type_of_its_input() -> None:
    x = Tensor(np.ones((2, 3)), dtype=np.float32)
    with default_dtype(np.float64):
        for found in leaky_integrator(x):
            assert found.dtype == np.float32
