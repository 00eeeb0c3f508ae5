"""How much memory a process and its children hold, looked at from outside while they work."""

import os
import threading
from pathlib import Path
from types import TracebackType

PROC = Path("/proc")
INTERVAL = 0.02
"""Seconds between two looks."""


def proportional(pid: int) -> int | None:
    """The proportional set sizes of a process and of all that it has started, summed, in bytes.

    A page that several processes see counts for each of them by its share, so that the sum counts it once. None where
    the system does not tell, as anywhere but on Linux, or where the process has gone.
    """
    try:
        lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
        threads = os.listdir(PROC / str(pid) / "task")
    except OSError:
        return None
    own = sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return own + sum(proportional(child) or 0 for thread in threads for child in _children(pid, thread))


def _children(pid: int, thread: str) -> list[int]:
    """What a thread has started."""
    try:
        return [int(word) for word in (PROC / str(pid) / "task" / thread / "children").read_text().split()]
    except OSError:  # it has just ended
        return []


class Peak:
    """The largest `proportional` size of a process that was seen within a ``with`` block.

    Attributes:
        seen: in bytes; 0 where nothing could be seen.
    """

    def __init__(self, pid: int) -> None:
        self.seen = 0
        self._pid, self._over = pid, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while (size := proportional(self._pid)) is not None:
            self.seen = max(self.seen, size)
            if self._over.wait(INTERVAL):
                break

    def __enter__(self) -> "Peak":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
