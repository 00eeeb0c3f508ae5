"""What a run reads, checked before anything is written, and what its phases share."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from minispike.config import RunConfig
from minispike.corpus import Corpus, Split, encode, read_corpus, tell_notes
from minispike.data.tokenizer import Encoded, Tokenizer
from minispike.distill.losses import layer_map
from minispike.distill.start import StartingTables, starting_tables
from minispike.distill.teacher import FoundTeacher, Teacher, TeacherSource
from minispike.errors import BackendError, ConfigError, RunFolderError, problem
from minispike.models.spikebert_config import SpikeBERTConfig
from minispike.runfolder import TOKENIZER, RunFolder

EXTRAS = ("safetensors", "tokenizers", "onnx", "onnxruntime", "matplotlib")
"""What a run imports sooner or later: better missed in the first second than in the last."""

STUDENT_SEED = 3


@dataclass(frozen=True, eq=False)
class Inputs:
    """Everything that a run reads.

    Attributes:
        corpus: the texts.
        tokenizer: of teacher and student.
        train, dev, test: the labelled splits, encoded.
        unlabelled: the unlabelled sentences, encoded.
        found: the teacher, of which a run that goes on may have a copy; None then.
    """

    corpus: Corpus
    tokenizer: Tokenizer
    train: Split
    dev: Split
    test: Split
    unlabelled: Encoded
    found: FoundTeacher | None

    @property
    def named(self) -> tuple[tuple[str, Encoded], ...]:
        """Every encoded set with its name."""
        splits = (("train", self.train), ("dev", self.dev), ("test", self.test))
        return (*((name, split.texts) for name, split in splits), ("unlabelled", self.unlabelled))


@dataclass(frozen=True, eq=False)
class Prepared:
    """Everything the student's phases share."""

    run: RunFolder
    inputs: Inputs
    teachers: TeacherSource
    pretrained: Teacher
    finetuned: Teacher
    student: SpikeBERTConfig
    start: StartingTables

    @property
    def layers(self) -> int:
        """The teacher's number of layers."""
        return self.pretrained.num_layers


def read_inputs(c: RunConfig, out: Path, teachers: TeacherSource, done: Collection[str] = ()) -> Inputs:
    """Read and check what a run needs, and write nothing.

    Args:
        c: the configuration.
        out: the run folder; an interrupted run has its tokenizer there.
        teachers: finds the teacher.
        done: the phases that are on record.

    Raises:
        MinispikeError: whatever is missing, damaged, or does not fit together.
    """
    _check_extras()
    corpus = read_corpus(c.data, c.seed)
    tokenizer = teachers.find_tokenizer(c, corpus, out / TOKENIZER)
    data, length = corpus.data, c.data.max_length
    train, dev, test = (encode(tokenizer, split, length) for split in (data.train, data.dev, data.test))
    unlabelled = encode(tokenizer, corpus.unlabelled, length).texts
    found = teachers.read(c, tokenizer, data.label_names, done)
    if found is not None:
        _check_fit(c, found)
    return Inputs(corpus, tokenizer, train, dev, test, unlabelled, found)


def prepare(run: RunFolder, inputs: Inputs, teachers: TeacherSource) -> Prepared:
    """Make the teachers, or find them on record, and whatever else the student's phases share.

    Raises:
        RunFolderError: an interrupted run has read other texts.
    """
    c, corpus, tokenizer = run.config, inputs.corpus, inputs.tokenizer
    check_same_texts(run, corpus.digest(), corpus.notes)
    tell_notes(corpus.notes, inputs.named, c)
    if not (run.path / TOKENIZER).is_file():
        tokenizer.save(run.path / TOKENIZER)
    label_names = corpus.data.label_names
    pretrained, finetuned = teachers.prepare(
        run, inputs.found, tokenizer, inputs.unlabelled, inputs.train, inputs.dev, label_names
    )
    student = replace(
        c.student,
        vocab_size=tokenizer.vocab_size,
        num_labels=len(label_names),
        feature_dim=pretrained.hidden_size,
        embedding_dim=_embedding_dim(c, pretrained.hidden_size),
    )
    rng = np.random.default_rng([c.seed, STUDENT_SEED, 1])
    start = starting_tables(pretrained.word_embeddings, pretrained.position_embeddings, student.dim, rng)
    return Prepared(run, inputs, teachers, pretrained, finetuned, student, start)


def _embedding_dim(c: RunConfig, width: int) -> int:
    """The width of the learned projection for the embedding loss; 0: the tables are compared as they are."""
    wanted = c.stage1.embedding or c.stage2.weights.embedding
    as_they_are = c.start == "random" and c.student.dim == width  # a table that was turned needs turning back
    return width if wanted and not as_they_are else 0


def _check_extras() -> None:
    missing = [name for name in EXTRAS if find_spec(name) is None]
    if missing:
        got, hint = f"no {', no '.join(missing)}", 'pip install "minispike[distill,viz]"'
        raise BackendError(problem("packages", expected=", ".join(EXTRAS), got=got, hint=hint))


def _check_fit(c: RunConfig, found: FoundTeacher) -> None:
    """Lengths and layers of configuration, teacher and student must agree."""
    positions = c.data.max_length if found.positions is None else found.positions
    longest = min(positions, c.student.max_length or positions)
    if c.data.max_length > longest:
        whose = "student.max_length" if longest == c.student.max_length else "the teacher's positions"
        expected, got = f"at most {longest}, {whose}", str(c.data.max_length)
        hint = f"data.max_length={longest}"
        if longest < positions or found.positions is None:  # the student's own, of which there may be more
            hint += f", or student.max_length={c.data.max_length}"
        raise ConfigError(problem("data.max_length", expected=expected, got=got, hint=hint))
    for name, chosen in (("stage1", c.stage1.alignment), ("stage2", c.stage2.alignment)):
        try:
            layer_map(c.student.depth, found.layers, chosen)
        except ConfigError as error:
            raise ConfigError(f"{name}.alignment.{error}") from error


def check_same_texts(run: RunFolder, digest: str, notes: Sequence[str]) -> None:
    """See that a resumed run reads what the interrupted one has read.

    Args:
        run: keeps the two others on record.
        digest: a fingerprint of the texts.
        notes: on the texts.

    Raises:
        RunFolderError: other texts are on record.
    """
    if run.phase("texts", lambda: {"digest": digest, "notes": list(notes)})["digest"] != digest:
        got, hint = "other texts or labels than before the interruption", "a new run with --out"
        raise RunFolderError(problem(str(run.path), expected="the same data", got=got, hint=hint))
