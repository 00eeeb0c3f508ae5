"""A toy to train: linear regression in float64, and a run of it in a folder."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minispike import default_dtype
from minispike.nn.layers import Linear
from minispike.ops import mean
from minispike.tensor import Tensor
from minispike.train.journal import Journal
from minispike.train.loop import Keeper, SelectedConfig, TrainConfig, train

TRUTH = np.array([[1.0, -2.0, 0.5]])
NEVER = math.inf  # minutes
CONFIG = SelectedConfig(steps=12, batch_size=8, learning_rate=0.05, warmup=0.2, weight_decay=0.1, evaluations=4)

Facts = Mapping[str, float]
Lines = list[dict[str, Any]]


class Regression:
    """Linear regression, in float64: ``y = x . TRUTH + 1``.

    Args:
        seed: of the initial weights alone; the batches depend on the step alone.
        pieces: that a batch is computed in.
        scores: what dev says, one after the other; None: the negative squared error on dev.
    """

    name = "toy"

    def __init__(self, seed: int = 0, pieces: int = 1, scores: Sequence[float] | None = None) -> None:
        with default_dtype(np.float64):
            self.model = Linear(3, 1, np.random.default_rng(seed))
        self.pieces, self.scores = pieces, scores
        self.asked: list[int] = []
        self.evaluated: list[int] = []
        self.weights_then: list[dict[str, Any]] = []

    def parts(self, step: int) -> Iterator[Any]:
        self.asked.append(step)
        x = np.random.default_rng([9, step]).normal(size=(8, 3))
        yield from np.split(x, self.pieces)

    def losses(self, x: Any) -> Mapping[str, Tensor]:
        error = self.model(Tensor(x)) - Tensor(x @ TRUTH.T + 1)
        loss = mean(error * error) * (1 / self.pieces)
        return {"square": loss, "half": loss * 0.5, "loss": loss}

    def evaluate(self) -> Mapping[str, float]:
        self.evaluated.append(self.asked[-1])
        self.weights_then.append(self.model.state_dict())
        if self.scores is not None:
            return {"score": self.scores[len(self.evaluated) - 1]} if self.scores else {}
        x = np.random.default_rng(1).normal(size=(20, 3))
        error = self.model(Tensor(x)).numpy() - (x @ TRUTH.T + 1)
        return {"score": -float((error**2).mean()), "more": 1.5}


def run(folder: Path, task: Any, c: TrainConfig = CONFIG, minutes: float = NEVER, **how: Any) -> tuple[Facts, Lines]:
    """Train with a checkpoint and a journal in ``folder``, taking up what is there; what it found, without time."""
    with Journal(folder / "metrics.jsonl", append=True) as journal:
        facts = dict(train(task, c, Keeper(folder / "checkpoint", journal, minutes), **how))
    assert facts.pop("seconds") >= 0
    return facts, Journal.read(folder / "metrics.jsonl")


def losses_of(lines: Lines) -> Lines:
    """The lines of a journal that tell of a step, not of dev."""
    return [line for line in lines if "loss" in line]


def assert_same_weights(a: Mapping[str, Any], b: Mapping[str, Any]) -> None:
    """The same names, and the same bits under each."""
    assert sorted(a) == sorted(b)
    for name in a:
        assert a[name].tobytes() == b[name].tobytes(), name
