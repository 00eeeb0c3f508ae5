"""The layer norms of an ONNX graph, and where a graph's values come from.

A layer norm may be one node (LayerNormalization, or what ONNX Runtime fuses it into) or the arithmetic that
older exporters write: ``(x - mean) / sqrt(var + eps) * weight + bias``.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

# What hands on its input: the same numbers under another name.
COPIES = ("Identity", "Cast", "Dropout")

FLOATS = (1, 10, 11, 16)  # FLOAT, FLOAT16, DOUBLE, BFLOAT16 of ``onnx.TensorProto``

_PART = re.compile(r"([\w.]+)\.LayerNorm\.(?:weight|bias|gamma|beta)$")

# Of each fused layer norm: the inputs that are summed and normalised, then its weight and its bias.
_FUSED = {
    "LayerNormalization": ((0,), 1, 2),
    "SkipLayerNormalization": ((0, 1), 2, 3),
    "EmbedLayerNormalization": ((), 5, 6),
}


@dataclass(frozen=True)
class LayerNorm:
    """A layer norm in a graph, by the names of its values."""

    output: str
    summands: frozenset[str]  # what is added up to be normalised
    parts: frozenset[str]  # of the model, that its weight and bias belong to by their names
    width: int
    kind: int  # element type, as in ``onnx.TensorProto``


class GraphView:
    """Where each value of a graph comes from; ``nodes`` are the graph's, each after those it reads."""

    def __init__(self, graph: "onnx.GraphProto") -> None:
        self.nodes = graph.node
        self._producers = {name: node for node in graph.node for name in node.output}
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant":
                for attribute in node.attribute:
                    if attribute.name == "value":
                        self._constants[node.output[0]] = attribute.t

    def __contains__(self, value: str) -> bool:
        """Whether a node puts out ``value``."""
        return value in self._producers

    def names(self, value: str, through: Sequence[str] = COPIES) -> list[str]:
        """``value`` and what it is a mere copy of, nearest first."""
        names = [value]
        while (node := self._producers.get(names[-1])) is not None and node.op_type in through:
            names.append(node.input[0])
        return names

    def source(self, value: str, through: Sequence[str] = COPIES) -> str:
        """The value that ``value`` is a copy of in the end."""
        return self.names(value, through)[-1]

    def producer(self, value: str, *kinds: str) -> "onnx.NodeProto | None":
        """The node that makes ``value``, copies aside, if it is one of ``kinds``."""
        node = self._producers.get(self.source(value))
        return node if node is not None and node.op_type in kinds else None

    def constant(self, value: str) -> "onnx.TensorProto | None":
        """The constant behind ``value``, if it is one."""
        return self._constants.get(self.source(value))

    def part(self, value: str) -> str:
        """The part of the model that a layer norm's weight belongs to by its name, ``""`` if it does not say.

        Exporters merge equal weights, so what a weight is a copy of may be another part's: the nearest name
        counts.
        """
        found = next(filter(None, map(_PART.search, self.names(value))), None)
        return found[1] if found else ""

    def kind(self, value: str) -> int:
        """The element type of a constant or of what it is cast to, as in ``onnx.TensorProto``."""
        for name in self.names(value):
            node = self._producers.get(name)
            if node is not None and node.op_type == "Cast":
                return int(next(attribute.i for attribute in node.attribute if attribute.name == "to"))
        tensor = self.constant(value)
        return tensor.data_type if tensor is not None else 0

    def vector(self, value: str) -> int:
        """The length of the constant vector ``value``, 0 if it is none."""
        tensor = self.constant(value)
        return tensor.dims[0] if tensor is not None and len(tensor.dims) == 1 and is_float(tensor) else 0


def layer_norms(view: GraphView) -> Iterator[LayerNorm]:
    """Every layer norm with weight and bias, in the order of the graph's nodes."""
    ends: set[str] = set()
    for node in view.nodes:
        found = _fused(node) or _decomposed(view, node)
        if found is None:
            continue
        inputs, weight, bias = found
        width = view.vector(weight)
        if width < 2 or view.vector(bias) != width:
            continue
        ends.add(node.output[0])
        summands = frozenset(term for value in inputs for term in _terms(view, value, ends))
        parts = frozenset((view.part(weight), view.part(bias)))
        yield LayerNorm(node.output[0], summands, parts, width, view.kind(bias))


def _fused(node: "onnx.NodeProto") -> tuple[list[str], str, str] | None:
    """Inputs, weight and bias of a node that is a layer norm."""
    if node.op_type not in _FUSED:
        return None
    inputs, weight, bias = _FUSED[node.op_type]
    if len(node.input) <= bias:
        return None
    return [node.input[i] for i in inputs], node.input[weight], node.input[bias]


def _decomposed(view: GraphView, node: "onnx.NodeProto") -> tuple[list[str], str, str] | None:
    """Input, weight and bias of a layer norm in arithmetic that ends in ``node``, the sum with the bias."""
    if node.op_type != "Add":
        return None
    for scaled, bias in permutations(node.input):
        product = view.producer(scaled, "Mul")
        if product is None or not view.vector(bias):
            continue
        for normal, weight in permutations(product.input):
            quotient = view.producer(normal, "Div")
            if quotient is None or not view.vector(weight):
                continue
            centred = view.producer(quotient.input[0], "Sub")
            if centred is not None and view.producer(quotient.input[1], "Sqrt") is not None:
                return [centred.input[0]], weight, bias
    return None


def _terms(view: GraphView, value: str, ends: set[str], depth: int = 3) -> Iterator[str]:
    """What ``value`` is a sum of: layer norms' outputs and whatever else, through a few nested additions."""
    value = view.source(value)
    node = view.producer(value, "Add")
    if node is None or value in ends or depth == 0:
        yield value
    else:
        for term in node.input:
            yield from _terms(view, term, ends, depth - 1)


def is_float(tensor: "onnx.TensorProto") -> bool:
    """Whether a constant holds floating point numbers."""
    return tensor.data_type in FLOATS
