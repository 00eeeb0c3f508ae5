"""Keeping freed memory, so that the next training step finds it warm.

A step allocates the same large arrays as the step before. By default the C library returns each of them to the
operating system when it is freed and asks for it again, and the system hands out every page anew, filled with zeros:
on the small networks here that was nearly half of a step's time.
"""

import ctypes
import sys
from contextlib import suppress

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # from glibc's malloc.h


def keep_freed_memory() -> bool:
    """Ask glibc to serve large arrays from memory it keeps; elsewhere nothing happens.

    Returns:
        Whether the C library took the request.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # another C library, such as musl
        return False
    return bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, 2**31 - 1))


def give_back_freed_memory() -> None:
    """Ask glibc to return what it keeps: before a process is copied, lest the copy have it too, page by page."""
    if sys.platform == "linux":
        with suppress(AttributeError, OSError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)
