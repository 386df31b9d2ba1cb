"""A container as far as memory goes: a cgroup of the tests' own, where they may make one."""

import contextlib
import os
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import pytest

_CGROUPS = Path("/sys/fs/cgroup")
_ENTER = "import os, sys; open(sys.argv[1], 'w').write(str(os.getpid())); os.execv(sys.argv[2], sys.argv[2:])"


@dataclass(frozen=True)
class Container:
    """A cgroup with a limit on memory."""

    folder: Path

    def command(self, command):
        """Return ``command`` as it is run inside."""
        return [sys.executable, "-c", _ENTER, str(self.folder / "cgroup.procs"), *command]


@contextlib.contextmanager
def limited_container(num_bytes):
    """Make one; skips the test where that is not allowed. At the end everything in it is killed."""
    folder, limit = _place()
    try:
        folder.mkdir()
        (folder / limit).write_text(str(num_bytes))
    except OSError as error:
        with contextlib.suppress(OSError):
            folder.rmdir()
        pytest.skip(f"no cgroup of our own: {error}")
    try:
        yield Container(folder)
    finally:
        _empty(folder)


def _place():
    own = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    v1 = next((path for _, controllers, path in own if "memory" in controllers.split(",")), None)
    name = f"sluice-test-{uuid.uuid4().hex[:8]}"
    if v1 is not None:
        return _CGROUPS / "memory" / v1.strip("/") / name, "memory.limit_in_bytes"
    return _CGROUPS / own[0][2].strip("/") / name, "memory.max"


def _empty(folder):
    for _ in range(100):
        left = (folder / "cgroup.procs").read_text().split()
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), 9)
        with contextlib.suppress(OSError):
            folder.rmdir()
            return
        time.sleep(0.1)
