"""From files, or from the grammar, to the encoded texts of a run, with what was dropped on the way."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minispike.config import DataConfig, RunConfig
from minispike.data.overlap import drop_overlap
from minispike.data.reviews import build_reviews
from minispike.data.text import Dataset, Examples, load_dataset, read_sentences
from minispike.data.tokenizer import Encoded, Tokenizer
from minispike.errors import DataError, problem, warn

MUCH_TRUNCATED = 0.05
"""The share of a set's sentences of which more, cut off, is worth a warning."""


@dataclass(frozen=True, eq=False)
class Corpus:
    """What a run reads.

    Attributes:
        data: the three labelled splits.
        unlabelled: the sentences of a text file or of the built-in corpus; else the training texts or pairs.
        notes: on what was dropped.
    """

    data: Dataset
    unlabelled: Examples
    notes: tuple[str, ...]

    def digest(self) -> str:
        """A fingerprint of every text, label and label's name: a resumed run must find the same."""
        mark = hashlib.sha256(json.dumps(self.data.label_names).encode())
        for part in (self.data.train, self.data.dev, self.data.test, self.unlabelled):
            labels = None if part.labels is None else part.labels.tolist()
            mark.update(json.dumps([part.texts, part.pairs, labels]).encode())
        return mark.hexdigest()


@dataclass(frozen=True, eq=False)
class Split:
    """One encoded split: ``texts`` and their labels ``[N]``, or None for unlabelled text."""

    texts: Encoded
    labels: Any

    def both(self) -> tuple[Encoded, Any]:
        """Texts and labels."""
        return self.texts, self.labels


def read_corpus(c: DataConfig, seed: int) -> Corpus:
    """Read or build the texts; drop from training and transfer text what dev or test hold.

    Raises:
        DataError: a file is missing or damaged, or everything was dropped, or every example of a label.
    """
    if c.path:
        data = load_dataset(c.path, c.dev_fraction, seed)
        unlabelled = replace(data.train, labels=None)
    else:
        reviews = build_reviews(c.reviews)
        data = Dataset(reviews.train, reviews.dev, reviews.test, reviews.label_names)
        unlabelled = Examples(reviews.unlabelled)
    if c.text:
        unlabelled = Examples(tuple(read_sentences(c.text)))
    return _without_overlap(data, unlabelled, c.text_limit)


def _joined(examples: Examples) -> list[str]:
    """Each text, or the two texts of a pair with a tab between them."""
    if examples.pairs is None:
        return list(examples.texts)
    return [f"{a}\t{b}" for a, b in zip(examples.texts, examples.pairs, strict=True)]


def _without_overlap(data: Dataset, unlabelled: Examples, limit: int) -> Corpus:
    for name, part in (("labelled", data.train), ("dev", data.dev), ("test", data.test)):
        if not len(part):  # of the built-in corpus: a file without rows is an error of its own
            hint = f"data.reviews.{name}=1000"
            raise DataError(problem(name, expected="at least one sentence", got="none", hint=hint))
    held_out = (data.dev, data.test)
    wholes = [whole for part in held_out for whole in _joined(part)]
    singles = [sentence for part in held_out for sentence in part.sentences]
    train = drop_overlap(_joined(data.train), wholes)
    transfer = drop_overlap(_joined(unlabelled), singles if unlabelled.pairs is None else wholes)
    kept = unlabelled.subset(transfer.kept[: limit or None])
    for name, left in (("train", len(train.kept)), ("unlabelled text", len(kept))):
        if not left:
            hint = "a file that shares no sentence with dev and test"
            raise DataError(problem(name, expected="sentences that dev and test lack", got="none", hint=hint))
    clean = Dataset(data.train.subset(train.kept), data.dev, data.test, data.label_names)
    _check_labels(clean)
    kind = "sentence" if data.train.pairs is None else "pair"
    notes: tuple[str, ...] = (
        f"{len(train.kept)} training, {len(data.dev)} dev, {len(data.test)} test {kind}s; {len(kept)} unlabelled",
        f"equal to a dev or test {kind}, and dropped: {train.dropped} training, {transfer.dropped} unlabelled",
    )
    if kind == "pair" and kept.pairs is None:
        notes += ("the unlabelled text is of single sentences: stage 2 takes the training pairs in its place",)
    return Corpus(clean, kept, notes)


