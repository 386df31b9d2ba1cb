"""The heap of a process that runs for months: what was freed is used again, or given back.

glibc gives threads arenas of their own, eight for each core, and what one thread has freed is of no use to another.
Nearly all that a process held was memory like that: of a worker's 725 MB after 29 real videos, which Serve runs on
whatever thread is free, 629 MB. With two arenas, and what is free given back after each video, it holds 144 MB, and
works no longer for that (measured: 51 s of CPU instead of 55 s).
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from functools import cache
from typing import Any

NUM_ARENAS = 2
ARENAS_VARIABLE = "MALLOC_ARENA_MAX"
LARGE_BYTES = 1024**2
_ARROW = "ARROW_DEFAULT_MEMORY_POOL"
_M_ARENA_MAX, _M_MMAP_THRESHOLD = -8, -3


def keep_small(*, large_apart: bool = False) -> None:
    """Have the threads of this process share their heap, and Arrow use it, too.

    Best before anything else is imported: arenas that threads have by then stay theirs, and Arrow chooses its allocator
    with its first allocation.

    ``MALLOC_ARENA_MAX``, ``MALLOC_MMAP_THRESHOLD_`` and ``ARROW_DEFAULT_MEMORY_POOL`` in the environment are obeyed
    instead. Another C library than glibc is left to its own ways.

    Args:
        large_apart: blocks of a megabyte or more come from the system and go back to it at once, so that the columns of
            a table that was read or merged leave no holes; of no use to a process that gives everything back anyway.
    """
    if _ARROW not in os.environ:
        # Its own allocator keeps by thread what was freed, as glibc does without a bound.
        os.environ[_ARROW] = "system"
        if (arrow := sys.modules.get("pyarrow")) is not None:
            arrow.set_memory_pool(arrow.system_memory_pool())
    if ARENAS_VARIABLE not in os.environ:
        _call("mallopt", _M_ARENA_MAX, NUM_ARENAS)
    if large_apart and "MALLOC_MMAP_THRESHOLD_" not in os.environ:
        _call("mallopt", _M_MMAP_THRESHOLD, LARGE_BYTES)


def give_back() -> None:
    """Give free memory back to the system: some 0.5 ms, and 10 ms of a heap with 200,000 holes."""
    _call("malloc_trim", 0)


class GivingBack:
    """Gives free memory back now and then, from :meth:`start` to :meth:`close`.

    Args:
        interval_s: time between.
    """

    def __init__(self, interval_s: float = 30.0) -> None:
        self._interval_s = interval_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heap", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """End. Idempotent."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            give_back()


@cache
def _library() -> Any:
    return ctypes.CDLL(None)


def _call(name: str, *arguments: int) -> None:
    function = getattr(_library(), name, None)
    if function is not None:
        function(*arguments)
