"""Hidden states are found in models that others exported, or the model is refused; never are they guessed."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper
from plain_bert import Sizes, batch, forward, random_weights

from minispike.errors import TeacherError
from minispike.models.bert_weights import fields_of
from minispike.models.onnx_export import build_model
from teachers.onnx_teacher import OnnxTeacher
from teachers.surgery import expose_hidden_states, find_embeddings, find_hidden_states

onnxruntime = pytest.importorskip("onnxruntime")

FIXTURES = Path(__file__).parent / "fixtures"
SIZES = Sizes(num_labels=3)
SEED = 7
WEIGHTS = random_weights(SIZES, SEED)


def plain(weights: dict[str, np.ndarray] = WEIGHTS) -> onnx.ModelProto:
    """Our own export without its hidden states."""
    model = build_model(fields_of(SIZES, weights), weights)
    hide(model)
    return model


def hide(model: onnx.ModelProto) -> None:
    """Leave the logits as the only output."""
    kept = [output for output in model.graph.output if output.name == "logits"]
    del model.graph.output[:]
    model.graph.output.extend(kept)


def rename(model: onnx.ModelProto, new_name: Callable[[str], str]) -> onnx.ModelProto:
    """Give every value but inputs and outputs another name."""
    fixed = {value.name for value in (*model.graph.input, *model.graph.output)}
    for node in model.graph.node:
        node.name = ""
        node.input[:] = [name if name in fixed else new_name(name) for name in node.input]
        node.output[:] = [name if name in fixed else new_name(name) for name in node.output]
    for tensor in model.graph.initializer:
        tensor.name = new_name(tensor.name)
    return model


def without_names(model: onnx.ModelProto) -> onnx.ModelProto:
    """Numbers instead of names, as optimisers leave them."""
    numbers: dict[str, int] = {}
    return rename(model, lambda name: name and f"onnx::{numbers.setdefault(name, len(numbers))}")


def decomposed(model: onnx.ModelProto) -> onnx.ModelProto:
    """Each layer norm in arithmetic, operands in either order, as exporters below opset 17 write it."""
    nodes: list[NodeProto] = []

    def add(kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    model.graph.initializer.append(helper.make_tensor("two", TensorProto.FLOAT, [], [2.0]))
    model.graph.initializer.append(helper.make_tensor("eps", TensorProto.FLOAT, [], [1e-12]))
    swap = False
    for node in model.graph.node:
        if node.op_type != "LayerNormalization":
            nodes.append(node)
            continue
        (x, weight, bias), y = node.input, node.output[0]
        mean = add("ReduceMean", [x], f"{y}/mean", axes=[-1])
        centred = add("Sub", [x, mean], f"{y}/centred")
        squared = add("Pow", [centred, "two"], f"{y}/squared")
        variance = add("ReduceMean", [squared], f"{y}/variance", axes=[-1])
        deviation = add("Sqrt", [add("Add", [variance, "eps"], f"{y}/safe")], f"{y}/deviation")
        normal = add("Div", [centred, deviation], f"{y}/normal")
        scaled = add("Mul", [weight, normal] if swap else [normal, weight], f"{y}/scaled")
        add("Add", [bias, scaled] if swap else [scaled, bias], y)
        swap = not swap
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def merged(model: onnx.ModelProto) -> onnx.ModelProto:
    """Equal weights stored once, under the name of the last, as exporters do; the nodes read its copies."""
    stored: dict[bytes, str] = {}
    for tensor in list(model.graph.initializer)[::-1]:
        value = numpy_helper.to_array(tensor)
        key = str((value.dtype, value.shape)).encode() + value.tobytes()
        if stored.setdefault(key, tensor.name) != tensor.name:
            model.graph.initializer.remove(tensor)
            model.graph.node.insert(0, helper.make_node("Identity", [stored[key]], [tensor.name]))
    return model


def fused(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """What ONNX Runtime makes of a model, its own kinds of layer norm included, without hidden states."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(folder / "fused.onnx")
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    optimised = onnx.load(folder / "fused.onnx")
    hide(optimised)
    return optimised


