"""A run folder: what is in it, and how an interrupted run is taken up where it stopped.

    config.toml           every hyper-parameter, as the run uses it
    metrics.jsonl         losses and evaluations, a line each
    state.json            the phases that are done, with their results
    checkpoint.safetensors  of the phase that is running
    model.safetensors     the student
    energy.json           its energy, row by row, and its firing rates
    tokenizer.json, teacher/, report.html

Each file but the journal, which is appended to, is written whole or not at all.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from minispike.checkpoint import load_tensors
from minispike.config import RunConfig
from minispike.errors import CheckpointError, ConfigError, RunFolderError, problem
from minispike.files import atomic_write
from minispike.models.bert import BertConfig
from minispike.settings import read_toml, to_mapping, to_toml
from minispike.toml_text import flat, load_toml
from minispike.train.journal import Journal
from minispike.train.loop import Keeper

CONFIG, METRICS, STATE, CHECKPOINT = "config.toml", "metrics.jsonl", "state.json", "checkpoint.safetensors"
MODEL, TOKENIZER, ENERGY, REPORT = "model.safetensors", "tokenizer.json", "energy.json", "report.html"
PRETRAINED, FINETUNED = "teacher/pretrained", "teacher/finetuned"
"""Both as ``.onnx``, and, where minispike knows the network, as ``.safetensors``."""

DISTILL = "distill"

Facts = dict[str, Any]
F = TypeVar("F", bound=Mapping[str, Any])


class RunFolder:
    """An open run.

    Args:
        path: the folder.
        config: of the run.
        resume: take up what is there instead of starting.
        job: the command the run is of: ``distill``, by default, or one that makes a teacher.

    Raises:
        RunFolderError: a new run in a folder that is not empty, or nothing to resume, or another job's.
    """

    def __init__(self, path: Path, config: RunConfig, *, resume: bool, job: str = DISTILL) -> None:
        self.path, self.config = path, config
        self.state: Facts = {"job": job, "done": {}, "journal": 0}
        if resume:
            self.state = read_state(path, job)
            for leftover in path.rglob(".*.part"):  # of a file that was half written when the run was killed
                leftover.unlink()
        else:
            check_free(path)
            path.mkdir(parents=True, exist_ok=True)
            self._write_state()
            with atomic_write(path / CONFIG) as file:  # last: from now on this is a run, which can be resumed
                file.write(to_toml(config))
        going_on = resume and self._checkpoint_is_of_running_phase()
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

    def _checkpoint_is_of_running_phase(self) -> bool:
        """Whether there is a checkpoint, of a phase that is not on record as done."""
        path = self.path / CHECKPOINT
        if not path.is_file():
            return False
        _, notes = load_tensors(path)
        if "phase" not in notes:
            got, hint = "tensors of something else", "deleting it: the phase begins anew"
            raise CheckpointError(problem(str(path), expected="a checkpoint", got=got, hint=hint))
        return notes["phase"] not in self.state["done"] and notes["journal"] >= self.state["journal"]


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


def read_config(path: Path) -> RunConfig:
    """The configuration of a run.

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
    config = read_toml(RunConfig, file)
    known = {key for key, _ in flat(load_toml(file))}
    missing = [key for key, _ in flat(to_mapping(config)) if key not in known]
    if missing:  # a default in its place would change the run in silence
        got, hint = f"nothing for {', '.join(missing[:3])}", "the whole file, as the run has written it"
        raise ConfigError(problem(str(file), expected="every setting of the run", got=got, hint=hint))
    return config


def read_state(path: Path, job: str = DISTILL) -> Facts:
    """What a run has done.

    Args:
        path: of the run.
        job: the command it is to be of.

    Raises:
        RunFolderError: the folder is no run, or one of another job, or its record is damaged.
    """
    try:
        state = json.loads((path / STATE).read_text(encoding="utf-8"))
        if not isinstance(state, dict) or not isinstance(state.get("done"), dict):
            raise ValueError("no record of phases")
    except FileNotFoundError as cause:
        hint = "a folder that minispike distill wrote"
        message = problem(str(path), expected="a run folder", got=f"no {STATE}", hint=hint)
        raise RunFolderError(message) from cause
    except ValueError as cause:
        hint = "a copy of the folder"
        message = problem(str(path / STATE), expected="the record of a run", got=str(cause), hint=hint)
        raise RunFolderError(message) from cause
    if (own := state.get("job", DISTILL)) != job:
        got, hint = f"one of minispike {own}", f"minispike {own} --resume {path}"
        raise RunFolderError(problem(str(path), expected=f"a run of minispike {job}", got=got, hint=hint))
    return state


def teacher_shape(run: Path) -> BertConfig | None:
    """The shape of the teacher of a run folder, where it is known (not of a foreign ONNX file)."""
    for name in (FINETUNED, PRETRAINED):
        path = run / f"{name}.safetensors"
        if path.is_file():
            return BertConfig(**load_tensors(path)[1]["config"])
    return None
