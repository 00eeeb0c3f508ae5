"""Hidden states and embedding tables of a BERT that somebody else exported to ONNX.

Such a model hands out its last layer or its logits only. What it computes on the way is all there, and this
module finds it: the output of each layer is that of the layer's last layer norm. Layer norms are known by

1. the names of their weights, ``...encoder.layer.i.output.LayerNorm.weight``, which exporters keep; or, where
   these are gone,
2. the structure: in a BERT every layer norm reads a residual sum that holds the output of the layer norm
   before it, so all of them form a chain of ``1 + 2N``: embeddings, then attention and feed-forward of each
   layer.
"""

import copy
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from minispike.errors import TeacherError, problem
from minispike.extras import extra
from teachers.layer_norms import COPIES, GraphView, LayerNorm, is_float, layer_norms

if TYPE_CHECKING:
    import onnx

_STATE = re.compile(r"hidden_states\.(\d+)")
_LAYER = re.compile(r"(?:^|\.)encoder\.layer\.(\d+)\.output$")
_EMBEDDINGS = re.compile(r"(?:^|\.)embeddings$")

_SAME_INDEX = (*COPIES, "Reshape", "Squeeze", "Unsqueeze")


def expose_hidden_states(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """``model`` with the outputs ``hidden_states.0`` (embeddings) to ``hidden_states.N`` (last layer).

    Returns:
        The model itself if it has these outputs already, otherwise a copy with them.

    Raises:
        TeacherError: no hidden states can be told apart with certainty.
    """
    if hidden_state_names(output.name for output in model.graph.output):
        return model
    exposed, view = copy.deepcopy(model), GraphView(model.graph)
    for i, norm in enumerate(find_hidden_states(model.graph)):
        axes = ["batch", "length", norm.width]
        info = extra("onnx").helper.make_tensor_value_info(f"hidden_states.{i}", norm.kind, axes)
        add_output(exposed.graph, view, norm.output, info, "a layer's output")
    return exposed


def add_output(graph: "onnx.GraphProto", view: GraphView, value: str, info: "onnx.ValueInfoProto", what: str) -> None:
    """Make a value an output of a graph.

    Args:
        graph: to be changed.
        view: of the graph before any change.
        value: what is put out.
        info: name, type and shape of the output.
        what: the value is, for the error.

    Raises:
        TeacherError: the graph has another value of that name.
    """
    name = info.name
    if view.source(name) != view.source(value):
        if name in view:
            hint = "a fresh export of the model"
            raise TeacherError(problem(name, expected=what, got="another value", hint=hint))
        graph.node.append(extra("onnx").helper.make_node("Identity", [value], [name]))
    graph.output.append(info)


def hidden_state_names(outputs: Iterable[str]) -> tuple[str, ...]:
    """``hidden_states.0`` to ``hidden_states.N`` if ``outputs`` has them without a gap, otherwise nothing."""
    found = sorted(int(match[1]) for match in map(_STATE.fullmatch, outputs) if match)
    if len(found) < 2 or found != list(range(len(found))):
        return ()
    return tuple(f"hidden_states.{i}" for i in found)


def find_hidden_states(graph: "onnx.GraphProto") -> tuple[LayerNorm, ...]:
    """The layer norms that put out the embeddings and each layer, in this order.

    Raises:
        TeacherError: neither names nor structure are those of a BERT.
    """
    norms = list(layer_norms(GraphView(graph)))
    found = _by_name(norms) or _by_structure(norms)
    if not found:
        longest = max((len(chain) for chain in _chains(norms)), default=0)
        raise TeacherError(
            problem(
                "hidden states",
                expected="1 + 2N layer norms linked by the residual sums of a BERT's N layers",
                got=f"{len(norms)} layer norms, {longest} of them linked",
                hint="an export whose outputs hidden_states.0 to hidden_states.N are all of them",
            )
        )
    return found


def find_embeddings(graph: "onnx.GraphProto") -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """The word embeddings ``[V, D]`` and the position embeddings ``[P, D]`` (None if not certain), in
    float32.

    The table that ``input_ids`` look up is that of the words. The positions' is known by its name, or is the
    only table left that neither ``input_ids`` nor ``token_type_ids`` look up.

    Raises:
        TeacherError: no table of floating point numbers is looked up by ``input_ids``.
    """
    view = GraphView(graph)
    words: onnx.TensorProto | None = None
    named: list[onnx.TensorProto] = []
    others: list[onnx.TensorProto] = []
    for table_name, index in look_ups(graph):
        table = view.constant(table_name)
        if table is None or len(table.dims) != 2 or not is_float(table):
            continue
        source = row_index(view, index)
        if source == "input_ids":
            words = table
        elif any("position_embeddings" in name for name in view.names(table_name)):
            named.append(table)
        elif source != "token_type_ids":
            others.append(table)
    if words is None:
        raise TeacherError(
            problem(
                "word embeddings",
                expected="a table of floating point numbers that input_ids look up",
                got="none",
                hint="an export that is not quantised and starts from input_ids",
            )
        )
    candidates = [table for table in named or others if table.dims[1] == words.dims[1]]
    positions = _array(candidates[0]) if len(candidates) == 1 else None
    return _array(words), positions


def _by_name(norms: Sequence[LayerNorm]) -> tuple[LayerNorm, ...]:
    """The hidden states if the weights' names number them without a gap or a doubt, otherwise nothing."""
    found: dict[int, LayerNorm] = {}
    for norm in norms:
        if len(norm.parts) > 1:
            return ()
        (part,) = norm.parts
        if _EMBEDDINGS.search(part):
            place = 0
        elif match := _LAYER.search(part):
            place = int(match[1]) + 1
        else:
            continue
        if place in found:
            return ()
        found[place] = norm
    if len(found) < 2 or sorted(found) != list(range(len(found))):
        return ()
    return _one_width([found[i] for i in range(len(found))])


def _by_structure(norms: Sequence[LayerNorm]) -> tuple[LayerNorm, ...]:
    """Every second layer norm of the only chain that can be a BERT's, otherwise nothing."""
    chains = [chain for chain in _chains(norms) if len(chain) > 1]
    if len(chains) != 1 or len(chains[0]) % 2 == 0:
        return ()
    return _one_width(chains[0])[::2]


def _chains(norms: Sequence[LayerNorm]) -> list[list[LayerNorm]]:
    """Layer norms grouped into chains in which each adds to the output of the one before it."""
    chains: list[list[LayerNorm]] = []
    for norm in norms:
        for chain in chains:
            if chain[-1].output in norm.summands:
                chain.append(norm)
                break
        else:
            chains.append([norm])
    return chains


def _one_width(norms: Sequence[LayerNorm]) -> tuple[LayerNorm, ...]:
    return tuple(norms) if len({norm.width for norm in norms}) == 1 else ()


def look_ups(graph: "onnx.GraphProto") -> Iterator[tuple[str, str]]:
    """Table and index of each look-up of rows; of a slice, which needs no index, the table alone."""
    for node in graph.node:
        if node.op_type == "Gather":
            yield node.input[0], node.input[1]
        elif node.op_type == "Slice":
            yield node.input[0], ""
        elif node.op_type == "EmbedLayerNormalization":
            yield node.input[2], node.input[0]
            yield node.input[3], ""
            yield node.input[4], node.input[1] or "token_type_ids"


def row_index(view: GraphView, value: str) -> str:
    """The value that an index of rows comes from, whatever its shape and type on the way."""
    return view.source(value, _SAME_INDEX)


def _array(tensor: "onnx.TensorProto") -> NDArray[np.float32]:
    return np.array(extra("onnx").numpy_helper.to_array(tensor), dtype=np.float32)
