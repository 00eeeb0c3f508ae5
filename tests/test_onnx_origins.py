"""ONNX models of any origin: inputs and outputs of other names are known by what they are, or the error names them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from foreign_bert import SIZES, WEIGHTS, called, foreign, node, output, saved
from onnx import TensorProto, helper
from plain_bert import batch, forward
from test_surgery import decomposed, fused, without_names

pytest.importorskip("onnxruntime")

from minispike.errors import TeacherError
from minispike.models.bert_weights import fields_of
from minispike.models.onnx_export import build_model
from teachers.onnx_teacher import OnnxTeacher

FIXTURES = Path(__file__).parent / "fixtures"


def assert_teaches(path: Path) -> None:
    """Every hidden state and the logits are those of plain NumPy."""
    teacher = OnnxTeacher(path, threads=1)
    assert (teacher.num_layers, teacher.hidden_size, teacher.num_labels, teacher.vocab_size) == (2, 16, 3, 40)
    ids, mask, segments = batch(SIZES, (7, 2, 11))
    found = teacher(ids, mask, segments)
    states, logits = forward(SIZES, WEIGHTS, ids, mask, segments)
    for got, state in zip(found.hidden_states, states, strict=True):
        np.testing.assert_allclose(got[mask], state[mask], atol=1e-5, rtol=0)
    assert found.logits is not None and logits is not None
    np.testing.assert_allclose(found.logits, logits, atol=1e-5, rtol=0)


def assert_no_classifier(path: Path, *parts: str) -> None:
    """The teacher has none, and says among which outputs."""
    teacher = OnnxTeacher(path, threads=1)
    assert teacher.num_labels == 0
    ids, mask, _ = batch(SIZES, (5,))
    assert teacher(ids, mask).logits is None
    with pytest.raises(TeacherError, match="expected an output, got no classifier among the outputs") as raised:
        teacher(ids, mask, logits=True)
    for part in parts:
        assert part in str(raised.value)


# ---- The classifier


@pytest.mark.parametrize("name", ["output", "output_0", "scores", "1234"])
@pytest.mark.parametrize("states", [True, False])
def test_logits_of_any_name(tmp_path: Path, name: str, states: bool) -> None:
    model = build_model(fields_of(SIZES, WEIGHTS), WEIGHTS) if states else foreign()
    assert_teaches(saved(called(model, logits=name), tmp_path))


@pytest.mark.parametrize("exporter", ["script", "dynamo"])
def test_logits_of_a_torch_export(tmp_path: Path, exporter: str) -> None:
    model = called(onnx.load(FIXTURES / f"torch_{exporter}.onnx"), logits="output_0", input_ids="input.1")
    assert_teaches(saved(model, tmp_path))


def test_logits_without_a_declared_shape(tmp_path: Path) -> None:
    model = called(foreign(), logits="scores")
    model.graph.output[0].type.tensor_type.ClearField("shape")
    onnx.save(model, tmp_path / "shapeless.onnx")
    assert_teaches(tmp_path / "shapeless.onnx")
    model.graph.output[0].type.tensor_type.shape.dim.add().dim_param = "batch"
    model.graph.output[0].type.tensor_type.shape.dim.add().dim_param = "some"
    assert_teaches(saved(model, tmp_path))
    assert_teaches(saved(without_names(decomposed(model)), tmp_path))


@pytest.mark.parametrize("kind", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("before", ["scores", "logits"])
def test_probabilities_are_no_logits(tmp_path: Path, kind: str, before: str) -> None:
    """What a softmax reads is put out; to distil from probabilities as if they were logits would be wrong."""
    model = node(called(foreign(), logits=before), kind, [before], "output", axis=-1)
    both = output(model, "output", "batch", 3)
    assert_teaches(saved(both, tmp_path))
    both.graph.output.pop(0)
    assert_teaches(saved(both, tmp_path))


def test_other_outputs_are_no_classifiers(tmp_path: Path) -> None:
    model = called(foreign(), **{"logits": "scores", "pooler.output": "output_1", "hidden_states.2": "output_2"})
    output(output(model, "output_1", "batch", 16), "output_2", "batch", "length", 16)
    output(node(model, "ArgMax", ["scores"], "label", axis=1), "label", "batch", 1, kind=TensorProto.INT64)
    assert_teaches(saved(model, tmp_path))


def test_a_teacher_without_a_classifier_names_its_outputs(tmp_path: Path) -> None:
    model = called(foreign(), **{"logits": "words", "pooler.output": "pooled", "hidden_states.2": "last"})
    model.graph.output.pop()
    output(output(model, "pooled", "batch", 16), "last", "batch", "length", 16)
    assert_no_classifier(saved(model, tmp_path), "pooled [batch, 16], last [batch, length, 16]")


@pytest.mark.parametrize("kind", ["by name", "by sigmoid", "a score a word"])
def test_what_looks_like_a_classifier(tmp_path: Path, kind: str) -> None:
    model = called(foreign(), logits="seq_relationship_logits")
    if kind == "by sigmoid":  # labels that do not exclude each other
        model = output(node(foreign(), "Sigmoid", ["logits"], "probs"), "probs", "batch", 3)
        model.graph.output.pop(0)
    elif kind == "a score a word":
        model = called(foreign(), logits="classes")
        node(model, "MatMul", ["hidden_states.2", "classifier.weight.T"], "logits")
        model.graph.output.pop()
        output(model, "logits", "batch", "length", 3)
    name = model.graph.output[0].name
    assert_no_classifier(saved(model, tmp_path), f"the outputs {name} [batch, ")


def test_two_classifiers_are_one_too_many(tmp_path: Path) -> None:
    model = called(foreign(), logits="topic")
    node(model, "MatMul", ["pooler.output", "classifier.weight.T"], "tone")
    path = saved(output(output(model, "tone", "batch", 3), "pooler.output", "batch", 16), tmp_path)
    outputs = r"topic \[batch, 3\], tone \[batch, 3\], pooler\.output \[batch, 16\]"
    with pytest.raises(TeacherError, match=rf'foreign\.onnx: expected one output .*got {outputs}; try .*"logits"'):
        OnnxTeacher(path)
    assert_teaches(saved(called(model, topic="logits"), tmp_path))


def test_a_name_that_is_taken(tmp_path: Path) -> None:
    model = called(foreign(), **{"logits": "scores", "pooler.output": "logits"})
    with pytest.raises(TeacherError, match="logits: expected the output of the classifier, got another value; try"):
        OnnxTeacher(saved(model, tmp_path))
    model = called(foreign(), **{"attention_mask": "mask", "mask.float32": "attention_mask"})
    with pytest.raises(TeacherError, match="attention_mask: expected the name of the input mask, got another value"):
        OnnxTeacher(saved(model, tmp_path))


# ---- Inputs


@pytest.mark.parametrize(
    "names",
    [
        {"input_ids": "input.1"},
        {"attention_mask": "mask"},
        {"token_type_ids": "token_types"},
        {"input_ids": "input.1", "attention_mask": "input.3", "token_type_ids": "input.2"},
        {"input_ids": "attention_mask.1", "attention_mask": "input_ids.1", "token_type_ids": "x"},
    ],
)
@pytest.mark.parametrize("shape", [lambda model: model, decomposed, without_names])
def test_inputs_of_any_name(tmp_path: Path, names: dict[str, str], shape: Callable[..., onnx.ModelProto]) -> None:
    assert_teaches(saved(called(shape(foreign()), logits="output", **names), tmp_path))


def test_inputs_in_any_order(tmp_path: Path) -> None:
    model = called(foreign(), input_ids="c", attention_mask="a", token_type_ids="b")
    turned = list(model.graph.input)[::-1]
    del model.graph.input[:]
    model.graph.input.extend(turned)
    model.graph.input.extend(
        helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in model.graph.initializer
    )
    assert_teaches(saved(model, tmp_path))  # weights among the inputs, as old files list them, are none


def test_inputs_that_cannot_be_told_are_named_first(tmp_path: Path) -> None:
    """Whatever else is wrong: the look-up of words cannot be found either where nothing leads to it."""
    model = called(foreign(), input_ids="input.1", attention_mask="mask")
    model.graph.node.insert(0, helper.make_node("Mul", ["input.1", "mask"], ["masked.ids"]))
    next(node for node in model.graph.node if node.output[0] == "embeddings.words").input[1] = "masked.ids"
    for name in ("input.1", "mask"):
        assert name in {value.name for value in model.graph.input}
    expected = "expected the inputs input_ids and attention_mask, got input.1, mask, token_type_ids; try"
    with pytest.raises(TeacherError) as raised:
        OnnxTeacher(saved(model, tmp_path))
    assert expected in str(raised.value) and "quantised" not in str(raised.value)


def test_two_masks_are_one_too_many(tmp_path: Path) -> None:
    model = called(foreign(), attention_mask="mask")
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.INT64, ["batch", "length"]))
    node(model, "Identity", ["more"], "more.copy")
    with pytest.raises(TeacherError, match="got input_ids, mask, token_type_ids, more; try"):
        OnnxTeacher(saved(model, tmp_path))


# ---- The shape, for the energy


@pytest.mark.parametrize("make", ["plain", "decomposed", "fused", "torch_script", "torch_dynamo"])
def test_the_shape_is_read_off_the_graph(tmp_path: Path, make: str) -> None:
    if make.startswith("torch"):
        model = onnx.load(FIXTURES / f"{make}.onnx")
    else:
        model = fused(foreign(), tmp_path) if make == "fused" else foreign()
        model = decomposed(model) if make == "decomposed" else model
    onnx.save(without_names(model), tmp_path / "shape.onnx")
    shape = OnnxTeacher(tmp_path / "shape.onnx", threads=1).shape
    names = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "num_labels")
    assert shape == {name: getattr(SIZES, name) for name in names}


def test_a_shape_that_the_graph_does_not_tell(tmp_path: Path) -> None:
    model = foreign()
    square = helper.make_tensor("square", TensorProto.FLOAT, [16, 16], np.eye(16).ravel())
    model.graph.initializer.append(square)
    for i in range(3):  # more matrices than a BERT has
        node(model, "MatMul", ["hidden_states.2", "square"], f"more.{i}")
    assert OnnxTeacher(saved(model, tmp_path)).shape is None
