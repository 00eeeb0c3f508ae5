"""The two stages of distillation, and direct training, as one task with different sources and weights.

Stage 1 reads unlabelled text and matches the pretrained teacher's hidden states. Stage 2 reads labelled sentences
and teacher-labelled transfer text, and matches the fine-tuned teacher's logits and hidden states, and the labels.
Direct training reads labelled sentences and labels alone.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import numpy as np

from minispike import backend
from minispike.data.batches import Batch, BatchStream, near_equal
from minispike.data.tokenizer import Encoded
from minispike.distill.losses import Alignment, LossWeights, embedding_loss, feature_loss
from minispike.distill.teacher import TeacherView
from minispike.errors import ConfigError, problem
from minispike.metrics import accuracy
from minispike.models.spikebert import SpikeBERT
from minispike.nn.losses import cross_entropy, kl_divergence
from minispike.ops import add
from minispike.tensor import Tensor
from minispike.train.loop import SelectedConfig, TrainConfig
from minispike.train.predict import predict_logits


@dataclass(frozen=True)
class Stage1Config(TrainConfig):
    """Stage 1: the student's hidden states learn from the pretrained teacher's, on unlabelled text.

    Raises:
        ConfigError: a number is out of its range.

    Example:
        >>> from minispike.distill.stages import Stage1Config
        >>> stage1 = Stage1Config(steps=400, learning_rate=4e-3)
        >>> stage1.alignment.reach, stage1.rates().multiplier(step=0, steps=400)
        ('last', 0.025)
    """

    embedding: float = field(default=0.0, metadata={"help": "weight of the embedding loss beside the features' 1"})
    alignment: Alignment = field(default_factory=Alignment)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.embedding < math.inf:
            got = str(self.embedding)
            raise ConfigError(problem("embedding", expected="a weight >= 0", got=got, hint="embedding=0.1"))


@dataclass(frozen=True)
class Stage2Config(SelectedConfig):
    """Stage 2: the student learns the task from the fine-tuned teacher.

    Raises:
        ConfigError: a number is out of its range.

    Example:
        >>> from minispike.distill.losses import LossWeights
        >>> from minispike.distill.stages import Stage2Config
        >>> Stage2Config(weights=LossWeights(features=5.0)).weights.cross_entropy  # the rest stays as it is
        0.1
        >>> Stage2Config(labelled=0.0)
        Traceback (most recent call last):
            ...
        minispike.errors.ConfigError: labelled: expected a share above 0, at most 1, got 0.0; try labelled=0.5
    """

    labelled: float = field(
        default=0.5, metadata={"help": "share of labelled sentences in a batch; the teacher alone labels the rest"}
    )
    weights: LossWeights = field(default_factory=LossWeights)
    transfer: bool = field(default=True, metadata={"help": "mix unlabelled text in, beside augmented sentences"})
    alignment: Alignment = field(default_factory=Alignment)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.labelled <= 1:
            got = str(self.labelled)
            raise ConfigError(problem("labelled", expected="a share above 0, at most 1", got=got, hint="labelled=0.5"))


@dataclass(frozen=True)
class Source:
    """Texts that a task reads, its share of every batch, and who teaches them.

    Args:
        texts: encoded.
        labels: ``[N]``, or None for unlabelled text.
        size: sentences of it in a step's batch.
        teacher: None where no teacher is asked.

    Example:
        >>> import numpy as np
        >>> from minispike.data.tokenizer import Encoded
        >>> from minispike.distill.stages import Source
        >>> texts = Encoded(tuple(np.array([2, i, 3]) for i in (5, 6, 7)), None, truncated=0.0, unknown=0.0)
        >>> Source(texts, labels=np.array([0, 1, 1]), size=2, teacher=None).size  # labels alone: direct training
        2
    """

    texts: Encoded
    labels: Any | None
    size: int
    teacher: TeacherView | None


@dataclass(frozen=True)
class _Lesson:
    """Sentences of a source with all that is asked of them: None for what is not.

    Args:
        batch: of B sentences.
        hidden: the teacher's hidden states, one ``[B, L, D_t]`` a layer.
        logits: the teacher's, ``[B, C]``.
        labels: ``[B]``.
        of_sentences: share of a step's sentences that these are.
        of_tokens: share of a step's tokens, as if sources of as many sentences had as many tokens.
    """

    batch: Batch
    hidden: Sequence[Any] | None
    logits: Any | None
    labels: Any | None
    of_sentences: float
    of_tokens: float

    def part(self, rows: slice) -> "_Lesson":
        """Some of the sentences."""
        part = self.batch.part(rows)
        return _Lesson(
            part,
            None if self.hidden is None else [states[rows] for states in self.hidden],
            None if self.logits is None else self.logits[rows],
            None if self.labels is None else self.labels[rows],
            self.of_sentences * len(part) / len(self.batch),
            self.of_tokens * int(part.mask.sum()) / int(self.batch.mask.sum()),
        )


class Distillation:
    """A `minispike.train.loop.Task` that trains a student.

    Args:
        name: of the phase.
        student: trained in place.
        sources: what a batch is made of. Each is a part of its own (so that texts of like length share a
            tensor), and its loss is weighted by its share of the sentences.
        weights: of the terms.
        seed_key: integers that name this phase's random numbers.
        pad_id: the padding token, default 0.
        parts: computes each source's batch in this many near-equal pieces, by default one. The sentences of a step
            and the sum of its losses are those of one piece.
        alignment: how hidden states are compared; None: as `Alignment` has it by default.
        embedding_target: the teacher's table ``[V, D_t]``, for the embedding loss.
        dev: encoded texts and labels that select by accuracy; None: the last weights are kept.

    Raises:
        DataError: a source has no texts.
        ShapeError: its labels are not as many as its texts.
        ConfigError: its size is below 1, or the seed key holds a negative number.

    Example:
        >>> import numpy as np
        >>> from minispike.data.tokenizer import Encoded
        >>> from minispike.distill.losses import LossWeights
        >>> from minispike.distill.stages import Distillation, Source
        >>> from minispike.models.spikebert import SpikeBERT
        >>> from minispike.models.spikebert_config import SpikeBERTConfig
        >>> texts = Encoded(tuple(np.array([2, i, 3]) for i in (5, 6, 7)), None, truncated=0.0, unknown=0.0)
        >>> student = SpikeBERT(SpikeBERTConfig(vocab_size=10, dim=8, depth=1, heads=2, num_labels=2))
        >>> student.classifier.weight.assign(np.zeros((2, 8)))  # it knows nothing yet: the loss is log 2
        >>> source = Source(texts, labels=np.array([0, 1, 1]), size=2, teacher=None)
        >>> weights = LossWeights(features=0.0, logits=0.0, cross_entropy=1.0)
        >>> task = Distillation("direct", student, [source], weights, seed_key=(0,))
        >>> [round(task.losses(part)["loss"].item(), 4) for part in task.parts(step=0)]
        [0.6931]
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
        alignment: Alignment | None = None,
        embedding_target: Any | None = None,
        dev: tuple[Encoded, Any] | None = None,
    ) -> None:
        self.name, self.model, self._weights, self._alignment = name, student, weights, alignment or Alignment()
        self._sources, self._pad_id, self._parts, self._dev = list(sources), pad_id, parts, dev
        self._streams = [BatchStream(s.texts, s.labels, s.size, [*seed_key, i], pad_id) for i, s in enumerate(sources)]
        self._target = None if embedding_target is None else self._placed(embedding_target, np.float32)

    def parts(self, step: int) -> Iterator[_Lesson | None]:
        """The parts of each source; None stands for the table of embeddings."""
        for source, stream in zip(self._sources, self._streams, strict=True):
            lesson = self._lesson(source, stream, step)
            if lesson is not None:
                for rows in near_equal(len(lesson.batch), self._parts):
                    yield lesson.part(rows)
        if self._weights.embedding and self._target is not None:
            yield None

    def losses(self, part: _Lesson | None) -> Mapping[str, Tensor]:
        """The weighted terms of a part."""
        return self._embedding_term() if part is None else self._terms(part)

    def _embedding_term(self) -> Mapping[str, Tensor]:
        """How far the student's table is from the teacher's: once a step."""
        term = embedding_loss(self.model.projected_embedding(), self._target) * self._weights.embedding
        return {"embedding": term, "loss": term}

    def _lesson(self, source: Source, stream: BatchStream, step: int) -> _Lesson | None:
        """A source's batch and the teacher's answers; None if no term wants it, as labels alone do of unlabelled text.

        The teacher is asked for the whole batch, however many parts the student needs, and told of the next one.
        """
        w, batch = self._weights, stream.batch(step)
        teacher = source.teacher if w.features or w.logits else None
        labels = batch.labels if w.cross_entropy else None
        if teacher is None and labels is None:
            return None
        hidden = teacher.hidden(batch) if teacher is not None and w.features else None
        logits = teacher.logits(batch) if teacher is not None and w.logits else None
        if teacher is not None:
            teacher.prefetch(stream.batch(step + 1))
        share = source.size / sum(s.size for s in self._sources)
        return _Lesson(batch, hidden, logits, labels, share, share)

    def _terms(self, lesson: _Lesson) -> dict[str, Tensor]:
        """The weighted terms of some sentences.

        Each is a mean, over tokens or sentences, and counts as much as their share of what it is a mean of: so the
        parts add up to the whole.
        """
        w = self._weights
        mask = self._placed(lesson.batch.mask)
        out = self.model(lesson.batch.input_ids, mask, features=lesson.hidden is not None)
        terms: dict[str, Tensor] = {}
        if lesson.hidden is not None:
            share = lesson.of_tokens if self._alignment.masked else lesson.of_sentences
            terms["features"] = self._features(out.hidden_states, lesson.hidden, mask) * (w.features * share)
        if lesson.logits is not None:
            loss = kl_divergence(lesson.logits, out.logits, w.temperature)
            terms["logits"] = loss * (w.logits * lesson.of_sentences)
        if lesson.labels is not None:
            loss = cross_entropy(out.logits, lesson.labels)
            terms["cross_entropy"] = loss * (w.cross_entropy * lesson.of_sentences)
        return terms | {"loss": reduce(add, terms.values())}

    def _placed(self, value: Any, dtype: Any = None) -> Any:
        """An array where the student's weights lie."""
        return backend.asarray(value, dtype, module=backend.array_module(self.model.embedding.weight.array))

    def _features(self, ours: Sequence[Tensor], targets: Sequence[Any], mask: Any) -> Tensor:
        a = self._alignment
        loss = feature_loss(ours, targets, mask if a.masked else None, per_batch=a.per_batch)
        if a.per_batch:  # it is divided by the part's sentences, and should be by those of the whole step
            loss = loss * (len(mask) / sum(s.size for s in self._sources))
        return loss

    def evaluate(self) -> Mapping[str, float]:
        """Accuracy on dev; nothing in a phase without labels, whose last weights are kept."""
        if self._dev is None:
            return {}
        texts, labels = self._dev
        return {"score": accuracy(labels, student_logits(self.model, texts, self._pad_id).argmax(axis=1))}


def student_logits(student: SpikeBERT, texts: Encoded, pad_id: int = 0) -> Any:
    """The student's logits ``[N, C]`` of every text, on the host, in the order of the texts.

    Args:
        student: runs without a graph.
        texts: N of them, at least one.
        pad_id: the padding token, default 0.

    Example:
        >>> import numpy as np
        >>> from minispike.data.tokenizer import Encoded
        >>> from minispike.distill.stages import student_logits
        >>> from minispike.models.spikebert import SpikeBERT
        >>> from minispike.models.spikebert_config import SpikeBERTConfig
        >>> texts = Encoded((np.array([2, 5, 3]), np.array([2, 6, 7, 3])), None, truncated=0.0, unknown=0.0)
        >>> student = SpikeBERT(SpikeBERTConfig(vocab_size=10, dim=8, depth=1, heads=2, num_labels=2))
        >>> student.classifier.weight.assign(np.zeros((2, 8)))
        >>> student.classifier.bias.assign(np.array([-1.0, 1.0]))
        >>> student_logits(student, texts).tolist()
        [[-1.0, 1.0], [-1.0, 1.0]]
    """
    return predict_logits(lambda ids, mask, _: student(ids, mask, features=False).logits, texts, pad_id=pad_id)
