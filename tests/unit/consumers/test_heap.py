"""Free memory goes back to the system, though something small lies above it."""

from __future__ import annotations

import platform
import subprocess
import sys
import threading

import pytest

from consumers.heap import GivingBack

_ONLY_GLIBC = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have their own ways")
_RSS = """
import os
from pathlib import Path
from consumers import heap

def rss():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
"""
_HOLES = f"""{_RSS}
kept = [bytearray(1000) for _ in range(200_000)]
del kept[:-1]
before = rss()
heap.give_back()
print(before - rss())
"""
_THREADS = f"""{_RSS}
import sys
from concurrent.futures import ThreadPoolExecutor

if sys.argv[1] == "small":
    heap.keep_small()
kept = []

def work():
    blocks = [bytearray(50_000) for _ in range(1000)]
    # The heap of this thread ends with something that is still wanted.
    kept.append(bytearray(1000))

before = rss()
threads = [ThreadPoolExecutor(1) for _ in range(8)]
for thread in threads:
    thread.submit(work).result()
print(rss() - before)
"""


def _run(script: str, *arguments: str) -> int:
    done = subprocess.run([sys.executable, "-c", script, *arguments], check=True, capture_output=True, text=True)
    return int(done.stdout)


@_ONLY_GLIBC
def test_free_memory_below_what_is_still_used_is_given_back() -> None:
    assert _run(_HOLES) > 100 * 1024**2


@_ONLY_GLIBC
def test_threads_that_work_one_after_the_other_use_the_same_memory() -> None:
    alone, shared = _run(_THREADS, "as it is"), _run(_THREADS, "small")
    print(f"{alone / 2**20:.0f} MB each for itself, {shared / 2**20:.0f} MB shared")
    assert shared < alone / 2


def test_giving_back_ends_when_it_is_closed() -> None:
    giving = GivingBack(0.01)
    giving.start()
    giving.close()
    giving.close()
    assert "heap" not in {thread.name for thread in threading.enumerate()}


def test_what_was_never_started_can_be_closed() -> None:
    GivingBack().close()
