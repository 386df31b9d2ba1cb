"""A stream under watch while libav reads it."""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO, NoReturn

from consumers.errors import ObjectUnavailableError
from consumers.media.header_check import HeaderCheck


class GuardedStream:
    """Passes reads and seeks on and keeps the first error they raise; headers made to kill do not get through.

    libav takes a failed read for damage or for the end of the file, so the error must be asked for afterwards, or a
    store's outage would pass for a truncated video. An :class:`OSError` becomes an
    :class:`~consumers.errors.ObjectUnavailableError`; any other exception stays what it is.

    Args:
        stream: seekable; stays the caller's to close.
        check: called before each read; may raise to end the work (a deadline).
    """

    def __init__(self, stream: BinaryIO, check: Callable[[], None]) -> None:
        self._stream = stream
        self._check = check
        self._headers: HeaderCheck | None = None
        self._error: Exception | None = None

    def read(self, size: int = -1) -> bytes:
        """Read up to ``size`` bytes."""
        try:
            self._check()
            start = self._stream.tell()
            data = self._stream.read(size)
            if self._headers is None:
                self._headers = HeaderCheck(self._stream)
            self._headers.look(start, data)
            self._stream.seek(start + len(data))
            return data
        except Exception as error:
            self._fail(error)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to ``offset``, as a file does."""
        try:
            return self._stream.seek(offset, whence)
        except Exception as error:
            self._fail(error)

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
        """Return while every read and seek has worked, else raise the first error again."""
        if self._error is not None:
            raise self._error

    def _fail(self, error: Exception) -> NoReturn:
        told = error
        if isinstance(error, OSError):
            told = ObjectUnavailableError(f"reading the video's bytes failed: {error}")
            told.__cause__ = error
        self._error = self._error or told
        raise told
