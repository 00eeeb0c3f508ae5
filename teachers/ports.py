"""The inputs and outputs of a BERT that somebody else exported: known by what they are, and given our names.

Inputs: what looks up the words is ``input_ids``, what looks up a table of a few rows is ``token_type_ids``, and the
only one left is ``attention_mask``. Outputs: what has two axes, batch and classes, is ``logits``, whatever it is
called; so is what a softmax at the end of the model reads. Nothing is guessed: where two could be meant, none is.
"""

import copy
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from minispike.errors import TeacherError, problem
from minispike.extras import extra
from teachers.layer_norms import FLOATS, GraphView
from teachers.surgery import add_output, expose_hidden_states, hidden_state_names, look_ups, row_index

if TYPE_CHECKING:
    import onnx

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
LOGITS = "logits"

_REQUIRED = INPUTS[:2]
_SEGMENTS = 4  # the most rows that a table of segments has, and less than any table of words or positions
_NORMALISED = ("Softmax", "LogSoftmax")  # what makes probabilities of logits

# Vectors of a sentence, and the classifier of pretraining, which tells whether two sentences follow each other.
_NO_CLASSES = re.compile(r"pool|embed|hidden|seq_relationship|next_sentence", re.IGNORECASE)

_TYPES = {
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
}

Axes = Sequence[int | str] | None
"""Of an output: a number where an axis is fixed, a name or ``""`` where it is free; None if they are not known."""


def adopt(model: "onnx.ModelProto", path: Path) -> "onnx.ModelProto":
    """``model`` with our names of inputs and logits, and with every hidden state among its outputs.

    Args:
        model: from the file ``path``, which errors name.

    Returns:
        The model itself if it has all of this already, otherwise a copy.

    Raises:
        TeacherError: inputs, hidden states or logits cannot be told with certainty.
    """
    exposed = expose_hidden_states(_name_inputs(model, path))
    return _name_logits(exposed, output_axes(model), path)


def checked_inputs(path: Path, session: Any) -> dict[str, Any]:
    """The dtype of each input, once it is clear that a batch of any size can be fed.

    Raises:
        TeacherError: an axis is fixed, or an input takes no numbers.
    """
    found = {entry.name: entry for entry in session.get_inputs()}
    fixed = [f"{name} {entry.shape}" for name, entry in found.items() if any(isinstance(n, int) for n in entry.shape)]
    untyped = [f"{name} {entry.type}" for name, entry in found.items() if entry.type not in _TYPES]
    for wrong, expected, hint in (
        (fixed, "inputs with free axes [batch, length]", "an export with dynamic axes"),
        (untyped, "inputs of numbers", "an export of a BERT that starts from token ids"),
    ):
        if wrong:
            raise TeacherError(problem(str(path), expected=expected, got=", ".join(wrong), hint=hint))
    return {name: _TYPES[entry.type] for name, entry in found.items()}


def output_axes(model: "onnx.ModelProto") -> dict[str, Axes]:
    """The axes of each output, as declared; where a file does not declare them, as ``onnx`` infers them."""
    outputs = model.graph.output
    if not all(value.type.tensor_type.HasField("shape") for value in outputs) and model.ByteSize() < 2**31:
        outputs = extra("onnx").shape_inference.infer_shapes(model).graph.output
    return {value.name: _axes(value) for value in outputs}


def no_classifier(axes: Mapping[str, Axes]) -> str:
    """In words: none of these outputs is a classifier's."""
    return "no classifier among the outputs " + ", ".join(_told(axes))


# ---- Inputs


def _name_inputs(model: "onnx.ModelProto", path: Path) -> "onnx.ModelProto":
    """``model`` with the inputs ``input_ids``, ``attention_mask`` and, where it has segments, ``token_type_ids``."""
    found = _inputs(model.graph)
    roles = _roles(model.graph, found)
    missing = [role for role in _REQUIRED if role not in roles]
    if missing:
        expected = "the inputs input_ids and attention_mask"
        hint = f"an export with input_names={list(INPUTS)}"
        got = ", ".join(found) or "none"
        raise TeacherError(problem(str(path), expected=expected, got=got, hint=hint))
    if foreign := [name for name in found if name not in roles.values()]:
        expected, hint = "no inputs but " + ", ".join(INPUTS), "an export of a BERT with these inputs alone"
        raise TeacherError(problem(str(path), expected=expected, got=", ".join(foreign), hint=hint))
    renamed = {role: name for role, name in roles.items() if role != name}
    return _with_inputs(model, renamed) if renamed else model


def _inputs(graph: "onnx.GraphProto") -> dict[str, "onnx.ValueInfoProto"]:
    """The inputs by name; old files list their weights among them, which are none."""
    weights = {tensor.name for tensor in graph.initializer}
    return {value.name: value for value in graph.input if value.name not in weights}


