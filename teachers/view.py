"""A teacher beside a data set: asked about each sentence when a student first needs it, and remembered on disk."""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from minispike import backend
from minispike.backend import Array
from minispike.data.batches import Batch
from minispike.data.tokenizer import Encoded
from minispike.distill.teacher import Teacher
from minispike.errors import TeacherError, problem
from teachers.cache import CacheFolder, Entry, fingerprint


class Answer(NamedTuple):
    """About one sentence: ``states`` ``[L, layers, D]`` float16 (no layers: unknown), ``logits`` ``[C]`` float32."""

    states: NDArray[np.float16]
    logits: NDArray[np.float32]


class CachedView:
    """The hidden states and logits of one data set, a `minispike.distill.teacher.TeacherView`.

    A sentence's numbers are the same whenever it is asked for, beside whatever others, cached or not: it is computed
    among sentences of its own length alone, so without padding, and its hidden states are rounded to float16 always.
    So a run does not depend on what the cache knows. Unknown sentences of the next batch are computed in the
    background (ONNX Runtime leaves Python's lock to the student).

    Where the hidden states do not fit into the cache, they are computed for each batch, and the logits, which come
    along, are kept: for who asks for them alone, here or in a later run without layers.

    Args:
        teacher: to be asked.
        encoded: the data set.
        layers: of the teacher, one a block of the student; none: logits alone are computed.
        cache: keeps the answers.
        key: beside teacher, layers, ids and segments, whatever else the cache's entry shall depend on.
        name: of the data set, for messages.
    """

    def __init__(
        self,
        teacher: Teacher,
        encoded: Encoded,
        layers: Sequence[int],
        cache: CacheFolder,
        key: Iterable[bytes] = (),
        name: str = "texts",
    ) -> None:
        self._teacher, self._encoded, self._layers = teacher, encoded, tuple(layers)
        self._lengths, self._cache, self._key = encoded.lengths, cache, tuple(key)
        self._worker = ThreadPoolExecutor(1)  # starts its thread when it is first used
        self._coming: Future[dict[int, Answer]] | None = None
        self._held: Mapping[int, Answer] = {}  # the answers about the batch asked for last
        self._kept_layers = self._layers
        self._entry = self._open_entry(name)
        if self._entry is None and self._layers:
            self._kept_layers = ()
            self._entry = self._open_entry(name) if teacher.num_labels else None

    @property
    def nbytes(self) -> int:
        """Bytes that the hidden states of the whole data set take."""
        return int(self._lengths.sum()) * len(self._layers) * self._teacher.hidden_size * 2

    @property
    def remembers(self) -> bool:
        """Whether hidden states are kept: ``nbytes`` of them have found room."""
        return self._entry is not None and self._kept_layers == self._layers

    def hidden(self, batch: Batch) -> Sequence[Array]:
        """The hidden states of the mapped layers, float32, one ``[B, L, D]`` each, zero at padding."""
        answers = self._answers(batch, states=True)
        states = np.concatenate([answer.states for answer in answers])  # [tokens of the batch, layers, D]
        found = np.zeros((len(self._layers), *batch.mask.shape, self._teacher.hidden_size), dtype=np.float32)
        found[:, batch.mask] = states.swapaxes(0, 1)
        return [backend.asarray(layer) for layer in found]

    def logits(self, batch: Batch) -> Array:
        """The logits ``[B, C]``, float32.

        Raises:
            TeacherError: the teacher has none.
        """
        if not self._teacher.num_labels:
            hint = "a teacher fine-tuned on the task"
            raise TeacherError(problem("logits", expected="a teacher with them", got="none", hint=hint))
        return backend.asarray(np.stack([answer.logits for answer in self._answers(batch, states=False)]))

    def prefetch(self, batch: Batch) -> None:
        """Begin to compute what is not known of the batch that will be asked for after the present one.

        Where the present one needed no hidden states, the next will not either.
        """
        states = not self._held or any(map(self._has_states, self._held.values()))
        _, missing = self._look_up(batch, states)
        self._coming = self._worker.submit(self._ask, missing) if missing else None

    def close(self) -> None:
        """Wait for the background, and let go of the cache."""
        self._worker.shutdown(cancel_futures=True)
        if self._entry is not None:
            self._cache.close(self._entry)
            self._entry = None

    # ---- Answers: those at hand, those of the cache, and those to be computed

    def _answers(self, batch: Batch, states: bool) -> list[Answer]:
        """The answers for each sentence of a batch, with hidden states or for the logits alone."""
        found, missing = self._look_up(batch, states)
        if missing:
            coming, self._coming = self._coming, None
            fresh = {} if coming is None else coming.result()
            fresh |= self._ask([i for i in missing if i not in fresh])
            self._store(fresh)
            found |= fresh
        self._held = found  # for the other question about this batch
        return [found[i] for i in batch.index.tolist()]

    def _look_up(self, batch: Batch, states: bool) -> tuple[dict[int, Answer], list[int]]:
        """What is known about a batch, and the sentences about which too little is."""
        looked_up = {i: self._find(i, states) for i in batch.index.tolist()}
        found = {i: answer for i, answer in looked_up.items() if answer is not None}
        return found, [i for i in looked_up if i not in found]

    def _find(self, index: int, states: bool) -> Answer | None:
        held = self._held.get(index)
        if held is not None and (self._has_states(held) or not states):
            return held
        if self._entry is None or (states and not self.remembers):
            return None
        payload = self._entry.get(index)
        return None if payload is None else self._read(index, payload)

    def _has_states(self, answer: Answer) -> bool:
        return answer.states.shape[1] == len(self._layers)

    def _store(self, answers: Mapping[int, Answer]) -> None:
        """Keep new answers on disk; never called in the background, so one thread writes."""
        if self._entry is None:
            return
        for index, answer in answers.items():
            if self.remembers or self._entry.get(index) is None:  # logits may be known where states are not
                states = answer.states.tobytes() if self._kept_layers else b""
                self._entry.put(index, answer.logits.tobytes() + states)

    def _ask(self, indices: Sequence[int]) -> dict[int, Answer]:
        """Compute answers, among sentences of one length at a time."""
        answers: dict[int, Answer] = {}
        lengths = self._lengths[list(indices)]
        for length in np.unique(lengths):
            alike = [i for i, own in zip(indices, lengths, strict=True) if own == length]
            for start in range(0, len(alike), self._teacher.group_size):
                answers |= self._ask_group(alike[start : start + self._teacher.group_size])
        return answers

    def _ask_group(self, group: Sequence[int]) -> dict[int, Answer]:
        ids = np.stack([self._encoded.ids[i] for i in group])  # [B, L]
        pairs = self._encoded.segments
        segments = None if pairs is None else np.stack([pairs[i] for i in group])
        output = self._teacher(ids, np.ones(ids.shape, dtype=bool), segments, layers=self._layers)
        states = np.empty((*ids.shape, len(self._layers), self._teacher.hidden_size), dtype=np.float16)
        with np.errstate(over="ignore"):  # told below, with a way out
            for k, state in enumerate(output.hidden_states):
                states[:, :, k] = state
                _check_finite(f"hidden_states.{self._layers[k]}", states[:, :, k])
        logits = np.empty((len(group), 0), dtype=np.float32) if output.logits is None else output.logits
        _check_finite("logits", logits)
        return {i: Answer(*answer) for i, *answer in zip(group, states, logits, strict=True)}

    # ---- The cache's entry

    def _open_entry(self, name: str) -> Entry | None:
        width = len(self._kept_layers) * self._teacher.hidden_size * 2  # bytes of a token
        sizes = 4 * self._teacher.num_labels + width * self._lengths
        layers = repr(self._kept_layers).encode()
        texts = (part.astype("<i4").tobytes() for part in (*self._encoded.ids, *(self._encoded.segments or ())))
        paired = str(self._encoded.segments is not None).encode()
        parts = (self._teacher.fingerprint.encode(), layers, paired, *self._key, *texts)
        what, instead = f"logits of {name}", "they are computed when they are needed"
        if self._kept_layers:
            logits = ", logits alone are kept" if self._teacher.num_labels else ""
            what, instead = f"hidden states of {name}", f"they are computed for each batch{logits}"
        return self._cache.open(fingerprint(parts), sizes.tolist(), what, instead)

    def _read(self, index: int, payload: bytes) -> Answer:
        labels = self._teacher.num_labels
        states = np.frombuffer(payload, dtype=np.float16, offset=4 * labels)
        shape = (len(self._encoded.ids[index]), len(self._kept_layers), self._teacher.hidden_size)
        return Answer(states.reshape(shape), np.frombuffer(payload, dtype=np.float32, count=labels))


def _check_finite(name: str, values: "np.ndarray[tuple[int, ...], np.dtype[np.floating]]") -> None:
    if not np.isfinite(values).all():
        expected, hint = f"numbers that {values.dtype} holds", "another teacher"
        raise TeacherError(problem(name, expected=expected, got="infinity or not a number", hint=hint))
