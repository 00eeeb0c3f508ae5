"""The exported BERT computes what a BERT in plain NumPy computes."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from plain_bert import Array, Sizes, batch, forward, random_weights

from minispike.data.batches import collate
from minispike.data.tokenizer import Tokenizer
from minispike.errors import TeacherError
from minispike.models.bert import Bert
from minispike.models.bert_folder import read_bert_folder
from minispike.models.onnx_export import CONFIG_KEY, LABELS_KEY, export_bert
from minispike.tensor import no_grad
from teachers.onnx_teacher import OnnxTeacher

onnxruntime = pytest.importorskip("onnxruntime")

SIZES = Sizes()


def run(path: Path, ids: Array, mask: Array, segments: Array) -> dict[str, Array]:
    """Every output of a model by its name."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feeds = {"input_ids": ids, "attention_mask": mask.astype(np.int64), "token_type_ids": segments}
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, feeds), strict=True))


def assert_same(outputs: dict[str, Array], states: list[Array], mask: Array, tolerance: float) -> None:
    """Hidden states equal at all tokens; what stands at padding does not matter."""
    for i, state in enumerate(states):
        np.testing.assert_allclose(outputs[f"hidden_states.{i}"][mask], state[mask], atol=tolerance, rtol=0)


@pytest.mark.parametrize("labels", [0, 3])
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("lengths", [(1,), (5, 5), (7, 1, 24, 12)])
def test_matches_plain_numpy(tmp_path: Path, labels: int, half: bool, lengths: tuple[int, ...]) -> None:
    sizes = replace(SIZES, num_labels=labels)
    weights = random_weights(sizes)
    path = tmp_path / "bert.onnx"
    export_bert(sizes, weights, path, half=half)
    onnx.checker.check_model(path, full_check=True)
    ids, mask, segments = batch(sizes, lengths)
    outputs = run(path, ids, mask, segments)
    states, logits = forward(sizes, weights, ids, mask, segments)
    assert len(outputs) == len(states) + bool(labels)
    assert_same(outputs, states, mask, 1e-5)
    if logits is not None:
        np.testing.assert_allclose(outputs["logits"], logits, atol=1e-5, rtol=0)


def test_minilm_matches_plain_numpy(tmp_path: Path, shared: Path) -> None:
    fields, weights = read_bert_folder(shared / "models" / "minilm-l6")
    sizes = Sizes(**fields)
    export_bert(sizes, weights, tmp_path / "minilm.onnx")
    ids, mask, segments = batch(sizes, (3, 21, 12))
    states, _ = forward(sizes, weights, ids, mask, segments)
    assert_same(run(tmp_path / "minilm.onnx", ids, mask, segments), states, mask, 1e-4)


def test_padding_changes_nothing_and_an_empty_sentence_stays_finite(tmp_path: Path) -> None:
    path = tmp_path / "bert.onnx"
    export_bert(SIZES, random_weights(SIZES), path)
    ids, mask, segments = batch(SIZES, (9, 4, 6))
    mask[2] = False
    before = run(path, ids, mask, segments)
    after = run(path, np.where(mask, ids, 17), mask, segments)
    for name, state in before.items():
        assert np.isfinite(state).all()
        np.testing.assert_array_equal(state[mask], after[name][mask])


def test_metadata_and_axes(tmp_path: Path) -> None:
    sizes = replace(SIZES, num_labels=3)
    export_bert(sizes, random_weights(sizes), tmp_path / "bert.onnx")
    model = onnx.load(tmp_path / "bert.onnx")
    assert model.producer_name == "minispike"
    assert json.loads({entry.key: entry.value for entry in model.metadata_props}[CONFIG_KEY]) == asdict(sizes)
    for value in (*model.graph.input, *model.graph.output[:-1]):
        assert [axis.dim_param for axis in value.type.tensor_type.shape.dim[:2]] == ["batch", "length"]


def test_label_names_are_kept_in_the_file(tmp_path: Path) -> None:
    sizes = replace(SIZES, num_labels=3)
    names = ("nein", "日本", "b")
    export_bert(sizes, random_weights(sizes), tmp_path / "bert.onnx", label_names=names)
    notes = {entry.key: entry.value for entry in onnx.load(tmp_path / "bert.onnx").metadata_props}
    assert tuple(json.loads(notes[LABELS_KEY])) == names and CONFIG_KEY in notes
    with pytest.raises(TeacherError, match="label names: expected 3, as many as classes, got 2"):
        export_bert(sizes, random_weights(sizes), tmp_path / "two.onnx", label_names=names[:2])
    assert not (tmp_path / "two.onnx").exists()


def test_the_classifier_in_the_weights_decides(tmp_path: Path) -> None:
    weights = random_weights(replace(SIZES, num_labels=3))
    export_bert(SIZES, weights, tmp_path / "bert.onnx")
    ids, mask, segments = batch(SIZES, (4,))
    assert run(tmp_path / "bert.onnx", ids, mask, segments)["logits"].shape == (1, 3)


def test_half_is_half_the_size(tmp_path: Path) -> None:
    wide = replace(SIZES, hidden_size=128, vocab_size=400)
    weights = random_weights(wide)
    export_bert(wide, weights, tmp_path / "full.onnx")
    export_bert(wide, weights, tmp_path / "half.onnx", half=True)
    assert (tmp_path / "half.onnx").stat().st_size < 0.6 * (tmp_path / "full.onnx").stat().st_size


def test_mistakes_leave_no_file(tmp_path: Path) -> None:
    path = tmp_path / "bert.onnx"
    weights = random_weights(SIZES)
    with pytest.raises(TeacherError, match=r"missing: pooler\.dense\.weight.*classifier\.weight"):
        export_bert(replace(SIZES, num_labels=2), weights, path)
    with pytest.raises(TeacherError, match=r"unexpected: encoder\.layer\.1\..* and 6 more"):
        export_bert(replace(SIZES, num_hidden_layers=1), weights, path)
    with pytest.raises(TeacherError, match=r"misshaped: .*word_embeddings\.weight \(40, 16\) instead of \(41, 16\)"):
        export_bert(replace(SIZES, vocab_size=41), weights, path)
    large = {name: value * 1e6 for name, value in weights.items()}
    with pytest.raises(TeacherError, match="65504"):
        export_bert(SIZES, large, path, half=True)
    assert not list(tmp_path.iterdir())


def test_minilm_through_onnx_runtime_is_bert_itself(tmp_path: Path, shared: Path) -> None:
    """Every hidden state of real sentences of different lengths in one padded batch."""
    folder = shared / "models" / "minilm-l6"
    texts = ["fine .", "a gripping , funny film", "the plot is thin , but nobody who likes its cast will mind that ."]
    encoded = Tokenizer.from_file(folder).encode(texts, max_length=64)
    rows = collate(encoded, [0, 1, 2])
    assert len(set(encoded.lengths.tolist())) == 3
    bert = Bert.from_folder(folder)
    bert.to_onnx(tmp_path / "minilm.onnx")
    theirs = OnnxTeacher(tmp_path / "minilm.onnx")(rows.input_ids, rows.mask, layers=tuple(range(7))).hidden_states
    with no_grad():
        ours = bert(rows.input_ids, rows.mask).hidden_states
    assert len(ours) == len(theirs) == 7
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a.numpy()[rows.mask], b[rows.mask], atol=1e-4, rtol=0)


def test_any_object_with_the_fields_is_a_config(tmp_path: Path) -> None:
    export_bert(SimpleNamespace(**asdict(SIZES)), random_weights(SIZES), tmp_path / "bert.onnx")
    assert (tmp_path / "bert.onnx").is_file()
