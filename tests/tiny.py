"""Runs of a few seconds, for the tests of the command line."""

import contextlib
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from helpers import SENTENCE

from minispike.cli import main
from minispike.data.reviews import ReviewsConfig, build_reviews
from minispike.train.journal import Journal

TEACHER = (
    "teacher.hidden_size=16", "teacher.layers=2", "teacher.heads=2", "teacher.vocab_size=300",
    "teacher.pretraining.steps=8", "teacher.pretraining.batch_size=8",
    "teacher.finetuning.steps=8", "teacher.finetuning.batch_size=8", "teacher.finetuning.evaluations=4",
)  # fmt: skip
TINY = (
    "data.reviews.labelled=200", "data.reviews.dev=40", "data.reviews.test=60", "data.reviews.unlabelled=100",
    *TEACHER,
    "student.dim=16", "student.depth=2", "student.heads=2", "student.time_steps=2",
    "stage1.steps=8", "stage1.batch_size=8", "stage2.steps=8", "stage2.batch_size=8", "stage2.evaluations=4",
)  # fmt: skip
"""Settings for ``--set``: the built-in corpus, shrunk, and networks of width 16."""
BRIEF = (
    *TINY,
    "data.reviews.labelled=60", "data.reviews.dev=20", "data.reviews.test=20", "data.reviews.unlabelled=40",
    "teacher.pretraining.steps=2", "teacher.finetuning.steps=2", "teacher.finetuning.evaluations=1",
    "stage1.steps=2", "stage2.steps=2", "stage2.evaluations=1",
)  # fmt: skip
"""The same, and two steps a phase."""


MODELS = ("majority class", "bag of words", "teacher", "student", "direct")
"""The rows of a run's table."""


class Outcome(NamedTuple):
    """What a command left: its exit code, what it said, and what it complained about."""

    code: int
    out: str
    err: str


def minispike(*argv: object) -> Outcome:
    """Run a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(word) for word in argv])
    return Outcome(code, out.getvalue(), err.getvalue())


def distill(out: Path, *settings: str, flags: Sequence[object] = ()) -> Outcome:
    """A tiny run in the folder ``out``."""
    return minispike("distill", "--out", out, *flags, "--set", *TINY, *settings)


def assert_mistake(outcome: Outcome, *parts: str) -> None:
    """The command has stopped with a sentence of the one form, that holds these parts, and no traceback."""
    assert outcome.code == 2, outcome
    assert "Traceback" not in outcome.err
    message = outcome.err.strip().splitlines()[-1]
    assert SENTENCE.fullmatch(message), outcome.err
    for part in parts:
        assert part in message


def results(run: Path) -> dict[str, Any]:
    """What a run has computed, down to the last digit, without the times it took."""
    files = {str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*.safetensors")}
    files["energy"] = (run / "energy.json").read_bytes() if (run / "energy.json").is_file() else b""
    state = json.loads((run / "state.json").read_text(encoding="utf-8"))
    return {"state": _timeless(state), "metrics": Journal.read(run / "metrics.jsonl"), **files}


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(item) for key, item in value.items() if key != "seconds"}
    return value


def reviews() -> Any:
    """The corpus of the tiny run."""
    return build_reviews(ReviewsConfig(labelled=200, dev=40, test=60, unlabelled=100))


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, with its content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def interrupt(monkeypatch: pytest.MonkeyPatch, phase: str, step: int, skip: int = 0) -> None:
    """Press Ctrl-C when the journal hears of a step; let that pass ``skip`` times."""
    write, left = Journal.write, [skip]

    def watched(self: Journal, **fields: Any) -> None:
        write(self, **fields)
        if (fields["phase"], fields["step"]) == (phase, step) and "loss" in fields:
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt

    monkeypatch.setattr(Journal, "write", watched)


def cut_short(path: Path) -> None:
    """Keep the first half of a file."""
    os.truncate(path, path.stat().st_size // 2)


@pytest.fixture
def quick_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports without pictures, which are most of a tiny run's time."""

    def write(path: Path, _: Any) -> None:
        path.write_text("report", encoding="utf-8")

    monkeypatch.setattr("minispike.summary.write_report", write)


@pytest.fixture(scope="session")
def finished_runs() -> dict[str, tuple[Path, Outcome]]:
    """The tiny run of each backend, once it has been asked for."""
    return {}


@pytest.fixture(scope="module")
def finished(
    array_backend: str, finished_runs: dict[str, tuple[Path, Outcome]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Outcome]:
    """A tiny run that is done, and what it said. Not to be changed; copy it first."""
    if array_backend not in finished_runs:
        run = tmp_path_factory.mktemp("runs") / "tiny"
        outcome = distill(run)
        assert outcome.code == 0, outcome.err
        finished_runs[array_backend] = run, outcome
    return finished_runs[array_backend]
