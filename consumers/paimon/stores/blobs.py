"""Opening the bytes of a video by range, straight from where they lie."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any, BinaryIO, Protocol, cast
from urllib.parse import urlparse

from pypaimon.common.file_io import FileIO
from pypaimon.common.options import Options

from consumers.errors import BadReferenceError, ObjectNotFoundError, ObjectUnavailableError
from consumers.media.allow_list import local_path
from consumers.paimon.stores.s3_file_io import lean
from schemas.records import WHOLE_OBJECT, BlobReference

_REMOTE_SCHEMES = frozenset({"s3", "s3a", "s3n", "oss", "gs", "hdfs"})


class AllowListLike(Protocol):
    """Decides which URIs may be opened."""

    def check(self, uri: str) -> None:
        """Return if ``uri`` may be opened.

        Raises:
            UriNotAllowedError: it may not.
        """
        ...


class PaimonBlobOpener:
    """Implements :class:`~consumers.ports.BlobOpener`. Picklable; connects in the process that opens.

    Args:
        options: catalog options, for the object store's endpoint and keys.
        allow: asked before anything is opened.
    """

    def __init__(self, options: Mapping[str, str], allow: AllowListLike) -> None:
        self._options = dict(options)
        self._allow = allow
        self._file_ios: dict[tuple[str, str], Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file_ios": {}}

    def open(self, reference: BlobReference) -> BinaryIO:
        """Return an unbuffered, seekable stream over exactly the referenced bytes, positioned at 0.

        Raises:
            UriNotAllowedError: the URI is outside the allow-list.
            ObjectNotFoundError: there is no such object.
            ObjectUnavailableError: the store did not answer.
            BadReferenceError: the reference does not fit the object, or names a storage that is not supported.
        """
        uri = reference.uri
        self._allow.check(uri)
        try:
            stream, size = self._open_whole(uri)
        except FileNotFoundError as error:
            raise ObjectNotFoundError(f"there is no object at {uri}") from error
        except OSError as error:
            raise ObjectUnavailableError(f"{uri}: {error}") from error
        try:
            start, length = _checked_range(reference, size)
        except BadReferenceError:
            stream.close()
            raise
        return cast(BinaryIO, _RangeStream(stream, start, length, uri))

    def _open_whole(self, uri: str) -> tuple[Any, int]:
        path = local_path(uri)
        if path is not None:
            if path.exists() and not path.is_file():
                raise BadReferenceError(f"{uri} is not a file")
            stream = path.open("rb", buffering=0)
            return stream, stream.seek(0, io.SEEK_END)
        parsed = urlparse(uri)
        if parsed.scheme not in _REMOTE_SCHEMES:
            raise BadReferenceError(f"{uri}: objects at {parsed.scheme}:// cannot be read by range")
        key = (parsed.scheme, parsed.netloc)
        if key not in self._file_ios:
            self._file_ios[key] = lean(FileIO.get(uri, Options(self._options)))
        remote = self._file_ios[key].new_input_stream(uri)
        return remote, remote.seek(0, io.SEEK_END)


def _checked_range(reference: BlobReference, size: int) -> tuple[int, int]:
    start = reference.offset_bytes
    length = size - start if reference.length_bytes == WHOLE_OBJECT else reference.length_bytes
    if start < 0 or length < 0 or start + length > size:
        raise BadReferenceError(
            f"{reference.uri} has {size} bytes; offset {start} and length {reference.length_bytes} reach beyond them"
        )
    return start, length


class _RangeStream(io.RawIOBase):
    """A window on a seekable stream. Owns and closes it."""

    def __init__(self, stream: Any, start: int, length: int, uri: str) -> None:
        self._stream = stream
        self._start = start
        self._length = length
        self._uri = uri
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._length}[whence]
        if base + offset < 0:
            raise ValueError(f"cannot seek to {base + offset}")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        wanted = min(len(view), max(0, self._length - self._position))
        if wanted == 0:
            return 0
        try:
            self._stream.seek(self._start + self._position)
            data = self._stream.read(wanted)
        except OSError as error:
            raise ObjectUnavailableError(f"{self._uri}: {error}") from error
        view[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()
