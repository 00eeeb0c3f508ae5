"""A run folder: what is in it, and how an interrupted run is taken up where it stopped.

    config.toml           every hyper-parameter, as the run uses it
    metrics.jsonl         losses and evaluations, a line each
    state.json            the phases that are done, with their results, and the version that began the run
    checkpoint.safetensors  of the phase that is running
    model.safetensors     the student
    energy.json           its energy, row by row, and its firing rates
    tokenizer.json, teacher/, report.html

Each file but the journal, which is appended to, is written whole or not at all.
"""

import json
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from minispike.checkpoint import Arrays
from minispike.config import RunConfig
from minispike.errors import ConfigError, RunFolderError, problem
from minispike.files import atomic_write
from minispike.models.bert import BertConfig
from minispike.records import as_record, load_noted, read_record
from minispike.runstate import DISTILL, READ_AGAIN, CheckpointNotes, Distilled, State, TeacherNotes
from minispike.settings import from_mapping, left_out, to_toml
from minispike.toml_text import load_toml
from minispike.train.journal import Journal
from minispike.train.loop import Keeper
from minispike.version import __version__

CONFIG, METRICS, STATE, CHECKPOINT = "config.toml", "metrics.jsonl", "state.json", "checkpoint.safetensors"
MODEL, TOKENIZER, ENERGY, REPORT = "model.safetensors", "tokenizer.json", "energy.json", "report.html"
PRETRAINED, FINETUNED = "teacher/pretrained", "teacher/finetuned"
"""Both as ``.onnx``, and, where minispike knows the network, as ``.safetensors``."""

Facts = dict[str, Any]

_RECORD = {"what": "the record of a run", "hint": "a copy of the folder"}


class RunFolder:
    """An open run.

    Args:
        path: the folder.
        config: of the run.
        resume: take up what is there instead of starting.
        job: the command the run is of: ``distill``, by default, or one that makes a teacher.

    Raises:
        RunFolderError: a new run in a folder that is not empty, or nothing to resume, or another job's; or the
            record of what is to be resumed is damaged. Nothing has been written then.
        CheckpointError: the checkpoint is damaged.
    """

    def __init__(self, path: Path, config: RunConfig, *, resume: bool, job: str = DISTILL) -> None:
        self.path, self.config = path, config
        self.state: Facts = {"job": job, "version": __version__, "done": {}, "journal": 0}
        going_on = False
        if resume:
            self.state = read_state(path, job)
            position = self._position_at_checkpoint()
            going_on = position is not None
            self._check_journal(self.state["journal"] if position is None else position)
            for leftover in path.rglob(".*.part"):  # of a file that was half written when the run was killed
                leftover.unlink()
        else:
            check_free(path)
            path.mkdir(parents=True, exist_ok=True)
            self._write_state()
            with atomic_write(path / CONFIG) as file:  # last: from now on this is a run, which can be resumed
                file.write(to_toml(config))
        self.journal = Journal(path / METRICS, append=resume)
        self.keeper = Keeper(path / CHECKPOINT, self.journal, config.checkpoint_minutes)
        if resume and not going_on:
            self.keeper.path.unlink(missing_ok=True)
            self.journal.truncate(self.state["journal"])

    def phase(self, name: str, work: Callable[[], Facts]) -> Facts:
        """The results of a phase: those on record, or, the first time, those of doing it.

        Args:
            name: of the phase.
            work: does it, leaves its files in the folder, and returns what JSON can hold.
        """
        done: dict[str, Facts] = self.state["done"]
        if name not in done:
            facts = work()
            self.journal.sync()
            done[name] = facts
            self.state["journal"] = self.journal.position
            self._write_state()
            self.keeper.path.unlink(missing_ok=True)
        return done[name]

    def close(self) -> None:
        """Close the journal."""
        self.journal.close()

    def _write_state(self) -> None:
        with atomic_write(self.path / STATE) as file:
            json.dump(self.state, file, indent=1)

    def _position_at_checkpoint(self) -> int | None:
        """The length of the journal at the checkpoint; None where there is none of a phase that is yet to be done."""
        path = self.path / CHECKPOINT
        if not path.is_file():
            return None
        _, notes = load_noted(path, CheckpointNotes, what="a checkpoint", hint="deleting it: the phase begins anew")
        position = notes["journal"]
        return position if notes["phase"] not in self.state["done"] and position >= self.state["journal"] else None

    def _check_journal(self, position: int) -> None:
        """See that the journal reaches as far as the run does."""
        path = self.path / METRICS
        size = path.stat().st_size if path.is_file() else 0
        if size < position:
            got = f"{size} bytes" if path.is_file() else "no file"
            hint = restored_or_anew(self.path, self.state.get("job", DISTILL))
            raise RunFolderError(problem(str(path), expected=f"{position} bytes or more", got=got, hint=hint))


def restored_or_anew(run: Path, job: str = DISTILL) -> str:
    """The advice where a file is lost or damaged that a run has left behind it, and will not write again."""
    copied = "a complete copy of the file"
    if not (run / CONFIG).is_file():
        return copied
    return f"{copied}, or the run anew: minispike {job} --config {run / CONFIG} --out FOLDER"


