"""What a worker writes to standard error while it holds a video, kept where the pool finds it if the worker dies.

Everything ends up there: warnings, the last words of libraries in native code, and the traceback that ``faulthandler``
dumps of a crash or of a decoder that hangs. Both sides have to see the same file system; a worker on another machine
of a cluster writes to its own log only, which Ray keeps.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

MAX_TAIL_BYTES = 2048

_MAX_READ_BYTES = 64 * 1024
_HOLDS_THE_VIDEO = "in process_guarded"

_STDERR = 2


@contextlib.contextmanager
def captured(path: Path) -> Iterator[None]:
    """Send this process's standard error into ``path``, and remove it in the end: whoever returns has a result.

    Without effect where the folder of ``path`` does not exist. For one thread at a time.
    """
    try:
        target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    except OSError:
        yield
        return
    saved = os.dup(_STDERR)
    sys.stderr.flush()
    os.dup2(target, _STDERR)
    os.close(target)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(saved, _STDERR)
        os.close(saved)
        path.unlink(missing_ok=True)


def take_tail(path: Path) -> str:
    """Return the last lines of ``path``, :data:`MAX_TAIL_BYTES` at most, and remove it; empty if there is none."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - _MAX_READ_BYTES))
            text = log.read().decode("utf-8", "replace")
        path.unlink()
    except OSError:
        return ""
    told = "\n\n".join(part for part in text.split("\n\n") if not _is_of_no_interest(part))
    clean = "".join(character for character in told if character.isprintable() or character in "\n\t").strip()
    if len(clean.encode()) <= MAX_TAIL_BYTES:
        return clean
    # What is left of the first line is most likely half a line.
    return clean.encode()[-MAX_TAIL_BYTES:].decode("utf-8", "ignore").partition("\n")[2]


def _is_of_no_interest(part: str) -> bool:
    """Return whether ``part`` of a dump is about another thread than the one that holds the video."""
    part = part.lstrip()
    return part.startswith("Extension modules:") or (part.startswith("Thread 0x") and _HOLDS_THE_VIDEO not in part)
