"""What a run reads is known by its fingerprint, which changes with whatever is read."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from corpus_files import write

from minispike.corpus import Corpus, read_corpus
from minispike.data.text import Examples

# ---- The fingerprint

Change = Callable[[Corpus], Corpus]


def of_part(part: str, change: Callable[[Examples], Examples]) -> Change:
    return lambda corpus: replace(corpus, data=replace(corpus.data, **{part: change(getattr(corpus.data, part))}))


def first_text(examples: Examples) -> Examples:
    return replace(examples, texts=(examples.texts[0] + "s", *examples.texts[1:]))


def last_pair(examples: Examples) -> Examples:
    assert examples.pairs is not None
    return replace(examples, pairs=(*examples.pairs[:-1], examples.pairs[-1] + " "))


def first_label(examples: Examples) -> Examples:
    assert examples.labels is not None
    return replace(examples, labels=np.concatenate([1 - examples.labels[:1], examples.labels[1:]]))


def turned_round(examples: Examples) -> Examples:
    return examples.subset(np.arange(len(examples))[::-1])


def exchanged(examples: Examples) -> Examples:
    assert examples.pairs is not None
    return replace(examples, texts=examples.pairs, pairs=examples.texts)


def moved(corpus: Corpus) -> Corpus:
    """The last of train becomes the first of dev."""
    data, train, dev = corpus.data, corpus.data.train, corpus.data.dev
    assert train.labels is not None and dev.labels is not None and train.pairs is not None and dev.pairs is not None
    grown = Examples(
        (train.texts[-1], *dev.texts),
        np.concatenate([train.labels[-1:], dev.labels]),
        (train.pairs[-1], *dev.pairs),
    )
    return replace(corpus, data=replace(data, train=train.subset(np.arange(len(train) - 1)), dev=grown))


def last_shouts(examples: Examples) -> Examples:
    return replace(examples, texts=(*examples.texts[:-1], examples.texts[-1].upper()))


def one_less(examples: Examples) -> Examples:
    return examples.subset(np.arange(len(examples) - 1))


def one_twice(examples: Examples) -> Examples:
    return examples.subset([*range(len(examples)), 0])


def first_texts_alone(examples: Examples) -> Examples:
    return Examples(examples.texts)


def as_singles(examples: Examples) -> Examples:
    return Examples(examples.sentences)


def of_unlabelled(change: Callable[[Examples], Examples]) -> Change:
    return lambda corpus: replace(corpus, unlabelled=change(corpus.unlabelled))


def of_names(*names: str) -> Change:
    return lambda corpus: replace(corpus, data=replace(corpus.data, label_names=names))


CHANGES: dict[str, Change] = {
    f"{part}: {change.__name__}": of_part(part, change)
    for part in ("train", "dev", "test")
    for change in (first_text, last_pair, first_label, turned_round, exchanged)
} | {
    f"unlabelled: {change.__name__}": of_unlabelled(change)
    for change in (
        first_text, last_pair, last_shouts, one_less, one_twice, turned_round, exchanged, first_texts_alone, as_singles,
    )
} | {
    "moved to dev": moved,
    "the names of the labels exchanged": of_names("1", "0"),
    "other names of the labels": of_names("no", "yes"),
    "one more name": of_names("0", "1", "2"),
}  # fmt: skip


@pytest.fixture
def pairs(tmp_path: Path) -> Corpus:
    rows = [f"first {i}\tsecond {i}\t{i % 3 % 2}" for i in range(15)]
    c = write(tmp_path / "d", rows[:7], rows[7:11], rows[11:], "text\ttext2\tlabel")
    return read_corpus(c, seed=0)


@pytest.mark.parametrize("name", CHANGES)
def test_the_digest_changes_with_whatever_is_read(pairs: Corpus, name: str) -> None:
    assert CHANGES[name](pairs).digest() != pairs.digest()


def test_two_texts_joined_are_another_digest(pairs: Corpus) -> None:
    texts = pairs.unlabelled.texts
    found = [
        replace(pairs, unlabelled=Examples(given)).digest()
        for given in (texts, ("".join(texts[:2]), *texts[2:]), (f"{texts[0]}\n{texts[1]}", *texts[2:]))
    ]
    assert len(set(found)) == 3


def test_the_digest_is_that_of_the_texts_alone(pairs: Corpus, tmp_path: Path) -> None:
    assert replace(pairs, notes=("other",)).digest() == pairs.digest()
    labels = pairs.data.train.labels
    assert labels is not None
    narrow = of_part("train", lambda e: replace(e, labels=labels.astype(np.int32)))
    assert narrow(pairs).digest() == pairs.digest()