def _check_labels(data: Dataset) -> None:
    """See that no label has lost all its training examples to the search for overlap."""
    left = set(np.unique(np.asarray(data.train.labels)).tolist())
    lost = [name for number, name in enumerate(data.label_names) if number not in left]
    if lost:
        got = f"none of {', '.join(lost)} but what dev or test hold too, which was dropped"
        hint = "more training examples"
        raise DataError(problem("train", expected="examples of every label", got=got, hint=hint))


def encode(tokenizer: Tokenizer, examples: Examples, max_length: int) -> Split:
    """The token ids of examples, pairs with their segments, and the labels if there are any."""
    return Split(tokenizer.encode(examples.texts, examples.pairs, max_length), examples.labels)


def transfer_set(unlabelled: Encoded, train: Encoded, varied: Encoded, *, mix: bool = True) -> Encoded:
    """What the fine-tuned teacher labels in stage 2, beside the labelled examples: unlabelled text and variants.

    A single sentence is no input of a pair task. Where the unlabelled text is of sentences and the task of pairs,
    the training pairs stand in for it.

    Args:
        unlabelled: sentences or pairs.
        train: the training texts or pairs.
        varied: variants of the latter, from `minispike.distill.augment`; may be empty.
        mix: false: the variants alone.

    Raises:
        DataError: there are none, and nothing is mixed in.
    """
    if not mix and not len(varied):
        expected, hint = "augmented or unlabelled text", "augment.passes=2 or stage2.transfer=true"
        raise DataError(problem("transfer text", expected=expected, got="none", hint=hint))
    fits = (unlabelled.segments is None) == (train.segments is None)
    return join(unlabelled if fits else train, varied) if mix else varied


def join(a: Encoded, b: Encoded) -> Encoded:
    """Two encoded sets as one, ``a`` first.

    If either has segments, the whole has: those of a single text are all 0, as BERT takes them. The shares of what
    was cut off and not known are those of the whole.
    """
    paired = a.segments is not None or b.segments is not None
    sizes = [len(a), len(b)]
    pieces = [int(e.lengths.sum()) - (2 if e.segments is None else 3) * len(e) for e in (a, b)]
    return Encoded(
        ids=(*a.ids, *b.ids),
        segments=(*_segments(a), *_segments(b)) if paired else None,
        truncated=_share((a.truncated, b.truncated), sizes),
        unknown=_share((a.unknown, b.unknown), pieces),
    )


def _segments(e: Encoded) -> tuple[NDArray[np.int32], ...]:
    return tuple(np.zeros_like(ids) for ids in e.ids) if e.segments is None else e.segments


def _share(shares: Sequence[float], counts: Sequence[int]) -> float:
    """The share of a whole, from those of its parts."""
    return sum(share * count for share, count in zip(shares, counts, strict=True)) / max(sum(counts), 1)


def encoding_notes(named: Iterable[tuple[str, Encoded]]) -> tuple[str, ...]:
    """A line on how much of each set was cut off or not known to the tokenizer."""
    return tuple(
        f"{name}: {100 * e.truncated:.2f} % of the sentences truncated, {100 * e.unknown:.3f} % of the tokens unknown"
        for name, e in named
    )


def tell_notes(notes: Iterable[str], named: Iterable[tuple[str, Encoded]], c: RunConfig) -> None:
    """Print what was dropped, cut off and not known, before anybody learns from the rest; on standard error.

    Args:
        notes: on the texts.
        named: the encoded sets.
        c: the configuration, of which the sets' length is told.
    """
    named = tuple(named)
    for note in (*notes, *encoding_notes(named)):
        warn(f"data: {note}")
    much = [f"{100 * e.truncated:.1f} % of {name}" for name, e in named if e.truncated > MUCH_TRUNCATED]
    if much:
        length = c.data.max_length
        more = f"data.max_length={2 * length}"
        if 0 < c.student.max_length < 2 * length:
            more += f" student.max_length={2 * length}"
        warn(f"warning: {', '.join(much)} lost what is beyond {length} tokens; try more, such as --set {more}")
