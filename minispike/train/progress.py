"""Progress of one phase: a bar where somebody watches, a few plain lines where it goes to a file."""

import importlib
import io
import os
import sys
from contextlib import suppress
from time import monotonic
from types import TracebackType
from typing import Any, Self, TextIO

LINE_SHARE = 0.1  # of the phase
LINE_SECONDS = 15.0
LONGEST_SILENCE = 300.0  # seconds


class Progress:
    """Shows how far a phase is and its latest figures: on a terminal with tqdm, elsewhere in plain lines.

    Without a terminal, or without tqdm, a line is due once both a tenth of the phase and 15 seconds have gone
    by since the last one: ten lines for a phase of five minutes, one for a phase of ten seconds. A long phase
    gets one every five minutes. The last line always comes, and tells whether an exception stopped the phase.

    Use it in a ``with`` statement::

        with Progress("stage 1", total=1000, start=resumed_at) as bar:
            for step in range(resumed_at, 1000):
                bar.update(loss=train(step))

    A stream that breaks (a closed terminal, a pipe whose reader has gone) silences the progress, not the run.

    Args:
        name: the phase's name.
        total: its number of steps.
        stream: where to show it; standard error if None.
        start: the steps done in an earlier run, which do not count for the speed.
    """

    def __init__(self, name: str, total: int, stream: TextIO | None = None, start: int = 0) -> None:
        self.name = name
        self.total = total
        self.done = start
        self._start = start
        self._stream = stream or sys.stderr or io.StringIO()  # the last where somebody has closed standard error
        self._figures: dict[str, str] = {}
        self._bar: Any = None
        self._began = self._line_at = monotonic()
        self._line_done = start

    def __enter__(self) -> Self:
        self._began = self._line_at = monotonic()
        tqdm = _tqdm() if self._stream.isatty() else None
        if tqdm is not None:
            shape: dict[str, Any] = {"dynamic_ncols": True} if _has_size(self._stream) else {"ncols": 80, "nrows": 24}
            self._bar = tqdm(desc=self.name, total=self.total, initial=self.done, file=self._stream, **shape)
        return self

    def update(self, n: int = 1, **figures: float | str) -> None:
        """Count ``n`` more steps; figures stay on show until they are given again, as ``loss=0.123``."""
        self.done += n
        self._figures.update({name: _shown(value) for name, value in figures.items()})
        if self._bar is not None:
            self._bar.set_postfix_str(" ".join(self._pairs()), refresh=False)
            self._bar.update(n)
            return
        now = monotonic()
        waited = now - self._line_at
        far_enough = self.done - self._line_done >= LINE_SHARE * self.total
        if self.done < self.total and ((waited >= LINE_SECONDS and far_enough) or waited >= LONGEST_SILENCE):
            passed = now - self._began
            left = passed * (self.total - self.done) / max(1, self.done - self._start)
            self._line(f"{_clock(passed)} passed", f"{_clock(left)} left")
            self._line_at, self._line_done = now, self.done

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()  # ends the bar's line, so that a traceback starts on one of its own
            self._bar = None
        else:
            self._line(f"{'done' if kind is None else 'stopped'} after {_clock(monotonic() - self._began)}")

    def _pairs(self) -> list[str]:
        return [f"{name}={value}" for name, value in self._figures.items()]

    def _line(self, *remarks: str) -> None:
        percent = 100 * self.done // self.total if self.total else 100
        parts = [f"{self.name}: {self.done}/{self.total} ({percent} %)", *remarks]
        if self._figures:
            parts.append(" ".join(self._pairs()))
        with suppress(OSError, ValueError):  # ValueError: the stream is closed
            print(", ".join(parts), file=self._stream, flush=True)


def _tqdm() -> Any:
    try:
        return importlib.import_module("tqdm").tqdm
    except ImportError:
        return None


def _has_size(stream: TextIO) -> bool:
    """Whether the terminal knows its size; those of some containers say 0 by 0, and tqdm would show nothing."""
    with suppress(OSError, ValueError):
        return min(os.get_terminal_size(stream.fileno())) > 0
    return False


def _shown(value: float | str) -> str:
    if isinstance(value, (int, str)):
        return str(value)
    number = float(value)
    return f"{number:.0f}" if 100 <= abs(number) < 1e9 else f"{number:.3g}"


def _clock(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{second:02d}"
