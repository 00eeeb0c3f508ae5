"""What the cache returns is what the teacher said, however it is asked."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from plain_bert import Sizes, random_weights

from minispike.data.tokenizer import Encoded
from minispike.errors import ShapeError, TeacherError
from teachers.cache import TeacherCache
from teachers.onnx_export import export_bert
from teachers.onnx_teacher import OnnxTeacher, TeacherOutput

WIDTH = 6
LENGTHS = (5, 2, 9, 2, 7, 1, 4)
LAYERS = (2, 0)


class Numbers:
    """A teacher whose hidden state says layer, token and segment, and whose padding is loud."""

    def __init__(self, labels: int = 2, scale: float = 1.0) -> None:
        self.labels, self.scale = labels, scale
        self.seen: list[tuple[int, ...]] = []

    def __call__(
        self,
        input_ids: NDArray[Any],
        mask: NDArray[Any],
        segment_ids: NDArray[Any] | None = None,
        layers: Sequence[int] | None = None,
    ) -> TeacherOutput:
        self.seen.append(input_ids.shape)
        segments = np.zeros_like(input_ids) if segment_ids is None else segment_ids
        states = tuple(
            np.where(
                mask[..., None],
                (100 * layer + input_ids + 0.5 * segments)[..., None] + np.arange(WIDTH) / 8,
                9e9,
            )
            for layer in layers or ()
        )
        logits = np.stack([(input_ids * mask).sum(axis=1), mask.sum(axis=1)], axis=1).astype(np.float32)
        scaled = tuple((state * self.scale).astype(np.float32) for state in states)
        return TeacherOutput(scaled, logits if self.labels else None)


def texts(pairs: bool = False) -> Encoded:
    """Texts whose tokens are all different."""
    starts = np.cumsum((0, *LENGTHS))
    ids = tuple(np.arange(a, b, dtype=np.int32) for a, b in pairwise(starts))
    segments = tuple((np.arange(len(row)) > 1).astype(np.int32) for row in ids) if pairs else None
    return Encoded(ids, segments, 0.0, 0.0)


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_returns_what_the_teacher_said(pairs: bool, batch_size: int) -> None:
    encoded = texts(pairs)
    cache = TeacherCache.build(Numbers(), encoded, LAYERS, batch_size=batch_size)
    assert (len(cache), cache.layers, cache.num_labels) == (7, LAYERS, 2)
    index = np.array([4, 1, 4, 5])
    states = cache.hidden_for(index, 8)
    assert len(states) == 2
    for layer, state in zip(LAYERS, states, strict=True):
        assert state.shape == (4, 8, WIDTH) and state.dtype == np.float32
        for row, i in zip(state, index, strict=True):
            length = LENGTHS[i]
            segment = 0 if encoded.segments is None else encoded.segments[i] * 0.5
            expected = (100 * layer + encoded.ids[i] + segment)[:, None] + np.arange(WIDTH) / 8
            np.testing.assert_array_equal(row[:length], expected)
            assert not row[length:].any()
    logits = cache.logits_for(index)
    assert logits.dtype == np.float32
    np.testing.assert_array_equal(logits, [[encoded.ids[i].sum(), LENGTHS[i]] for i in index])


def test_batches_go_by_length() -> None:
    teacher, told = Numbers(), []
    TeacherCache.build(teacher, texts(), LAYERS, batch_size=3, progress=lambda *numbers: told.append(numbers))
    assert teacher.seen == [(3, 2), (3, 7), (1, 9)]
    assert told == [(3, 7), (6, 7), (7, 7)]


def test_a_real_teacher(tmp_path: Path) -> None:
    """What the cache says of a text is what the teacher says of it without padding."""
    sizes = Sizes(num_labels=3)
    export_bert(sizes, random_weights(sizes), tmp_path / "bert.onnx")
    teacher, encoded = OnnxTeacher(tmp_path / "bert.onnx", threads=1), texts(pairs=True)
    assert encoded.segments is not None
    cache = TeacherCache.build(teacher, encoded, (1, 2), batch_size=4, dtype=np.float32)
    for i, (ids, segments) in enumerate(zip(encoded.ids, encoded.segments, strict=True)):
        output = teacher(ids[None], np.ones((1, len(ids)), bool), segments[None], layers=(1, 2))
        for got, state in zip(cache.hidden_for([i], len(ids)), output.hidden_states, strict=True):
            np.testing.assert_allclose(got, state, atol=1e-5, rtol=0)
        assert output.logits is not None
        np.testing.assert_allclose(cache.logits_for([i]), output.logits, atol=1e-5, rtol=0)


def test_the_size_is_known_ahead() -> None:
    encoded = texts()
    needed = TeacherCache.nbytes_needed(encoded, len(LAYERS), WIDTH)
    assert needed == sum(LENGTHS) * 2 * WIDTH * 2
    logits_only = TeacherCache.build(Numbers(), encoded, LAYERS, hidden=False)
    assert TeacherCache.build(Numbers(), encoded, LAYERS).nbytes - logits_only.nbytes == needed
    assert TeacherCache.nbytes_needed(encoded, 1, WIDTH, np.float32) == needed


def test_parts_that_are_not_there() -> None:
    logits_only = TeacherCache.build(Numbers(), texts(), LAYERS, hidden=False)
    assert logits_only.layers == () and logits_only.num_labels == 2
    with pytest.raises(TeacherError, match="hidden states: expected a cache with them"):
        logits_only.hidden_for([0], 9)
    hidden_only = TeacherCache.build(Numbers(labels=0), texts(), LAYERS)
    assert hidden_only.num_labels == 0
    with pytest.raises(TeacherError, match="logits: expected a cache with them"):
        hidden_only.logits_for([0])
    with pytest.raises(ShapeError, match="padded_length: expected at least 9, got 8"):
        hidden_only.hidden_for([0, 2], 8)


def test_numbers_that_float16_cannot_hold() -> None:
    with pytest.raises(TeacherError, match=r"hidden_states\.2: expected numbers that float16 holds.*dtype=np\.float32"):
        TeacherCache.build(Numbers(scale=1e4), texts(), LAYERS)
    TeacherCache.build(Numbers(scale=1e4), texts(), LAYERS, dtype=np.float32)
    with pytest.raises(TeacherError, match="infinity or not a number"):
        TeacherCache.build(Numbers(scale=np.nan), texts(), LAYERS, dtype=np.float32)


@pytest.mark.parametrize("hidden", [True, False])
@pytest.mark.parametrize("labels", [0, 2])
def test_save_and_load(tmp_path: Path, hidden: bool, labels: int) -> None:
    encoded = texts()
    cache = TeacherCache.build(Numbers(labels), encoded, LAYERS, hidden=hidden)
    cache.save(tmp_path / "cache.safetensors")
    loaded = TeacherCache.load(tmp_path / "cache.safetensors")
    assert (loaded.layers, loaded.num_labels, loaded.nbytes) == (cache.layers, cache.num_labels, cache.nbytes)
    if hidden:
        for a, b in zip(cache.hidden_for([2, 0], 9), loaded.hidden_for([2, 0], 9), strict=True):
            np.testing.assert_array_equal(a, b)
    if labels:
        np.testing.assert_array_equal(cache.logits_for([6, 1]), loaded.logits_for([6, 1]))
    assert loaded.matches(encoded)


def test_knows_its_texts() -> None:
    encoded = texts()
    cache = TeacherCache.build(Numbers(), encoded, LAYERS, hidden=False)
    assert not cache.matches(encoded.subset([1, 0, 2, 3, 4, 5, 6]))
    assert not cache.matches(texts(pairs=True))
    joined = Encoded((np.concatenate(encoded.ids[:2]), *encoded.ids[2:]), None, 0.0, 0.0)
    assert not cache.matches(joined)


def test_bad_files(tmp_path: Path) -> None:
    path = tmp_path / "cache.safetensors"
    with pytest.raises(TeacherError, match=r"cache\.safetensors: expected a teacher's cache, got .+; try deleting it"):
        TeacherCache.load(path)
    TeacherCache.build(Numbers(), texts(), LAYERS).save(path)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(TeacherError, match="expected a teacher's cache"):
        TeacherCache.load(path)
    from safetensors.numpy import save_file

    save_file({"a": np.zeros(3)}, path)
    with pytest.raises(TeacherError, match="got something else"):
        TeacherCache.load(path)
