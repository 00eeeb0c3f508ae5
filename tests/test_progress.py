"""Progress: plain lines where nobody watches, a bar on a terminal."""

import io
import os
import select
import struct
import sys
from contextlib import suppress
from typing import Any

import pytest

from minispike.train import progress
from minispike.train.progress import Progress


class Clock:
    """A clock that moves only when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    fake = Clock()
    monkeypatch.setattr(progress, "monotonic", fake)
    return fake


def lines_of(clock: Clock, seconds: float, steps: int, start: int = 0) -> list[str]:
    stream = io.StringIO()
    with Progress("stage 1", steps, stream, start=start) as bar:
        for step in range(start, steps):
            clock.now += seconds / (steps - start)
            bar.update(loss=1 / (step + 1))
    return stream.getvalue().splitlines()


def test_five_minutes_print_ten_lines(clock: Clock) -> None:
    lines = lines_of(clock, 300, 1000)
    assert len(lines) == 10
    assert lines[0] == "stage 1: 100/1000 (10 %), 0:00:30 passed, 0:04:30 left, loss=0.01"
    assert lines[-1] == "stage 1: 1000/1000 (100 %), done after 0:05:00, loss=0.001"


@pytest.mark.parametrize(("seconds", "count"), [(1, 1), (10, 1), (61, 5), (150, 10), (3600, 12), (36000, 120)])
def test_lines_of_short_and_long_phases(clock: Clock, seconds: float, count: int) -> None:
    assert abs(len(lines_of(clock, seconds, 3600)) - count) <= 1


def test_a_resumed_phase_counts_only_its_own_steps_for_the_speed(clock: Clock) -> None:
    lines = lines_of(clock, 100, 1000, start=500)
    assert lines[0] == "stage 1: 600/1000 (60 %), 0:00:20 passed, 0:01:20 left, loss=0.00167"


def test_an_exception_ends_the_phase_with_a_line(clock: Clock) -> None:
    stream = io.StringIO()
    with pytest.raises(KeyboardInterrupt), Progress("stage 1", 10, stream) as bar:
        bar.update(3)
        raise KeyboardInterrupt
    assert stream.getvalue() == "stage 1: 3/10 (30 %), stopped after 0:00:00\n"


def test_figures_are_short_and_stay_on_show() -> None:
    stream = io.StringIO()
    with Progress("stage 1", 2, stream) as bar:
        bar.update(loss=0.12345, rate=1e-5, perplexity=1234.56, epoch=2, best="yes")
        bar.update(loss=float("nan"))
    assert stream.getvalue().endswith("loss=nan rate=1e-05 perplexity=1235 epoch=2 best=yes\n")


def test_a_phase_without_steps() -> None:
    stream = io.StringIO()
    with Progress("stage 1", 0, stream):
        pass
    assert stream.getvalue() == "stage 1: 0/0 (100 %), done after 0:00:00\n"


def test_a_broken_stream_does_not_stop_the_run() -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    with Progress("stage 1", 1, Broken()) as bar:
        bar.update()


def test_standard_error_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("stage 1", 1) as bar:
        bar.update()
    captured = capsys.readouterr()
    assert captured.err.startswith("stage 1: 1/1 (100 %), done")
    assert captured.out == ""


def test_standard_error_that_is_closed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    with Progress("stage 1", 1) as bar:
        bar.update()
    assert capsys.readouterr().out == ""


def on_a_terminal(steps: int, error: type[BaseException] | None = None, columns: int = 70, rows: int = 24) -> str:
    """What a terminal shows of a phase of ``steps`` steps, stopped by ``error`` after two of them."""
    import fcntl
    import pty
    import termios

    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    with os.fdopen(follower, "w") as stream, os.fdopen(leader, "rb", buffering=0) as screen:
        with suppress(KeyboardInterrupt, ValueError), Progress("stage 1", steps, stream) as bar:
            for step in range(steps):
                if error is not None and step == 2:
                    raise error
                bar.update(loss=0.12345)
        stream.flush()
        shown = b""
        while select.select([screen], [], [], 0.5)[0]:  # a terminal hands its text over bit by bit
            shown += screen.read(65536)
        return shown.decode()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pseudo terminals")
class TestTerminal:
    """On a pseudo terminal."""

    @pytest.mark.parametrize(("columns", "rows"), [(70, 24), (0, 24), (0, 0), (70, 0)])
    def test_shows_a_bar_and_ends_its_line(self, columns: int, rows: int) -> None:
        pytest.importorskip("tqdm")
        shown = on_a_terminal(5, columns=columns, rows=rows)
        assert shown.count("\r\n") == 1
        assert shown.endswith("\n")
        last = shown.rstrip().rpartition("\r")[2]
        assert last.startswith("stage 1: 100%")
        assert "5/5" in last
        assert "loss=0.123" in last

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
    def test_an_exception_ends_the_line(self, error: type[BaseException]) -> None:
        pytest.importorskip("tqdm")
        shown = on_a_terminal(5, error)
        assert shown.endswith("\n")
        assert "2/5" in shown.rstrip().rpartition("\r")[2]

    def test_without_tqdm_there_are_lines(self, monkeypatch: pytest.MonkeyPatch) -> None:
        no_module: Any = None
        monkeypatch.setitem(sys.modules, "tqdm", no_module)
        assert on_a_terminal(5) == "stage 1: 5/5 (100 %), done after 0:00:00, loss=0.123\r\n"
