"""A finished run, ready to be asked.

    run = minispike.load("runs/tiny")
    run.predict(["not a good film at all ."])[0].label

The files of students are written and read here too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np

from minispike.checkpoint import save_tensors
from minispike.config import RunConfig
from minispike.data.batches import in_order
from minispike.data.text import Examples
from minispike.data.tokenizer import Encoded, Tokenizer
from minispike.distill.stages import student_logits
from minispike.energy import Convention, EnergyReport, measure_energy
from minispike.errors import CheckpointError, DataError, MinispikeError, RunFolderError, problem
from minispike.metrics import ModelResult
from minispike.models.spikebert import SpikeBERT
from minispike.models.spikebert_config import SpikeBERTConfig
from minispike.record import Recorder
from minispike.records import load_noted
from minispike.runfolder import MODEL, TOKENIZER, read_config, restored_or_anew, teacher_shape
from minispike.settings import from_mapping
from minispike.tensor import no_grad

__all__ = ["ClassCount", "Evaluation", "LoadedRun", "Prediction", "load", "load_student", "save_student"]

_BATCH = 32

_NEEDED = ("data.max_length",)
"""The settings of a run that its student, which knows its own, is asked with."""


class _Notes(TypedDict):
    """Those on a student: its configuration and, where it has learned a task, what is known of that."""

    student: dict[str, Any]
    labels: NotRequired[list[str]]
    pairs: NotRequired[bool]


@dataclass(frozen=True)
class Prediction:
    """What the student says about a text.

    Attributes:
        label: the likeliest.
        probabilities: of each label, 0 to 1; together 1.

    Example:
        >>> from minispike.loaded import Prediction
        >>> prediction = Prediction("positive", {"negative": 0.25, "positive": 0.75})
        >>> max(prediction.probabilities, key=prediction.probabilities.get) == prediction.label
        True
    """

    label: str
    probabilities: Mapping[str, float]


@dataclass(frozen=True)
class ClassCount:
    """How one label fared.

    Attributes:
        label: its name.
        examples: how many have it.
        predicted: how many were given it.
        right: how many of those have it.

    Example:
        >>> from minispike.loaded import ClassCount
        >>> count = ClassCount("positive", examples=10, predicted=8, right=6)
        >>> count.right / count.predicted, count.right / count.examples  # precision and recall
        (0.75, 0.6)
    """

    label: str
    examples: int
    predicted: int
    right: int


@dataclass(frozen=True)
class Evaluation:
    """How good the student is on labelled texts.

    Attributes:
        result: of all of them together: accuracy, its interval, macro F1.
        examples: how many.
        classes: label by label, in the order of the labels' names.

    Example:
        >>> from minispike.loaded import ClassCount, Evaluation
        >>> from minispike.metrics import ModelResult
        >>> result = ModelResult.measure("student", labels=[0, 1, 1], predictions=[0, 1, 0], num_labels=2)
        >>> counts = ClassCount("negative", 1, predicted=2, right=1), ClassCount("positive", 2, predicted=1, right=1)
        >>> evaluation = Evaluation(result, examples=3, classes=counts)
        >>> sum(count.right for count in evaluation.classes) / evaluation.examples == result.accuracy
        True
    """

    result: ModelResult
    examples: int
    classes: tuple[ClassCount, ...]


@dataclass(frozen=True, eq=False)
class LoadedRun:
    """The student of a run with all it needs. It lives on the backend that was in use when it was loaded,
    and computes there, whatever backend is in use when it is asked.

    Attributes:
        path: the run folder.
        model: the student.
        tokenizer: of its texts.
        label_names: of its classes, in the order of its logits.
        config: of the run.
        pairs: whether its texts are pairs; None for the file of an older version, which does not tell.

    Example:
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from minispike.config import RunConfig
        >>> from minispike.data.text import Examples
        >>> from minispike.data.tokenizer import Tokenizer
        >>> from minispike.loaded import LoadedRun
        >>> from minispike.models.spikebert import SpikeBERT
        >>> from minispike.models.spikebert_config import SpikeBERTConfig
        >>> tokenizer = Tokenizer.train(["a gem", "so dull"], vocab_size=40)
        >>> student = SpikeBERT(SpikeBERTConfig(tokenizer.vocab_size, dim=8, depth=1, heads=2, num_labels=2))
        >>> student.classifier.weight.assign(np.zeros((2, 8)))  # it has learned nothing
        >>> run = LoadedRun(Path("nowhere"), student, tokenizer, ("negative", "positive"), RunConfig())
        >>> dict(run.predict(["so dull"])[0].probabilities)
        {'negative': 0.5, 'positive': 0.5}
        >>> run.evaluate(Examples(("a gem", "so dull"), np.array([1, 0]))).result.accuracy
        0.5
        >>> run.energy(["so dull"]).tokens  # [CLS] and [SEP] among them
        8
        >>> list(run.firing_rates(["so dull"]))[:2]  # by layer
        ['embedding', 'blocks.0.attention.q']
    """

    path: Path
    model: SpikeBERT
    tokenizer: Tokenizer
    label_names: tuple[str, ...]
    config: RunConfig
    pairs: bool | None = None

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Encoded:
        """The token ids of N texts, or of N pairs, cut to the length that the student was trained with.

        Args:
            texts: a list of N texts, or of the first texts of N pairs.
            pairs: the N second texts; None, the default, for single texts.

        Raises:
            DataError: they are no texts, or single ones where the student has learned pairs, or the reverse.
        """
        _check_texts("texts", texts)
        if pairs is not None:
            _check_texts("pairs", pairs)
        if len(texts) and self.pairs is not None and self.pairs != (pairs is not None):
            kinds = {False: "single texts", True: "pairs of texts"}
            hint = "a second text for each, in a file in the column text2" if self.pairs else "one text for each"
            expected, got = f"{kinds[self.pairs]}, as in training", kinds[not self.pairs]
            raise DataError(problem("texts", expected=expected, got=got, hint=hint))
        return self.tokenizer.encode(texts, pairs, self.config.data.max_length)

    def logits(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> "np.ndarray[Any, Any]":
        """The logits ``[N, C]`` of N texts, or of N pairs, on the host, in float32; without a text, ``[0, C]``.

        Args:
            texts, pairs: as of `encode`.

        Raises:
            DataError: as of `encode`.
        """
        encoded = self.encode(texts, pairs)
        if not len(encoded):
            return np.empty((0, len(self.label_names)), dtype=np.float32)
        logits: np.ndarray[Any, Any] = student_logits(self.model, encoded, self.tokenizer.pad_id)
        return logits

    def predict(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> list[Prediction]:
        """The label of each text, or of each pair, with the probabilities of all labels: the softmax of the logits.

        Args:
            texts, pairs: as of `encode`.

        Raises:
            DataError: as of `encode`.
        """
        logits = self.logits(texts, pairs).astype(np.float64)
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        names = self.label_names
        return [Prediction(names[int(p.argmax())], dict(zip(names, p.tolist(), strict=True))) for p in shares]

    def evaluate(self, examples: Examples) -> Evaluation:
        """Compare the student's answers with the labels of ``examples``, numbered as ``label_names``.

        Raises:
            DataError: they have no labels, or there are none.
        """
        if examples.labels is None:
            hint = "a file with the column label"
            raise DataError(problem("examples", expected="labels", got="unlabelled text", hint=hint))
        truth, count = examples.labels, len(self.label_names)
        found = self.logits(examples.texts, examples.pairs).argmax(axis=1)
        result = ModelResult.measure("student", truth, found, count)
        classes = (
            ClassCount(
                name,
                examples=int((truth == i).sum()),
                predicted=int((found == i).sum()),
                right=int(((truth == i) & (found == i)).sum()),
            )
            for i, name in enumerate(self.label_names)
        )
        return Evaluation(result, len(truth), tuple(classes))

    def energy(
        self, texts: Sequence[str], pairs: Sequence[str] | None = None, convention: Convention = "mac"
    ) -> EnergyReport:
        """The energy of a mean text, next to a BERT of the same shape and, where known, the teacher.

        Args:
            texts, pairs: as of `encode`.
            convention: ``"mac"``, the default, or ``"paper"``; see `minispike.ledger.Convention`.

        Raises:
            DataError: there is no text; or as of `encode`.
            ConfigError: an unknown convention.
        """
        batches = in_order(self.encode(texts, pairs), _BATCH, pad_id=self.tokenizer.pad_id)
        return measure_energy(self.model, batches, teacher_shape(self.path), convention)

    def firing_rates(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> dict[str, float]:
        """Spikes for each neuron, token and time step, by layer, 0 to 1; see `Recorder.firing_rates`.

        Args:
            texts, pairs: as of `encode`.

        Raises:
            DataError: as of `encode`.
        """
        recorder = Recorder()
        with no_grad():
            for batch in in_order(self.encode(texts, pairs), _BATCH, pad_id=self.tokenizer.pad_id):
                self.model(batch.input_ids, batch.mask, features=False, observe=recorder.batch(batch.mask))
        return recorder.firing_rates()


def load(run: str | Path) -> LoadedRun:
    """Load the student of a run, on the backend in use.

    Args:
        run: a folder that ``minispike distill`` wrote.

    Raises:
        RunFolderError: it is no run, or its student is not trained yet.
        CheckpointError: the student's file is damaged, or of something else.
        DataError: its tokenizer is missing, damaged, or of another model.
        ConfigError: its configuration is damaged.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from minispike.config import RunConfig
        >>> from minispike.data.tokenizer import Tokenizer
        >>> from minispike.loaded import load, save_student
        >>> from minispike.models.spikebert import SpikeBERT
        >>> from minispike.models.spikebert_config import SpikeBERTConfig
        >>> from minispike.settings import to_toml
        >>> tokenizer = Tokenizer.train(["a gem", "so dull"], vocab_size=40)
        >>> student = SpikeBERT(SpikeBERTConfig(tokenizer.vocab_size, dim=8, depth=1, heads=2, num_labels=2))
        >>> with tempfile.TemporaryDirectory() as folder:  # of a run: here, of one that has trained nothing
        ...     _ = (Path(folder) / "config.toml").write_text(to_toml(RunConfig()))
        ...     tokenizer.save(f"{folder}/tokenizer.json")
        ...     save_student(Path(folder) / "model.safetensors", student, ("negative", "positive"))
        ...     run = load(folder)
        >>> run.label_names, run.logits(["a gem"]).shape
        (('negative', 'positive'), (1, 2))
    """
    path = Path(run)
    config = read_config(path, needed=_NEEDED)
    if not (path / MODEL).is_file():
        expected = "a run whose student is trained"
        hint = f"minispike distill --resume {path}, or, if it was trained, {restored_or_anew(path)}"
        raise RunFolderError(problem(str(path), expected=expected, got=f"no {MODEL}", hint=hint))
    model, notes = _read_student(path / MODEL)
    label_names = _label_names(notes)
    if not len(label_names) == len(set(label_names)) == model.config.num_labels:
        expected = f"{model.config.num_labels} different names of labels"
        got, hint = ", ".join(label_names) or "none", "the model.safetensors of a finished run"
        raise CheckpointError(problem(str(path / MODEL), expected=expected, got=got, hint=hint))
    tokenizer = Tokenizer.from_file(path / TOKENIZER)
    tokenizer.check_matches(model.config.vocab_size)
    return LoadedRun(path, model, tokenizer, label_names, config, notes.get("pairs"))


def save_student(path: Path, student: SpikeBERT, label_names: Sequence[str] = (), *, pairs: bool | None = None) -> None:
    """The weights, with the configuration and, in the file's header, what is known of the task.

    Args:
        path: the file.
        student: to be kept.
        label_names: in the order of its logits; default none.
        pairs: whether its texts are pairs; None, the default: it has learned no task.

    Raises:
        CheckpointError: ``safetensors`` is not installed.
        OSError: the file cannot be written.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from minispike.loaded import load_student, save_student
        >>> from minispike.models.spikebert import SpikeBERT
        >>> from minispike.models.spikebert_config import SpikeBERTConfig
        >>> student = SpikeBERT(SpikeBERTConfig(vocab_size=10, dim=8, depth=1, heads=2, num_labels=2))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_student(Path(folder) / "student.safetensors", student, ("negative", "positive"), pairs=False)
        ...     again, labels = load_student(Path(folder) / "student.safetensors")
        >>> again.config == student.config, labels
        (True, ('negative', 'positive'))
    """
    notes = {"student": vars(student.config), "labels": list(label_names)}
    save_tensors(path, student.state_dict(), notes if pairs is None else notes | {"pairs": pairs})


def load_student(path: Path) -> tuple[SpikeBERT, tuple[str, ...]]:
    """A student and the names of its labels.

    Args:
        path: a file that `save_student` wrote.

    Raises:
        CheckpointError: the file is missing, damaged, or holds something else.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from minispike.checkpoint import save_tensors
        >>> from minispike.errors import CheckpointError
        >>> from minispike.loaded import load_student
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_tensors(Path(folder) / "other.safetensors", {"w": np.ones(3)})
        ...     try:
        ...         load_student(Path(folder) / "other.safetensors")
        ...     except CheckpointError as error:
        ...         print(str(error).split(": ", 1)[1].split(",")[0])
        expected a student with its configuration
    """
    student, notes = _read_student(path)
    return student, _label_names(notes)


def _read_student(path: Path) -> tuple[SpikeBERT, _Notes]:
    """A student and the notes on it."""
    hint = restored_or_anew(path.parent)
    weights, notes = load_noted(path, _Notes, what="a student with its configuration", hint=hint)
    try:
        student = SpikeBERT(from_mapping(SpikeBERTConfig, notes["student"], where="student"))
        student.load_state_dict(weights)
    except MinispikeError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return student, notes


def _label_names(notes: _Notes) -> tuple[str, ...]:
    return tuple(notes.get("labels", ()))


def _check_texts(name: str, texts: Sequence[str]) -> None:
    """See that they are a list of strings; one string would be taken for a list of letters."""
    if isinstance(texts, str):
        raise DataError(problem(name, expected="a list of texts", got="one string", hint=f"[{texts[:20]!r}]"))
    got = "" if hasattr(texts, "__len__") else type(texts).__name__
    for i, text in enumerate(() if got else texts):
        if not isinstance(text, str):
            got = f"{type(text).__name__} at place {i}"
            break
    if got:
        raise DataError(problem(name, expected="a list of texts", got=got, hint='["not a good film"]'))
