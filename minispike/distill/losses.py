"""What the student is asked to match: the teacher's features, embeddings and logits, and the labels."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Literal

from minispike.backend import Array
from minispike.errors import ConfigError, ShapeError, problem
from minispike.nn.losses import masked_mse
from minispike.ops import add
from minispike.tensor import Tensor


@dataclass(frozen=True)
class Alignment:
    """Which of the teacher's layers each block learns from, and how their difference is counted.

    The defaults mend what the authors' program does: there ``reach`` is "early", padding counts, and the loss is
    divided by the batch size twice.

    Raises:
        ConfigError: ``reach`` is neither of the two.

    Example:
        >>> from minispike.distill.losses import Alignment, layer_map
        >>> layer_map(depth=4, teacher_layers=12), layer_map(4, 12, Alignment(reach="early"))
        ((3, 6, 9, 12), (1, 4, 7, 10))
        >>> layer_map(depth=4, teacher_layers=12, alignment=Alignment(layers=(0, 4, 8, 12)))
        (0, 4, 8, 12)
    """

    layers: tuple[int, ...] = field(default=(), metadata={"help": "teacher layer of each block; []: as reach says"})
    reach: Literal["last", "early"] = field(
        default="last", metadata={"help": "evenly spaced layers end at the teacher's last, or begin at its first"}
    )
    masked: bool = field(default=True, metadata={"help": "padding does not count"})
    per_batch: bool = field(
        default=False, metadata={"help": "sum over layers, divided by the batch size once more; false: mean"}
    )

    def __post_init__(self) -> None:
        if self.reach not in ("last", "early"):
            raise ConfigError(problem("reach", expected="last or early", got=repr(self.reach), hint="reach='last'"))


@dataclass(frozen=True)
class LossWeights:
    """The weight of each term, 0 to leave it out (and not compute it), and the temperature of the logits term.

    The loss of stage 2 is ``features F + embedding E + logits K + cross_entropy C``, all dimensionless, with F of
    `feature_loss`, E of `embedding_loss`, K of `minispike.nn.losses.kl_divergence` at this temperature and C of
    `minispike.nn.losses.cross_entropy`. The SpikeBERT paper (arXiv 2308.15122) has the same four terms.

    Raises:
        ConfigError: a weight is negative, all are 0, or the temperature is not above 0.

    Example:
        >>> from minispike.distill.losses import LossWeights
        >>> LossWeights(features=0.0, logits=0.0, cross_entropy=0.0)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        minispike.errors.ConfigError: weights: expected a weight > 0 among features, embedding, ..., got none; ...
    """

    features: float = field(default=0.3, metadata={"help": "hidden states of the mapped layers"})
    embedding: float = field(default=0.0, metadata={"help": "embedding table, against the teacher's"})
    logits: float = field(default=1.0, metadata={"help": "Kullback-Leibler divergence of the predictions"})
    cross_entropy: float = field(default=0.1, metadata={"help": "labels, on labelled sentences"})
    temperature: float = field(default=2.0, metadata={"help": "of the logits term, which is scaled by its square"})

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
    features: Sequence[Tensor], targets: Sequence[Array], mask: Array | None, *, per_batch: bool = False
) -> Tensor:
    """How far the student's hidden states are from the teacher's: squared error, mean over numbers and layers.

    Args:
        features: the student's, one ``[B, L, D]`` a block.
        targets: the teacher's, of the layers the blocks are mapped to.
        mask: ``[B, L]``, True for tokens; padding does not count. None: all count.
        per_batch: the sum over layers, divided by B once more, as the authors' program computes it (its weight
            then depends on the batch size). Default false.

    Returns:
        One number: ``1/n sum_i mean((f_i - t_i)^2)`` over n layers.

    Raises:
        ShapeError: numbers of layers or widths differ.

    Example:
        >>> import numpy as np
        >>> from minispike import Tensor
        >>> from minispike.distill.losses import feature_loss
        >>> student, teacher = Tensor([[[1.0, 2.0], [3.0, 4.0]]]), np.zeros((1, 2, 2))  # [B, L, D] = [1, 2, 2]
        >>> feature_loss([student], [teacher], mask=None).item()  # (1 + 4 + 9 + 16) / 4
        7.5
        >>> feature_loss([student], [teacher], mask=np.array([[True, False]])).item()  # (1 + 4) / 2
        2.5
    """
    if len(features) != len(targets) or features[0].shape != targets[0].shape:
        expected = f"{len(features)} layers of {features[0].shape}"
        got = f"{len(targets)} of {targets[0].shape}"
        raise ShapeError(problem("teacher features", expected=expected, got=got, hint="student.feature_dim"))
    terms = [masked_mse(f, t, mask) for f, t in zip(features, targets, strict=True)]
    return reduce(add, terms) * (1.0 / (features[0].shape[0] if per_batch else len(terms)))


def embedding_loss(table: Tensor, target: Array) -> Tensor:
    """The mean squared difference of two embedding tables: how far the student's words are from the teacher's.

    Args:
        table: the student's ``[V, D_t]``, of `minispike.models.spikebert.SpikeBERT.projected_embedding`.
        target: the teacher's, of the same shape.

    Raises:
        ShapeError: shapes differ.

    Example:
        >>> import numpy as np
        >>> from minispike import Tensor
        >>> from minispike.distill.losses import embedding_loss
        >>> embedding_loss(Tensor([[1.0, 2.0], [3.0, 4.0]]), np.ones((2, 2))).item()  # (0 + 1 + 4 + 9) / 4
        3.5
    """
    return masked_mse(table, target)


def layer_map(depth: int, teacher_layers: int, alignment: Alignment = Alignment()) -> tuple[int, ...]:
    """Which of the teacher's layers each block learns from; 0 are its embeddings, ``teacher_layers`` is its last.

    Evenly spaced over the N layers of the teacher, block i of n (from 0) learns from layer ``ceil((i + 1) N / n)``,
    so the last block from the last layer. With ``reach="early"`` it is ``floor(i N / n) + 1``, as in the authors'
    program: of 12 layers, 6 blocks learn from 1, 3, 5, 7, 9, 11, and nobody from the last.

    Args:
        depth: n, blocks of the student.
        teacher_layers: N.
        alignment: its ``layers``, if any, are taken as they are; else its ``reach``. Default `Alignment` as it is.

    Raises:
        ConfigError: not one layer a block, or one the teacher has not.

    Example:
        >>> from minispike.distill.losses import Alignment, layer_map
        >>> layer_map(depth=6, teacher_layers=12)
        (2, 4, 6, 8, 10, 12)
        >>> layer_map(depth=6, teacher_layers=12, alignment=Alignment(reach="early"))
        (1, 3, 5, 7, 9, 11)
    """
    spaced = (
        (i * teacher_layers // depth + 1 for i in range(depth))
        if alignment.reach == "early"
        else (-(-(i + 1) * teacher_layers // depth) for i in range(depth))
    )
    layers = tuple(alignment.layers) or tuple(spaced)
    if len(layers) != depth or not all(0 <= layer <= teacher_layers for layer in layers):
        expected = f"{depth} layers from 0 to {teacher_layers}"
        raise ConfigError(problem("layers", expected=expected, got=str(list(layers)), hint="layers=[], evenly spaced"))
    return layers
