"""A server of the tests in a process of its own, which says its port and lives until its standard input is closed."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from types import TracebackType
from typing import Self


class ChildServer:
    """Serves while the context is open; ``port`` says where, on loopback.

    Args:
        command: starts it.
        what: it is, for the message if it does not start.
    """

    port: int

    def __init__(self, command: Sequence[str], what: str, stderr: int | None = None) -> None:
        self._command = command
        self._what = what
        self._stderr = stderr

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"{self._what} did not start"
        self.port = int(line)
        return self

    @property
    def url(self) -> str:
        """Where it is reached."""
        return f"http://127.0.0.1:{self.port}"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()
