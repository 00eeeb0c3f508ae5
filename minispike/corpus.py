"""From files, or from the grammar, to the encoded texts of a run, with what was dropped on the way."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from minispike.config import DataConfig
from minispike.data.overlap import drop_overlap
from minispike.data.reviews import build_reviews
from minispike.data.text import Dataset, Examples, load_dataset, read_lines
from minispike.data.tokenizer import Encoded, Tokenizer
from minispike.errors import DataError, problem


@dataclass(frozen=True, eq=False)
class Corpus:
    """What a run reads: ``data`` with its three splits, ``unlabelled`` sentences, and ``notes`` on what was dropped."""

    data: Dataset
    unlabelled: tuple[str, ...]
    notes: tuple[str, ...]

    def digest(self) -> str:
        """A fingerprint of every text and label: a resumed run must find the same."""
        mark = hashlib.sha256()
        for examples in (self.data.train, self.data.dev, self.data.test):
            for text in (*examples.texts, *(examples.pairs or ())):
                mark.update(text.encode() + b"\n")
            mark.update(np.asarray(examples.labels, dtype=np.int64).tobytes())
        for text in self.unlabelled:
            mark.update(text.encode() + b"\n")
        return mark.hexdigest()


@dataclass(frozen=True, eq=False)
class Split:
    """One encoded split: ``texts`` and their labels ``[N]``."""

    texts: Encoded
    labels: Any

    def both(self) -> tuple[Encoded, Any]:
        """Texts and labels."""
        return self.texts, self.labels


def read_corpus(c: DataConfig, seed: int) -> Corpus:
    """Read or build the texts; drop from training and transfer text what dev or test hold.

    Raises:
        DataError: a file is missing or damaged, or everything was dropped.
    """
    if c.path:
        data = load_dataset(c.path, c.dev_fraction, seed)
        unlabelled = tuple(read_lines(c.text)) if c.text else data.train.texts
    else:
        reviews = build_reviews(c.reviews)
        data = Dataset(reviews.train, reviews.dev, reviews.test, reviews.label_names)
        unlabelled = tuple(read_lines(c.text)) if c.text else reviews.unlabelled
    return _without_overlap(data, unlabelled, c.text_limit)


def _joined(examples: Examples) -> list[str]:
    """Each text, or the two texts of a pair with a tab between them."""
    if examples.pairs is None:
        return list(examples.texts)
    return [f"{a}\t{b}" for a, b in zip(examples.texts, examples.pairs, strict=True)]


def _without_overlap(data: Dataset, unlabelled: tuple[str, ...], limit: int) -> Corpus:
    for name, part in (("dev", data.dev), ("test", data.test)):
        if not len(part):
            hint = f"reviews.{name}=1000"
            raise DataError(problem(name, expected="at least one sentence", got="none", hint=hint))
    held_out = _joined(data.dev) + _joined(data.test)
    train = drop_overlap(_joined(data.train), held_out)
    singles = [t for e in (data.dev, data.test) for t in (*e.texts, *(e.pairs or ()))]
    transfer = drop_overlap(unlabelled, singles)
    kept = tuple(unlabelled[i] for i in transfer.kept)[: limit or None]
    for name, left in (("train", len(train.kept)), ("unlabelled text", len(kept))):
        if not left:
            hint = "a file that shares no sentence with dev and test"
            raise DataError(problem(name, expected="sentences that dev and test lack", got="none", hint=hint))
    notes = (
        f"{len(train.kept)} training, {len(data.dev)} dev, {len(data.test)} test sentences; {len(kept)} unlabelled",
        f"equal to a dev or test sentence, and dropped: {train.dropped} training, {transfer.dropped} unlabelled",
    )
    clean = Dataset(data.train.subset(train.kept), data.dev, data.test, data.label_names)
    return Corpus(clean, kept, notes)


def encode(tokenizer: Tokenizer, examples: Examples, max_length: int) -> Split:
    """The token ids of a labelled split."""
    return Split(tokenizer.encode(examples.texts, examples.pairs, max_length), examples.labels)


def encoding_notes(named: Iterable[tuple[str, Encoded]]) -> tuple[str, ...]:
    """A line on how much of each set was cut off or not known to the tokenizer."""
    return tuple(
        f"{name}: {100 * e.truncated:.2f} % of the sentences truncated, {100 * e.unknown:.3f} % of the tokens unknown"
        for name, e in named
    )
