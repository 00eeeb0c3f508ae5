"""minispike's side: the training loop and the inference that everybody uses, with a clock beside them."""

import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from benchmarks import clock
from benchmarks.setups import Setup
from minispike.data.tokenizer import Encoded
from minispike.models.spikebert import SpikeBERT
from minispike.models.spikebert_config import SpikeBERTConfig
from minispike.nn.losses import cross_entropy, masked_mse
from minispike.tensor import Tensor
from minispike.train.journal import Journal
from minispike.train.loop import Keeper, Task, TrainConfig, train
from minispike.train.predict import predict_logits


def network(setup: Setup) -> SpikeBERT:
    """The reference network."""
    return SpikeBERT(
        SpikeBERTConfig.reference(
            setup.vocab, setup.dim, setup.depth, setup.heads, setup.time_steps, num_labels=setup.classes
        )
    )


class Lesson:
    """Other sentences at every step: cross entropy, and the hidden states of every block against a teacher's."""

    name = "benchmark"

    def __init__(self, setup: Setup, parts: int) -> None:
        self.model = network(setup)
        self.setup, self.labels, self.targets = setup, setup.labels(), setup.targets()
        self.rows = [rows for rows in np.array_split(np.arange(setup.batch), parts) if len(rows)]
        self.began: list[float] = []
        self.drawn = 0  # batches so far

    def parts(self, step: int) -> Iterator[Any]:
        """Which sentences of the batch, and their ids."""
        self.began.append(time.perf_counter())
        self.drawn += 1
        ids = self.setup.ids(self.drawn)
        for rows in self.rows:
            yield rows, ids[rows]

    def losses(self, part: Any) -> Mapping[str, Tensor]:
        """The terms of a part."""
        rows, ids = part
        out = self.model(ids)
        loss = cross_entropy(out.logits, self.labels[rows])
        for state, target in zip(out.hidden_states, self.targets, strict=True):
            loss = loss + masked_mse(state, target[rows]) * 0.1
        return {"loss": loss * (len(rows) / self.setup.batch)}

    def evaluate(self) -> Mapping[str, float]:
        """Nothing."""
        return {}


class Timed(Task, Protocol):
    """A task that notes when each of its steps began."""

    began: list[float]


UNTIMED = 2
"""Steps before those that are timed: they start the workers."""


def timed_steps(task: Timed, steps: int, batch_size: int, workers: int = 0) -> list[float]:
    """How long each of some steps of the training loop took, those before them, `UNTIMED`, left out."""
    task.began.clear()
    config = TrainConfig(steps=steps + UNTIMED + 1, batch_size=batch_size, warmup=0.0, workers=workers)
    with tempfile.TemporaryDirectory() as folder, Journal(Path(folder) / "journal.jsonl") as journal:
        train(task, config, Keeper(Path(folder) / "checkpoint.safetensors", journal, minutes=1e9))
    return np.diff(task.began)[UNTIMED:].tolist()


class Training:
    """Steps of training, by the training loop."""

    def __init__(self, setup: Setup, parts: int = 2, workers: int = 0) -> None:
        self.lesson, self.workers = Lesson(setup, min(parts, setup.batch)), workers

    def seconds(self, steps: int) -> list[float]:
        """How long each step took."""
        return timed_steps(self.lesson, steps, self.lesson.setup.batch, self.workers)


class Inference:
    """The logits of one batch, by what evaluates a data set: two halves of it side by side."""

    def __init__(self, setup: Setup) -> None:
        self.model = network(setup)
        self.texts = Encoded(tuple(setup.ids()), None, 0.0, 0.0)
        self.half = max(1, (setup.batch + 1) // 2)

    def answer(self) -> None:
        """One batch."""
        predict_logits(lambda ids, mask, _: self.model(ids, mask, features=False).logits, self.texts, self.half)

    def seconds(self, steps: int) -> list[float]:
        """How long each batch took."""
        return clock.seconds(self.answer, steps)
