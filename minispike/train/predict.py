"""A model's answers to a whole data set."""

from collections.abc import Callable
from typing import Any

import numpy as np

from minispike.data.batches import in_order
from minispike.data.tokenizer import Encoded
from minispike.tensor import Tensor, no_grad


def predict_logits(
    logits: Callable[[Any, Any, Any], Tensor], encoded: Encoded, batch_size: int = 64, pad_id: int = 0
) -> "np.ndarray[Any, Any]":
    """Logits ``[N, C]`` of every text, on the host, without a graph.

    Args:
        logits: from ids, mask and segments (or None) of a batch, arrays on the host, to a tensor ``[B, C]``. A model
            takes them to where its weights are.
        encoded: the texts, at least one.
        batch_size: texts at a time.
        pad_id: the padding token.
    """
    rows: list[tuple[Any, Any]] = []
    with no_grad():
        for batch in in_order(encoded, batch_size, pad_id=pad_id):
            rows.append((batch.index, logits(batch.input_ids, batch.mask, batch.segment_ids).numpy()))
    result = np.empty((len(encoded), rows[0][1].shape[1]), dtype=rows[0][1].dtype)
    for index, values in rows:
        result[index] = values
    return result
