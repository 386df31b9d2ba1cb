"""Processes forked from this one, which has imported everything: a `sluice` command starts in milliseconds.

The parent must not have used a thread pool before it forks (reading a table starts pyarrow's), so it orchestrates and
leaves all work on tables to children.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from consumers.errors import SluiceError
from service.cli.main import main as sluice_main

EXIT_CRASH = 70
_PR_SET_PDEATHSIG = 1


class ChildFailedError(Exception):
    """A child that had to succeed did not."""


class Forked:
    """A child in a process group of its own, with standard output and error in a file.

    Args:
        work: run in the child; its result is the exit code, None is 0.
        log: the file, created or emptied.
    """

    def __init__(self, work: Callable[[], int | None], log: Path) -> None:
        self.log = log
        log.write_bytes(b"")
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _live(work, log)
        # Here too, because whichever comes first must have done it before the group can be killed.
        os.setpgid(self.pid, self.pid)
        # Readable once the child has ended, even before it is waited for.
        self._handle = os.pidfd_open(self.pid)
        self._code: int | None = None

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Return the exit code (minus the signal that ended it), or None if it still lives after ``timeout_s``."""
        if self._code is None and select.select([self._handle], [], [], timeout_s)[0]:
            self._code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            os.close(self._handle)
        return self._code

    def wait_until_stopped(self, timeout_s: float) -> bool:
        """Return True once the child has stopped itself with SIGSTOP, False if it ended or did not within the time."""
        until_s = time.monotonic() + timeout_s
        while time.monotonic() < until_s and self.wait(0.005) is None:
            # The state is the first field behind the name, which may hold blanks itself.
            if Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T":
                return True
        return False

    def go_on(self) -> None:
        """Wake the child from SIGSTOP."""
        if self._code is None:
            os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> bool:
        """End the child and all of its group with SIGKILL; return whether it was alive until then."""
        if self.wait(0) is None:
            os.killpg(self.pid, signal.SIGKILL)
        return self.wait() == -signal.SIGKILL

    def descendants(self) -> dict[int, str]:
        """Return the command line of each process below it, by process id."""
        parents: dict[int, int] = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        found, generation = {}, {self.pid}
        while generation := {pid for pid, parent in parents.items() if parent in generation}:
            for pid in generation:
                with suppress(OSError):
                    found[pid] = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ")
        return found

    def output(self) -> str:
        """Return what it has printed so far."""
        return self.log.read_text(errors="replace")

    def require(self, what: str, timeout_s: float) -> str:
        """Wait for its end and return its output.

        Raises:
            ChildFailedError: it did not end well or not in time.
        """
        code = self.wait(timeout_s)
        if code != 0:
            self.kill()
            how = f"exit code {code}" if code is not None else f"no end within {timeout_s:.0f} s"
            raise ChildFailedError(f"{what}: {how}\n{self.output()[-4000:]}")
        return self.output()


def sluice(arguments: Sequence[str]) -> int:
    """Run a `sluice` command in this process, as the console script does, and return its exit code."""
    sys.argv = ["sluice", *arguments]
    try:
        sluice_main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0


def _live(work: Callable[[], int | None], log: Path) -> None:
    """Be the child; never returns."""
    code = EXIT_CRASH
    try:
        os.setpgid(0, 0)
        # No child outlives the orchestrator, however that ends.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        target = os.open(log, os.O_WRONLY | os.O_APPEND)
        os.dup2(target, 1)
        os.dup2(target, 2)
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        code = work() or 0
    except SluiceError as error:
        print(f"{type(error).__name__}: {error}")
        code = 1
    except BaseException:
        traceback.print_exc()
    finally:
        # Nothing of the parent's (its exit handlers, its buffers) is run here.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
