"""A teacher beside a data set says the same whether it remembers, computes, or computes ahead."""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

for library in ("onnx", "onnxruntime"):
    pytest.importorskip(library)

from helpers import computed
from numpy.typing import NDArray
from plain_bert import Sizes, random_weights

from minispike.backend import to_numpy
from minispike.data.batches import Batch, BatchStream, collate
from minispike.data.tokenizer import Encoded
from minispike.distill.losses import LossWeights
from minispike.distill.stages import Distillation, Source
from minispike.distill.teacher import Teacher, TeacherOutput, TeacherView
from minispike.errors import TeacherError
from minispike.models.bert_folder import read_bert_folder
from minispike.models.onnx_export import export_bert
from minispike.models.spikebert import SpikeBERT
from minispike.models.spikebert_config import SpikeBERTConfig
from teachers.cache import CacheFolder, Entry
from teachers.onnx_teacher import OnnxTeacher
from teachers.view import CachedView

ROOM = 10**6


def texts(count: int, seed: int = 0, vocabulary: int = 40, longest: int = 9, pairs: bool = False) -> Encoded:
    """Random texts of 3 and more tokens, all of them different."""
    rng = np.random.default_rng(seed)
    ids = [rng.integers(5, vocabulary, size=rng.integers(3, longest)).astype(np.int32) for _ in range(count)]
    segments = tuple((np.arange(len(row)) > 1).astype(np.int32) for row in ids) if pairs else None
    return Encoded(tuple(ids), segments, 0.0, 0.0)


def export(path: Path, **sizes: Any) -> Path:
    shape = Sizes(**{"num_labels": 3, **sizes})
    export_bert(shape, random_weights(shape), path)
    return path


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> OnnxTeacher:
    return OnnxTeacher(export(tmp_path_factory.mktemp("teacher") / "bert.onnx"), threads=1)


class Watched:
    """A teacher that counts the sentences it is asked about, and may say more than float16 holds."""

    def __init__(self, teacher: OnnxTeacher, scale: float = 1.0) -> None:
        self.teacher, self.scale = teacher, scale
        self.asked: list[tuple[int, ...]] = []
        self.shapes: list[tuple[int, ...]] = []
        self.layers: list[tuple[int, ...]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.teacher, name)

    def __call__(self, ids: NDArray[Any], mask: NDArray[Any], segment_ids: Any = None, layers: Any = None) -> Any:
        assert mask.all()
        self.asked += [tuple(row) for row in ids.tolist()]
        self.shapes.append(ids.shape)
        self.layers.append(tuple(layers))
        output = self.teacher(ids, mask, segment_ids, layers)
        with np.errstate(over="ignore"):
            return TeacherOutput(tuple(state * np.float32(self.scale) for state in output.hidden_states), output.logits)


def view_of(
    teacher: Any, encoded: Encoded, folder: Path, layers: Sequence[int] = (1, 2), room: int = ROOM
) -> CachedView:
    return CachedView(teacher, encoded, layers, CacheFolder(folder, room))


def batches(encoded: Encoded, steps: int) -> Iterator[tuple[Batch, Batch]]:
    stream = BatchStream(encoded, None, 4, [0])
    yield from pairwise(stream.batch(step) for step in range(steps + 1))


def assert_same(view: TeacherView, others: TeacherView, batch: Batch) -> None:
    for a, b in zip(*(map(to_numpy, each.hidden(batch)) for each in (view, others)), strict=True):
        assert a.dtype == np.float32 and a.shape == (*batch.mask.shape, 16)
        assert not a[~batch.mask].any()
        np.testing.assert_array_equal(a, b)
    assert view.logits(batch).dtype == np.float32
    np.testing.assert_array_equal(to_numpy(view.logits(batch)), to_numpy(others.logits(batch)))


def test_the_protocols_are_kept(teacher: OnnxTeacher, tmp_path: Path) -> None:
    known: Teacher = teacher
    view: TeacherView = view_of(known, texts(4), tmp_path)
    view.close()


@pytest.mark.parametrize("pairs", [False, True])
def test_says_what_the_teacher_says(teacher: OnnxTeacher, tmp_path: Path, pairs: bool) -> None:
    encoded = texts(18, pairs=pairs)
    view = view_of(teacher, encoded, tmp_path, layers=(2, 0))
    for batch, _ in batches(encoded, 10):
        exact = teacher(batch.input_ids, batch.mask, batch.segment_ids, layers=(2, 0))
        for got, state in zip(map(to_numpy, view.hidden(batch)), exact.hidden_states, strict=True):
            np.testing.assert_allclose(got[batch.mask], state[batch.mask], rtol=2**-10, atol=1e-4)  # 11 bits
        np.testing.assert_allclose(to_numpy(view.logits(batch)), exact.logits, rtol=0, atol=1e-5)
    view.close()


