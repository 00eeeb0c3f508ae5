"""What a teacher says about every text of a data set, computed once before training.

A frozen teacher repeats itself every epoch. Computed ahead, in one fixed order of batches (by length), its
numbers do not depend on when or beside which other texts a student asks for them.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from minispike.data.batches import in_order
from minispike.data.tokenizer import Encoded
from minispike.errors import ShapeError, TeacherError, problem
from minispike.files import atomic_write
from teachers.extras import extra
from teachers.onnx_teacher import TeacherOutput

_FORMAT = "minispike teacher cache 1"


class Teacher(Protocol):
    """What a cache needs of a teacher; `teachers.onnx_teacher.OnnxTeacher` has it."""

    def __call__(
        self,
        input_ids: NDArray[Any],
        mask: NDArray[Any],
        segment_ids: NDArray[Any] | None = None,
        layers: Sequence[int] | None = None,
    ) -> TeacherOutput:
        """Hidden states of ``layers`` and the logits, if it has any, of a padded batch."""
        ...


class TeacherCache:
    """Hidden states and logits of N texts, made by `build` or `load`.

    Attributes:
        layers: the hidden states that are kept, in the order in which `hidden_for` returns them; empty if
            none are.
        num_labels: number of classes C, 0 if the teacher had no logits.
        nbytes: size in memory in bytes.
    """

    def __init__(
        self,
        layers: tuple[int, ...],
        offsets: NDArray[np.int64],
        hidden: NDArray[Any] | None,
        logits: NDArray[np.float32] | None,
        digest: str,
    ) -> None:
        self.layers = layers
        self._offsets = offsets  # [N + 1], of the first token of each text in ``hidden``
        self._hidden = hidden  # [all tokens, layers, D]
        self._logits = logits  # [N, C]
        self._digest = digest

    @classmethod
    def build(
        cls,
        teacher: Teacher,
        encoded: Encoded,
        layers: Sequence[int],
        pad_id: int = 0,
        *,
        hidden: bool = True,
        batch_size: int = 64,
        dtype: DTypeLike = np.float16,
        progress: Callable[[int, int], None] | None = None,
    ) -> Self:
        """Run ``teacher`` over all texts, from the shortest to the longest.

        Args:
            teacher: the teacher, whose logits are kept if it has any.
            encoded: the N texts.
            layers: the hidden states to keep, 0 the embeddings.
            pad_id: the token that pads; default 0.
            hidden: whether to keep hidden states at all; logits alone take next to no memory.
            batch_size: texts in a batch; default 64.
            dtype: of the hidden states that are kept; default float16, `nbytes_needed` tells the size.
            progress: called after each batch with the number of texts done and N.

        Raises:
            TeacherError: the teacher refuses a batch, returns something that is not a number, or hidden
                states beyond ``dtype``.
        """
        lengths = encoded.lengths
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        kept = tuple(int(layer) for layer in layers) if hidden else ()
        states: NDArray[Any] | None = None
        logits: NDArray[np.float32] | None = None
        done = 0
        for batch in in_order(encoded, batch_size, pad_id=pad_id):
            output = teacher(batch.input_ids, batch.mask, batch.segment_ids, layers=kept)
            if output.logits is not None:
                if logits is None:
                    logits = np.empty((len(encoded), output.logits.shape[1]), dtype=np.float32)
                logits[batch.index] = _finite("logits", output.logits)
            if kept:
                if states is None:
                    width = output.hidden_states[0].shape[-1]
                    states = np.empty((offsets[-1], len(kept), width), dtype=dtype)
                rows = _rows(offsets, batch.index)  # a token's place in ``states``
                for k, state in enumerate(output.hidden_states):
                    with np.errstate(over="ignore"):  # reported below, with a way out
                        states[rows, k] = _finite(f"hidden_states.{kept[k]}", state[batch.mask].astype(dtype))
            done += len(batch)
            if progress is not None:
                progress(done, len(encoded))
        return cls(kept, offsets, states, logits, _digest_of(encoded))

    @classmethod
    def nbytes_needed(cls, encoded: Encoded, n_layers: int, hidden_size: int, dtype: DTypeLike = np.float16) -> int:
        """Bytes that the hidden states of ``n_layers`` layers of width ``hidden_size`` will take."""
        return int(encoded.lengths.sum()) * n_layers * hidden_size * np.dtype(dtype).itemsize

    def __len__(self) -> int:
        """The number of texts N."""
        return len(self._offsets) - 1

    @property
    def num_labels(self) -> int:
        """Number of classes C, 0 if the teacher had no logits."""
        return 0 if self._logits is None else int(self._logits.shape[1])

    @property
    def nbytes(self) -> int:
        """Size in memory in bytes."""
        return sum(array.nbytes for array in (self._offsets, self._hidden, self._logits) if array is not None)

    def matches(self, encoded: Encoded) -> bool:
        """Whether the cache was made of these very token ids and segments, in this order."""
        return self._digest == _digest_of(encoded)

    def hidden_for(self, batch_index: ArrayLike, padded_length: int) -> tuple[NDArray[np.float32], ...]:
        """The hidden states of a batch, one array ``[B, L, D]`` for each of ``layers``, zero where it is
        padded.

        Args:
            batch_index: ``[B]``, the positions of the texts in the data set (``Batch.index``).
            padded_length: L, at least the length of the longest of them.

        Raises:
            TeacherError: the cache was made without hidden states.
            ShapeError: a text has more than ``padded_length`` tokens.
        """
        if self._hidden is None:
            raise TeacherError(
                problem("hidden states", expected="a cache with them", got="none", hint="hidden=True in build")
            )
        index = np.asarray(batch_index, dtype=np.int64)
        lengths = self._offsets[index + 1] - self._offsets[index]
        mask = np.arange(padded_length) < lengths[:, None]  # [B, L]
        if lengths.max(initial=0) > padded_length:
            got, hint = str(padded_length), "the length L of the batch itself"
            raise ShapeError(problem("padded_length", expected=f"at least {lengths.max()}", got=got, hint=hint))
        found = self._hidden[_rows(self._offsets, index)]  # [tokens of the batch, layers, D]
        states = tuple(np.zeros((*mask.shape, found.shape[-1]), dtype=np.float32) for _ in self.layers)
        for k, state in enumerate(states):
            state[mask] = found[:, k]
        return states

    def logits_for(self, index: ArrayLike) -> NDArray[np.float32]:
        """The logits ``[B, C]`` of the texts at the positions ``index`` ``[B]``.

        Raises:
            TeacherError: the teacher had no logits.
        """
        if self._logits is None:
            hint = "a teacher fine-tuned on the task"
            raise TeacherError(problem("logits", expected="a cache with them", got="none", hint=hint))
        return self._logits[np.asarray(index, dtype=np.int64)]

    def save(self, path: str | Path) -> None:
        """Write the cache as a safetensors file, whole or not at all."""
        tensors: dict[str, NDArray[Any]] = {"offsets": self._offsets}
        if self._hidden is not None:
            tensors["hidden"] = self._hidden
        if self._logits is not None:
            tensors["logits"] = self._logits
        notes = {"format": _FORMAT, "layers": json.dumps(self.layers), "digest": self._digest}
        with atomic_write(path, "wb") as file:
            file.write(extra("safetensors.numpy").save(tensors, metadata=notes))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            TeacherError: no such file, one that is cut short, or something else than a cache.
        """
        library = extra("safetensors")
        try:
            with library.safe_open(path, framework="numpy") as file:
                notes = file.metadata() or {}
                names = list(file.keys())
                tensors = {name: file.get_tensor(name) for name in names}
        except (OSError, library.SafetensorError) as error:
            raise _no_cache(path, str(error)) from error
        if notes.get("format") != _FORMAT:
            raise _no_cache(path, "something else")
        layers = tuple(json.loads(notes["layers"]))
        return cls(layers, tensors["offsets"], tensors.get("hidden"), tensors.get("logits"), notes["digest"])