def with_fused_embeddings(model: onnx.ModelProto) -> onnx.ModelProto:
    """The look-ups and their layer norm in one node of ONNX Runtime's, as its optimiser writes them."""
    end = next(i for i, node in enumerate(model.graph.node) if node.output[0] == "hidden_states.0")
    del model.graph.node[: end + 1]
    tables = [f"embeddings.{name}_embeddings.weight" for name in ("word", "position", "token_type")]
    norm = ["embeddings.LayerNorm.weight", "embeddings.LayerNorm.bias"]
    look_up = helper.make_node(
        "EmbedLayerNormalization",
        ["ids.int32", "segments.int32", *tables, *norm],
        ["hidden_states.0", ""],
        domain="com.microsoft",
        epsilon=SIZES.layer_norm_eps,
    )
    model.graph.node.insert(0, look_up)
    for name, cast in (("token_type_ids", "segments.int32"), ("input_ids", "ids.int32")):
        model.graph.node.insert(0, helper.make_node("Cast", [name], [cast], to=TensorProto.INT32))
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return model


def with_word_head(model: onnx.ModelProto) -> onnx.ModelProto:
    """A further layer norm behind the last layer, like the one of masked language modelling."""
    last = next(name for node in model.graph.node for name in node.output if name == "hidden_states.2")
    norm = "encoder.layer.1.output.LayerNorm"
    model.graph.node.append(helper.make_node("Tanh", [last], ["word.inner"]))
    inputs = ["word.inner", f"{norm}.weight", f"{norm}.bias"]
    model.graph.node.append(helper.make_node("LayerNormalization", inputs, ["word.out"]))
    return model


def assert_finds_hidden_states(model: onnx.ModelProto, folder: Path, weights: dict[str, np.ndarray] = WEIGHTS) -> None:
    """The teacher agrees with plain NumPy on every hidden state, the logits and both tables."""
    onnx.save(model, folder / "foreign.onnx")
    teacher = OnnxTeacher(folder / "foreign.onnx", threads=1)
    assert (teacher.num_layers, teacher.hidden_size, teacher.num_labels, teacher.vocab_size) == (2, 16, 3, 40)
    ids, mask, segments = batch(SIZES, (7, 2, 11))
    output = teacher(ids, mask, segments)
    states, logits = forward(SIZES, weights, ids, mask, segments)
    for got, state in zip(output.hidden_states, states, strict=True):
        np.testing.assert_allclose(got[mask], state[mask], atol=1e-5, rtol=0)
    assert output.logits is not None and logits is not None
    np.testing.assert_allclose(output.logits, logits, atol=1e-5, rtol=0)
    np.testing.assert_array_equal(teacher.word_embeddings, weights["embeddings.word_embeddings.weight"])
    positions = teacher.position_embeddings
    assert positions is not None
    np.testing.assert_array_equal(positions, weights["embeddings.position_embeddings.weight"])


@pytest.mark.parametrize("names", [True, False])
@pytest.mark.parametrize("shape", ["plain", "decomposed", "fused", "embeddings"])
def test_finds_hidden_states(tmp_path: Path, shape: str, names: bool) -> None:
    model = plain()
    if shape == "decomposed":
        model = decomposed(model)
    elif shape == "fused":
        model = fused(expose_hidden_states(model), tmp_path)
        assert any(node.op_type == "SkipLayerNormalization" for node in model.graph.node)
    elif shape == "embeddings":
        model = with_fused_embeddings(model)
    assert_finds_hidden_states(model if names else without_names(model), tmp_path)


@pytest.mark.parametrize("exporter", ["script", "dynamo"])
@pytest.mark.parametrize("names", [True, False])
def test_finds_hidden_states_of_a_torch_export(tmp_path: Path, exporter: str, names: bool) -> None:
    model = onnx.load(FIXTURES / f"torch_{exporter}.onnx")
    assert_finds_hidden_states(model if names else without_names(model), tmp_path)


@pytest.mark.parametrize("shape", [plain, lambda weights: decomposed(plain(weights))])
def test_equal_weights_that_were_merged(tmp_path: Path, shape: Callable[..., onnx.ModelProto]) -> None:
    fresh = {
        name: np.full_like(value, name.endswith("weight")) if "LayerNorm" in name else value
        for name, value in WEIGHTS.items()
    }
    model = merged(shape(fresh))
    assert sum("LayerNorm" in tensor.name for tensor in model.graph.initializer) == 2
    assert_finds_hidden_states(model, tmp_path, fresh)
    by_name = [norm.output for norm in find_hidden_states(shape(fresh).graph)]
    assert by_name == [f"hidden_states.{i}" for i in range(3)]


