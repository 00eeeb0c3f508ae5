"""Mistakes in layers and in whole networks."""

from dataclasses import replace
from typing import Any

import numpy as np
from wrong_gradients import Mistake, blind, disguised

from minispike.distill import losses as distill_losses
from minispike.distill.losses import feature_loss
from minispike.models import spikebert
from minispike.models.spikebert import Attention, Block, SpikeBERT, SpikingLayer, Transform
from minispike.models.spikebert_config import SpikeBERTConfig
from minispike.nn import functional as F
from minispike.nn.losses import cross_entropy
from minispike.nn.module import Module
from minispike.ops import tanh
from minispike.snn import kernels
from minispike.snn.constants import Constants
from minispike.tensor import Tensor

CONFIG = SpikeBERTConfig(
    vocab_size=6, dim=4, depth=1, heads=2, time_steps=2, num_labels=2, max_length=3, mlp_ratio=1
)  # fmt: skip
IDS = np.array([[1, 2, 3], [4, 2, 0]])
MASK = np.array([[True, True, True], [True, True, False]])
LABELS = np.array([1, 0])


def with_random_weights(model: Module, rng: np.random.Generator) -> Any:
    """The module with weights at which all of it matters."""
    for parameter in model.parameters():
        parameter.assign(rng.normal(0.0, 0.5, parameter.shape))
    return model


def network(rng: np.random.Generator) -> SpikeBERT:
    return with_random_weights(SpikeBERT(CONFIG, rng), rng)


def block(rng: np.random.Generator) -> Block:
    return with_random_weights(Block(CONFIG, rng), rng)


def layer(rng: np.random.Generator) -> SpikingLayer:
    return with_random_weights(SpikingLayer(CONFIG.dim, CONFIG.dim, CONFIG.neuron(), rng), rng)


def loss_and_hidden_states(model: SpikeBERT) -> tuple[Tensor, ...]:
    out = model(IDS, MASK)
    return (cross_entropy(out.logits, LABELS), *out.hidden_states)


def through_block(x: Tensor, block: Block) -> Tensor:
    return block(x, 2, None, "", None)


def tied(weight: Tensor) -> Tensor:
    """A language model's first and last layer."""
    return F.linear(F.embedding(IDS, weight), weight)


def self_distilled(x: Tensor) -> Tensor:
    """Distillation from a teacher that shares the student's input."""
    return feature_loss([x], [tanh(x).detach()], None)


def of_two_layers(x: Tensor) -> Tensor:
    return feature_loss([x, tanh(x)], [x.numpy() * 0.0, x.numpy() * 0.0], None)


def other_threshold(right: Any, grad: Any, dv: Any, c: Constants, *rest: Any) -> None:
    right(grad, dv, replace(c, threshold=CONFIG.threshold), *rest)


def without_residual(right: Any, block: Block, x: Tensor, *rest: Any) -> Tensor:
    y = right(block, x, *rest)
    return disguised(y, y - x)


NETWORKS = {
    "tied weights: the embedding's share forgotten": Mistake(
        tied, [(6, 4)], F, "embedding", lambda right, ids, weight: blind(right(ids, weight))
    ),
    "distillation: teacher not constant": Mistake(
        self_distilled, [(2, 3, 4)], Tensor, "detach", lambda right, tensor: disguised(right(tensor), tensor)
    ),
    "distillation: last layer alone": Mistake(
        of_two_layers, [(2, 3, 4)], distill_losses, "reduce",
        lambda right, add, terms: disguised(right(add, terms), terms[-1]),
    ),
    "block: no gradient through the residual": Mistake(
        through_block, [(2, 1, 3, 4), block], Block, "forward", without_residual
    ),
    "block: no gradient through attention": Mistake(
        through_block, [(2, 1, 3, 4), block], Attention, "forward",
        lambda right, *args: blind(right(*args)),
    ),
    "layer: straight through its neurons": Mistake(
        lambda layer, x: layer(x, 2, "", None), [layer, (1, 2, 3, 4)], spikebert, "spiking_linear",
        lambda right, x, *rest, **how: disguised(right(x, *rest, **how), F.normed_linear(x, *rest[:4])),
    ),
    "network: no gradient through the first spikes": Mistake(
        loss_and_hidden_states, [network], spikebert, "spike", lambda right, *args: blind(right(*args))
    ),
    "network: attention's neurons with the threshold of the others": Mistake(
        loss_and_hidden_states, [network], kernels, "backward", other_threshold
    ),
    "network: a sum over time for the mean": Mistake(
        loss_and_hidden_states, [network], spikebert, "mean",
        lambda right, a, axis: disguised(right(a, axis), a.sum(axis)),
    ),
    "network: the last time step for the mean": Mistake(
        loss_and_hidden_states, [network], spikebert, "mean", lambda right, a, axis: disguised(right(a, axis), a[-1])
    ),
    "network: no gradient from the hidden states": Mistake(
        loss_and_hidden_states, [network], Transform, "forward", lambda right, transform, x: right(transform, blind(x))
    ),
}  # fmt: skip
