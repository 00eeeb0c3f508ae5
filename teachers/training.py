"""Making a teacher with minispike itself: masked language modelling, then fine-tuning on a task."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from minispike.data.batches import Batch, BatchStream, near_equal
from minispike.data.tokenizer import Encoded, Tokenizer
from minispike.metrics import accuracy
from minispike.models.bert import Bert, MaskedLanguageModel
from minispike.nn.losses import cross_entropy
from minispike.tensor import Tensor
from minispike.train.predict import predict_logits


@dataclass(frozen=True, eq=False)
class _Masked:
    """Sentences with words hidden.

    Args:
        input_ids: ``[B, L]`` as the model sees them.
        original: the sentences before.
        chosen: booleans ``[B, L]``, the places where a word is to be guessed.
        rng: generator for dropout.
        share: of the places in the whole batch that are here.
    """

    input_ids: Any
    original: Batch
    chosen: Any
    rng: np.random.Generator
    share: float


class _Labelled(NamedTuple):
    """Sentences with labels, a generator for dropout, and the share of the whole batch that they are."""

    batch: Batch
    rng: np.random.Generator
    share: float


class Pretraining:
    """Masked language modelling (Devlin et al. 2019): guess the words that were hidden.

    A share of the tokens is chosen; of these 80 % become [MASK], 10 % a random token, 10 % stay. The loss is the
    cross entropy at the chosen places.

    Args:
        bert: trained in place.
        text: unlabelled sentences.
        tokenizer: whose [MASK] is used.
        batch_size: sentences a step.
        share: of the tokens that are chosen, default 0.15.
        seed_key: integers that name this phase's random numbers.
        parts: near-equal ones that a batch is computed in; default 1.
    """

    name = "pretrain teacher"

    def __init__(
        self,
        bert: Bert,
        text: Encoded,
        tokenizer: Tokenizer,
        batch_size: int,
        share: float,
        seed_key: tuple[int, ...],
        *,
        parts: int = 1,
    ) -> None:
        self.model = MaskedLanguageModel(bert, np.random.default_rng([*seed_key, 2]))
        self._stream = BatchStream(text, None, batch_size, [*seed_key, 0], tokenizer.pad_id)
        self._tokenizer, self._share, self._seed_key, self._parts = tokenizer, share, seed_key, parts

    def parts(self, step: int) -> Iterator[_Masked]:
        """One batch with words hidden, in parts."""
        rng = np.random.default_rng([*self._seed_key, 1, step])
        batch = self._stream.batch(step)
        special = (self._tokenizer.cls_id, self._tokenizer.sep_id)
        words = batch.mask & ~np.isin(batch.input_ids, special)
        chosen = words & (rng.random(words.shape) < self._share)
        if not chosen.any():
            chosen[np.unravel_index(np.argmax(words), words.shape)] = True
        dice = rng.random(words.shape)
        random_ids = rng.integers(0, self._tokenizer.vocab_size, size=words.shape)
        ids = np.where(chosen & (dice < 0.8), self._tokenizer.mask_id, batch.input_ids)
        ids = np.where(chosen & (dice >= 0.9), random_ids, ids)
        total = int(chosen.sum())

        pieces = near_equal(len(batch), self._parts)
        for rows, dropped in zip(pieces, rng.spawn(len(pieces)), strict=True):
            if (picked := chosen[rows]).any():
                yield _Masked(ids[rows], batch.part(rows), picked, dropped, int(picked.sum()) / total)

    def losses(self, part: _Masked) -> Mapping[str, Tensor]:
        """The cross entropy at the chosen places of a part."""
        batch = part.original
        logits = self.model(part.input_ids, batch.mask, part.chosen, batch.segment_ids, part.rng)
        return {"loss": cross_entropy(logits, batch.input_ids[part.chosen]) * part.share}

    def evaluate(self) -> Mapping[str, float]:
        """Nothing: the last weights are kept."""
        return {}


class FineTuning:
    """Cross entropy on labelled sentences; dev accuracy selects.

    Args:
        bert: trained in place; must have a classifier.
        train, dev: encoded texts and their labels.
        batch_size: sentences a step.
        seed_key: integers that name this phase's random numbers.
        pad_id: the padding token.
        parts: near-equal ones that a batch is computed in; default 1.
    """

    name = "fine-tune teacher"

    def __init__(
        self,
        bert: Bert,
        train: tuple[Encoded, Any],
        dev: tuple[Encoded, Any],
        batch_size: int,
        seed_key: tuple[int, ...],
        pad_id: int = 0,
        *,
        parts: int = 1,
    ) -> None:
        self.model, self._parts = bert, parts
        self._stream = BatchStream(train[0], train[1], batch_size, [*seed_key, 0], pad_id)
        self._dev, self._seed_key, self._pad_id = dev, seed_key, pad_id

    def parts(self, step: int) -> Iterator[_Labelled]:
        """One batch, in parts."""
        rng = np.random.default_rng([*self._seed_key, 1, step])
        batch = self._stream.batch(step)
        pieces = near_equal(len(batch), self._parts)
        for rows, dropped in zip(pieces, rng.spawn(len(pieces)), strict=True):
            part = batch.part(rows)
            yield _Labelled(part, dropped, len(part) / len(batch))

    def losses(self, part: _Labelled) -> Mapping[str, Tensor]:
        """The cross entropy of a part, with dropout."""
        batch = part.batch
        out = self.model(batch.input_ids, batch.mask, batch.segment_ids, part.rng)
        return {"loss": cross_entropy(out.logits, batch.labels) * part.share}

    def evaluate(self) -> Mapping[str, float]:
        """Accuracy on dev."""
        encoded, labels = self._dev

        def logits(ids: Any, mask: Any, segments: Any) -> Any:
            return self.model(ids, mask, segments).logits

        return {"score": accuracy(labels, predict_logits(logits, encoded, pad_id=self._pad_id).argmax(axis=1))}
