"""What a run reads holds nothing of dev and test, says what was dropped, and is known by its fingerprint."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import assert_sentence

from minispike.config import DataConfig
from minispike.corpus import Corpus, Split, encode, encoding_notes, join, read_corpus, tell_notes, transfer_set
from minispike.data.batches import collate
from minispike.data.overlap import normalise
from minispike.data.reviews import ReviewsConfig, build_reviews
from minispike.data.text import Examples
from minispike.data.tokenizer import Encoded, Tokenizer
from minispike.distill.augment import AugmentConfig, augment
from minispike.errors import ConfigError, DataError

TRAIN = ("good one\t1", "bad one\t0", "It 's  FINE !\t1", "a dull day\t0", "so so\t0")
DEV = ("it's fine\t1", "never seen\t0")
TEST = ("A dull-day.\t0", "also new\t1")
SMALL = ReviewsConfig(labelled=60, dev=20, test=30, unlabelled=40)


def write(folder: Path, train: Sequence[str], dev: Sequence[str], test: Sequence[str], header: str) -> DataConfig:
    folder.mkdir(exist_ok=True)
    for name, rows in (("train", train), ("dev", dev), ("test", test)):
        (folder / f"{name}.tsv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return DataConfig(path=str(folder))


@pytest.fixture
def single(tmp_path: Path) -> DataConfig:
    """Five training sentences, two of which stand in dev and test in other dress."""
    return write(tmp_path / "single", TRAIN, DEV, TEST, "text\tlabel")


def text_file(folder: Path, *lines: str) -> str:
    (folder / "text.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(folder / "text.txt")


# ---- Overlap


def test_training_text_that_is_held_out_is_dropped(single: DataConfig) -> None:
    corpus = read_corpus(single, seed=0)
    assert corpus.data.train.texts == ("good one", "bad one", "so so")
    assert corpus.data.train.labels is not None and corpus.data.train.labels.tolist() == [1, 0, 0]
    assert corpus.data.dev.texts == ("it's fine", "never seen") and corpus.data.test.texts == (
        "A dull-day.",
        "also new",
    )
    assert corpus.data.label_names == ("0", "1")
    assert corpus.unlabelled.texts == corpus.data.train.texts  # where no other text is given
    assert corpus.unlabelled.labels is None and corpus.unlabelled.pairs is None
    assert corpus.notes == (
        "3 training, 2 dev, 2 test sentences; 3 unlabelled",
        "equal to a dev or test sentence, and dropped: 2 training, 2 unlabelled",
    )


def test_transfer_text_that_is_held_out_is_dropped(tmp_path: Path, single: DataConfig) -> None:
    path = text_file(tmp_path, "free text", "ALSO new ?", "good one", "", "never   seen", "free text")
    corpus = read_corpus(replace(single, text=path), seed=0)
    assert corpus.unlabelled.texts == ("free text", "good one", "free text")
    assert corpus.notes[0].endswith("; 3 unlabelled") and corpus.notes[1].endswith("2 training, 2 unlabelled")


def test_nothing_to_drop(tmp_path: Path) -> None:
    corpus = read_corpus(write(tmp_path / "d", ("a\t0", "b\t1"), ("c\t0",), ("d\t1",), "text\tlabel"), seed=0)
    assert corpus.notes[1].endswith("dropped: 0 training, 0 unlabelled")


def test_a_limit_counts_what_is_kept(tmp_path: Path, single: DataConfig) -> None:
    path = text_file(tmp_path, "also new", "one", "never seen", "two", "three")
    for limit, kept in ((0, ("one", "two", "three")), (2, ("one", "two")), (1, ("one",)), (9, ("one", "two", "three"))):
        corpus = read_corpus(replace(single, text=path, text_limit=limit), seed=0)
        assert corpus.unlabelled.texts == kept
        assert corpus.notes[0].endswith(f"; {len(kept)} unlabelled")
    with pytest.raises(ConfigError, match="text_limit: expected a number >= 0, got -1"):
        replace(single, text_limit=-1)


def test_everything_is_dropped(tmp_path: Path, single: DataConfig) -> None:
    with pytest.raises(
        DataError, match="unlabelled text: expected sentences that dev and test lack, got none"
    ) as caught:
        read_corpus(replace(single, text=text_file(tmp_path, "also new", "Never seen!")), seed=0)
    assert_sentence(caught.value)
    c = write(tmp_path / "same", ("a\t0", "b\t1"), ("A\t0",), ("b .\t1",), "text\tlabel")
    with pytest.raises(DataError, match="train: expected sentences that dev and test lack, got none") as caught:
        read_corpus(c, seed=0)
    assert_sentence(caught.value)


def test_pairs(tmp_path: Path) -> None:
    """A pair is held out as a whole; free text must equal neither of a held-out pair's texts.

    Without free text, the training pairs themselves are the unlabelled text, as pairs.
    """
    train = ("one\ttwo\t0", "one\tthree\t1", "Four!\tfive\t1", "six\tseven\t0")
    c = write(tmp_path / "d", train, ("four\tFIVE\t1",), ("one\tnine\t0",), "text\ttext2\tlabel")
    corpus = read_corpus(c, seed=0)
    assert (corpus.data.train.texts, corpus.data.train.pairs) == (("one", "one", "six"), ("two", "three", "seven"))
    free = corpus.unlabelled
    assert (free.texts, free.labels, free.pairs) == (("one", "one", "six"), None, ("two", "three", "seven"))
    assert corpus.notes == (
        "3 training, 1 dev, 1 test pairs; 3 unlabelled",
        "equal to a dev or test pair, and dropped: 1 training, 1 unlabelled",
    )
    limited = read_corpus(replace(c, text_limit=2), seed=0).unlabelled
    assert (limited.texts, limited.pairs) == (("one", "one"), ("two", "three"))
    lines = text_file(tmp_path, "nine.", "five", "four", "two", "four five")
    singles = read_corpus(replace(c, text=lines), seed=0).unlabelled
    assert (singles.texts, singles.pairs) == (("two", "four five"), None)
    said = "the unlabelled text is of single sentences: stage 2 takes the training pairs in its place"
    assert read_corpus(replace(c, text=lines), seed=0).notes[2:] == (said,)


def test_dev_is_cut_from_train_by_the_seed(tmp_path: Path, single: DataConfig) -> None:
    rows = [f"sentence {i}\t{i % 2}" for i in range(40)]
    c = replace(write(tmp_path / "d", rows, (), ("other\t1",), "text\tlabel"), dev_fraction=0.2)
    (tmp_path / "d" / "dev.tsv").unlink()
    corpora = [read_corpus(c, seed) for seed in (0, 0, 1)]
    assert [len(corpus.data.dev) for corpus in corpora] == [8, 8, 8]
    assert corpora[0].data.dev.texts == corpora[1].data.dev.texts != corpora[2].data.dev.texts
    for corpus in corpora:
        assert not {*corpus.data.dev.texts} & {*corpus.data.train.texts, *corpus.unlabelled.texts}


# ---- The built-in corpus


def test_the_built_in_corpus() -> None:
    c = DataConfig(reviews=SMALL)
    corpus, reviews = read_corpus(c, seed=0), build_reviews(SMALL)
    assert (len(corpus.data.train), len(corpus.data.dev), len(corpus.data.test)) == (60, 20, 30)
    assert corpus.data.label_names == ("negative", "positive")
    assert corpus.data.test.texts == reviews.test.texts and corpus.unlabelled.texts == reviews.unlabelled
    assert corpus.notes == (
        "60 training, 20 dev, 30 test sentences; 40 unlabelled",
        "equal to a dev or test sentence, and dropped: 0 training, 0 unlabelled",
    )
    held_out = {normalise(text) for text in (*corpus.data.dev.texts, *corpus.data.test.texts)}
    assert not held_out & {normalise(text) for text in (*corpus.data.train.texts, *corpus.unlabelled.texts)}
    assert read_corpus(c, seed=5).digest() == corpus.digest()  # its seed is its own
    assert read_corpus(replace(c, reviews=replace(SMALL, seed=1)), seed=0).digest() != corpus.digest()


@pytest.mark.parametrize("part", ["dev", "test"])
def test_nothing_to_select_or_test_by(part: str) -> None:
    with pytest.raises(DataError, match=f"^{part}: expected at least one sentence, got none; try reviews.{part}=1000"):
        read_corpus(DataConfig(reviews=replace(SMALL, **{part: 0})), seed=0)


def test_other_text_beside_the_built_in_corpus(tmp_path: Path) -> None:
    reviews = build_reviews(SMALL)
    path = text_file(tmp_path, reviews.test.texts[0].upper(), "something else", reviews.dev.texts[3])
    corpus = read_corpus(DataConfig(reviews=SMALL, text=path), seed=0)
    assert corpus.unlabelled.texts == ("something else",)
    assert corpus.notes[1].endswith("0 training, 2 unlabelled")


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


# ---- Encoding


def test_encode_and_what_it_lost() -> None:
    pytest.importorskip("tokenizers")
    texts = ("a b c d e f", "a b", "c d e", "a €")
    tokenizer = Tokenizer.train(texts[:3] * 3, vocab_size=40)
    split = encode(tokenizer, Examples(texts, np.array([0, 1, 0, 1])), max_length=5)
    assert split.both() == (split.texts, split.labels) and isinstance(split, Split)
    assert split.texts.lengths.tolist() == [5, 4, 5, 4] and split.labels.tolist() == [0, 1, 0, 1]
    paired = encode(tokenizer, Examples(texts, None, texts), max_length=7)
    assert paired.texts.segments is not None and paired.texts.lengths.max() == 7
    assert encoding_notes([("train", split.texts)]) == (
        "train: 25.00 % of the sentences truncated, 10.000 % of the tokens unknown",
    )


def test_notes_on_each_set() -> None:
    def one(truncated: float, unknown: float) -> Any:
        return Encoded((), None, truncated, unknown)

    assert encoding_notes([("a", one(0, 0)), ("b", one(1 / 3, 0.00012))]) == (
        "a: 0.00 % of the sentences truncated, 0.000 % of the tokens unknown",
        "b: 33.33 % of the sentences truncated, 0.012 % of the tokens unknown",
    )


def test_what_is_told_before_training(capsys: pytest.CaptureFixture[str]) -> None:
    sets = [(name, Encoded((), None, share, 0.0)) for name, share in (("train", 0.051), ("dev", 0.05), ("test", 0.3))]
    tell_notes(["a note"], sets, 16)
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == "" and lines[0] == "data: a note" and len(lines) == 5
    assert lines[1] == "data: train: 5.10 % of the sentences truncated, 0.000 % of the tokens unknown"
    assert lines[4] == (
        "warning: 5.1 % of train, 30.0 % of test lost what is beyond 16 tokens; "
        "try a larger data.max_length, such as data.max_length=32"
    )
    tell_notes([], sets[1:2], 16)
    assert capsys.readouterr().err.count("\n") == 1


# ---- What stage 2's teacher labels

Arrays = Sequence[np.ndarray[Any, Any]]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    pytest.importorskip("tokenizers")
    return Tokenizer.train(["a b c d e f"] * 2, vocab_size=40)


def assert_same_rows(found: Arrays | None, expected: Arrays) -> None:
    assert found is not None
    for row, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(row, other)


def test_joined_sets_are_as_if_encoded_together(tokenizer: Tokenizer) -> None:
    texts, more = ("a b c d e f", "a b", "c ?"), ("a", "b ? ? d e f f f")
    for pair in (False, True):
        sides = [(given, given if pair else None) for given in (texts, more, texts + more)]
        a, b, both = (tokenizer.encode(first, second, max_length=7) for first, second in sides)
        for found in (join(a, b), join(join(a, tokenizer.encode((), () if pair else None)), b)):
            assert_same_rows(found.ids, both.ids)
            assert (found.segments is None) == (not pair)
            if both.segments is not None:
                assert_same_rows(found.segments, both.segments)
            assert found.truncated == pytest.approx(both.truncated) and found.unknown == pytest.approx(both.unknown)
            assert found.truncated > 0 and found.unknown > 0


def test_single_texts_among_pairs_have_one_segment(tokenizer: Tokenizer) -> None:
    single, pair = tokenizer.encode(["a b", "c"]), tokenizer.encode(["a"], ["b c"])
    assert pair.segments is not None
    zeros = [np.zeros(4, int), np.zeros(3, int)]
    assert_same_rows(join(single, pair).segments, [*zeros, *pair.segments])
    assert_same_rows(join(pair, single).segments, [*pair.segments, *zeros])
    batch = collate(join(single, pair), [2, 0])
    assert batch.segment_ids is not None
    assert batch.segment_ids.tolist() == [[0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 0, 0]]


def test_a_pair_task_is_never_handed_single_sentences(tokenizer: Tokenizer) -> None:
    single, other = tokenizer.encode(["a b", "c"]), tokenizer.encode(["d"])
    pair, varied = tokenizer.encode(["a", "b"], ["c", "d"]), tokenizer.encode(["e"], ["f"])
    assert_same_rows(transfer_set(single, pair, varied).ids, [*pair.ids, *varied.ids])
    assert_same_rows(transfer_set(varied, pair, pair).ids, [*varied.ids, *pair.ids])  # unlabelled pairs are welcome
    assert_same_rows(transfer_set(single, other, other).ids, [*single.ids, *other.ids])
    none = tokenizer.encode([], [])
    assert_same_rows(transfer_set(single, pair, none).ids, pair.ids)
    assert transfer_set(single, pair, varied, mix=False) is varied
    with pytest.raises(DataError, match="transfer text: expected augmented or unlabelled text, got none") as caught:
        transfer_set(single, pair, none, mix=False)
    assert_sentence(caught.value)


def test_pairs_of_real_data(shared: Path, tokenizer: Tokenizer) -> None:
    """MRPC, from its files to what the teacher is asked about."""
    corpus = read_corpus(DataConfig(path=str(shared / "data" / "mrpc")), seed=0)
    train, free = corpus.data.train, corpus.unlabelled
    assert train.pairs is not None and free.labels is None
    assert (free.texts, free.pairs) == (train.texts, train.pairs)
    held_out = {(normalise(a), normalise(b)) for a, b in held_out_pairs(corpus)}
    assert not held_out & {(normalise(a), normalise(b)) for a, b in zip(train.texts, train.pairs, strict=True)}
    few = train.subset(range(200))
    varied = augment(few, AugmentConfig(passes=2), np.random.default_rng(0), (corpus.data.dev, corpus.data.test))
    assert varied.pairs is not None and len(varied) > 390
    texts = transfer_set(*(encode(tokenizer, part, 64).texts for part in (free, train, varied)))
    assert len(texts) == len(free) + len(varied)
    batch = collate(texts, [0, len(free), len(texts) - 1])
    assert batch.segment_ids is not None and batch.segment_ids.any(axis=1).all()


def held_out_pairs(corpus: Corpus) -> list[tuple[str, str]]:
    parts = (corpus.data.dev, corpus.data.test)
    return [pair for part in parts for pair in zip(part.texts, part.pairs or (), strict=True)]
