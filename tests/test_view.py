"""A teacher beside a data set says the same whether it remembers, computes, or computes ahead."""

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

for library in ("onnx", "onnxruntime"):
    pytest.importorskip(library)

from plain_bert import Sizes, random_weights

from minispike.data.batches import Batch, BatchStream
from minispike.data.tokenizer import Encoded
from minispike.distill.losses import LossWeights
from minispike.distill.stages import Distillation, Source
from minispike.errors import TeacherError
from minispike.models.spikebert import SpikeBERT
from minispike.models.spikebert_config import SpikeBERTConfig
from teachers.onnx_export import export_bert
from teachers.onnx_teacher import OnnxTeacher
from teachers.view import OnnxView


def texts(count: int, seed: int = 0, vocabulary: int = 40, longest: int = 9) -> Encoded:
    """Random texts of 3 and more tokens, all of them different."""
    rng = np.random.default_rng(seed)
    ids = [rng.integers(5, vocabulary, size=rng.integers(3, longest)).astype(np.int32) for _ in range(count)]
    return Encoded(tuple(ids), None, 0.0, 0.0)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> OnnxTeacher:
    sizes = Sizes(num_labels=3)
    path = tmp_path_factory.mktemp("teacher") / "bert.onnx"
    export_bert(sizes, random_weights(sizes), path)
    return OnnxTeacher(path, threads=1)


def batches(encoded: Encoded, steps: int) -> Iterator[tuple[Batch, Batch]]:
    stream = BatchStream(encoded, None, 4, [0])
    yield from pairwise(stream.batch(step) for step in range(steps + 1))


def test_remembered_or_computed_the_numbers_are_the_same(teacher: OnnxTeacher) -> None:
    encoded = texts(18)
    remembered = OnnxView(teacher, encoded, (2, 0), memory=10**6)
    computed = OnnxView(teacher, encoded, (2, 0), memory=0)
    for batch, _ in batches(encoded, 10):
        exact = teacher(batch.input_ids, batch.mask, layers=(2, 0))
        for a, b, c in zip(remembered.hidden(batch), computed.hidden(batch), exact.hidden_states, strict=True):
            np.testing.assert_array_equal(b, c)
            assert a.shape == b.shape and a.dtype == b.dtype == np.float32
            np.testing.assert_allclose(a[batch.mask], b[batch.mask], rtol=2**-10, atol=1e-4)  # float16 has 11 bits
        np.testing.assert_array_equal(computed.logits(batch), exact.logits)
        np.testing.assert_allclose(remembered.logits(batch), exact.logits, rtol=0, atol=1e-5)


def test_the_memory_allowed_decides(teacher: OnnxTeacher, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded = texts(18)
    needed = int(encoded.lengths.sum()) * 2 * 16 * 2  # tokens, layers, width, bytes
    told: list[tuple[int, int]] = []
    OnnxView(teacher, encoded, (1, 2), needed, progress=lambda *n: told.append(n))
    assert told[-1] == (18, 18)
    told.clear()
    OnnxView(teacher, encoded, (1, 2), needed - 1, progress=lambda *n: told.append(n))
    assert told == []


@pytest.mark.parametrize("how", ["never", "next", "wrong", "twice"])
def test_prefetching_changes_nothing(teacher: OnnxTeacher, how: str) -> None:
    encoded = texts(18)
    view = OnnxView(teacher, encoded, (1, 2), memory=0)
    other = next(batches(texts(18), 1))[0]
    for batch, upcoming in batches(encoded, 10):
        logits = view.logits(batch)
        if how == "next":
            view.prefetch(upcoming)
        elif how == "twice":
            view.prefetch(upcoming)
            view.prefetch(upcoming)
        elif how == "wrong":
            view.prefetch(other)
        exact = teacher(batch.input_ids, batch.mask, layers=(1, 2))
        for a, b in zip(view.hidden(batch), exact.hidden_states, strict=True):
            np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(logits, exact.logits)
        np.testing.assert_array_equal(view.logits(batch), exact.logits)


def test_every_batch_is_computed_once(teacher: OnnxTeacher, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded = texts(18)
    view = OnnxView(teacher, encoded, (1, 2), memory=0)
    computed: list[tuple[int, ...]] = []
    compute = view._compute

    def counted(batch: Batch) -> Any:
        computed.append(tuple(batch.index))
        return compute(batch)

    monkeypatch.setattr(view, "_compute", counted)
    task = Distillation("x", student_of(teacher), [Source(encoded, None, 4, view)], LossWeights(), (0,))
    for step in range(7):  # more than an epoch
        for terms in task.losses(step):
            assert math.isfinite(terms["loss"].item())
    stream = BatchStream(encoded, None, 4, [0, 0])
    expected = [tuple(stream.batch(step).index) for step in range(8)]
    assert computed[:7] == expected[:7] and computed in (expected, expected[:7])


def test_a_teachers_error_reaches_the_student(teacher: OnnxTeacher) -> None:
    wrong = Encoded((np.array([99, 1, 2], np.int32),) * 4, None, 0.0, 0.0)
    view = OnnxView(teacher, wrong, (1,), memory=0)
    batch, upcoming = next(batches(wrong, 1))
    view.prefetch(upcoming)
    with pytest.raises(TeacherError, match="vocabulary"):
        view.hidden(batch)


def student_of(teacher: OnnxTeacher) -> SpikeBERT:
    shape = SpikeBERTConfig(
        vocab_size=40,
        dim=8,
        depth=2,
        heads=2,
        time_steps=2,
        num_labels=3,
        max_length=12,
        feature_dim=teacher.hidden_size,
    )
    return SpikeBERT(shape)
