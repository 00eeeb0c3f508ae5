"""Threads that compute the parts of a batch side by side.

Between two products of matrices NumPy works on one core. So, rather than spread each product over the cores, every
worker computes a part of the batch from beginning to end, its products on one thread. What a part gives depends on
the part alone, and results come in the order of the parts: the numbers are the same for any number of workers.
"""

import os
import sys
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any, TypeVar

from minispike.modes import default_dtype, get_default_dtype

Job = TypeVar("Job")
Result = TypeVar("Result")


def cores() -> int:
    """The cores that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Workers:
    """Carries out jobs side by side, where there are several.

    Args:
        count: jobs at a time; 1: one after the other, in the thread that asks.
        jobs: that there will be at least; with a single one, the products of matrices keep all their threads.
    """

    def __init__(self, count: int, jobs: int) -> None:
        self.count = min(count, jobs)
        self._pool = ThreadPoolExecutor(self.count) if self.count > 1 else None
        self._blas = _blas() if jobs > 1 else None

    def map(self, function: Callable[[Job], Result], jobs: Iterable[Job]) -> Generator[Result]:
        """The results of ``function`` on each job, in order. An error of a job is raised in its place."""
        with self._single_threaded_products():
            if self._pool is None:
                yield from map(function, jobs)
                return
            dtype = get_default_dtype()  # a switch of this thread, which the workers shall share

            def carry_out(job: Job) -> Result:
                with default_dtype(dtype):
                    return function(job)

            yield from self._pool.map(carry_out, jobs)

    def close(self) -> None:
        """Wait for what is being carried out, and let the threads go."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def _single_threaded_products(self) -> AbstractContextManager[Any]:
        return nullcontext() if self._blas is None else self._blas.limit(limits=1, user_api="blas")


@cache
def _blas() -> Any:
    """What tells the library of matrix products how many threads to use; None without threadpoolctl."""
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:  # the numbers are the same, the time is not
        return None
    return ThreadpoolController()
