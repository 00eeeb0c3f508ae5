"""A model's answers to a whole data set."""

from collections.abc import Callable
from contextlib import closing
from typing import Any

import numpy as np

from minispike.backend import default_module
from minispike.data.batches import Batch, in_order
from minispike.data.tokenizer import Encoded
from minispike.tensor import Tensor, no_grad
from minispike.train.workers import USUAL, Workers, cores


def predict_logits(
    logits: Callable[[Any, Any, Any], Tensor], encoded: Encoded, batch_size: int = 64, pad_id: int = 0
) -> "np.ndarray[Any, Any]":
    """Logits ``[N, C]`` of every text, on the host, without a graph; on a CPU two batches are computed side by side.

    Args:
        logits: from ids, mask and segments (or None) of a batch, arrays on the host, to a tensor ``[B, C]``. A model
            takes them to where its weights are. Called in several threads.
        encoded: the texts, at least one.
        batch_size: texts at a time, default 64.
        pad_id: the padding token, default 0.

    Returns:
        One row a text, in the order of ``encoded``, whatever the order in which they were computed.

    Example:
        >>> import numpy as np
        >>> from minispike import Tensor
        >>> from minispike.data.tokenizer import Encoded
        >>> from minispike.train.predict import predict_logits
        >>> texts = Encoded((np.arange(4), np.arange(2), np.arange(3)), None, truncated=0.0, unknown=0.0)
        >>> count = lambda ids, mask, segments: Tensor(mask.sum(axis=1, keepdims=True).astype(np.float32))
        >>> predict_logits(count, texts, batch_size=2).tolist()  # computed from short to long, handed out as they came
        [[4.0], [2.0], [3.0]]
    """

    def answers(batch: Batch) -> "np.ndarray[Any, Any]":
        with no_grad():  # a switch of the thread that computes
            return logits(batch.input_ids, batch.mask, batch.segment_ids).numpy()

    batches = list(in_order(encoded, batch_size, pad_id=pad_id))
    with closing(Workers(answers, min(USUAL, cores()) if default_module() is np else 1)) as workers:
        rows = list(workers.map(batches))
    result = np.empty((len(encoded), rows[0].shape[1]), dtype=rows[0].dtype)
    for batch, values in zip(batches, rows, strict=True):
        result[batch.index] = values
    return result