def _roles(graph: "onnx.GraphProto", found: Mapping[str, "onnx.ValueInfoProto"]) -> dict[str, str]:
    """Our names of the inputs, each with the graph's own. A name of ours is believed; others go by their use."""
    roles = {name: name for name in INPUTS if name in found}
    rows = _rows(graph)
    used = {name for node in graph.node for name in node.input}
    others = [name for name in found if name not in roles and name in used]
    candidates = {
        "input_ids": [name for name in others if rows.get(name, 0) > _SEGMENTS],
        "attention_mask": [name for name in others if name not in rows and _two_axes(found[name])],
        "token_type_ids": [name for name in others if 0 < rows.get(name, 0) <= _SEGMENTS],
    }
    certain = {role: names[0] for role, names in candidates.items() if len(names) == 1}
    return certain | roles


def _rows(graph: "onnx.GraphProto") -> dict[str, int]:
    """Of each value that looks up rows of a constant table, how many rows that has."""
    view = GraphView(graph)
    found: dict[str, int] = {}
    for name, index in look_ups(graph):
        table = view.constant(name)
        if index and table is not None and len(table.dims) == 2:
            found[row_index(view, index)] = table.dims[0]
    return found


def _two_axes(value: "onnx.ValueInfoProto") -> bool:
    axes = _axes(value)
    return axes is None or len(axes) == 2


def _with_inputs(model: "onnx.ModelProto", renamed: Mapping[str, str]) -> "onnx.ModelProto":
    """A copy with inputs of new names, of which the old ones are mere copies."""
    named = copy.deepcopy(model)
    graph, taken = named.graph, GraphView(model.graph)
    for role, name in renamed.items():
        if role in taken:
            expected, hint = f"the name of the input {name}", f"an export with {role} for an input"
            raise TeacherError(problem(role, expected=expected, got="another value of this name", hint=hint))
        next(value for value in graph.input if value.name == name).name = role
        graph.node.insert(0, extra("onnx").helper.make_node("Identity", [role], [name]))
    return named


# ---- Outputs


def _name_logits(model: "onnx.ModelProto", axes: Mapping[str, Axes], path: Path) -> "onnx.ModelProto":
    """``model``, whose hidden states are exposed, with the output ``logits`` if one of the outputs ``axes`` is that."""
    if LOGITS in axes:
        return model
    found = _classifiers(model.graph, axes)
    if len(found) > 1:
        expected, hint = "one output [batch, classes]", 'an export that calls the classifier\'s output "logits"'
        raise TeacherError(problem(f"logits of {path}", expected=expected, got=", ".join(_told(axes)), hint=hint))
    if not found:
        return model
    named = copy.deepcopy(model)
    [(value, kind, labels)] = found
    info = extra("onnx").helper.make_tensor_value_info(LOGITS, kind, ["batch", labels])
    add_output(named.graph, GraphView(model.graph), value, info, "the output of the classifier")
    return named


def _classifiers(graph: "onnx.GraphProto", axes: Mapping[str, Axes]) -> list[tuple[str, int, int]]:
    """Values that can be logits, with type and number of classes. Probabilities stand for what they are made of."""
    view, outputs = GraphView(graph), {output.name: output for output in graph.output}
    width = (_axes(outputs[hidden_state_names(outputs)[-1]]) or [0])[-1]
    found: dict[str, tuple[str, int, int]] = {}
    for name, own in axes.items():
        kind = outputs[name].type.tensor_type.elem_type
        if kind not in FLOATS or own is None or len(own) != 2 or _NO_CLASSES.search(name):
            continue
        softmax = view.producer(name, *_NORMALISED)
        value = name if softmax is None else softmax.input[0]
        labels = own[-1] if isinstance(own[-1], int) and own[-1] else _columns(view, value)
        if labels and labels != width and view.producer(name, "Sigmoid") is None:
            found[view.source(value)] = value, kind, labels
    return list(found.values())


def _columns(view: GraphView, value: str) -> int:
    """How many columns the product of matrices has that ``value`` is, with or without a bias; 0 if it is none."""
    total = view.producer(value, "Add")
    for term in total.input if total is not None else [value]:
        product = view.producer(term, "Gemm", "MatMul")
        if product is not None and (weight := view.constant(product.input[1])) is not None:
            turned = any(attribute.name == "transB" and attribute.i for attribute in product.attribute)
            return int(weight.dims[0 if turned else -1])
    return 0


def _axes(value: "onnx.ValueInfoProto") -> Axes:
    kind = value.type.tensor_type
    return [axis.dim_value or axis.dim_param for axis in kind.shape.dim] if kind.HasField("shape") else None


def _told(axes: Mapping[str, Axes]) -> list[str]:
    """The outputs with their axes, hidden states in one."""
    states = hidden_state_names(axes)
    told = [f"{states[0]} to {states[-1]}"] if states else []
    for name, own in axes.items():
        if name not in states:
            told.append(name if own is None else f"{name} [{', '.join(str(axis or '?') for axis in own)}]")
    return told
