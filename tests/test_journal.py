"""The journal of a run, across kills and resumes."""

import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minispike.errors import DataError
from minispike.train.journal import Journal


def test_lines_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "run" / "metrics.jsonl"
    with Journal(path) as journal:
        journal.write(step=1, loss=0.1 + 0.2, phase="stage 1", rates=[0.25, 1e-12])
        journal.write(step=2, loss=5e-324, phase="好\n\u2028", best=None, done=True)
    assert Journal.read(path) == [
        {"step": 1, "loss": 0.1 + 0.2, "phase": "stage 1", "rates": [0.25, 1e-12]},
        {"step": 2, "loss": 5e-324, "phase": "好\n\u2028", "best": None, "done": True},
    ]
    assert path.read_bytes().count(b"\n") == 2


def test_numbers_that_json_lacks_are_strings_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with Journal(path) as journal:
        journal.write(loss=math.nan, norm=math.inf, rates={"low": [-math.inf]})
    assert path.read_text() == '{"loss": "nan", "norm": "inf", "rates": {"low": ["-inf"]}}\n'
    (line,) = Journal.read(path)
    assert math.isnan(line["loss"])
    assert line["norm"] == math.inf
    assert line["rates"] == {"low": [-math.inf]}


def test_numpy_becomes_numbers_and_lists(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with Journal(path) as journal:
        journal.write(loss=np.float64(0.1), half=np.float32(0.5), step=np.int64(3), rates=np.array([1, np.nan]))
    (line,) = Journal.read(path)
    assert (line["loss"], line["half"], line["step"], line["rates"][0]) == (0.1, 0.5, 3, 1.0)
    assert math.isnan(line["rates"][1])


def test_what_json_does_not_know_is_refused_and_leaves_no_trace(tmp_path: Path) -> None:
    with Journal(tmp_path / "metrics.jsonl") as journal:
        with pytest.raises(TypeError):
            journal.write(step=1, loss=object())
        assert journal.position == 0


def test_a_new_journal_is_empty_and_an_appended_one_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    for step in (1, 2):
        with Journal(path, append=True) as journal:
            journal.write(step=step)
    assert Journal.read(path) == [{"step": 1}, {"step": 2}]
    Journal(path).close()
    assert Journal.read(path) == []


def test_resume_cuts_back_to_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with Journal(path) as journal:
        journal.write(step=1)
        journal.sync()
        checkpoint = journal.position
        assert checkpoint == path.stat().st_size
        journal.write(step=2)
    with Journal(path, append=True) as journal:
        journal.truncate(checkpoint)
        assert journal.position == checkpoint
        journal.write(step=2, again=True)
    assert Journal.read(path) == [{"step": 1}, {"step": 2, "again": True}]


@pytest.mark.parametrize("half", [b'{"step": 2, "lo', b"\x00\x00\x00", b'{"step": 2}'])
def test_a_half_written_last_line_is_ignored_and_cut(tmp_path: Path, half: bytes) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n' + half)
    assert Journal.read(path) == [{"step": 1}]
    with Journal(path, append=True) as journal:
        journal.write(step=2)
    assert Journal.read(path) == [{"step": 1}, {"step": 2}]


@given(st.lists(st.integers(0, 10**9), max_size=5), st.data())
def test_truncate_leaves_whole_lines(tmp_path_factory: Any, steps: list[int], data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("journal") / "metrics.jsonl"
    with Journal(path) as journal:
        positions = [0]
        for step in steps:
            journal.write(step=step)
            positions.append(journal.position)
        cut = data.draw(st.integers(0, positions[-1]))
        journal.truncate(cut)
        kept = sum(position <= cut for position in positions) - 1
        assert journal.position == positions[kept]
    assert Journal.read(path) == [{"step": step} for step in steps[:kept]]


@pytest.mark.parametrize("position", [-1, 13])
def test_a_position_outside_the_file_is_refused(tmp_path: Path, position: int) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n')
    with (
        Journal(path, append=True) as journal,
        pytest.raises(DataError, match=r"expected .* bytes or more, got 12"),
    ):
        journal.truncate(position)
    assert Journal.read(path) == [{"step": 1}]


@pytest.mark.parametrize("line", [b"{oops", b"", b"[1, 2]", b"\xff\xfe", b"\x00\x00"])
def test_a_corrupt_line_is_named(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n' + line + b'\n{"step": 3}\n')
    with pytest.raises(DataError, match=r"metrics\.jsonl:2: expected a JSON object, got"):
        Journal.read(path)


def test_a_missing_journal_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.jsonl: expected a journal, got No such file"):
        Journal.read(tmp_path / "nowhere.jsonl")


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_written_lines_outlive_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    program = (
        "import os, signal, sys\n"
        "from minispike.train.journal import Journal\n"
        "journal = Journal(sys.argv[1])\n"
        "journal.write(step=1)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(path)], check=False, cwd=Path(__file__).parents[1])
    assert ended.returncode == -signal.SIGKILL
    assert Journal.read(path) == [{"step": 1}]


@pytest.mark.skipif(os.name != "posix", reason="limits the size of files as POSIX does")
def test_a_full_disk_names_the_journal(tmp_path: Path) -> None:
    program = (
        "import resource, signal, sys; from minispike.train.journal import Journal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (50, 50))\n"
        "try:\n"
        "    with Journal(sys.argv[1]) as journal:\n"
        "        for step in range(9):\n"
        "            journal.write(step=step, loss=0.5)\n"
        "except OSError as error:\n"
        "    print(error.filename)\n"
    )
    path = tmp_path / "metrics.jsonl"
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, timeout=60)
    assert done.stdout == f"{path}\n" and not done.stderr
    assert [line["step"] for line in Journal.read(path)] == [0, 1]
