"""A stream under watch while libav reads it."""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO

from consumers.errors import ObjectUnavailableError


class GuardedStream:
    """Passes reads and seeks on and keeps the first error they raise.

    libav takes a failed read for damage or for the end of the file, so the error must be asked for afterwards, or a
    store's outage would pass for a truncated video.

    Args:
        stream: seekable; stays the caller's to close.
        check: called before each read; may raise to end the work (a deadline).
    """

    def __init__(self, stream: BinaryIO, check: Callable[[], None]) -> None:
        self._stream = stream
        self._check = check
        self._error: Exception | None = None

    def read(self, size: int = -1) -> bytes:
        """Read up to ``size`` bytes."""
        try:
            self._check()
            return self._stream.read(size)
        except Exception as error:
            self._error = self._error or error
            raise

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to ``offset``, as a file does."""
        try:
            return self._stream.seek(offset, whence)
        except Exception as error:
            self._error = self._error or error
            raise

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._stream.tell()

    def seekable(self) -> bool:
        """Return True: the stream's contract."""
        return True

    def readable(self) -> bool:
        """Return True."""
        return True

    def raise_if_failed(self) -> None:
        """Return while every read and seek has worked.

        Raises:
            ObjectUnavailableError: one raised an :class:`OSError`.
            Exception: whatever else it raised, unchanged.
        """
        if self._error is None:
            return
        if isinstance(self._error, OSError):
            raise ObjectUnavailableError(f"reading the video's bytes failed: {self._error}") from self._error
        raise self._error
