"""What a run has on record, as types: ``state.json``, and the notes on its tensors, as far as they are read again.

`minispike.records` reads by them, and leaves alone whatever else is there.
"""

from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict

from minispike.models.bert_weights import BertFields

DISTILL, PRETRAIN, FINETUNE = "distill", "teacher pretrain", "teacher finetune"
"""The commands that a run can be of."""


class _Phase(TypedDict):
    """Of any phase."""

    seconds: NotRequired[float]
    parameters: NotRequired[int]


class State(TypedDict):
    """``state.json``, of any job. A run that was begun before there were jobs, or versions, names none."""

    job: NotRequired[str]
    version: NotRequired[str]
    done: dict[str, _Phase]
    journal: int


class _Texts(_Phase):
    digest: str
    notes: list[str]


class Figures(TypedDict):
    """How good a model is on test: its accuracy with both ends of its interval, and its macro F1, 0 to 1."""

    accuracy: float
    low: float
    high: float
    macro_f1: float


class _Evaluation(_Phase):
    table: dict[str, Figures]
    notes: list[str]


class _Costs(TypedDict):
    total_mj: float
    student_share: float
    student_matrix_share: float


class _Energy(_Phase):
    student: _Costs
    twin: _Costs
    teacher: NotRequired[_Costs]


class _Shape(TypedDict):
    """As far as energy depends on it, by the names of ``BertConfig``."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int


_Taken = TypedDict("_Taken", {"as it is": bool, "shape": NotRequired[_Shape | None]})
"""A given teacher; of an ONNX file the shape, or None if its graph does not tell it."""


class _Trained(TypedDict):
    seconds: float
    parameters: int


class _Finetuned(_Trained):
    dev: float
    test: Figures


_Distilling = TypedDict(
    "_Distilling",
    {"texts": _Texts, "read teacher": _Taken, "evaluation": _Evaluation, "energy": _Energy},
    total=False,
)
_Pretraining = TypedDict("_Pretraining", {"texts": _Texts, "pretrain teacher": _Trained}, total=False)
_Finetuning = TypedDict("_Finetuning", {"texts": _Texts, "fine-tune teacher": _Finetuned}, total=False)

READ_AGAIN: Mapping[str, Any] = {DISTILL: _Distilling, PRETRAIN: _Pretraining, FINETUNE: _Finetuning}
"""For each job the phases whose results are read again, as far as the run has come."""


Distilled = TypedDict(
    "Distilled",
    {"texts": _Texts, "read teacher": NotRequired[_Taken], "evaluation": _Evaluation, "energy": _Energy},
)
"""Those that a finished run tells."""


class CheckpointNotes(TypedDict):
    """The notes of `minispike.train.loop` on a running phase."""

    phase: str
    step: int
    journal: int
    best: str
    best_step: int
    waited: int
    stopped: bool
    seconds: NotRequired[float]


class TeacherNotes(TypedDict):
    """The notes on the weights of a run's teacher: its shape."""

    config: BertFields