def test_misleading_names_do_not_decide(tmp_path: Path) -> None:
    """One layer's weights under the name of another's: names leave a doubt, so structure decides."""
    swapped = {"encoder.layer.0.output.LayerNorm.bias": "encoder.layer.1.output.LayerNorm.bias"}
    both = swapped | {new: old for old, new in swapped.items()}
    assert_finds_hidden_states(rename(plain(), lambda name: both.get(name, name)), tmp_path)


@pytest.mark.parametrize("names", [True, False])
def test_the_layer_norm_of_a_word_head_is_no_layer(tmp_path: Path, names: bool) -> None:
    model = with_word_head(plain())
    assert_finds_hidden_states(model if names else without_names(model), tmp_path)


def test_the_model_itself_is_left_alone() -> None:
    model = plain()
    before = model.SerializeToString()
    exposed = expose_hidden_states(model)
    assert model.SerializeToString() == before
    onnx.checker.check_model(exposed, full_check=True)
    assert expose_hidden_states(exposed) is exposed


def test_outputs_that_were_taken_away_again() -> None:
    model = without_names(plain())
    exposed = expose_hidden_states(model)
    hide(exposed)
    again = expose_hidden_states(exposed)
    assert len(again.graph.output) == 4 and len(again.graph.node) == len(exposed.graph.node)


def test_a_name_that_is_taken() -> None:
    model = rename(
        plain(),
        lambda name: {"hidden_states.1": "hidden_states.2", "hidden_states.2": "last"}.get(name, name),
    )
    with pytest.raises(TeacherError, match=r"hidden_states\.2: expected a layer's output, got another value"):
        expose_hidden_states(model)


def test_refuses_layer_norms_before_the_sums() -> None:
    """A layer norm that does not read a sum with the one before it is not a BERT's."""
    model = without_names(plain())
    norms = [node for node in model.graph.node if node.op_type == "LayerNormalization"]
    for norm, before in zip(norms[1:], norms, strict=False):
        total = next(node for node in model.graph.node if node.output[0] == norm.input[0])
        total.input[:] = [before.input[0] if name == before.output[0] else name for name in total.input]
    with pytest.raises(TeacherError, match=r"1 \+ 2N layer norms .* got 5 layer norms, 1 of them linked"):
        expose_hidden_states(model)


def test_refuses_an_even_number_of_layer_norms() -> None:
    model = without_names(plain())
    first = next(node for node in model.graph.node if node.op_type == "LayerNormalization")
    first.op_type = "InstanceNormalization"
    with pytest.raises(TeacherError, match="got 4 layer norms, 4 of them linked"):
        expose_hidden_states(model)


def test_refuses_what_has_no_layer_norms() -> None:
    graph = helper.make_graph(
        [helper.make_node("Identity", ["input_ids"], ["logits"])],
        "none",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "length"])],
        [helper.make_tensor_value_info("logits", TensorProto.INT64, ["batch", "length"])],
    )
    with pytest.raises(TeacherError, match="got 0 layer norms, 0 of them linked"):
        expose_hidden_states(helper.make_model(graph))


def test_positions_that_cannot_be_told() -> None:
    model = plain()
    another = numpy_helper.from_array(np.ones((30, SIZES.hidden_size), np.float32), "more.table")
    model.graph.initializer.append(another)
    model.graph.node.append(helper.make_node("Gather", ["more.table", "attention_mask"], ["more.rows"]))
    _, positions = find_embeddings(model.graph)
    assert positions is not None and positions.shape == (24, 16)
    words, positions = find_embeddings(without_names(model).graph)
    assert words.shape == (40, 16) and positions is None


def test_half_precision_weights(tmp_path: Path) -> None:
    model = build_model(fields_of(SIZES, WEIGHTS), WEIGHTS, half=True)
    hide(model)
    assert_finds_hidden_states(without_names(model), tmp_path)


def test_another_number_of_layers() -> None:
    sizes = replace(SIZES, num_hidden_layers=5)
    model = build_model(fields_of(sizes, {}), random_weights(sizes))
    hide(model)
    assert len(find_hidden_states(without_names(model).graph)) == 6
