"""The two stages of distillation, and direct training, as one task with different sources and weights.

Stage 1 reads unlabelled text and matches the pretrained teacher's hidden states. Stage 2 reads labelled sentences
and teacher-labelled transfer text, and matches the fine-tuned teacher's logits and hidden states, and the labels.
Direct training reads labelled sentences and labels alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, Protocol

import numpy as np

from minispike import backend
from minispike.data.batches import Batch, BatchStream
from minispike.data.tokenizer import Encoded
from minispike.distill.losses import LossWeights, embedding_loss, feature_loss
from minispike.errors import ConfigError, problem
from minispike.metrics import accuracy
from minispike.models.spikebert import SpikeBERT
from minispike.nn.losses import cross_entropy, kl_divergence
from minispike.ops import add
from minispike.tensor import Tensor
from minispike.train.loop import TrainConfig
from minispike.train.predict import predict_logits


@dataclass(frozen=True)
class Stage1Config(TrainConfig):
    """Stage 1: the student's hidden states learn from the pretrained teacher's, on unlabelled text."""

    reference: bool = field(default=False, metadata={"help": "scale the loss as the authors' program does"})
    embedding: float = field(default=0.0, metadata={"help": "weight of the embedding loss beside the features' 1"})
    layers: tuple[int, ...] = field(default=(), metadata={"help": "teacher layer of each block; []: evenly spaced"})


@dataclass(frozen=True)
class Stage2Config(TrainConfig):
    """Stage 2: the student learns the task from the fine-tuned teacher."""

    labelled: float = field(default=0.5, metadata={"help": "share of labelled sentences in a batch; 1: no transfer"})
    weights: LossWeights = field(default_factory=LossWeights)
    layers: tuple[int, ...] = field(default=(), metadata={"help": "teacher layer of each block; []: evenly spaced"})

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.labelled <= 1:
            got = str(self.labelled)
            raise ConfigError(problem("labelled", expected="a share above 0, at most 1", got=got, hint="labelled=0.5"))


class TeacherView(Protocol):
    """What a frozen teacher says about the texts of one data set."""

    def hidden(self, batch: Batch) -> Sequence[Any]:
        """Its hidden states of the mapped layers, one ``[B, L, D_t]`` each, on the host."""
        ...

    def prefetch(self, batch: Batch) -> None:
        """Notice that this batch will be asked for next."""
        ...

    def logits(self, batch: Batch) -> Any:
        """Its logits ``[B, C]``, on the host."""
        ...


@dataclass(frozen=True)
class Source:
    """Texts that a task reads, its share of every batch, and who teaches them.

    Args:
        texts: encoded.
        labels: ``[N]``, or None for unlabelled text.
        size: sentences of it in a step's batch.
        teacher: None where no teacher is asked.
    """

    texts: Encoded
    labels: Any | None
    size: int
    teacher: TeacherView | None


class Distillation:
    """A `minispike.train.loop.Task` that trains a student.

    Args:
        name: of the phase.
        student: trained in place.
        sources: what a batch is made of. Each is a part of its own (so that texts of like length share a
            tensor), and its loss is weighted by its share of the sentences.
        weights: of the terms.
        seed_key: integers that name this phase's random numbers.
        pad_id: the padding token.
        parts: computes each source in this many equal pieces, to save memory: ``size // parts`` sentences each,
            at least one.
        embedding_target: ``[V, D]`` for the embedding loss.
        dev: encoded texts and labels that select by accuracy; None: the last weights are kept.
    """

    def __init__(
        self,
        name: str,
        student: SpikeBERT,
        sources: Sequence[Source],
        weights: LossWeights,
        seed_key: tuple[int, ...],
        *,
        pad_id: int = 0,
        parts: int = 1,
        embedding_target: Any | None = None,
        dev: tuple[Encoded, Any] | None = None,
    ) -> None:
        self.name, self.model, self._weights = name, student, weights
        self._sources, self._pad_id, self._parts, self._dev = list(sources), pad_id, parts, dev
        self._streams = [
            BatchStream(s.texts, s.labels, max(1, s.size // parts), [*seed_key, i], pad_id)
            for i, s in enumerate(sources)
        ]
        self._target = None if embedding_target is None else backend.asarray(embedding_target, np.float32)

    def losses(self, step: int) -> Iterator[Mapping[str, Tensor]]:
        """The terms of each source, weighted."""
        total = sum(s.size for s in self._sources)
        for source, stream in zip(self._sources, self._streams, strict=True):
            share = source.size / total / self._parts
            for part in range(self._parts):
                position = step * self._parts + part
                terms = self._terms(source, stream.batch(position), stream.batch(position + 1))
                if not terms:  # such as those of unlabelled text where labels alone have a weight
                    continue
                weighted = {name: value * share for name, value in terms.items()}
                yield weighted | {"loss": reduce(add, weighted.values())}
        if self._weights.embedding and self._target is not None:
            term = embedding_loss(self.model.embedding.weight, self._target) * self._weights.embedding
            yield {"embedding": term, "loss": term}

    def _terms(self, source: Source, batch: Batch, upcoming: Batch) -> dict[str, Tensor]:
        """The weighted terms of one batch."""
        w = self._weights
        teacher = source.teacher if w.features or w.logits else None
        labels = batch.labels if w.cross_entropy else None
        if teacher is None and labels is None:
            return {}
        if teacher is not None:
            teacher.logits(batch) if w.logits else teacher.hidden(batch)
            teacher.prefetch(upcoming)
        mask = backend.asarray(batch.mask)
        out = self.model(backend.asarray(batch.input_ids), mask, features=bool(w.features and teacher is not None))
        terms: dict[str, Tensor] = {}
        if teacher is not None and w.features:
            targets = [backend.asarray(t, np.float32) for t in teacher.hidden(batch)]
            terms["features"] = feature_loss(out.hidden_states, targets, mask, reference=w.reference)
            terms["features"] = terms["features"] * w.features
        if teacher is not None and w.logits:
            target = backend.asarray(teacher.logits(batch))
            terms["logits"] = kl_divergence(target, out.logits, w.temperature) * w.logits
        if labels is not None:
            terms["cross_entropy"] = cross_entropy(out.logits, backend.asarray(labels)) * w.cross_entropy
        return terms

    def evaluate(self) -> Mapping[str, float]:
        """Accuracy on dev; nothing in a phase without labels, whose last weights are kept."""
        if self._dev is None:
            return {}
        texts, labels = self._dev
        return {"score": accuracy(labels, student_logits(self.model, texts, self._pad_id).argmax(axis=1))}


def student_logits(student: SpikeBERT, texts: Encoded, pad_id: int = 0) -> Any:
    """The student's logits ``[N, C]`` of every text, on the host."""
    return predict_logits(lambda ids, mask, _: student(ids, mask, features=False).logits, texts, pad_id=pad_id)
