"""What a run reads holds nothing of dev and test, and says what was dropped."""

from dataclasses import replace
from pathlib import Path

import pytest
from corpus_files import write
from helpers import assert_sentence

from minispike.config import DataConfig
from minispike.corpus import read_corpus
from minispike.data.overlap import normalise
from minispike.data.reviews import ReviewsConfig, build_reviews
from minispike.errors import ConfigError, DataError

TRAIN = ("good one\t1", "bad one\t0", "It 's  FINE !\t1", "a dull day\t0", "so so\t0")
DEV = ("it's fine\t1", "never seen\t0")
TEST = ("A dull-day.\t0", "also new\t1")
SMALL = ReviewsConfig(labelled=60, dev=20, test=30, unlabelled=40)


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


@pytest.mark.parametrize("part", ["labelled", "dev", "test"])
def test_nothing_to_learn_select_or_test_by(part: str) -> None:
    message = f"^{part}: expected at least one sentence, got none; try data.reviews.{part}=1000"
    with pytest.raises(DataError, match=message):
        read_corpus(DataConfig(reviews=replace(SMALL, **{part: 0})), seed=0)


def test_other_text_beside_the_built_in_corpus(tmp_path: Path) -> None:
    reviews = build_reviews(SMALL)
    path = text_file(tmp_path, reviews.test.texts[0].upper(), "something else", reviews.dev.texts[3])
    corpus = read_corpus(DataConfig(reviews=SMALL, text=path), seed=0)
    assert corpus.unlabelled.texts == ("something else",)
    assert corpus.notes[1].endswith("0 training, 2 unlabelled")


def test_a_table_is_no_unlabelled_text(tmp_path: Path) -> None:
    """Its labels would be read as words, and no row would be equal to a held-out sentence."""
    path = text_file(tmp_path, "text\tlabel", "a fine film\t1")
    with pytest.raises(DataError, match="expected one sentence a line, got a table, with a tab in 'text"):
        read_corpus(DataConfig(reviews=SMALL, text=path), seed=0)


def test_a_label_whose_examples_are_all_held_out(tmp_path: Path) -> None:
    rows = {"train": ("good 1", "bad 0", "fine 1"), "dev": ("dull 0", "nice 1"), "test": ("Bad ! 0", "great 1")}
    for name, lines in rows.items():
        table = "".join("\t".join(line.rsplit(" ", 1)) + "\n" for line in lines)
        (tmp_path / f"{name}.tsv").write_text(f"text\tlabel\n{table}", encoding="utf-8")
    message = "^train: expected examples of every label, got none of 0 but what dev or test hold too"
    with pytest.raises(DataError, match=message):
        read_corpus(DataConfig(path=str(tmp_path)), seed=0)