def test_empty_half_filled_full_or_no_cache(teacher: OnnxTeacher, tmp_path: Path) -> None:
    """And whatever was asked for beside a sentence when it was first asked for."""
    encoded = texts(18, pairs=True)
    half = view_of(teacher, encoded, tmp_path / "half")
    half.hidden(collate(encoded, np.arange(1, 18, 2)))
    half.close()
    full = view_of(teacher, encoded, tmp_path / "full")
    for i in range(18):
        full.hidden(collate(encoded, [i]))
    full.close()
    views = [view_of(teacher, encoded, tmp_path / name) for name in ("empty", "half", "full")]
    views.append(view_of(teacher, encoded, tmp_path / "none", room=0))
    assert [view.remembers for view in views] == [True, True, True, False]
    for batch, upcoming in batches(encoded, 10):
        for view in views[1:]:
            assert_same(view, views[0], batch)
            view.prefetch(upcoming)
    for view in views:
        view.close()
    assert not (tmp_path / "none").exists()


def test_a_sentence_is_computed_once_ever(teacher: OnnxTeacher, tmp_path: Path) -> None:
    encoded = texts(18)
    watched = Watched(teacher)
    for _ in range(2):
        view = view_of(watched, encoded, tmp_path)
        for batch, upcoming in batches(encoded, 10):
            view.hidden(batch)
            view.logits(batch)
            view.prefetch(upcoming)
        view.close()
    assert sorted(watched.asked) == sorted({tuple(row.tolist()) for row in encoded.ids})


def test_nothing_is_asked_ahead_that_is_known(teacher: OnnxTeacher, tmp_path: Path) -> None:
    encoded = texts(18)
    view = view_of(teacher, encoded, tmp_path)
    batch = collate(encoded, np.arange(18))
    view.prefetch(batch)
    assert view._coming is not None
    view.hidden(batch)
    view.prefetch(collate(encoded, [3, 1]))
    assert view._coming is None
    view.close()


def test_an_entry_is_of_one_teacher_one_data_set_and_one_choice_of_layers(teacher: OnnxTeacher, tmp_path: Path) -> None:
    encoded, cache = texts(6), CacheFolder(tmp_path, ROOM)
    other = OnnxTeacher(export(tmp_path / "other.onnx", num_labels=2))
    joined = Encoded((np.concatenate(encoded.ids[:2]), *encoded.ids[2:]), None, 0.0, 0.0)
    paired = Encoded(encoded.ids, tuple(np.zeros_like(row) for row in encoded.ids), 0.0, 0.0)
    cases: list[tuple[Any, Encoded, tuple[int, ...], tuple[bytes, ...]]] = [
        (teacher, encoded, (1, 2), ()), (other, encoded, (1, 2), ()), (teacher, joined, (1, 2), ()),
        (teacher, paired, (1, 2), ()), (teacher, encoded.subset([1, 0, 2, 3, 4, 5]), (1, 2), ()),
        (teacher, encoded, (2, 1), ()), (teacher, encoded, (), ()), (teacher, encoded, (1, 2), (b"32",)),
    ]  # fmt: skip
    for case in (*cases, *cases):
        CachedView(*case[:3], cache, case[3]).close()
    assert len(list(tmp_path.glob("*.teacher"))) == len(cases)


def test_without_layers_no_hidden_state_is_computed_or_kept(teacher: OnnxTeacher, tmp_path: Path) -> None:
    encoded, watched = texts(18), Watched(teacher)
    view = view_of(watched, encoded, tmp_path, layers=())
    batch = collate(encoded, np.arange(18))
    exact = teacher(batch.input_ids, batch.mask)
    np.testing.assert_allclose(to_numpy(view.logits(batch)), exact.logits, rtol=0, atol=1e-5)
    assert view.hidden(batch) == [] and set(watched.layers) == {()}
    view.close()
    [entry] = tmp_path.iterdir()
    assert entry.stat().st_size < 18 * (4 + 3 * 4) + 100


