"""Contenders that take their turns: each is a process of its own, which works when it is asked and waits otherwise."""

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from benchmarks.memory import Peak


@dataclass
class Figures:
    """What has been found out about a contender.

    Attributes:
        rounds: seconds of each step, round by round.
        peak: bytes of memory, 0 where nobody has looked.
        lost: why there is no more; empty if nothing went wrong.
    """

    rounds: list[list[float]] = field(default_factory=list)
    peak: int = 0
    lost: str = ""

    @property
    def medians(self) -> list[float]:
        """Seconds of a step, one number a round."""
        return [statistics.median(seconds) for seconds in self.rounds]

    @property
    def seconds(self) -> float:
        """Of a step: the median over the rounds."""
        return statistics.median(self.medians)

    def record(self) -> dict[str, Any]:
        """As plain data."""
        if self.lost:
            return {"lost": self.lost}
        spread = [min(self.medians), max(self.medians)]
        return {"seconds": self.seconds, "spread": spread, "rounds": self.rounds, "peak_mb": self.peak / 2**20}


class Process:
    """A contender at the other end of a pipe.

    Args:
        words: the module that is run, which calls `benchmarks.contender.serve`, and what it is told.

    Raises:
        RuntimeError: it ends before it is ready.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self._errors = tempfile.TemporaryFile("w+", errors="replace")
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            [sys.executable, "-m", *words], stdin=pipe, stdout=pipe, stderr=self._errors, text=True
        )
        try:
            self._answer()
        except BaseException:
            self.end()
            raise

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        if line := self._process.stdout.readline():
            return json.loads(line)
        code = self._process.wait()
        self._errors.seek(0)
        said = [line.strip() for line in self._errors if line.strip()]
        raise RuntimeError(said[-1] if said and code > 0 else f"it ended with code {code}")

    def ask(self, steps: int) -> list[float]:
        """How long each of some steps takes, in seconds."""
        return self._ask(steps)["seconds"]

    def peak(self, steps: int) -> int:
        """The most memory, in bytes, that it and its children hold during some steps.

        Where the system does not tell of shares in memory: the most that it has held since it began, and the most
        that a child of it has held, which counts twice what they share.
        """
        with Peak(self._process.pid) as peak:
            own = self._ask(steps)["peak"]
        return peak.seen or own

    def _ask(self, steps: int) -> Any:
        assert self._process.stdin is not None
        with suppress(OSError):  # it is no more; the end of its answers tells why
            self._process.stdin.write(f"{steps}\n")
            self._process.stdin.flush()
        return self._answer()

    def end(self) -> None:
        """Let it go."""
        self._process.kill()
        self._process.wait()
        self._errors.close()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):  # of a word that nobody has read
                    pipe.close()


def take_turns(
    contenders: Mapping[str, Sequence[str]], rounds: int, steps: int, title: str, *, memory: bool = True
) -> dict[str, Figures]:
    """Ask each contender for some steps, one after the other, round after round.

    Args:
        contenders: by name, the words that start each (see `Process`).
        rounds: how often each has its turn.
        steps: of a turn.
        title: of the work, for the lines on standard error.
        memory: give each one more turn, which is not timed, to look at its memory: looking takes time.
    """
    found = {name: Figures() for name in contenders}
    processes: dict[str, Process] = {}
    try:
        for name, words in contenders.items():
            try:
                processes[name] = Process(words)
            except RuntimeError as error:
                found[name].lost = str(error)
        for i in range(rounds + memory):
            for name, process in list(processes.items()):
                try:
                    if i < rounds:
                        found[name].rounds.append(process.ask(steps))
                    else:
                        found[name].peak = process.peak(steps)
                except RuntimeError as error:
                    found[name].lost = str(error)
                    processes.pop(name).end()
            print(f"{title}: " + (f"round {i + 1} of {rounds}" if i < rounds else "memory"), file=sys.stderr)
    finally:
        for process in processes.values():
            process.end()
    return found
