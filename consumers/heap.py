"""The heap of a service that runs for months: what was freed is used again, or given back.

glibc gives threads arenas of their own, eight for each core, and memory that one thread has freed is of no use to
another; Arrow's own allocator keeps what was freed by thread, too. With some thirty threads that read tables now and
then, most of what the process held was free memory: over 15,000 videos with people at the page it held 415 MB and grew
on, with two arenas and glibc for Arrow 377 MB, and no more after the first fifth.
"""

from __future__ import annotations

import ctypes
import os

import pyarrow as pa

NUM_ARENAS = 2
_M_ARENA_MAX = -8


def keep_small() -> bool:
    """Have this process's threads share their heap; to be called before there are many of them.

    ``MALLOC_ARENA_MAX`` and ``ARROW_DEFAULT_MEMORY_POOL`` in the environment are obeyed instead.

    Returns:
        False where the C library is another than glibc, which has its own ways.
    """
    if "ARROW_DEFAULT_MEMORY_POOL" not in os.environ:
        pa.set_memory_pool(pa.system_memory_pool())
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return "MALLOC_ARENA_MAX" in os.environ or bool(mallopt(_M_ARENA_MAX, NUM_ARENAS))