def test_hidden_states_that_find_no_room(teacher: OnnxTeacher, tmp_path: Path, capsys: Any) -> None:
    """The logits are kept, and a later run that asks for them alone has them."""
    encoded, watched = texts(18), Watched(teacher)
    room = int(encoded.lengths.sum()) * 2 * 16 * 2  # tokens, layers, width, bytes: checksums and header are too much
    view = CachedView(watched, encoded, (1, 2), CacheFolder(tmp_path, room), name="labelled")
    assert view.nbytes == room and not view.remembers
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and " KiB of hidden states of labelled within 6.5 KiB; they are" in err
    assert "computed for each batch, logits alone are kept; try a larger teacher.cache_mb" in err
    for batch, upcoming in batches(encoded, 5):
        view.hidden(batch)
        before = len(watched.asked)
        view.logits(batch)
        assert len(watched.asked) == before  # one run answers both questions
        view.prefetch(upcoming)
    view.close()
    assert len(watched.asked) >= 4 * 4  # an epoch, in which no sentence comes twice
    alone = Watched(teacher)
    later = view_of(alone, encoded, tmp_path, layers=(), room=room)
    later.logits(next(batches(encoded, 1))[0])
    later.close()
    assert alone.asked == []


def test_known_logits_answer_for_hidden_states_that_find_no_room(
    teacher: OnnxTeacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is written once; who asks for logits alone starts no computation, in the background either."""
    encoded, written, put = texts(18), list[tuple[str, int]](), Entry.put

    def watched_put(entry: Entry, index: int, payload: bytes) -> None:
        written.append((entry.path.parent.name, index))
        put(entry, index, payload)

    monkeypatch.setattr(Entry, "put", watched_put)
    watched, plain = Watched(teacher), view_of(teacher, encoded, tmp_path / "plain")
    view = view_of(watched, encoded, tmp_path / "small", room=1000)
    for _ in range(3):
        view.hidden(collate(encoded, np.arange(18)))
        view.hidden(collate(encoded, [0]))
    asked = len(watched.asked)
    assert asked > 2 * 18
    view.logits(collate(encoded, np.arange(18)))  # one of which is at hand with its hidden states
    for batch, upcoming in batches(encoded, 6):
        np.testing.assert_array_equal(to_numpy(view.logits(batch)), to_numpy(plain.logits(batch)))
        view.prefetch(upcoming)
    assert len(watched.asked) == asked
    for batch, upcoming in batches(encoded, 6):
        view.logits(batch)  # without hidden states at hand, which are asked for after all
        assert_same(view, plain, batch)
        view.prefetch(upcoming)
    assert len(watched.asked) > asked
    assert sorted(i for folder, i in written if folder == "small") == list(range(18))
    view.close()
    plain.close()


def test_a_cache_tells_what_is_wrong_once(
    teacher: OnnxTeacher, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """However many views there are; and nothing to who wants no cache."""
    (tmp_path / "file").write_text("no folder")
    bare = OnnxTeacher(export(tmp_path / "bare.onnx", num_labels=0))
    for folder, room, part in (
        ("file", ROOM, "answers are not kept; try another teacher.cache_folder"),
        ("small", 100, "KiB within 0.1 KiB; they are computed for each batch; try a larger teacher.cache_mb"),
        ("none", 0, ""),
    ):
        cache = CacheFolder(tmp_path / folder, room)
        for layers, of in (((1,), bare), ((1, 2), teacher), ((), teacher)):
            CachedView(of, texts(18), layers, cache).close()
        err = capsys.readouterr().err
        assert err.count("\n") == bool(room) and part in err.replace(" of hidden states of texts", "")


@pytest.mark.parametrize("room", [ROOM, 0])
@pytest.mark.parametrize("how", ["never", "next", "wrong", "twice"])
def test_prefetching_changes_nothing(teacher: OnnxTeacher, tmp_path: Path, how: str, room: int) -> None:
    encoded = texts(18)
    view, plain = (view_of(teacher, encoded, tmp_path / name, room=room) for name in ("view", "plain"))
    other = collate(encoded, [17, 3])
    for batch, upcoming in batches(encoded, 10):
        assert_same(view, plain, batch)
        if how in ("next", "twice"):
            view.prefetch(upcoming)
        if how == "twice":
            view.prefetch(upcoming)
        if how == "wrong":
            view.prefetch(other)
        assert_same(view, plain, batch)
    view.close()
    plain.close()


def test_every_batch_is_computed_once_where_nothing_is_kept(teacher: OnnxTeacher, tmp_path: Path) -> None:
    encoded, watched = texts(16), Watched(teacher)
    view = view_of(watched, encoded, tmp_path, room=0)
    task = Distillation("x", student_of(teacher), [Source(encoded, None, 4, view)], LossWeights(), (0,))
    for step in range(4):  # an epoch, within which no sentence comes twice
        for terms in computed(task, step):
            assert math.isfinite(terms["loss"].item())
    view.close()
    once = sorted({tuple(row.tolist()) for row in encoded.ids})
    assert sorted(watched.asked)[:16] == once or set(watched.asked) == set(once)
    assert 16 <= len(watched.asked) <= 20  # the next epoch's first batch may have been begun


def test_the_background_ends_with_the_view(teacher: OnnxTeacher, tmp_path: Path) -> None:
    encoded = texts(18)
    view = view_of(teacher, encoded, tmp_path)
    view.prefetch(collate(encoded, np.arange(18)))
    view.close()
    with pytest.raises(RuntimeError):
        view._worker.submit(print)
    view.close()  # which is no mistake


def test_a_teachers_error_reaches_the_student(teacher: OnnxTeacher, tmp_path: Path) -> None:
    wrong = Encoded((np.array([99, 1, 2], np.int32),) * 4, None, 0.0, 0.0)
    view = view_of(teacher, wrong, tmp_path)
    batch, upcoming = next(batches(wrong, 1))
    view.prefetch(upcoming)
    with pytest.raises(TeacherError, match="vocabulary"):
        view.hidden(batch)
    view.close()


@pytest.mark.parametrize("room", [ROOM, 0])
def test_numbers_that_float16_cannot_hold(teacher: OnnxTeacher, tmp_path: Path, room: int) -> None:
    for scale in (1e6, np.nan):
        view = view_of(Watched(teacher, scale), texts(4), tmp_path / str(scale), room=room)
        with pytest.raises(TeacherError, match=r"hidden_states\.1: expected numbers that float16 holds, got infinity"):
            view.hidden(collate(texts(4), [0, 1]))
        view.close()


def test_a_teacher_without_logits(tmp_path: Path) -> None:
    teacher = OnnxTeacher(export(tmp_path / "bare.onnx", num_labels=0))
    view = view_of(teacher, texts(4), tmp_path)
    assert len(view.hidden(collate(texts(4), [0, 1]))) == 2
    with pytest.raises(TeacherError, match="logits: expected a teacher with them"):
        view.logits(collate(texts(4), [0, 1]))
    view.close()


def test_a_teacher_whose_numbers_depend_on_the_group_is_asked_one_by_one(teacher: OnnxTeacher, tmp_path: Path) -> None:
    for size, most in ((64, 18), (1, 1), (2, 2)):
        watched = Watched(teacher)
        watched.group_size = size
        view = view_of(watched, texts(18), tmp_path / str(size))
        view.hidden(collate(texts(18), np.arange(18)))
        view.close()
        assert max(shape[0] for shape in watched.shapes) <= most and len(watched.asked) == 18


# ---- What the cache builds on: a sentence's numbers do not depend on how many others of its length are there


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("width", "heads"), [(16, 2), (96, 4)])
@pytest.mark.parametrize(
    ("lengths", "sizes"),
    [
        ((2, 3, 4, 7, 8, 15, 16, 17, 33, 64), (2, 3, 8, 33)),
        pytest.param(range(2, 65), (2, 3, 5, 8, 16, 33, 64), marks=pytest.mark.thorough),
    ],
    ids=["some", "all"],
)
def test_tiny_rows_are_the_same_in_every_group(
    tmp_path: Path, width: int, heads: int, threads: int, lengths: Sequence[int], sizes: Sequence[int]
) -> None:
    shape = {"hidden_size": width, "num_attention_heads": heads, "intermediate_size": 4 * width}
    path = export(tmp_path / "bert.onnx", max_position_embeddings=64, **shape)
    assert_rows_alike(OnnxTeacher(path, threads), lengths, sizes)


@pytest.mark.parametrize("threads", [1, 2])
def test_minilms_rows_are_the_same_in_every_group(tmp_path: Path, shared: Path, threads: int) -> None:
    fields, weights = read_bert_folder(shared / "models" / "minilm-l6")
    export_bert(Sizes(**fields), weights, tmp_path / "minilm.onnx")
    assert_rows_alike(OnnxTeacher(tmp_path / "minilm.onnx", threads), (2, 3, 4, 7, 12, 17, 25, 33, 64), (2, 3, 7, 16))


def assert_rows_alike(teacher: OnnxTeacher, lengths: Sequence[int], sizes: Sequence[int]) -> None:
    rng = np.random.default_rng(0)
    for length in lengths:
        ids = rng.integers(0, teacher.vocab_size, size=(max(sizes), length))
        mask = np.ones(ids.shape, bool)
        alone = [teacher(ids[i : i + 1], mask[i : i + 1]) for i in range(len(ids))]
        for size in sizes:
            group = teacher(ids[:size], mask[:size])
            for i in range(size):
                for a, b in zip(group.hidden_states, alone[i].hidden_states, strict=True):
                    np.testing.assert_array_equal(a[i], b[0], err_msg=f"{length} tokens, {size} sentences")
                if group.logits is not None and (one := alone[i].logits) is not None:
                    np.testing.assert_array_equal(group.logits[i], one[0])


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
