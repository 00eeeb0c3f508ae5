"""Training on real sentences, two ways, as contenders of `benchmarks.epoch`.

minispike trains its own way: batches of sentences of like length, each padded to its longest, padding masked, by its
task of distillation and its training loop. PyTorch follows the recipe of the authors' program: sentences in any order,
each padded to the maximum length, padding like any token. Both have the same network, the same batch size, and the
same terms of the loss: cross entropy, and the hidden states of every block against a teacher's, which are random here.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import ours
from benchmarks.contender import Contender, serve
from benchmarks.setups import SETUPS, Setup
from minispike.data.batches import Batch, BatchStream
from minispike.data.text import load_dataset
from minispike.data.tokenizer import Encoded, Tokenizer
from minispike.distill.losses import LossWeights
from minispike.distill.stages import Distillation, Source
from minispike.models.spikebert import SpikeBERT
from minispike.train.loop import TrainConfig

SEED_KEY = (0,)
CROSS_ENTROPY, FEATURES = 1.0, 0.1


@dataclass(frozen=True)
class Texts:
    """N sentences for training.

    Attributes:
        encoded: as token numbers.
        labels: ``[N]``.
        classes: of the labels.
        vocab: tokens.
        pad_id: the token that pads.
    """

    encoded: Encoded
    labels: NDArray[np.int64]
    classes: int
    vocab: int
    pad_id: int


def read(data: str, tokenizer: Tokenizer, share: float, max_length: int) -> Texts:
    """A share of the training set of a folder, drawn at random, the same each time."""
    dataset = load_dataset(data)
    count = len(dataset.train)
    chosen = np.random.default_rng(0).permutation(count)[: max(round(share * count), 1)]
    train = dataset.train.subset(chosen)
    assert train.labels is not None  # `load_dataset` has seen to it
    encoded = tokenizer.encode(train.texts, train.pairs, max_length)
    return Texts(encoded, train.labels, len(dataset.label_names), tokenizer.vocab_size, tokenizer.pad_id)


@dataclass(frozen=True)
class Work:
    """What both do.

    Attributes:
        data: folder of the data set.
        vocab: file of the vocabulary.
        network: the setup whose sizes the network has.
        share: of the training set.
        batch: sentences a step, B.
        max_length: the most tokens a sentence may have.
    """

    data: str
    vocab: str
    network: str
    share: float
    batch: int
    max_length: int

    @cached_property
    def texts(self) -> Texts:
        """The sentences."""
        return read(self.data, Tokenizer.from_file(self.vocab), self.share, self.max_length)

    @property
    def setup(self) -> Setup:
        """The network and the padded batch."""
        vocab, classes = self.texts.vocab, self.texts.classes
        batch = min(self.batch, len(self.texts.encoded))
        return replace(SETUPS[self.network], length=self.max_length, batch=batch, vocab=vocab, classes=classes)

    @property
    def stream(self) -> BatchStream:
        """minispike's batches, which its task of distillation draws too."""
        return BatchStream(self.texts.encoded, self.texts.labels, self.batch, [*SEED_KEY, 0], self.texts.pad_id)


class RandomTeacher:
    """Hidden states that are at hand: a `minispike.distill.teacher.TeacherView` of random numbers."""

    def __init__(self, setup: Setup) -> None:
        self._states = setup.targets()

    def hidden(self, batch: Batch) -> Sequence[Any]:
        """One ``[B, L, D]`` a block."""
        rows, length = batch.input_ids.shape
        return [np.ascontiguousarray(states[:rows, :length]) for states in self._states]

    def logits(self, batch: Batch) -> Any:
        """Nobody asks for them, for no term of the loss needs them."""
        raise NotImplementedError

    def prefetch(self, batch: Batch) -> None:
        """Nothing is left to compute."""

    def close(self) -> None:
        """Nothing is open."""


class Ours(Distillation):
    """minispike's task of distillation, gone through piece by piece."""

    def __init__(self, work: Work) -> None:
        setup, texts = work.setup, work.texts
        student = SpikeBERT(replace(ours.network(setup).config, mask_padding=True))
        source = Source(texts.encoded, texts.labels, setup.batch, RandomTeacher(setup))
        weights = LossWeights(features=FEATURES, embedding=0.0, logits=0.0, cross_entropy=CROSS_ENTROPY)
        parts = TrainConfig(batch_size=setup.batch).parts()
        super().__init__("sentences", student, [source], weights, SEED_KEY, pad_id=texts.pad_id, parts=parts)
        self.began: list[float] = []
        self._batch, self._done = setup.batch, 0

    def parts(self, step: int) -> Iterator[Any]:
        """The parts of a step, counted from where the last piece ended; the untimed ones repeat what was before."""
        self.began.append(time.perf_counter())
        yield from super().parts(max(self._done + step - ours.UNTIMED, 0))

    def seconds(self, steps: int) -> list[float]:
        """How long each of the next steps took."""
        found = ours.timed_steps(self, steps, self._batch)
        self._done += steps
        return found


class Reference:
    """The recipe of the authors' program in PyTorch, with SpikingJelly's neurons."""

    def __init__(self, work: Work) -> None:
        import torch

        from benchmarks import pytorch

        setup, texts = work.setup, work.texts
        ids = np.full((len(texts.encoded), setup.length), texts.pad_id, dtype=np.int64)
        for row, tokens in zip(ids, texts.encoded.ids, strict=True):
            row[: len(tokens)] = tokens
        self._learner = pytorch.Learner(setup, "SpikingJelly")
        self._ids, self._labels = torch.from_numpy(ids), torch.from_numpy(texts.labels)
        self._targets = [torch.from_numpy(states) for states in setup.targets()]
        self._batch, self._done = setup.batch, 0

    def _step(self, step: int) -> None:
        epoch, place = divmod(step, max(len(self._ids) // self._batch, 1))
        order = np.random.default_rng([*SEED_KEY, epoch]).permutation(len(self._ids))
        rows = order[place * self._batch : (place + 1) * self._batch]
        self._learner.step(self._ids[rows], self._labels[rows], self._targets)

    def seconds(self, steps: int) -> list[float]:
        """How long each of the next steps took; one before them, which warms up, does not count."""
        self._step(max(self._done - 1, 0))
        found = []
        for step in range(self._done, self._done + steps):
            began = time.perf_counter()
            self._step(step)
            found.append(time.perf_counter() - began)
        self._done += steps
        return found


CONTENDERS: dict[str, Callable[[Work], Contender]] = {"minispike": Ours, "PyTorch + SpikingJelly": Reference}


if __name__ == "__main__":
    serve(lambda: CONTENDERS[sys.argv[1]](Work(**json.loads(sys.argv[2]))))
