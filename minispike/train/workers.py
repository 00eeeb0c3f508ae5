"""Threads that compute batches side by side, and the parts of one where `minispike.train.processes` cannot.

Between two products of matrices NumPy works on one core. So, rather than spread each product over the cores, every
worker computes a part of the batch from beginning to end, its products on one thread. What a part gives depends on
the part alone, and results come in the order of the parts: the numbers are the same for any number of workers.
"""

import os
import sys
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, Generic, TypeVar

from minispike.modes import default_dtype, get_default_dtype
from minispike.smooth import smooth_spikes, spikes_are_smooth

Job = TypeVar("Job")
Result = TypeVar("Result")

USUAL = 2
"""Parts that a batch is computed in on a CPU, and batches that are computed at a time without a graph."""


def cores() -> int:
    """The cores that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Workers(Generic[Job, Result]):
    """Carries out jobs side by side, with each job's products of matrices on one thread.

    Args:
        function: a job's result.
        count: jobs at a time; 1: one after the other, in the thread that asks.
    """

    def __init__(self, function: Callable[[Job], Result], count: int) -> None:
        self._function, self._pool = function, ThreadPoolExecutor(count) if count > 1 else None

    def map(self, jobs: Iterable[Job]) -> Generator[Result]:
        """The result of each job, in order. An error of a job is raised in its place."""
        with single_threaded_products:
            if self._pool is None:
                yield from map(self._function, jobs)
                return
            dtype, smooth = get_default_dtype(), spikes_are_smooth()  # switches of this thread, which the others share

            def carry_out(job: Job) -> Result:
                with default_dtype(dtype), smooth_spikes(smooth):
                    return self._function(job)

            yield from self._pool.map(carry_out, jobs)

    def close(self) -> None:
        """Wait for what is being carried out, and let the threads go."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


class _SingleThreadedProducts:
    """Within a block of it products take one thread each. Without threadpoolctl they take as many as they did before,
    which costs time, and can change the last digits.

    The number of threads is one for a whole process: who comes first sets it, who goes last puts it back.
    """

    def __init__(self) -> None:
        self._lock, self._users = threading.Lock(), 0
        self._limiter: Any = None
        if hasattr(os, "register_at_fork"):  # a copy of the process has the lock, but not the thread that would open it
            opened = self._lock.release
            os.register_at_fork(before=self._lock.acquire, after_in_parent=opened, after_in_child=opened)

    def __enter__(self) -> None:
        with self._lock:
            if not self._users and (blas := _blas()) is not None:
                self._limiter = blas.limit(limits=1, user_api="blas")
            self._users += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if not self._users and self._limiter is not None:
                self._limiter.restore_original_limits()
                self._limiter = None


@cache
def _blas() -> Any:
    """What tells the library of matrix products how many threads to use; None without threadpoolctl."""
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return None
    return ThreadpoolController()


single_threaded_products = _SingleThreadedProducts()
"""Entered with ``with``: products of matrices take one thread each, in the whole process."""
