"""BERTs in ONNX as somebody else would export them: inputs and outputs go by other names."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper
from plain_bert import Sizes, random_weights
from test_surgery import hide

from minispike.models.bert_weights import fields_of
from minispike.models.onnx_export import build_model

SIZES = Sizes(num_labels=3)
WEIGHTS = random_weights(SIZES, 7)


def foreign() -> onnx.ModelProto:
    """A BERT that puts out what its classifier says and nothing else."""
    model = build_model(fields_of(SIZES, WEIGHTS), WEIGHTS)
    hide(model)
    return model


def called(model: onnx.ModelProto, **names: str) -> onnx.ModelProto:
    """The model with other names for values; inputs and outputs may be among them."""
    for value in (*model.graph.input, *model.graph.output):
        value.name = names.get(value.name, value.name)
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    return model


def output(model: onnx.ModelProto, name: str, *axes: str | int, kind: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """The model with one more output."""
    model.graph.output.append(helper.make_tensor_value_info(name, kind, axes))
    return model


def node(model: onnx.ModelProto, kind: str, inputs: Sequence[str], name: str, **attributes: Any) -> onnx.ModelProto:
    """The model with one more node."""
    model.graph.node.append(helper.make_node(kind, inputs, [name], **attributes))
    return model


def saved(model: onnx.ModelProto, folder: Path) -> Path:
    """The file of a model that the checker has nothing against."""
    onnx.checker.check_model(model)
    onnx.save(model, folder / "foreign.onnx")
    return folder / "foreign.onnx"
