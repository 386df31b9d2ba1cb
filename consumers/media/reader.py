"""Range reading: few large reads of an object store under the many small ones of a demuxer."""

from __future__ import annotations

import io
import os
from collections import OrderedDict
from typing import TYPE_CHECKING, BinaryIO

from consumers.errors import ObjectChangedError, ObjectUnavailableError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

WINDOW_BYTES = 1 << 20
NUM_WINDOWS = 3


class RangeReader(io.RawIOBase):
    """A seekable reader that fetches a stream in windows of about 1 MB and keeps the last few of them.

    Several windows, because a demuxer reads at several places at once: the index at the end of a file, and audio and
    video that lie apart in it. The size is asked once, so that seeking costs no I/O.

    A fault of the store cannot always cross a demuxer: it may take a failed read for the end of the file. The first
    fault is therefore kept in :attr:`failure`, and whoever gets a surprising result looks there first.

    Args:
        stream: seekable, unbuffered; this reader becomes its owner and closes it.
        window_bytes: bytes per fetch.
        num_windows: windows kept in memory.

    Raises:
        ObjectUnavailableError: the size could not be learned.
    """

    def __init__(self, stream: BinaryIO, *, window_bytes: int = WINDOW_BYTES, num_windows: int = NUM_WINDOWS) -> None:
        super().__init__()
        self._stream = stream
        self._window_bytes = window_bytes
        self._num_windows = num_windows
        self._windows: OrderedDict[int, bytes] = OrderedDict()
        self._position = 0
        self.bytes_read = 0
        self.num_reads = 0
        self.failure: ObjectUnavailableError | None = None
        try:
            self._size = stream.seek(0, os.SEEK_END)
        except Exception as error:
            stream.close()
            raise self._unavailable("its size could not be learned", error) from error

    @property
    def size_bytes(self) -> int:
        """Length of the whole stream in bytes."""
        return self._size

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move without any I/O and return the new position.

        Raises:
            ValueError: the position would be negative, or ``whence`` is unknown.
        """
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}.get(whence)
        if base is None or base + offset < 0:
            raise ValueError(f"cannot seek to {offset} from {whence}")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill ``buffer`` as far as one window reaches; return the number of bytes, 0 at the end.

        Raises:
            ObjectUnavailableError: the store failed, or ended before the size it gave.
            ObjectChangedError: the object is another one by now.
        """
        view = memoryview(buffer).cast("B")
        if self._position >= self._size or not len(view):
            return 0
        start, window = self._window()
        skip = self._position - start
        count = min(len(view), len(window) - skip)
        view[:count] = memoryview(window)[skip : skip + count]
        self._position += count
        return count

    def close(self) -> None:
        """Close the stream beneath as well."""
        if not self.closed:
            self._windows.clear()
            self._stream.close()
        super().close()

    def _window(self) -> tuple[int, bytes]:
        for start, window in self._windows.items():
            if start <= self._position < start + len(window):
                self._windows.move_to_end(start)
                return start, window
        start = self._position
        data = self._fetch(start)
        self._windows[start] = data
        self._windows.move_to_end(start)
        while len(self._windows) > self._num_windows:
            self._windows.popitem(last=False)
        return start, data

    def _fetch(self, start: int) -> bytes:
        wanted = min(self._window_bytes, self._size - start)
        try:
            self._stream.seek(start)
            data = self._stream.read(wanted)
        except Exception as error:
            raise self._unavailable(f"reading {wanted} bytes at {start} failed", error) from error
        if not data:
            raise self._unavailable(f"no bytes at {start} although its size is {self._size}", None)
        self.num_reads += 1
        self.bytes_read += len(data)
        return data

    def _unavailable(self, what: str, error: Exception | None) -> ObjectUnavailableError:
        cause = f": {type(error).__name__}: {error}" if error is not None else ""
        failure = (
            error
            if isinstance(error, ObjectChangedError)
            else ObjectUnavailableError(f"the object store did not give the video's bytes: {what}{cause}")
        )
        self.failure = self.failure or failure
        return failure


class StreamView(io.RawIOBase):
    """A reader with a position of its own over a stream that others read too.

    Args:
        stream: seekable; stays the caller's to close.
    """

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__()
        self._stream = stream
        self._position = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill ``buffer`` as far as one read of the stream goes; return the number of bytes, 0 at the end."""
        view = memoryview(buffer).cast("B")
        self._stream.seek(self._position)
        data = self._stream.read(len(view))
        view[: len(data)] = data
        self._position += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move and return the new position."""
        if whence == os.SEEK_CUR:
            offset, whence = offset + self._position, os.SEEK_SET
        self._position = self._stream.seek(offset, whence)
        return self._position

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._position
