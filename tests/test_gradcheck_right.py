"""The gradient checker flags no right gradient: every op, neuron and layer, and a whole network, in 200 seeds.

A seed decides the inputs as well as the direction and the covector of the check. Where a function has kinks, its
inputs are drawn away from them: there it has no gradient that could be right.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np
import pytest

from minispike import check_grads, ops
from minispike.models.spikebert import SpikeBERT, SpikingLayer
from minispike.models.spikebert_config import SpikeBERTConfig
from minispike.nn import functional as F
from minispike.nn.attention import softmax_attention
from minispike.nn.layers import dropout
from minispike.nn.losses import cross_entropy, kl_divergence, masked_mse
from minispike.nn.module import Module
from minispike.snn.attention import spiking_attention
from minispike.snn.neurons import LIFNeuron, lif, lif_with_state
from minispike.snn.shift import shift_tokens
from minispike.snn.spiking_linear import spiking_linear
from minispike.snn.surrogate import SURROGATES, ATan, spike
from minispike.tensor import Tensor

Array = Any
Points = Callable[[np.random.Generator], Array]

SEEDS = pytest.mark.parametrize(
    "seeds", [range(200), pytest.param(range(200, 2000), marks=pytest.mark.thorough)], ids=["200", "2000"]
)
MARGIN = 0.05
"""How far from a kink an input stays; the check moves it by 2e-4 at most."""


# --- inputs


def normal(*shape: int) -> Points:
    """Any numbers."""
    return lambda rng: rng.normal(size=shape)


def positive(*shape: int) -> Points:
    """Numbers that a logarithm, a root or a divisor may be."""
    return lambda rng: rng.uniform(0.3, 3.0, size=shape)


def away_from(kinks: Sequence[float], *shape: int) -> Points:
    """Numbers from -2 to 2, none of them near a kink; as many between any two."""
    edges = np.array([-2.0, *kinks, 2.0])

    def points(rng: np.random.Generator) -> Array:
        piece = rng.integers(len(edges) - 1, size=shape)
        return rng.uniform(edges[piece] + MARGIN, edges[piece + 1] - MARGIN)

    return points


def distinct(*shape: int) -> Points:
    """Numbers of which any two are at least 0.1 apart."""
    count = math.prod(shape)
    return lambda rng: (rng.permutation(count) * 0.2 + rng.uniform(0.0, 0.1, size=count)).reshape(shape)


# --- elementary ops: function, inputs, order (2 where the second derivative is neither 0 nor like that of another)

CHOSEN = np.array([True, False, True])
REPEATED = np.array([0, 2, 2, 1])

ELEMENTARY: dict[str, tuple[Callable[..., Any], list[Points], int]] = {
    "add": (ops.add, [normal(4, 3), normal(3)], 1),
    "mul": (ops.mul, [normal(3), normal(3)], 2),
    "div": (ops.div, [normal(3), positive(2, 1)], 1),
    "power": (lambda a: a**2.5, [positive(3)], 2),
    "matmul": (ops.matmul, [normal(2, 2, 3), normal(3, 2)], 2),
    "exp": (ops.exp, [normal(3)], 2),
    "log": (ops.log, [positive(3)], 2),
    "sqrt": (ops.sqrt, [positive(3)], 1),
    "tanh": (ops.tanh, [normal(3)], 2),
    "sigmoid": (ops.sigmoid, [normal(3)], 1),
    "erf": (ops.erf, [normal(3)], 1),
    "gelu": (ops.gelu, [normal(3)], 2),
    "relu": (ops.relu, [away_from([0.0], 8)], 1),
    "absolute": (ops.absolute, [away_from([0.0], 8)], 1),
    "clip": (lambda a: ops.clip(a, -0.5, 1.0), [away_from([-0.5, 1.0], 8)], 1),
    "maximum": (lambda a, gap: ops.maximum(a, a + gap), [normal(8), away_from([0.0], 8)], 1),
    "where": (lambda a, b: ops.where(CHOSEN, a, b), [normal(3), normal(2, 1)], 1),
    "sum": (lambda a: a.sum(axis=(0, 2)), [normal(2, 3, 2)], 1),
    "mean": (lambda a: a.mean(axis=1, keepdims=True), [normal(2, 3)], 1),
    "max": (lambda a: a.max(axis=0), [distinct(4, 3)], 1),
    "max of equals": (lambda a: ops.stack([a, a]).max(axis=0), [normal(3)], 1),
    "broadcast_to": (lambda a: ops.broadcast_to(a, (2, 4, 3)), [normal(4, 1)], 1),
    "reshape": (lambda a: a.reshape(3, -1), [normal(2, 3)], 1),
    "transpose": (lambda a: a.transpose(1, 2, 0), [normal(2, 3, 4)], 1),
    "slice": (lambda a: a[::-1, None, 1:], [normal(2, 3)], 1),
    "take": (lambda a: ops.take(a, REPEATED, axis=1), [normal(2, 3)], 1),
    "concatenate": (lambda a, b: ops.concatenate([a, b], axis=1), [normal(2, 3), normal(2, 1)], 1),
    "einsum": (lambda a, b: ops.einsum("bij,kj->bki", a, b), [normal(2, 2, 3), normal(2, 3)], 1),
    "softmax": (ops.softmax, [normal(2, 3)], 1),
    "log_softmax": (lambda a: ops.log_softmax(a, axis=0), [normal(2, 3)], 1),
    "used several times": (lambda a: a * ops.exp(a) + ops.tanh(a) * a - a, [normal(3)], 1),
}


@SEEDS
@pytest.mark.parametrize("name", ELEMENTARY)
def test_elementary_ops(name: str, seeds: range) -> None:
    f, points, order = ELEMENTARY[name]
    for seed in seeds:
        rng = np.random.default_rng(seed)
        check_grads(f, *[draw(rng) for draw in points], order=order, seed=seed)


# --- fused ops

IDS = np.array([[1, 0, 2], [2, 1, 1]])
LABELS = np.array([0, 2, 2, 1])
MASK = np.array([[True, True, True], [True, True, False]])
TOKENS = MASK[..., None].astype(float)
QKV = [normal(2, 3, 4)] * 3
SPIKES = [normal(2, 2, 3, 4)] * 3

FUSED: dict[str, tuple[Callable[..., Any], list[Points]]] = {
    "linear": (F.linear, [normal(2, 3, 4), normal(2, 4), normal(2)]),
    "layer norm": (F.layer_norm, [normal(3, 5), normal(5), normal(5)]),
    "normed linear": (F.normed_linear, [normal(3, 4), normal(5, 4), normal(5), normal(5), normal(5)]),
    "embedding": (lambda table: F.embedding(IDS, table), [normal(3, 4)]),
    "dropout": (lambda x: dropout(x, 0.4, np.random.default_rng(1)), [normal(8)]),
    "cross entropy": (lambda x: cross_entropy(x, LABELS), [normal(4, 3)]),
    "distillation": (lambda x: kl_divergence(np.eye(4, 3), x, 2.0), [normal(4, 3)]),
    "squared error": (lambda x: masked_mse(x, np.ones((2, 3, 4)), MASK), [normal(2, 3, 4)]),
    "attention": (lambda q, k, v: softmax_attention(q, k, v, 2, MASK), QKV),
    "spiking attention": (lambda q, k, v: spiking_attention(q, k, v, 2, 0.5, TOKENS), SPIKES),
    "spiking attention of narrow heads": (lambda q, k, v: spiking_attention(q, k, v, 4, 0.5), SPIKES),
    "token shift": (lambda x: shift_tokens(x, 1, TOKENS), [normal(2, 3, 4)]),
    "spike": (lambda u: spike(u, ATan()), [normal(3)]),
    "spiking linear": (
        lambda *a: spiking_linear(*a, LIFNeuron(), time_steps=2),
        [normal(1, 2, 3), normal(4, 3), normal(4), normal(4), normal(4)],
    ),
    "neurons with a start": (lambda x, v: lif_with_state(x, LIFNeuron(), v), [normal(3, 2), normal(2)]),
    "neurons with a constant input": (lambda x: lif(x, LIFNeuron(reset=None), time_steps=3), [normal(1, 2)]),
}


@SEEDS
@pytest.mark.parametrize("name", FUSED)
def test_fused_ops(name: str, seeds: range) -> None:
    f, points = FUSED[name]
    for seed in seeds:
        rng = np.random.default_rng(seed)
        check_grads(f, *[draw(rng) for draw in points], seed=seed, spikes="smooth")


# --- neurons

KINKS = {"triangle": (-1.0, 0.0, 1.0), "rectangle": (-0.5, 0.5), "fast_sigmoid": (0.0,)}
"""Where the derivative of a surrogate has a corner or a jump, in units of 1 / alpha; the others are smooth."""


def current_for(neuron: LIFNeuron, above: Array) -> Array:
    """The input ``[T, N]`` that brings the potentials to ``above`` threshold ``[T, N]``, with smooth spikes."""
    c, v, currents = neuron.constants(), neuron.resting, []
    for u in above:
        m = c.threshold + u
        currents.append((m - c.decay * v - c.offset) / c.gain)
        s = neuron.surrogate.primitive(u)
        v = m - s * c.threshold if c.reset is None else (1.0 - s) * m + s * c.reset
    return np.stack(currents)


@SEEDS
@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize("detach", [True, False], ids=["detached", "attached"])
@pytest.mark.parametrize("reset", ["hard", "soft"])
def test_neurons(reset: str, detach: bool, surrogate: str, seeds: range) -> None:
    kind = SURROGATES[surrogate]()
    points = away_from([kink / kind.alpha for kink in KINKS.get(surrogate, ())], 2, 2)
    for seed in seeds:
        to = None if reset == "soft" else (0.0, -0.2)[seed % 2]
        neuron = LIFNeuron(threshold=0.7, reset=to, detach_reset=detach, surrogate=kind)
        x = current_for(neuron, points(np.random.default_rng(seed)))
        check_grads(lambda x, neuron=neuron: lif(x, neuron), x, seed=seed, spikes="smooth")


# --- layers and a network

CONFIG = SpikeBERTConfig(
    vocab_size=5, dim=4, depth=1, heads=2, time_steps=2, num_labels=3, max_length=3, mlp_ratio=1
)  # fmt: skip
KINDS = [
    replace(CONFIG, reset=reset, detach_reset=detach, surrogate=surrogate)
    for surrogate in ("atan", "sigmoid", "gaussian")
    for reset in ("hard", "soft")
    for detach in (True, False)
]
"""The neurons that a network can have and be smooth."""


def scattered(model: Any, rng: np.random.Generator) -> Any:
    """The module with weights at which all of it matters."""
    for parameter in model.parameters():
        parameter.assign(rng.normal(0.0, 0.5, parameter.shape))
    return model


class OneVector:
    """A module as a function of all its parameters in one vector, so that one direction changes all of them."""

    def __init__(self, model: Module) -> None:
        self.model, self.places = model, []
        for name, parameter in model.named_parameters():
            *path, last = name.split(".")
            self.places.append((reduce(getattr, path, model), last, parameter.shape))
        self.size = model.count_parameters()

    def __call__(self, vector: Tensor) -> Any:
        """The module with the parameters that stand in a vector."""
        start = 0
        for owner, name, shape in self.places:
            end = start + math.prod(shape)
            setattr(owner, name, vector[start:end].reshape(shape))
            start = end
        return self.model


@SEEDS
def test_a_layer_of_spikebert(seeds: range) -> None:
    for seed in seeds:
        rng = np.random.default_rng(seed)
        layer = OneVector(SpikingLayer(3, 4, KINDS[seed % len(KINDS)].neuron(), rng))
        check_grads(
            lambda weights, x, layer=layer: layer(weights)(x, 2, "", None),
            rng.normal(0.0, 0.5, size=layer.size), rng.normal(size=(1, 1, 2, 3)), seed=seed, spikes="smooth",
        )  # fmt: skip


def loss(model: SpikeBERT) -> Tensor:
    return cross_entropy(model(IDS, MASK, features=False).logits, LABELS[:2])


@SEEDS
def test_a_spikebert(seeds: range) -> None:
    for seed in seeds:
        rng = np.random.default_rng(seed)
        model = OneVector(SpikeBERT(KINDS[seed % len(KINDS)], rng))
        weights = rng.normal(0.0, 0.5, size=model.size)
        check_grads(lambda vector, model=model: loss(model(vector)), weights, seed=seed, spikes="smooth")


@pytest.mark.thorough
def test_a_spikebert_by_each_parameter() -> None:
    for seed in range(200):
        rng = np.random.default_rng(seed)
        model = scattered(SpikeBERT(KINDS[seed % len(KINDS)], rng), rng)
        check_grads(loss, model, seed=seed, spikes="smooth")