def check_free(path: Path) -> None:
    """See that a run can begin in a folder. What a run leaves that was killed before it had a configuration is nothing.

    Raises:
        RunFolderError: there is something in it, or it is a file.
    """
    if not path.exists() or (path.is_dir() and all(_is_leftover(name) for name in path.iterdir())):
        return
    hint = "another --out"
    if (path / CONFIG).is_file():
        got, hint = "a run", f"--resume {path}, or another --out"
    else:
        got = "other files" if path.is_dir() else "a file"
    raise RunFolderError(problem(str(path), expected="a new or empty folder", got=got, hint=hint))


def _is_leftover(path: Path) -> bool:
    """Whether a file means nothing where there is no configuration beside it."""
    written = path.name == STATE and not (path.parent / CONFIG).exists()
    return written or (path.name.startswith(".") and path.suffix == ".part")


def read_config(path: Path, needed: Collection[str] | None = None) -> RunConfig:
    """The configuration of a run.

    Args:
        path: of the run.
        needed: see `run_config`.

    Raises:
        RunFolderError: the folder is no run.
        ConfigError: its configuration is damaged, or has lost a part.
    """
    file = path / CONFIG
    if not file.is_file():
        got = "no such folder" if not path.is_dir() else f"a folder without {CONFIG}"
        hint = "a folder that minispike distill wrote"
        if seeds := sorted(path.glob(f"*/{CONFIG}")):
            got, hint = "a folder of several runs", str(seeds[0].parent)
        raise RunFolderError(problem(str(path), expected="a run folder", got=got, hint=hint))
    version = None
    with suppress(RunFolderError):  # it serves an error alone
        version = _read_state(path).get("version")
    return run_config(load_toml(file), file, version, needed)


def run_config(
    table: Mapping[str, Any], file: Path, version: str | None, needed: Collection[str] | None = None
) -> RunConfig:
    """The configuration that a run has written down.

    Args:
        table: what ``file`` holds.
        file: that errors name.
        version: of minispike, which wrote it; None: not known.
        needed: the dotted keys that must be there, where the others may be left to their defaults, as those are
            that a later version has added. None: all of them, since a run that goes on would be changed in silence.

    Raises:
        ConfigError: it is damaged, or has lost a part, or another version has other settings.
    """
    other = ""
    if version not in (None, __version__):
        other = f", or minispike {version}, which wrote the file (this is {__version__})"
    try:
        config = from_mapping(RunConfig, table, where="the file")
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}{other}") from error
    missing = [key for key in left_out(config, table) if needed is None or key in needed]
    if missing:
        got, hint = f"nothing for {', '.join(missing[:3])}", "the whole file, as the run has written it"
        raise ConfigError(problem(str(file), expected="every setting of the run", got=got, hint=hint + other))
    return config


def read_state(path: Path, job: str = DISTILL) -> Facts:
    """What a run has done.

    Args:
        path: of the run.
        job: the command it is to be of.

    Raises:
        RunFolderError: the folder is no run, or one of another job, or its record is damaged.
    """
    if not (path / STATE).is_file():
        hint = "a folder that minispike distill wrote"
        raise RunFolderError(problem(str(path), expected="a run folder", got=f"no {STATE}", hint=hint))
    state = _read_state(path)
    if (own := state.get("job", DISTILL)) != job:
        got, hint = f"one of minispike {own}", f"minispike {own} --resume {path}"
        raise RunFolderError(problem(str(path), expected=f"a run of minispike {job}", got=got, hint=hint))
    kind = Distilled if "report" in state["done"] else READ_AGAIN.get(job, Any)
    as_record(state["done"], kind, path / STATE, **_RECORD, place="done")
    return dict(state)


def _read_state(path: Path) -> State:
    return read_record(path / STATE, State, **_RECORD)


def load_teacher(run: Path, name: str) -> tuple[Arrays, TeacherNotes]:
    """The weights of a run's teacher, and the notes on them.

    Args:
        run: the folder.
        name: `PRETRAINED` or `FINETUNED`.

    Raises:
        CheckpointError: they are lost, or damaged.
    """
    path, hint = run / f"{name}.safetensors", restored_or_anew(run)
    return load_noted(path, TeacherNotes, what="a teacher with its shape", hint=hint)


def teacher_shape(run: Path) -> BertConfig | None:
    """The shape of the teacher of a run folder, where it is known (not of every foreign ONNX file).

    Raises:
        CheckpointError: the file of its weights is damaged.
        RunFolderError: the record of the run is.
    """
    for name in (FINETUNED, PRETRAINED):
        if (run / f"{name}.safetensors").is_file():
            return _bert_config(run / f"{name}.safetensors", load_teacher(run, name)[1]["config"])
    given = read_state(run)["done"].get("read teacher", {}) if (run / STATE).is_file() else {}
    return _bert_config(run / STATE, given["shape"]) if given.get("shape") else None


def _bert_config(path: Path, shape: Mapping[str, Any]) -> BertConfig:
    """A shape on record; what another version has written beside it is left alone.

    Raises:
        RunFolderError: it is the shape of no BERT.
    """
    try:
        return BertConfig.of(shape)
    except ConfigError as cause:
        hint = restored_or_anew(path.parent)
        raise RunFolderError(problem(str(path), expected="the shape of a BERT", got=str(cause), hint=hint)) from cause
