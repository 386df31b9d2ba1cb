"""Local files for whoever curates without a catalog: benchmarks, and tests of the stages."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from consumers.errors import ObjectNotFoundError
from consumers.ports import BlobStream
from schemas.object_version import ObjectVersion
from schemas.records import BlobReference


class LocalBlob(BlobStream):
    """A whole object in ``stream``, which nobody changes. Owns and closes it."""

    is_whole = True

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.version = ObjectVersion(stream.seek(0, io.SEEK_END), "")
        stream.seek(0)

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move and return the new position."""
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        """Return the position."""
        return self._stream.tell()

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Fill ``buffer`` as far as one read of the stream goes; return the number of bytes."""
        view = memoryview(buffer).cast("B")
        data = self._stream.read(len(view))
        view[: len(data)] = data
        return len(data)

    def check_unchanged(self) -> None:
        """Return."""

    def close(self) -> None:
        """Close the stream beneath as well."""
        self._stream.close()
        super().close()


class LocalFiles:
    """Implements :class:`~consumers.ports.BlobOpener` over local paths.

    Args:
        opened: makes the stream of a path.
    """

    def __init__(self, opened: Callable[[Path], BinaryIO] = lambda path: path.open("rb")) -> None:
        self._opened = opened

    def open(self, reference: BlobReference) -> BlobStream:
        """Return the file at the path that ``reference`` names, whole.

        Raises:
            ObjectNotFoundError: there is none.
        """
        try:
            return LocalBlob(self._opened(Path(reference.uri)))
        except FileNotFoundError as error:
            raise ObjectNotFoundError(f"there is no object at {reference.uri}") from error
