"""What distillation knows of a teacher: protocols alone. Whoever starts a run brings the teachers along.

TeacherSource    finds or makes the teachers of a run, and opens views
Teacher          one frozen network: a batch in, a `TeacherOutput` out
TeacherView      what it says about one data set, as a student asks for it
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from minispike.backend import Array
from minispike.data.batches import Batch
from minispike.data.tokenizer import Encoded, Tokenizer

if TYPE_CHECKING:  # the run, which stands below distillation in the map of the code
    from minispike.config import RunConfig
    from minispike.corpus import Corpus, Split
    from minispike.runfolder import RunFolder


@dataclass(frozen=True, eq=False)
class TeacherOutput:
    """What a teacher says about a batch, on the host.

    Attributes:
        hidden_states: one float32 array ``[B, L, D]`` for each layer that was asked for, in that order. Rows
            of padding hold numbers without a meaning.
        logits: float32 ``[B, C]``, or None if they were not asked for or the teacher has none.

    Example:
        >>> import numpy as np
        >>> from minispike.distill.teacher import TeacherOutput
        >>> output = TeacherOutput((np.zeros((2, 5, 8), dtype=np.float32),), logits=None)  # one layer was asked for
        >>> len(output.hidden_states), output.logits
        (1, None)
    """

    hidden_states: tuple[NDArray[np.float32], ...]
    logits: NDArray[np.float32] | None


class Teacher(Protocol):
    """A frozen network of N layers and width D over a vocabulary of V tokens."""

    @property
    def num_layers(self) -> int:
        """N; there are N + 1 hidden states, and number 0 are the embeddings."""
        ...

    @property
    def hidden_size(self) -> int:
        """D."""
        ...

    @property
    def num_labels(self) -> int:
        """Number of classes C of the logits, 0 if there are no logits."""
        ...

    @property
    def vocab_size(self) -> int:
        """V."""
        ...

    @property
    def word_embeddings(self) -> NDArray[np.float32]:
        """``[V, D]``."""
        ...

    @property
    def position_embeddings(self) -> NDArray[np.float32] | None:
        """``[P, D]``, or None if they are not known."""
        ...

    @property
    def fingerprint(self) -> str:
        """Differs between teachers whose answers may differ, be it in the last digit."""
        ...

    @property
    def group_size(self) -> int:
        """How many sentences of one length may be asked about at once, without any effect on a sentence's numbers."""
        ...

    def __call__(
        self,
        input_ids: NDArray[Any],
        mask: NDArray[Any],
        segment_ids: NDArray[Any] | None = None,
        layers: Sequence[int] | None = None,
        *,
        logits: bool | None = None,
    ) -> TeacherOutput:
        """The hidden states of ``layers`` (None: all) and the logits (None: if it has any) of a batch ``[B, L]``."""
        ...


class TeacherView(Protocol):
    """What a frozen teacher says about the texts of one data set, in arrays of the backend in use."""

    def hidden(self, batch: Batch) -> Sequence[Array]:
        """Its hidden states of the mapped layers, float32, one ``[B, L, D]`` each."""
        ...

    def logits(self, batch: Batch) -> Array:
        """Its logits ``[B, C]``, float32."""
        ...

    def prefetch(self, batch: Batch) -> None:
        """Notice that this batch will be asked for next."""
        ...

    def close(self) -> None:
        """End whatever works for the view; nothing is asked of it any more."""
        ...


@dataclass(frozen=True, eq=False)
class FoundTeacher:
    """A teacher that has been read and checked, or that is to be made.

    Attributes:
        layers: how many it has.
        positions: the longest text it can read, in tokens; None if that is not known.
        content: what its source needs to go on; nobody else looks at it.

    Example:
        >>> from minispike.distill.losses import layer_map
        >>> from minispike.distill.teacher import FoundTeacher
        >>> found = FoundTeacher(layers=12, positions=512)
        >>> layer_map(depth=4, teacher_layers=found.layers)  # what 4 blocks will learn from, before any work is done
        (3, 6, 9, 12)
        >>> [length for length in (128, 512, 600) if length <= found.positions]  # of texts that it can read
        [128, 512]
    """

    layers: int
    positions: int | None
    content: Any = None


class TeacherSource(Protocol):
    """Whoever supplies the teachers of a run. A source keeps no run in mind: it is told which one each time."""

    def find_tokenizer(self, config: "RunConfig", corpus: "Corpus", kept: Path) -> Tokenizer:
        """The tokenizer in the file ``kept``, else that of the given teacher, else one trained on the texts."""
        ...

    def read(
        self, config: "RunConfig", tokenizer: Tokenizer, label_names: Sequence[str], done: Collection[str] = ()
    ) -> FoundTeacher | None:
        """Read and check the teacher that ``config`` names, writing nothing; None where a run has its copy.

        Args:
            config: of the run.
            tokenizer: that the teacher must match.
            label_names: of the task, which a teacher that is used as it is must know, in this order.
            done: the phases that are on record.
        """
        ...

    def prepare(
        self,
        run: "RunFolder",
        found: FoundTeacher | None,
        tokenizer: Tokenizer,
        unlabelled: Encoded,
        train: "Split",
        dev: "Split",
        label_names: Sequence[str],
    ) -> tuple[Teacher, Teacher]:
        """The pretrained and the fine-tuned teacher, made or taken from the run folder; they may be one.

        Args:
            run: keeps them, and the phases in which they are made.
            found: from `read`.
            tokenizer: of both; its file is in the run folder.
            unlabelled: encoded sentences to pretrain on.
            train, dev: to fine-tune on.
            label_names: of the task.
        """
        ...

    def view(self, run: "RunFolder", teacher: Teacher, texts: Encoded, layers: Sequence[int], name: str) -> TeacherView:
        """A view on a data set, ``name`` in messages, with the hidden states of ``layers`` (none: logits alone)."""
        ...
