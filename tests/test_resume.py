"""A run that is killed and taken up again ends where one ends that was left alone, to the last digit."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny import TINY, Outcome, cut_short, minispike, results

from minispike.checkpoint import load_tensors
from minispike.train.journal import Journal

for library in ("tokenizers", "onnx", "onnxruntime", "safetensors", "matplotlib"):
    pytest.importorskip(library)

pytestmark = pytest.mark.usefixtures("quick_report")

PHASES = ("pretrain teacher", "fine-tune teacher", "stage 1", "stage 2", "direct training")
STEP = 5  # at which a phase is killed; there is a checkpoint of an earlier one

KILLER = """
import os, signal, sys
from minispike.cli import main
from minispike.train.journal import Journal

phase, step, write = sys.argv[1], int(sys.argv[2]), Journal.write

def watched(self, **fields):
    write(self, **fields)
    if (fields["phase"], fields["step"]) == (phase, step):
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))  # the latter ends a Windows process

Journal.write = watched
sys.exit(main(sys.argv[3:]))
"""
"""Kills itself, without a chance to tidy up, when the journal hears of a step of a phase."""

RENAME_KILLER = """
import os, signal, sys
from minispike.cli import main

name, count, replace = sys.argv[1], int(sys.argv[2]), os.replace

def watched(source, target):
    global count
    if os.path.basename(target) == name:
        count -= 1
        if count < 0 and not os.environ.get("AFTER"):
            os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
    replace(source, target)
    if count < 0:
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))

os.replace = watched
sys.exit(main(sys.argv[3:]))
"""
"""Kills itself before or after a file of this name takes its place for the (count + 1)-th time."""

LISTENER = """
import signal, sys
from minispike.cli import main

signal.signal(signal.SIGINT, signal.default_int_handler)  # which a test run in the background lacks
sys.exit(main(sys.argv[1:]))
"""

Finished = tuple[Path, Outcome]


def start(out: Path, *more: str) -> list[str]:
    """The words of a tiny run that saves a checkpoint after every step."""
    return ["distill", "--out", str(out), "--set", *TINY, "checkpoint_minutes=0.0", *more]


def killed(program: str, *argv: object, after: bool = False) -> None:
    """Run a program that kills itself, and see that it has."""
    environment = {**os.environ, "AFTER": "1" if after else ""}
    words = [sys.executable, "-c", program, *map(str, argv)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == (-signal.SIGKILL if os.name == "posix" else signal.SIGTERM), done.stderr


def assert_same(run: Path, other: Path) -> None:
    """Two runs have computed the same."""
    own, others = results(run), results(other)
    assert own.keys() == others.keys()
    for name, value in own.items():
        assert value == others[name], name


def test_killed_in_every_phase(tmp_path: Path, finished: Finished) -> None:
    run = tmp_path / "run"
    argv = start(run)
    for phase in PHASES:
        killed(KILLER, phase, STEP, *argv)
        assert phase not in json.loads((run / "state.json").read_text(encoding="utf-8"))["done"]
        _, notes = load_tensors(run / "checkpoint.safetensors")
        assert (notes["phase"], notes["step"]) == (phase, STEP)
        assert Journal.read(run / "metrics.jsonl")[-1]["step"] == STEP
        argv = ["distill", "--resume", str(run)]
    outcome = minispike(*argv)
    assert outcome.code == 0, outcome.err
    assert "direct training: 16/16" in outcome.err
    assert "stage 2" not in outcome.err
    assert_same(run, finished[0])
    assert not (run / "checkpoint.safetensors").exists()
    table = finished[1].out[finished[1].out.index("\nmodel") : finished[1].out.index("report: ")]
    assert table in outcome.out


@pytest.fixture(scope="module")
def killed_in_stage_1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run that began with an empty cache and was killed in stage 1, and the cache that is left."""
    folder = tmp_path_factory.mktemp("stage 1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINISPIKE_CACHE", str(folder / "cache"))
        killed(KILLER, "stage 1", STEP, *start(folder / "run"))
    return folder


LONG = [pytest.param(what, marks=pytest.mark.thorough) for what in ("deleted", "cut short")]


