"""A BERT written as an ONNX model that hands out every hidden state.

Inputs, int64 ``[batch, length]``: ``input_ids``, ``attention_mask`` (1 for a token, 0 for padding) and
``token_type_ids``. Outputs: ``hidden_states.0`` (the embeddings after their layer norm) to
``hidden_states.N`` (the last layer), ``[batch, length, hidden]``, and ``logits`` ``[batch, labels]`` where
there is a classifier.

The model is the one of Devlin et al., "BERT", arXiv 1810.04805, with layer norms after the residual sums and
the exact GELU, as ``BertModel`` of Hugging Face computes it without dropout.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from minispike.errors import TeacherError, problem
from minispike.extras import extra
from minispike.files import atomic_write
from minispike.models.bert_weights import BertConfigLike, BertFields, check_weights, fields_of

if TYPE_CHECKING:
    import onnx

OPSET = 17  # the first with LayerNormalization
CONFIG_KEY = "minispike.config"  # the metadata entry that holds the sizes as JSON
LABELS_KEY = "minispike.labels"  # and that of the names of the labels, a JSON list in the order of the logits

_IR_VERSION = 8  # of opset 17; newer ones would shut out older runtimes
_LARGEST = 2**31 - 1  # bytes in one protobuf message


def export_bert(
    config: BertConfigLike,
    weights: Mapping[str, NDArray[Any]],
    path: str | Path,
    *,
    half: bool = False,
    label_names: Sequence[str] | None = None,
) -> None:
    """Write a BERT as an ONNX file (opset 17), whole or not at all.

    Args:
        config: the sizes.
        weights: named and shaped as `minispike.models.bert_weights.bert_shapes` says. A head for masked language
            modelling is left out, a pooler without a classifier too.
        path: the file to write.
        half: store matrices as float16, half the size; they are computed with in float32 all the same. Default
            false.
        label_names: of the classes, in the order of the logits, for the file's metadata; default none.

    Raises:
        TeacherError: weights that are missing, unexpected, misshaped, too large for float16, or too many for
            one ONNX file (2 GiB); another number of label names than of classes; the library ``onnx`` is not
            installed.

    Example:
        >>> import json, tempfile
        >>> import numpy as np
        >>> import onnx
        >>> from minispike.models.bert import Bert, BertConfig
        >>> from minispike.models.onnx_export import CONFIG_KEY, LABELS_KEY, export_bert
        >>> config = BertConfig(vocab_size=10, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, num_labels=2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     weights = Bert(config, np.random.default_rng(0)).state_dict()
        ...     export_bert(config, weights, f"{folder}/bert.onnx", label_names=("no", "yes"))
        ...     notes = {entry.key: entry.value for entry in onnx.load(f"{folder}/bert.onnx").metadata_props}
        >>> json.loads(notes[LABELS_KEY]), json.loads(notes[CONFIG_KEY])["hidden_size"]
        (['no', 'yes'], 8)
    """
    fields = fields_of(config, weights)
    check_weights("weights", fields, weights)
    names = list(label_names or ())
    if names and len(names) != fields["num_labels"]:
        expected, got = f"{fields['num_labels']}, as many as classes", str(len(names))
        raise TeacherError(problem("label names", expected=expected, got=got, hint="a name for each class"))
    model = build_model(fields, weights, half=half)
    if names:
        model.metadata_props.add(key=LABELS_KEY, value=json.dumps(names))
    size = model.ByteSize()
    if size > _LARGEST:
        raise TeacherError(
            problem(str(path), expected="a model below 2 GiB", got=f"{size / 2**30:.1f} GiB", hint="half=True")
        )
    with atomic_write(path, "wb") as file:
        file.write(model.SerializeToString())


def build_model(fields: BertFields, weights: Mapping[str, NDArray[Any]], *, half: bool = False) -> "onnx.ModelProto":
    """The ONNX model that `export_bert` writes, of weights that have been checked.

    Args:
        fields: the sizes.
        weights: by name, as of `export_bert`.
        half: store matrices as float16; default false.

    Raises:
        TeacherError: the library ``onnx`` is not installed, or a weight is too large for float16.

    Example:
        >>> import numpy as np
        >>> from minispike.models.bert import Bert, BertConfig
        >>> from minispike.models.bert_weights import fields_of
        >>> from minispike.models.onnx_export import build_model
        >>> config = BertConfig(vocab_size=10, hidden_size=8, num_hidden_layers=1, num_attention_heads=2)
        >>> weights = Bert(config, np.random.default_rng(0)).state_dict()
        >>> model = build_model(fields_of(config, weights), weights)
        >>> [output.name for output in model.graph.output]
        ['hidden_states.0', 'hidden_states.1']
    """
    graph = _Graph(weights, fields["layer_norm_eps"], half)
    hidden = _embeddings(graph)
    mask = _additive_mask(graph)
    for i in range(fields["num_hidden_layers"]):
        hidden = _layer(graph, f"encoder.layer.{i}", hidden, mask, fields, f"hidden_states.{i + 1}")

    helper, numbers = extra("onnx").helper, extra("onnx").TensorProto
    inputs = [
        helper.make_tensor_value_info(name, numbers.INT64, ["batch", "length"])
        for name in ("input_ids", "attention_mask", "token_type_ids")
    ]
    outputs = [
        helper.make_tensor_value_info(f"hidden_states.{i}", numbers.FLOAT, ["batch", "length", fields["hidden_size"]])
        for i in range(fields["num_hidden_layers"] + 1)
    ]
    if fields["num_labels"]:
        _classifier(graph, hidden)
        outputs.append(helper.make_tensor_value_info("logits", numbers.FLOAT, ["batch", fields["num_labels"]]))
    model: onnx.ModelProto = helper.make_model(
        helper.make_graph(graph.nodes, "bert", inputs, outputs, graph.constants),
        producer_name="minispike",
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=_IR_VERSION,
    )
    helper.set_model_props(model, {CONFIG_KEY: json.dumps(fields)})
    return model


class _Graph:
    """Nodes and constants as they are added; a value is the name of the node output that holds it."""

    def __init__(self, weights: Mapping[str, NDArray[Any]], eps: float, half: bool) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._onnx = extra("onnx")
        self._weights = weights
        self._eps = eps
        self._half = half
        self._known: set[str] = set()

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Add a node; its name is that of its output."""
        self.nodes.append(self._onnx.helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name: str, value: Any, dtype: Any = np.float32) -> str:
        """A constant, added once a name."""
        if name not in self._known:
            self._known.add(name)
            array = np.ascontiguousarray(value, dtype=dtype) if np.ndim(value) else np.array(value, dtype=dtype)
            self.constants.append(self._onnx.numpy_helper.from_array(array, name))
        return name

    def weight(self, name: str, *, transposed: bool = False) -> str:
        """A weight as a float32 value, through a cast if matrices are stored in half precision."""
        value = self._weights[name]
        label = f"{name}.T" if transposed else name
        value = value.T if transposed else value
        if not self._half or value.ndim < 2:
            return self.constant(label, value)
        if np.abs(value).max() > np.finfo(np.float16).max:
            got = f"{name} with {np.abs(value).max():.3g}"
            raise TeacherError(problem("half=True", expected="weights below 65504", got=got, hint="half=False"))
        stored = self.constant(label, value, np.float16)
        return self.node("Cast", [stored], f"{label}.float32", to=self._onnx.TensorProto.FLOAT)

    def linear(self, x: str, name: str, output: str | None = None) -> str:
        """``x W^T + b``; the matrix is stored transposed, ``[in, out]``, as MatMul wants it."""
        product = self.node("MatMul", [x, self.weight(f"{name}.weight", transposed=True)], f"{name}.product")
        return self.node("Add", [product, self.weight(f"{name}.bias")], output or f"{name}.out")

    def layer_norm(self, x: str, name: str, output: str) -> str:
        """Layer norm over the last axis."""
        inputs = [x, self.weight(f"{name}.weight"), self.weight(f"{name}.bias")]
        return self.node("LayerNormalization", inputs, output, axis=-1, epsilon=self._eps)


def _embeddings(graph: _Graph) -> str:
    """LN(word + segment + position) -> ``hidden_states.0`` [B, L, D]."""
    at = "embeddings"
    words = graph.node("Gather", [graph.weight(f"{at}.word_embeddings.weight"), "input_ids"], f"{at}.words")
    table = graph.weight(f"{at}.token_type_embeddings.weight")
    segments = graph.node("Gather", [table, "token_type_ids"], f"{at}.segments")
    length = graph.node("Shape", ["input_ids"], f"{at}.length", start=1, end=2)  # [1]
    start = graph.constant("zero", [0], np.int64)
    table = graph.weight(f"{at}.position_embeddings.weight")
    positions = graph.node("Slice", [table, start, length, start], f"{at}.positions")  # [L, D]
    total = graph.node("Add", [words, segments], f"{at}.words_segments")
    total = graph.node("Add", [total, positions], f"{at}.total")
    return graph.layer_norm(total, f"{at}.LayerNorm", "hidden_states.0")


def _additive_mask(graph: _Graph) -> str:
    """0 for a token and the lowest float32 for padding, [B, 1, 1, L].

    Finite, so that a sentence of nothing but padding gives an even softmax and no NaN; adding a score to it
    rounds back to it and cannot overflow.
    """
    mask = graph.node("Cast", ["attention_mask"], "mask.float32", to=1)
    padding = graph.node("Sub", [graph.constant("one", 1.0), mask], "mask.padding")
    lowest = graph.constant("mask.lowest", np.finfo(np.float32).min)
    penalty = graph.node("Mul", [padding, lowest], "mask.penalty")
    return graph.node("Unsqueeze", [penalty, graph.constant("mask.axes", [1, 2], np.int64)], "mask.additive")


def _layer(graph: _Graph, at: str, x: str, mask: str, fields: BertFields, output: str) -> str:
    """One encoder layer: attention, residual, LN, feed-forward, residual, LN."""
    context = _attention(graph, f"{at}.attention", x, mask, fields)
    summed = graph.node("Add", [graph.linear(context, f"{at}.attention.output.dense"), x], f"{at}.attention.residual")
    attended = graph.layer_norm(summed, f"{at}.attention.output.LayerNorm", f"{at}.attention.output")
    inner = _gelu(graph, graph.linear(attended, f"{at}.intermediate.dense"), f"{at}.intermediate")
    summed = graph.node("Add", [graph.linear(inner, f"{at}.output.dense"), attended], f"{at}.residual")
    return graph.layer_norm(summed, f"{at}.output.LayerNorm", output)


def _attention(graph: _Graph, at: str, x: str, mask: str, fields: BertFields) -> str:
    """softmax(q k^T / sqrt(d) + mask) v over the heads, [B, L, D]."""
    heads = fields["num_attention_heads"]
    width = fields["hidden_size"] // heads  # d
    split = graph.constant("heads.split", [0, 0, heads, width], np.int64)
    joined = graph.constant("heads.joined", [0, 0, heads * width], np.int64)

    def per_head(name: str, order: list[int]) -> str:
        flat = graph.linear(x, f"{at}.self.{name}")  # [B, L, D]
        parts = graph.node("Reshape", [flat, split], f"{at}.{name}.split")  # [B, L, H, d]
        return graph.node("Transpose", [parts], f"{at}.{name}.heads", perm=order)

    query = per_head("query", [0, 2, 1, 3])  # [B, H, L, d]
    key = per_head("key", [0, 2, 3, 1])  # [B, H, d, L]
    value = per_head("value", [0, 2, 1, 3])  # [B, H, L, d]
    scores = graph.node("MatMul", [query, key], f"{at}.scores")  # [B, H, L, L]
    scaled = graph.node("Div", [scores, graph.constant("heads.scale", math.sqrt(width))], f"{at}.scaled")
    masked = graph.node("Add", [scaled, mask], f"{at}.masked")
    shares = graph.node("Softmax", [masked], f"{at}.shares", axis=-1)
    context = graph.node("MatMul", [shares, value], f"{at}.context")  # [B, H, L, d]
    context = graph.node("Transpose", [context], f"{at}.context.tokens", perm=[0, 2, 1, 3])  # [B, L, H, d]
    return graph.node("Reshape", [context, joined], f"{at}.context.joined")  # [B, L, D]


def _gelu(graph: _Graph, x: str, at: str) -> str:
    """``x (1 + erf(x / sqrt 2)) / 2``, in the order of nodes that ONNX Runtime knows to fuse."""
    scaled = graph.node("Div", [x, graph.constant("sqrt2", math.sqrt(2.0))], f"{at}.scaled")
    error = graph.node("Erf", [scaled], f"{at}.erf")
    shifted = graph.node("Add", [error, graph.constant("one", 1.0)], f"{at}.shifted")
    product = graph.node("Mul", [x, shifted], f"{at}.product")
    return graph.node("Mul", [product, graph.constant("half", 0.5)], f"{at}.gelu")


def _classifier(graph: _Graph, hidden: str) -> str:
    """classifier(tanh(pooler(h of the first token))) -> ``logits`` [B, C]."""
    first = graph.node("Gather", [hidden, graph.constant("first", 0, np.int64)], "pooler.first", axis=1)  # [B, D]
    pooled = graph.node("Tanh", [graph.linear(first, "pooler.dense")], "pooler.output")
    return graph.linear(pooled, "classifier", "logits")
