"""The teacher returns what was asked for, and says what is wrong otherwise."""

import platform
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from plain_bert import Sizes, batch, forward, random_weights

from minispike.errors import ShapeError, TeacherError
from minispike.models.onnx_export import LABELS_KEY, export_bert
from teachers.onnx_teacher import OnnxTeacher, _processor

SIZES = Sizes(num_labels=3)
WEIGHTS = random_weights(SIZES)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small BERT with a classifier."""
    path = tmp_path_factory.mktemp("teacher") / "bert.onnx"
    export_bert(SIZES, WEIGHTS, path)
    return path


@pytest.fixture(scope="module")
def teacher(model: Path) -> OnnxTeacher:
    return OnnxTeacher(model, threads=1)


@pytest.mark.parametrize("half", [False, True])
def test_properties(tmp_path: Path, half: bool) -> None:
    export_bert(SIZES, WEIGHTS, tmp_path / "bert.onnx", half=half)
    teacher = OnnxTeacher(tmp_path / "bert.onnx")
    assert (teacher.hidden_size, teacher.num_layers, teacher.num_labels, teacher.vocab_size) == (16, 2, 3, 40)
    np.testing.assert_array_equal(teacher.word_embeddings, WEIGHTS["embeddings.word_embeddings.weight"])
    positions = teacher.position_embeddings
    assert positions is not None
    np.testing.assert_array_equal(positions, WEIGHTS["embeddings.position_embeddings.weight"])
    assert teacher.word_embeddings.dtype == positions.dtype == np.float32


def test_matches_plain_numpy(teacher: OnnxTeacher) -> None:
    ids, mask, segments = batch(SIZES, (7, 1, 12))
    output = teacher(ids.astype(np.int32), mask, segments)
    states, logits = forward(SIZES, WEIGHTS, ids, mask, segments)
    assert len(output.hidden_states) == 3 and output.logits is not None and logits is not None
    for got, state in zip(output.hidden_states, states, strict=True):
        assert got.dtype == np.float32
        np.testing.assert_allclose(got[mask], state[mask], atol=1e-5, rtol=0)
    np.testing.assert_allclose(output.logits, logits, atol=1e-5, rtol=0)


def test_only_what_is_asked_for(teacher: OnnxTeacher, model: Path) -> None:
    ids, mask, segments = batch(SIZES, (5, 3))
    whole = teacher(ids, mask, segments)
    some = teacher(ids, mask, segments, layers=(2, 0), logits=False)
    assert some.logits is None
    for got, i in zip(some.hidden_states, (2, 0), strict=True):
        np.testing.assert_array_equal(got, whole.hidden_states[i])
    bare = teacher(ids, mask, segments, layers=(), logits=True)
    assert bare.hidden_states == ()
    np.testing.assert_array_equal(bare.logits, whole.logits)
    nothing = teacher(ids, mask, layers=(), logits=False)
    assert nothing.hidden_states == () and nothing.logits is None
    fixed = OnnxTeacher(model, layers=(1,))
    assert fixed.layers == (1,) and fixed.num_layers == 2
    np.testing.assert_array_equal(fixed(ids, mask, segments).hidden_states[0], whole.hidden_states[1])


def test_no_segments_are_zeros(teacher: OnnxTeacher) -> None:
    ids, mask, segments = batch(SIZES, (5, 3))
    np.testing.assert_array_equal(teacher(ids, mask).logits, teacher(ids, mask, segments * 0).logits)


def test_a_teacher_without_logits(tmp_path: Path) -> None:
    sizes = replace(SIZES, num_labels=0)
    export_bert(sizes, random_weights(sizes), tmp_path / "bert.onnx")
    teacher = OnnxTeacher(tmp_path / "bert.onnx")
    ids, mask, _ = batch(SIZES, (5,))
    assert teacher.num_labels == 0 and teacher(ids, mask).logits is None
    with pytest.raises(
        TeacherError, match=r"logits of .*bert\.onnx: .*outputs hidden_states\.0 to hidden_states\.2; try"
    ):
        teacher(ids, mask, logits=True)


def test_sizes_that_the_file_leaves_open(tmp_path: Path, model: Path) -> None:
    vague = onnx.load(model)
    for output in vague.graph.output:
        output.type.tensor_type.shape.dim[-1].dim_param = "some"
    onnx.save(vague, tmp_path / "vague.onnx")
    teacher = OnnxTeacher(tmp_path / "vague.onnx")
    assert (teacher.hidden_size, teacher.num_labels) == (16, 3)


def test_inputs_of_other_types(tmp_path: Path, model: Path, teacher: OnnxTeacher) -> None:
    other = onnx.load(model)
    segments = next(value for value in other.graph.input if value.name == "token_type_ids")
    other.graph.input.remove(segments)
    zeros = helper.make_node("Sub", ["input_ids", "input_ids"], ["token_type_ids"])
    other.graph.node.insert(0, zeros)
    mask_input = next(value for value in other.graph.input if value.name == "attention_mask")
    mask_input.type.tensor_type.elem_type = TensorProto.BOOL
    onnx.save(other, tmp_path / "other.onnx")
    ids, mask, pairs = batch(SIZES, (5, 3))
    output = OnnxTeacher(tmp_path / "other.onnx")(ids, mask, pairs)
    np.testing.assert_array_equal(output.logits, teacher(ids, mask).logits)


def test_bad_batches(teacher: OnnxTeacher) -> None:
    ids, mask, segments = batch(SIZES, (5, 3))
    with pytest.raises(TeacherError, match="below the teacher's vocabulary of 40, got 40"):
        teacher(np.where(mask, 40, 0), mask)
    with pytest.raises(TeacherError, match="got -1"):
        teacher(ids - 1 - ids, mask)
    with pytest.raises(TeacherError, match="at most 24 tokens, the teacher's positions, got 25"):
        teacher(np.ones((1, 25), np.int64), np.ones((1, 25), bool))
    with pytest.raises(TeacherError, match=r"0 \(embeddings\) to 2 \(last layer\), got 3"):
        teacher(ids, mask, layers=(1, 3))
    with pytest.raises(TeacherError, match="a batch of 2x5"):
        teacher(ids, mask, segments + 2)
    with pytest.raises(ShapeError, match=r"all \[B, L\]"):
        teacher(ids, mask[:, :-1])
    with pytest.raises(ShapeError, match="float64 ids"):
        teacher(ids * 1.0, mask)


def test_bad_files(tmp_path: Path, model: Path) -> None:
    content = model.read_bytes()
    cases = {
        "cut": content[: len(content) // 2],
        "short": content[:-1],
        "empty": b"",
        "text": b"not a model\n" * 99,
    }
    for name, wrong in cases.items():
        (tmp_path / f"{name}.onnx").write_bytes(wrong)
        with pytest.raises(TeacherError, match=rf"{name}\.onnx: expected an ONNX model, got .+; try a fresh copy"):
            OnnxTeacher(tmp_path / f"{name}.onnx")
    with pytest.raises(TeacherError, match="expected an ONNX file, got no such file"):
        OnnxTeacher(tmp_path / "absent.onnx")
    with pytest.raises(TeacherError, match="expected an ONNX file, got a folder"):
        OnnxTeacher(tmp_path)
    with pytest.raises(TeacherError, match="layers: expected 0"):
        OnnxTeacher(model, layers=(-1,))


def test_missing_external_data(tmp_path: Path, model: Path) -> None:
    onnx.save(
        onnx.load(model),
        tmp_path / "outside.onnx",
        save_as_external_data=True,
        location="outside.data",
        size_threshold=100,
    )
    ids, mask, _ = batch(SIZES, (5,))
    np.testing.assert_array_equal(
        OnnxTeacher(tmp_path / "outside.onnx")(ids, mask).logits, OnnxTeacher(model)(ids, mask).logits
    )
    (tmp_path / "outside.data").unlink()
    with pytest.raises(TeacherError, match="external data beside it"):
        OnnxTeacher(tmp_path / "outside.onnx")


def test_foreign_inputs(tmp_path: Path, model: Path) -> None:
    other = onnx.load(model)
    other.graph.input.append(helper.make_tensor_value_info("position_ids", TensorProto.INT64, ["b", "l"]))
    onnx.save(other, tmp_path / "positions.onnx")
    with pytest.raises(TeacherError, match=r"no inputs but .*, got position_ids"):
        OnnxTeacher(tmp_path / "positions.onnx")
    fixed = onnx.load(model)
    for value in fixed.graph.input:
        value.type.tensor_type.shape.dim[1].dim_value = 8
    onnx.save(fixed, tmp_path / "fixed.onnx")
    with pytest.raises(TeacherError, match=r"free axes .*got input_ids \['batch', 8\]"):
        OnnxTeacher(tmp_path / "fixed.onnx")


def test_no_word_embeddings(tmp_path: Path, model: Path) -> None:
    other = onnx.load(model)
    doubled = helper.make_node("Add", ["input_ids", "heads.zero"], ["ids.shifted"])
    other.graph.initializer.append(helper.make_tensor("heads.zero", TensorProto.INT64, [], [0]))
    other.graph.node.insert(0, doubled)
    look_up = next(node for node in other.graph.node if node.output[0] == "embeddings.words")
    look_up.input[1] = "ids.shifted"
    onnx.save(other, tmp_path / "shifted.onnx")
    with pytest.raises(TeacherError, match="word embeddings: expected a table"):
        OnnxTeacher(tmp_path / "shifted.onnx")


def test_label_names(tmp_path: Path, teacher: OnnxTeacher) -> None:
    assert teacher.label_names == ()
    export_bert(SIZES, WEIGHTS, tmp_path / "named.onnx", label_names=("a", "b", "c"))
    assert OnnxTeacher(tmp_path / "named.onnx").label_names == ("a", "b", "c")
    for number, wrong in enumerate(('["a", "b"]', "no JSON", '{"a": 1}')):
        other = onnx.load(tmp_path / "named.onnx")
        for entry in other.metadata_props:
            if entry.key == LABELS_KEY:
                entry.value = wrong
        onnx.save(other, tmp_path / f"{number}.onnx")
        assert OnnxTeacher(tmp_path / f"{number}.onnx").label_names == ()


def test_the_fingerprint_knows_the_processor(
    tmp_path: Path, model: Path, teacher: OnnxTeacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = OnnxTeacher(model).fingerprint
    assert before == teacher.fingerprint and platform.machine() in before
    monkeypatch.setattr(platform, "machine", lambda: "abacus")
    assert OnnxTeacher(model).fingerprint != before
    info = "processor: 0\nmodel name\t: Fast One\nflags : avx2 fma\n\nprocessor: 1\nmodel name: Slow One\n"
    (tmp_path / "cpuinfo").write_text(info)
    assert _processor(tmp_path / "cpuinfo").endswith("Fast One avx2 fma")
    assert _processor(tmp_path / "nowhere").startswith("abacus")


@pytest.mark.parametrize("library", ["onnxruntime", "onnx"])
def test_missing_library(monkeypatch: pytest.MonkeyPatch, model: Path, library: str) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(TeacherError, match=rf'{library}: expected .*; try pip install "minispike\[distill\]"'):
        OnnxTeacher(model)
