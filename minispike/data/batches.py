"""Batches of texts of similar length, in an order that is a function of a seed and a step.

A batch is as long as its longest text, so texts are brought together by length: the less padding, the less
is computed for nothing. No generator is stored anywhere. Batch 1000 is the same batch whether the 999 before
it were drawn in this process, in an earlier one, or never, so a resumed run sees the data it would have seen.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minispike.data.tokenizer import Encoded
from minispike.errors import ConfigError, DataError, ShapeError, problem

__all__ = ["Batch", "BatchStream", "collate", "epoch_order", "in_order", "near_equal"]

_WINDOW = 50  # batches' worth of shuffled texts that are sorted together: more would pad less and mix less


@dataclass(frozen=True, eq=False)
class Batch:
    """B texts, padded to the L tokens of the longest of them.

    Attributes:
        input_ids: [B, L] int64 token numbers.
        mask: [B, L] bool, true for tokens and false for padding.
        segment_ids: [B, L] int64, 1 in the second text of a pair and 0 elsewhere; ``None`` for single texts.
        labels: [B] int64, or ``None`` for unlabelled texts.
        index: [B] int64, the positions of the texts in the data set.

    Example:
        >>> import numpy as np
        >>> from minispike.data.batches import collate
        >>> from minispike.data.tokenizer import Encoded
        >>> texts = Encoded((np.array([2, 7, 3]), np.array([2, 7, 8, 9, 3])), None, truncated=0.0, unknown=0.0)
        >>> batch = collate(texts, [0, 1])
        >>> batch.mask.sum(axis=1).tolist()  # tokens of each text
        [3, 5]
        >>> batch.part(slice(0, 1)).input_ids.tolist()  # the first text alone stays as long as the batch
        [[2, 7, 3, 0, 0]]
    """

    input_ids: NDArray[np.int64]
    mask: NDArray[np.bool_]
    segment_ids: NDArray[np.int64] | None
    labels: NDArray[np.int64] | None
    index: NDArray[np.int64]

    def __len__(self) -> int:
        """The number of texts B."""
        return len(self.index)

    def part(self, rows: slice) -> "Batch":
        """Some of the texts, padded to L as before: computed part by part, a batch gives what it gives as a whole.

        Args:
            rows: which of the B texts.
        """
        segment_ids = None if self.segment_ids is None else self.segment_ids[rows]
        labels = None if self.labels is None else self.labels[rows]
        return Batch(self.input_ids[rows], self.mask[rows], segment_ids, labels, self.index[rows])


def near_equal(count: int, parts: int) -> list[slice]:
    """Cut ``count`` rows into ``parts`` consecutive pieces, or one for each row if there are fewer rows.

    No piece has more than one row more than another.

    Args:
        count: rows, >= 0; of none, there is one empty piece.
        parts: pieces, >= 1.

    Example:
        >>> from minispike.data.batches import near_equal
        >>> near_equal(7, 3)
        [slice(0, 2, None), slice(2, 4, None), slice(4, 7, None)]
    """
    parts = min(parts, max(count, 1))
    bounds = [count * i // parts for i in range(parts + 1)]
    return [slice(start, stop) for start, stop in pairwise(bounds)]


def collate(encoded: Encoded, index: ArrayLike, labels: NDArray[np.int64] | None = None, pad_id: int = 0) -> Batch:
    """Put the texts at the positions ``index`` into one batch.

    Args:
        encoded: all N texts.
        index: [B] integers, at least one of them.
        labels: [N], those of all texts; default none.
        pad_id: the token that fills ``input_ids`` behind the end of a text; default 0.

    Raises:
        DataError: ``index`` is empty.
        ShapeError: ``labels`` are not as many as the texts.

    Example:
        >>> import numpy as np
        >>> from minispike.data.batches import collate
        >>> from minispike.data.tokenizer import Encoded
        >>> texts = Encoded((np.array([2, 7, 3]), np.array([2, 7, 8, 9, 3])), None, truncated=0.0, unknown=0.0)
        >>> batch = collate(texts, [1, 0], labels=np.array([0, 1]))
        >>> batch.input_ids.tolist()
        [[2, 7, 8, 9, 3], [2, 7, 3, 0, 0]]
        >>> batch.labels.tolist()
        [1, 0]
    """
    _check(encoded, labels)
    chosen = np.asarray(index, dtype=np.int64)
    if not chosen.size:
        raise DataError(problem("index", expected="at least one position", got="none", hint="a data set with texts"))
    rows = [encoded.ids[i] for i in chosen]
    lengths = np.array([len(row) for row in rows])
    mask = np.arange(lengths.max()) < lengths[:, None]  # [B, L]
    input_ids = np.full(mask.shape, pad_id, dtype=np.int64)
    input_ids[mask] = np.concatenate(rows)
    segment_ids = None
    if encoded.segments is not None:
        segment_ids = np.zeros(mask.shape, dtype=np.int64)
        segment_ids[mask] = np.concatenate([encoded.segments[i] for i in chosen])
    return Batch(input_ids, mask, segment_ids, None if labels is None else labels[chosen], chosen)


def epoch_order(lengths: NDArray[np.int64], batch_size: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """Divide N texts at random into batches of similar length, all of them full.

    The texts are shuffled, sorted by length within windows of 50 batches, cut into batches, and the batches
    are shuffled. No text is in two batches. If ``batch_size`` does not divide N, the texts that would not fill
    another batch are left out: a step counts as much as any other, so its few texts would count for too much.
    Which ones they are is drawn anew for each epoch. Fewer texts than ``batch_size`` are one batch.

    Args:
        lengths: [N] tokens of each text.
        batch_size: texts in a batch B.
        rng: where the randomness comes from.

    Returns:
        The positions of the texts, [B] int64 for each batch.

    Raises:
        ConfigError: ``batch_size`` is less than 1.

    Example:
        >>> import numpy as np
        >>> from minispike.data.batches import epoch_order
        >>> lengths = np.array([9, 3, 8, 3, 7, 4, 9])
        >>> order = epoch_order(lengths, batch_size=2, rng=np.random.default_rng(0))
        >>> [len(batch) for batch in order]  # of the seven texts, one waits for another epoch
        [2, 2, 2]
        >>> sorted(abs(int(lengths[a] - lengths[b])) for a, b in order)  # of the texts in a batch
        [0, 1, 1]
    """
    _check_size(batch_size)
    order = rng.permutation(len(lengths))  # cut before the lengths are looked at, lest the long ones be left out
    order = order[: max(len(order) // batch_size, 1) * batch_size]
    batches: list[NDArray[np.int64]] = []
    for start in range(0, len(order), _WINDOW * batch_size):
        window = order[start : start + _WINDOW * batch_size]
        batches.extend(_cut(window[np.argsort(lengths[window], kind="stable")], batch_size))
    return [batches[i] for i in rng.permutation(len(batches))]


class BatchStream:
    """An endless stream of training batches that can be entered at any step.

    Epoch after epoch, every text at most once in each, in the order of `epoch_order` with the generator
    ``np.random.default_rng([*seed_key, epoch])``. ``batch(step)`` depends on nothing else.

    Args:
        encoded: the N texts, at least one.
        labels: [N] int64, or ``None``.
        batch_size: texts in a batch B; all N of them, if there are fewer.
        seed_key: integers >= 0 that name the stream, such as ``(seed, phase)``.
        pad_id: the token that pads; default 0.

    Raises:
        DataError: there are no texts.
        ShapeError: ``labels`` are not as many as the texts.
        ConfigError: ``batch_size`` is less than 1, or ``seed_key`` holds a negative number.

    Example:
        >>> import numpy as np
        >>> from minispike.data.batches import BatchStream
        >>> from minispike.data.tokenizer import Encoded
        >>> texts = Encoded(tuple(np.array([2, i, 3]) for i in range(100)), None, truncated=0.0, unknown=0.0)
        >>> straight, resumed = (BatchStream(texts, None, 8, seed_key=(0, 1)) for _ in range(2))
        >>> batches = [straight.batch(step).index.tolist() for step in range(31)]
        >>> resumed.batch(30).index.tolist() == batches[30]  # without the thirty before it
        True
    """

    def __init__(
        self,
        encoded: Encoded,
        labels: NDArray[np.int64] | None,
        batch_size: int,
        seed_key: Sequence[int],
        pad_id: int = 0,
    ) -> None:
        _check(encoded, labels)
        _check_size(batch_size)
        if min(seed_key, default=0) < 0:
            raise ConfigError(problem("seed", expected="integers >= 0", got=str(list(seed_key)), hint="seed=0"))
        if not len(encoded):
            raise DataError(problem("encoded", expected="at least one text", got="none", hint="a file with texts"))
        self._encoded, self._labels, self._pad_id = encoded, labels, pad_id
        self._batch_size, self._seed_key = batch_size, tuple(seed_key)
        self._lengths = encoded.lengths
        self._cached: tuple[int, list[NDArray[np.int64]]] | None = None  # an epoch and its order
        self._made: dict[int, Batch] = {}  # the last two batches by their step

    @property
    def batches_per_epoch(self) -> int:
        """Steps of an epoch: how many full batches the texts make, at least one."""
        return max(len(self._encoded) // self._batch_size, 1)

    def batch(self, step: int) -> Batch:
        """The batch of a step, counted from 0. Raises ConfigError for a negative step.

        The last two are remembered, for speed alone: a step asks for its own batch and looks at the next one.
        """
        if step < 0:
            raise ConfigError(problem("step", expected="a number >= 0", got=str(step), hint="step=0"))
        if step not in self._made:
            epoch, position = divmod(step, self.batches_per_epoch)
            batch = collate(self._encoded, self._order(epoch)[position], self._labels, self._pad_id)
            self._made = dict([*self._made.items(), (step, batch)][-2:])
        return self._made[step]

    def _order(self, epoch: int) -> list[NDArray[np.int64]]:
        """The batches of an epoch; the last one asked for is remembered, for speed alone."""
        if self._cached is None or self._cached[0] != epoch:
            rng = np.random.default_rng([*self._seed_key, epoch])
            self._cached = epoch, epoch_order(self._lengths, self._batch_size, rng)
        return self._cached[1]


def in_order(
    encoded: Encoded, batch_size: int, labels: NDArray[np.int64] | None = None, pad_id: int = 0
) -> Iterator[Batch]:
    """Every text once, from the shortest to the longest, for evaluation.

    ``Batch.index`` tells where results belong: ``out[batch.index] = result``.

    Args:
        encoded: the N texts.
        batch_size: texts in a batch; the last batch may be smaller.
        labels: [N] int64; default none.
        pad_id: the token that pads; default 0.

    Raises:
        ConfigError: ``batch_size`` is less than 1.
        ShapeError: ``labels`` are not as many as the texts.

    Example:
        >>> import numpy as np
        >>> from minispike.data.batches import in_order
        >>> from minispike.data.tokenizer import Encoded
        >>> texts = Encoded((np.arange(5), np.arange(3), np.arange(4)), None, truncated=0.0, unknown=0.0)
        >>> [batch.index.tolist() for batch in in_order(texts, batch_size=2)]
        [[1, 2], [0]]
    """
    _check_size(batch_size)
    _check(encoded, labels)
    order = np.argsort(encoded.lengths, kind="stable")
    return (collate(encoded, index, labels, pad_id) for index in _cut(order, batch_size))


def _cut(order: NDArray[np.int64], batch_size: int) -> list[NDArray[np.int64]]:
    """Consecutive pieces of ``order``, all of ``batch_size`` but perhaps the last."""
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def _check(encoded: Encoded, labels: NDArray[np.int64] | None) -> None:
    """Labels, if any, are as many as the texts."""
    if labels is not None and len(labels) != len(encoded):
        expected, got = f"one for each of the {len(encoded)} texts", str(len(labels))
        raise ShapeError(problem("labels", expected=expected, got=got, hint="taking both from the same examples"))


def _check_size(batch_size: int) -> None:
    """A batch holds at least one text."""
    if batch_size < 1:
        raise ConfigError(problem("batch_size", expected="at least 1", got=str(batch_size), hint="batch_size=32"))
