"""A BERT in plain NumPy and float64, written apart from the exporters, for tests to hold them against."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_erf = np.vectorize(math.erf, otypes=[np.float64])


@dataclass(frozen=True)
class Sizes:
    """A small BERT by the names of ``BertConfig``."""

    vocab_size: int = 40
    hidden_size: int = 16
    num_hidden_layers: int = 2
    num_attention_heads: int = 2
    intermediate_size: int = 32
    max_position_embeddings: int = 24
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12
    dropout: float = 0.1
    num_labels: int = 0


def random_weights(sizes: Sizes, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Weights that float16 holds exactly, so large that attention is uneven and every bias matters."""
    rng = np.random.default_rng(seed)
    width, inner = sizes.hidden_size, sizes.intermediate_size
    weights: dict[str, Array] = {}

    def linear(name: str, out_width: int, in_width: int) -> None:
        weights[f"{name}.weight"] = rng.normal(0, 1.5 / math.sqrt(in_width), (out_width, in_width))
        weights[f"{name}.bias"] = rng.normal(0, 0.3, out_width)

    def norm(name: str) -> None:
        weights[f"{name}.weight"] = rng.uniform(0.5, 1.5, width)
        weights[f"{name}.bias"] = rng.normal(0, 0.3, width)

    for table, rows in (
        ("word_embeddings", sizes.vocab_size),
        ("position_embeddings", sizes.max_position_embeddings),
        ("token_type_embeddings", sizes.type_vocab_size),
    ):
        weights[f"embeddings.{table}.weight"] = rng.normal(0, 1, (rows, width))
    norm("embeddings.LayerNorm")
    for i in range(sizes.num_hidden_layers):
        layer = f"encoder.layer.{i}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            linear(f"{layer}.attention.{part}", width, width)
        norm(f"{layer}.attention.output.LayerNorm")
        linear(f"{layer}.intermediate.dense", inner, width)
        linear(f"{layer}.output.dense", width, inner)
        norm(f"{layer}.output.LayerNorm")
    if sizes.num_labels:
        linear("pooler.dense", width, width)
        linear("classifier", sizes.num_labels, width)
    return {name: value.astype(np.float16).astype(np.float32) for name, value in weights.items()}


def forward(
    sizes: Sizes, weights: dict[str, NDArray[np.float32]], input_ids: Array, mask: Array, segment_ids: Array
) -> tuple[list[Array], Array | None]:
    """Hidden states (embeddings first) [B, L, D] and logits [B, C], one sentence at a time and never padded.

    Rows of padding in the result are NaN: nobody may depend on them.
    """
    w = {name: value.astype(np.float64) for name, value in weights.items()}
    states = [np.full((*input_ids.shape, sizes.hidden_size), np.nan) for _ in range(sizes.num_hidden_layers + 1)]
    for b, length in enumerate(mask.sum(axis=1)):
        for state, h in zip(states, _sentence(sizes, w, input_ids[b, :length], segment_ids[b, :length]), strict=True):
            state[b, :length] = h
    if not sizes.num_labels:
        return states, None
    pooled = np.tanh(states[-1][:, 0] @ w["pooler.dense.weight"].T + w["pooler.dense.bias"])
    return states, pooled @ w["classifier.weight"].T + w["classifier.bias"]


def batch(sizes: Sizes, lengths: tuple[int, ...], seed: int = 0) -> tuple[Array, Array, Array]:
    """Random ids, mask and segments [B, L], each sentence padded with id 0 to the longest."""
    rng = np.random.default_rng(seed)
    mask = np.arange(max(lengths)) < np.array(lengths)[:, None]
    ids = np.where(mask, rng.integers(1, sizes.vocab_size, mask.shape), 0)
    segments = np.where(mask, rng.integers(0, sizes.type_vocab_size, mask.shape), 0)
    return ids, mask, segments


def _sentence(sizes: Sizes, w: dict[str, Array], ids: Array, segments: Array) -> list[Array]:
    def linear(x: Array, name: str) -> Array:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(x: Array, name: str) -> Array:
        centred = x - x.mean(axis=-1, keepdims=True)
        scale = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + sizes.layer_norm_eps)
        normal: Array = centred / scale
        return normal * w[f"{name}.weight"] + w[f"{name}.bias"]

    h = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.token_type_embeddings.weight"][segments]
    h = norm(h + w["embeddings.position_embeddings.weight"][: len(ids)], "embeddings.LayerNorm")
    states = [h]
    width = sizes.hidden_size // sizes.num_attention_heads
    for i in range(sizes.num_hidden_layers):
        layer = f"encoder.layer.{i}"
        q, k, v = (linear(h, f"{layer}.attention.self.{part}") for part in ("query", "key", "value"))
        heads = []
        for at in range(0, sizes.hidden_size, width):
            scores = q[:, at : at + width] @ k[:, at : at + width].T / math.sqrt(width)
            shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
            heads.append(shares / shares.sum(axis=-1, keepdims=True) @ v[:, at : at + width])
        context = linear(np.concatenate(heads, axis=-1), f"{layer}.attention.output.dense")
        h = norm(h + context, f"{layer}.attention.output.LayerNorm")
        inner = linear(h, f"{layer}.intermediate.dense")
        inner = inner * (1 + _erf(inner / math.sqrt(2))) / 2
        h = norm(h + linear(inner, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
        states.append(h)
    return states
