"""Batches: nothing is lost, little is padded, and a step alone decides what is in a batch."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from minispike.data import batches
from minispike.data.batches import Batch, BatchStream, collate, epoch_order, in_order, near_equal
from minispike.data.tokenizer import Encoded
from minispike.errors import ConfigError, DataError, ShapeError


def texts(lengths: list[int], pairs: bool = False) -> Encoded:
    """Texts of the given lengths; the tokens of text i are i + 1."""
    ids = tuple(np.full(length, i + 1, dtype=np.int32) for i, length in enumerate(lengths))
    segments = tuple((np.arange(length) >= 2).astype(np.int32) for length in lengths) if pairs else None
    return Encoded(ids, segments, 0.0, 0.0)


def uneven(count: int) -> Encoded:
    """Lengths spread as those of sentences are: many short ones and a long tail."""
    return texts(np.random.default_rng(0).lognormal(3.0, 0.5, count).astype(int).clip(3, 128).tolist())


def padding(given: list[Batch]) -> float:
    """The share of cells that hold no token."""
    return 1.0 - sum(int(b.mask.sum()) for b in given) / sum(b.mask.size for b in given)


def assert_same(a: Batch, b: Batch) -> None:
    for name in ("input_ids", "mask", "labels", "index"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_collate_pads_to_the_longest_of_the_batch() -> None:
    batch = collate(texts([3, 5, 2, 9], pairs=True), [2, 0], labels=np.array([7, 8, 9, 6]), pad_id=99)
    assert batch.input_ids.tolist() == [[3, 3, 99], [1, 1, 1]]
    assert batch.mask.tolist() == [[True, True, False], [True, True, True]]
    assert batch.segment_ids is not None and batch.segment_ids.tolist() == [[0, 0, 0], [0, 0, 1]]
    assert batch.labels is not None and batch.labels.tolist() == [9, 7]
    assert batch.index.tolist() == [2, 0] and len(batch) == 2
    assert batch.input_ids.dtype == batch.segment_ids.dtype == batch.index.dtype == np.int64
    assert batch.mask.dtype == np.bool_


def test_collate_without_labels_or_pairs() -> None:
    batch = collate(texts([2, 2]), np.array([1]))
    assert batch.labels is None and batch.segment_ids is None and batch.mask.all()


@given(count=st.integers(0, 300), batch_size=st.integers(1, 40), seed=st.integers(0, 5))
@settings(max_examples=50)
def test_an_epoch_is_of_full_batches_and_no_text_twice(count: int, batch_size: int, seed: int) -> None:
    lengths = np.random.default_rng(seed).integers(2, 60, count)
    order = epoch_order(lengths, batch_size, np.random.default_rng(seed))
    chosen = np.concatenate([np.empty(0, dtype=np.int64), *order]).tolist()
    assert len(set(chosen)) == len(chosen) and set(chosen) <= set(range(count))
    if count < batch_size:
        assert list(map(len, order)) == [count] * (count > 0)
    else:
        assert list(map(len, order)) == [batch_size] * (count // batch_size)


def test_what_an_epoch_leaves_out_is_left_to_chance() -> None:
    """Not the longest texts, and not the same ones in the next epoch."""
    lengths = np.arange(2, 41)  # 39 texts, 9 of which do not fill another batch
    left_out = np.zeros(39)
    for seed in range(400):
        order = epoch_order(lengths, 15, np.random.default_rng(seed))
        left_out += 1 - np.bincount(np.concatenate(order), minlength=39)
    assert left_out.sum() == 400 * 9
    assert left_out.min() > 50 and left_out.max() < 140  # 92 each, if chance is fair


def test_length_buckets_keep_padding_low() -> None:
    encoded = uneven(5000)
    stream = BatchStream(encoded, None, 32, (0,))
    bucketed = padding([stream.batch(i) for i in range(stream.batches_per_epoch)])
    shuffled = np.random.default_rng(0).permutation(5000)
    assert stream.batches_per_epoch == 156
    mixed = padding([collate(encoded, shuffled[i : i + 32]) for i in range(0, 5000, 32)])
    assert bucketed < 0.06
    assert mixed > 0.4  # what it would be without the buckets
    assert padding(list(in_order(encoded, 32))) < 0.02


def test_batches_come_in_no_order_of_length() -> None:
    stream = BatchStream(uneven(3200), None, 32, (0,))
    widths = [stream.batch(i).mask.shape[1] for i in range(stream.batches_per_epoch)]
    rising = np.mean(np.diff(widths) > 0)
    assert 0.3 < rising < 0.7


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    encoded, labels = uneven(100), np.arange(100)
    stream = BatchStream(encoded, labels, 8, (3, 1))
    forward = [stream.batch(step) for step in range(40)]
    for step in (39, 0, 13, 12, 26, 38):  # a fresh stream that jumps about
        assert_same(BatchStream(encoded, labels, 8, (3, 1)).batch(step), forward[step])
        assert_same(stream.batch(step), forward[step])
    other = BatchStream(encoded, labels, 8, (3, 2)).batch(0)
    assert other.index.tolist() != forward[0].index.tolist()


def test_every_epoch_is_shuffled_anew() -> None:
    stream = BatchStream(uneven(100), np.arange(100), 8, (0,), pad_id=0)
    assert stream.batches_per_epoch == 12
    epochs = [np.concatenate([stream.batch(12 * e + i).index for i in range(12)]) for e in range(30)]
    assert all(len(set(epoch.tolist())) == 96 for epoch in epochs)
    assert len({tuple(epoch.tolist()) for epoch in epochs}) == 30
    assert set(np.concatenate(epochs).tolist()) == set(range(100))


@pytest.mark.parametrize(("count", "size", "steps", "rows"), [(5, 8, 1, 5), (8, 8, 1, 8), (15, 8, 1, 8), (16, 8, 2, 8)])
def test_every_step_of_a_stream_has_as_many_texts(count: int, size: int, steps: int, rows: int) -> None:
    stream = BatchStream(uneven(count), None, size, (0,))
    assert stream.batches_per_epoch == steps
    assert {len(stream.batch(step)) for step in range(10)} == {rows}


def test_a_batch_is_collated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though a step asks for its own batch and for the next one, across the ends of epochs too."""
    made: list[int] = []
    monkeypatch.setattr(batches, "collate", lambda *args: made.append(1) or collate(*args))
    stream = BatchStream(uneven(20), None, 8, (0,))
    for step in range(7):
        assert stream.batch(step) is stream.batch(step)
        stream.batch(step + 1)
    assert len(made) == 8


