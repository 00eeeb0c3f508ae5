"""A teacher beside a data set: what the student asks for, remembered or computed while the student trains."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from minispike.data.batches import Batch
from minispike.data.tokenizer import Encoded
from teachers.cache import TeacherCache
from teachers.onnx_teacher import OnnxTeacher, TeacherOutput


class OnnxView:
    """The hidden states and logits of one data set, for `minispike.distill.stages`.

    If the hidden states fit in the memory allowed, all are computed ahead; if not, each batch is computed when it
    is needed, and the next one in the background (ONNX Runtime leaves Python's lock to the student). A batch's
    numbers do not depend on which of its neighbours were asked for, so a resumed run sees the same ones.

    Args:
        teacher: runs through ONNX Runtime.
        encoded: the data set.
        layers: of the teacher, one a block of the student.
        memory: bytes that remembered hidden states may take.
        pad_id: the padding token.
        progress: told of the texts done and of all, while computing ahead.

    Attributes:
        needed: bytes that the hidden states of the whole data set take in float16.
    """

    def __init__(
        self,
        teacher: OnnxTeacher,
        encoded: Encoded,
        layers: Sequence[int],
        memory: int,
        pad_id: int = 0,
        progress: Any = None,
    ) -> None:
        self._teacher, self._layers = teacher, tuple(layers)
        self.needed = TeacherCache.nbytes_needed(encoded, len(self._layers), teacher.hidden_size)
        self._cache: TeacherCache | None = None
        if self.needed <= memory:
            self._cache = TeacherCache.build(teacher, encoded, self._layers, pad_id, progress=progress)
        self._worker = ThreadPoolExecutor(1)
        self._now: tuple[bytes, Future[TeacherOutput]] | None = None
        self._next: tuple[bytes, Future[TeacherOutput]] | None = None

    @property
    def remembers(self) -> bool:
        """Whether the hidden states were computed ahead; ``needed`` bytes would have to fit."""
        return self._cache is not None

    def prefetch(self, batch: Batch) -> None:
        """Begin to compute the batch that will be asked for after the present one."""
        if self._cache is None:
            self._next = (batch.index.tobytes(), self._worker.submit(self._compute, batch))

    def hidden(self, batch: Batch) -> Sequence[Any]:
        """The hidden states of the mapped layers, one ``[B, L, D_t]`` each."""
        if self._cache is not None:
            return self._cache.hidden_for(batch.index, batch.input_ids.shape[1])
        return self._output(batch).hidden_states

    def logits(self, batch: Batch) -> Any:
        """The logits ``[B, C]``."""
        if self._cache is not None:
            return self._cache.logits_for(batch.index)
        return self._output(batch).logits

    def _compute(self, batch: Batch) -> TeacherOutput:
        return self._teacher(batch.input_ids, batch.mask, batch.segment_ids, layers=self._layers)

    def _output(self, batch: Batch) -> TeacherOutput:
        """The teacher's output, kept until another batch is asked for, since both questions need it."""
        key = batch.index.tobytes()
        if self._now is None or self._now[0] != key:
            if self._next is None or self._next[0] != key:
                self.prefetch(batch)
            self._now, self._next = self._next, None
        assert self._now is not None
        return self._now[1].result()
