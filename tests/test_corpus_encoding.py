"""What a run reads, encoded: what that loses, and what stage 2's teacher labels."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import assert_sentence

from minispike.config import DataConfig, RunConfig
from minispike.corpus import Corpus, Split, encode, encoding_notes, join, read_corpus, tell_notes, transfer_set
from minispike.data.batches import collate
from minispike.data.overlap import normalise
from minispike.data.text import Examples
from minispike.data.tokenizer import Encoded, Tokenizer
from minispike.distill.augment import AugmentConfig, augment
from minispike.errors import DataError
from minispike.models.spikebert_config import SpikeBERTConfig

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
    config = replace(RunConfig(), data=DataConfig(max_length=16), student=SpikeBERTConfig(max_length=64))
    tell_notes(["a note"], sets, config)
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == "" and lines[0] == "data: a note" and len(lines) == 5
    assert lines[1] == "data: train: 5.10 % of the sentences truncated, 0.000 % of the tokens unknown"
    assert lines[4] == (
        "warning: 5.1 % of train, 30.0 % of test lost what is beyond 16 tokens; "
        "try more, such as --set data.max_length=32"
    )
    tell_notes([], sets[1:2], config)
    assert capsys.readouterr().err.count("\n") == 1
    tell_notes([], sets[:1], replace(config, student=SpikeBERTConfig(max_length=16)))
    assert capsys.readouterr().err.endswith("try more, such as --set data.max_length=32 student.max_length=32\n")


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
