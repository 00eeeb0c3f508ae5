"""The sizes of a BERT, read off its ONNX graph: what its energy depends on.

The feed-forward width is that of the two matrices in each layer that lead away from the hidden size and back. All
matrices together must then be as large as those of a BERT, so a network with other layers is not taken for one.
The number of heads is in the shapes that queries, keys and values are split into.
"""

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from minispike.extras import extra
from teachers.layer_norms import COPIES, GraphView

if TYPE_CHECKING:
    import onnx

_PRODUCTS = ("MatMul", "Gemm", "FusedMatMul", "Attention")


def find_shape(graph: "onnx.GraphProto", hidden_size: int, layers: int) -> dict[str, int] | None:
    """Sizes by the names of `minispike.models.bert.BertConfig`.

    Args:
        graph: of the model.
        hidden_size, layers: of the hidden states.

    Returns:
        ``hidden_size``, ``num_hidden_layers``, ``num_attention_heads`` and ``intermediate_size``, or None if they
        cannot be told or the matrices are not those of a BERT.
    """
    view = GraphView(graph)
    inner, heads = _feed_forward(view, hidden_size, layers), _heads(view, hidden_size)
    if inner is None or heads is None:
        return None
    return {
        "hidden_size": hidden_size,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": inner,
    }


def _feed_forward(view: GraphView, width: int, layers: int) -> int | None:
    """The width inside the feed-forward networks."""
    sides = [matrix for matrix in _matrices(view) if width in matrix]
    others = Counter(columns if rows == width else rows for rows, columns in sides)
    found = [size for size, count in others.items() if size != width and count == 2 * layers]
    if len(found) != 1:
        return None
    (inner,) = found
    # Queries, keys and values may be one matrix. Beside the layers, a pooler and a head for words have a square one.
    sizes = sum(count * size for size, count in others.items() if size in (width, inner, 3 * width))
    return inner if sizes - layers * (4 * width + 2 * inner) in (0, width, 2 * width) else None


def _matrices(view: GraphView) -> Iterator[tuple[int, int]]:
    """Rows and columns of the constant matrix in each product, however it is stored."""
    for node in view.nodes:
        if node.op_type in _PRODUCTS:
            matrix = view.constant(view.source(node.input[1], (*COPIES, "Transpose")))
            if matrix is not None and len(matrix.dims) == 2:
                yield matrix.dims[0], matrix.dims[1]


def _heads(view: GraphView, width: int) -> int | None:
    """The number of attention heads, if all layers agree on it."""
    found: set[int] = set()
    for node in view.nodes:
        if node.op_type in ("Attention", "MultiHeadAttention"):
            found |= {attribute.i for attribute in node.attribute if attribute.name == "num_heads"}
        elif node.op_type == "Reshape":
            count, each = _last_axes(view, node.input[1])
            if each > 0 and width % each == 0 and count in (width // each, -1):  # -1: whatever is left
                found.add(width // each)
    return found.pop() if len(found) == 1 else None


def _last_axes(view: GraphView, shape: str) -> tuple[int, int]:
    """The last two numbers of a shape of four, ``[batch, length, heads, width of a head]``; zeros if not constant."""
    numbers = extra("onnx").numpy_helper
    if (whole := view.constant(shape)) is not None:
        axes = numbers.to_array(whole).ravel().tolist()
    else:
        parts = view.producer(shape, "Concat")
        constants = [view.constant(part) for part in parts.input] if parts is not None else []
        axes = [0 if part is None else int(numbers.to_array(part).ravel()[0]) for part in constants]
    return (axes[-2], axes[-1]) if len(axes) == 4 else (0, 0)
