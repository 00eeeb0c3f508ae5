"""What the student is asked to match: the teacher's features, embeddings and logits, and the labels."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce

from minispike.backend import Array
from minispike.errors import ConfigError, ShapeError, problem
from minispike.nn.losses import masked_mse
from minispike.ops import add
from minispike.tensor import Tensor


@dataclass(frozen=True)
class LossWeights:
    """The weight of each term, 0 to leave it out (and not compute it), and the temperature of the logits term."""

    features: float = field(default=0.3, metadata={"help": "hidden states of the mapped layers"})
    embedding: float = field(default=0.0, metadata={"help": "embedding table, against where it started from"})
    logits: float = field(default=1.0, metadata={"help": "Kullback-Leibler divergence of the predictions"})
    cross_entropy: float = field(default=0.1, metadata={"help": "labels, on labelled sentences"})
    temperature: float = field(default=2.0, metadata={"help": "of the logits term, which is scaled by its square"})
    reference: bool = field(default=False, metadata={"help": "scale the features term as the authors' program does"})

    def __post_init__(self) -> None:
        weights = {n: getattr(self, n) for n in ("features", "embedding", "logits", "cross_entropy")}
        for name, value in weights.items():
            if not 0 <= value < math.inf:
                got, hint = str(value), f"{name}=0.1"
                raise ConfigError(problem(name, expected="a weight >= 0", got=got, hint=hint))
        if not any(weights.values()):
            expected, hint = "a weight > 0 among " + ", ".join(weights), "logits=1.0"
            raise ConfigError(problem("weights", expected=expected, got="none", hint=hint))
        if not 0 < self.temperature < math.inf:
            got = str(self.temperature)
            raise ConfigError(problem("temperature", expected="a number > 0", got=got, hint="temperature=2.0"))


def feature_loss(
    features: Sequence[Tensor], targets: Sequence[Array], mask: Array | None, *, reference: bool = False
) -> Tensor:
    """How far the student's hidden states are from the teacher's: squared error, mean over numbers and layers.

    Args:
        features: the student's, one ``[B, L, D]`` a block.
        targets: the teacher's, of the layers the blocks are mapped to.
        mask: ``[B, L]``, True for tokens; padding does not count. None: all count.
        reference: the sum over layers of the plain mean, divided by B once more, as the authors' program
            computes it (its weight then depends on the batch size).

    Raises:
        ShapeError: numbers of layers or widths differ.
    """
    if len(features) != len(targets) or features[0].shape != targets[0].shape:
        expected = f"{len(features)} layers of {features[0].shape}"
        got = f"{len(targets)} of {targets[0].shape}"
        raise ShapeError(problem("teacher features", expected=expected, got=got, hint="student.feature_dim"))
    terms = [masked_mse(f, t, None if reference else mask) for f, t in zip(features, targets, strict=True)]
    return reduce(add, terms) * (1.0 / (features[0].shape[0] if reference else len(terms)))


def embedding_loss(table: Tensor, target: Array) -> Tensor:
    """The mean squared difference of two embedding tables ``[V, D]``."""
    return masked_mse(table, target)


def layer_map(depth: int, teacher_layers: int, chosen: Sequence[int] = ()) -> tuple[int, ...]:
    """Which of the teacher's layers each block learns from; 0 are its embeddings, ``teacher_layers`` is its last.

    By default evenly spaced, the last block from the last layer: block i of n from layer ``ceil((i + 1) N / n)``.

    Raises:
        ConfigError: not one layer a block, or one the teacher has not.
    """
    layers = tuple(chosen) or tuple(-(-(i + 1) * teacher_layers // depth) for i in range(depth))
    if len(layers) != depth or not all(0 <= layer <= teacher_layers for layer in layers):
        expected = f"{depth} layers from 0 to {teacher_layers}"
        raise ConfigError(problem("layers", expected=expected, got=str(list(layers)), hint="layers=[], evenly spaced"))
    return layers