def _rows(offsets: NDArray[np.int64], index: NDArray[np.int64]) -> NDArray[np.int64]:
    """The places of all tokens of the texts ``index`` in the flat array, text after text."""
    spans = [np.arange(offsets[i], offsets[i + 1]) for i in index]
    return np.concatenate(spans) if spans else np.empty(0, dtype=np.int64)


def _finite(name: str, values: NDArray[Any]) -> NDArray[Any]:
    if not np.isfinite(values).all():
        expected, hint = f"numbers that {values.dtype} holds", "dtype=np.float32, or another teacher"
        raise TeacherError(problem(name, expected=expected, got="infinity or not a number", hint=hint))
    return values


def _parts(encoded: Encoded) -> Iterator[NDArray[np.int32]]:
    yield from encoded.ids
    yield from encoded.segments or ()


def _digest_of(encoded: Encoded) -> str:
    """A fingerprint of all ids and segments, and of where one text ends and the next begins."""
    digest = hashlib.sha256(encoded.lengths.tobytes())
    for part in _parts(encoded):
        digest.update(part.astype(np.int32).tobytes())
    return digest.hexdigest()


def _no_cache(path: str | Path, got: str) -> TeacherError:
    hint = "deleting it, so that it is made anew"
    return TeacherError(problem(str(path), expected="a teacher's cache", got=got, hint=hint))