# ---- Parts of a batch


@given(count=st.integers(0, 60), parts=st.integers(1, 20))
def test_near_equal_pieces(count: int, parts: int) -> None:
    pieces = near_equal(count, parts)
    assert [i for piece in pieces for i in range(count)[piece]] == list(range(count))
    sizes = [piece.stop - piece.start for piece in pieces]
    assert len(sizes) == min(parts, max(count, 1)) and max(sizes) - min(sizes) <= 1


def test_parts_keep_the_padding_of_the_whole() -> None:
    encoded = texts([3, 5, 2, 9, 4], pairs=True)
    batch = collate(encoded, [3, 0, 2, 4], np.arange(5), pad_id=99)
    parts = [batch.part(rows) for rows in near_equal(4, 3)]
    assert [len(part) for part in parts] == [1, 1, 2]
    for name in ("input_ids", "mask", "segment_ids", "labels", "index"):
        np.testing.assert_array_equal(np.concatenate([getattr(part, name) for part in parts]), getattr(batch, name))
    single = collate(texts([2, 2]), [0, 1]).part(slice(1, 2))
    assert single.labels is None and single.segment_ids is None and single.index.tolist() == [1]


def test_in_order_gives_every_text_once_and_where_it_belongs() -> None:
    lengths = np.random.default_rng(1).integers(2, 50, 101)
    encoded, labels = texts(lengths.tolist()), np.arange(101) % 3
    out, widths = np.zeros(101, dtype=np.int64), []
    for batch in in_order(encoded, 16, labels, pad_id=0):
        out[batch.index] = batch.mask.sum(axis=1)
        widths.append(batch.mask.shape[1])
        np.testing.assert_array_equal(batch.labels, labels[batch.index])
    np.testing.assert_array_equal(out, lengths)
    assert widths == sorted(widths) and len(widths) == 7
    assert list(in_order(texts([]), 16)) == []


def stream(**changes: Any) -> BatchStream:
    settings: dict[str, Any] = {"encoded": texts([2, 3]), "labels": None, "batch_size": 2, "seed_key": (0,)}
    return BatchStream(**(settings | changes))


WRONG: NDArray[np.int64] = np.zeros(3, dtype=np.int64)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"batch_size": 0}, ConfigError, "batch_size: expected at least 1, got 0"),
        ({"seed_key": (0, -1)}, ConfigError, "seed: expected integers >= 0"),
        ({"labels": WRONG}, ShapeError, "labels: expected one for each of the 2 texts, got 3"),
        ({"encoded": texts([])}, DataError, "expected at least one text, got none"),
    ],
)
def test_bad_streams_are_refused(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        stream(**changes)


def test_bad_requests_are_refused() -> None:
    with pytest.raises(ConfigError, match="step: expected a number >= 0, got -1"):
        stream().batch(-1)
    with pytest.raises(DataError, match="index: expected at least one position"):
        collate(texts([2]), [])
    with pytest.raises(ShapeError, match="labels"):
        collate(texts([2]), [0], labels=WRONG)
    with pytest.raises(ConfigError, match="batch_size"):
        in_order(texts([2]), 0)  # at the call, not at the first batch
