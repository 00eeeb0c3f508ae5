"""How long something takes, time after time."""

import time
from collections.abc import Callable


def seconds(job: Callable[[], object], times: int) -> list[float]:
    """How long each call took; one before them, which warms up, does not count."""
    found = []
    for _ in range(times + 1):
        began = time.perf_counter()
        job()
        found.append(time.perf_counter() - began)
    return found[1:]