@pytest.mark.parametrize("what", ["kept", "full of zeros", "not writable", *LONG])
def test_the_cache_changes_no_number(
    killed_in_stage_1: Path, tmp_path: Path, finished: Finished, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Killed with an empty, then a half-filled cache, and taken up with what is left of it."""
    shutil.copytree(killed_in_stage_1, tmp_path, dirs_exist_ok=True)
    run, cache = tmp_path / "run", tmp_path / "cache"
    monkeypatch.setenv("MINISPIKE_CACHE", str(cache))
    resume = ["distill", "--resume", str(run)]

    def spoil() -> None:
        entries = list(cache.glob("*.teacher"))
        assert entries
        for path in entries:
            if what == "deleted":
                path.unlink()
            elif what == "cut short":
                cut_short(path)
            elif what == "full of zeros":
                path.write_bytes(path.read_bytes()[:200] + bytes(path.stat().st_size - 200))

    if what == "not writable":
        shutil.rmtree(cache)
        cache.write_text("no folder", encoding="utf-8")
    else:
        spoil()
        killed(KILLER, "stage 2", STEP, *resume)
        spoil()
    outcome = minispike(*resume)
    assert outcome.code == 0, outcome.err
    assert ("answers are not kept" in outcome.err) == (what == "not writable")
    assert_same(run, finished[0])


def test_killed_while_files_take_their_place(tmp_path: Path, finished: Finished) -> None:
    """A checkpoint half written, a phase done and not on record, on record with its checkpoint still there."""
    run = tmp_path / "run"
    resume = ["distill", "--resume", run]
    killed(RENAME_KILLER, "checkpoint.safetensors", 3, *start(run))
    assert list(run.glob(".checkpoint.safetensors.*.part"))
    killed(RENAME_KILLER, "pretrained.onnx", 0, *resume)
    assert not list(run.glob(".checkpoint.safetensors.*.part"))
    killed(RENAME_KILLER, "state.json", 0, *resume)
    killed(RENAME_KILLER, "state.json", 0, *resume, after=True)
    assert (run / "checkpoint.safetensors").is_file()
    killed(RENAME_KILLER, "energy.json", 0, *resume)
    killed(RENAME_KILLER, "report.html", 0, *resume)
    assert not (run / "report.html").exists()
    outcome = minispike(*resume)
    assert outcome.code == 0, outcome.err
    assert_same(run, finished[0])
    assert (run / "report.html").is_file()
    assert not list(run.rglob(".*.part"))


@pytest.mark.thorough
def test_killed_at_every_third_step_with_and_without_checkpoints(tmp_path: Path, finished: Finished) -> None:
    for minutes in ("0.0", "5.0"):
        for phase in PHASES:
            for step in (0, 3, 6, 7):
                run = tmp_path / f"{phase} {step} {minutes}"
                killed(KILLER, phase, step, *start(run, f"checkpoint_minutes={minutes}"))
                assert minispike("distill", "--resume", run).code == 0
                assert_same(run, finished[0])


def test_other_texts_than_before_are_refused(tmp_path: Path) -> None:
    data, run = tmp_path / "data", tmp_path / "run"
    data.mkdir()
    rows = [f"a {adjective} {noun} .\t{i % 2}" for i, adjective in enumerate(("fine", "dull")) for noun in "abcdefgh"]
    for name, shown in (("train", rows), ("dev", ["dev fine\t0", "dev dull\t1"]), ("test", ["good\t0", "bad\t1"])):
        (data / f"{name}.tsv").write_text("\n".join(["text\tlabel", *shown]), encoding="utf-8")
    killed(KILLER, PHASES[0], STEP, *start(run, f"data.path={data}"))
    (data / "test.tsv").write_text("text\tlabel\ngood\t1\nbad\t1", encoding="utf-8")
    outcome = minispike("distill", "--resume", run)
    assert outcome.code == 2
    assert "expected the same data, got other texts or labels" in outcome.err


@pytest.mark.skipif(os.name != "posix", reason="signals of this kind are POSIX's")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_tells_how_to_go_on(tmp_path: Path, number: signal.Signals) -> None:
    run = tmp_path / "my run"
    words = [sys.executable, "-c", LISTENER, *start(run, "teacher.pretraining.steps=100000")]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (run / "checkpoint.safetensors").is_file():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.endswith(f"interrupted; to go on: minispike distill --resume '{run}'\n")
    assert "Traceback" not in err
    assert load_tensors(run / "checkpoint.safetensors")[1]["phase"] == PHASES[0]
    assert not list(run.rglob(".*.part"))
