"""Opening the bytes of a video by range, straight from where they lie."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlparse

from obstore.exceptions import BaseError
from pypaimon.common.file_io import FileIO
from pypaimon.common.options import Options

from consumers.errors import BadReferenceError, ObjectNotFoundError, ObjectUnavailableError
from consumers.media.allow_list import local_path
from consumers.paimon.stores.pinned import FileOnDisk, ObjectElsewhere, ObjectOnS3, PinnedObject
from consumers.paimon.stores.s3 import explain, is_s3, open_s3
from consumers.ports import BlobStream
from schemas.records import WHOLE_OBJECT, BlobReference

if TYPE_CHECKING:
    from obstore.store import S3Store

_REMOTE_SCHEMES = frozenset({"s3", "s3a", "s3n", "oss", "gs", "hdfs"})


class AllowListLike(Protocol):
    """Decides which URIs may be opened."""

    def check(self, uri: str) -> None:
        """Return if ``uri`` may be opened.

        Raises:
            UriNotAllowedError: it may not.
        """
        ...

    def check_opened(self, uri: str, path: str) -> None:
        """Return if the file at ``path``, which was opened for ``uri``, may be read.

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
        self._buckets: dict[tuple[str, str], S3Store] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file_ios": {}, "_buckets": {}}

    def open(self, reference: BlobReference) -> BlobStream:
        """Return an unbuffered, seekable stream over exactly the referenced bytes, positioned at 0.

        What it reads is of the version that is there now, or fails as :mod:`consumers.paimon.stores.pinned` says.

        Raises:
            UriNotAllowedError: the URI is outside the allow-list.
            ObjectNotFoundError: there is no such object.
            ObjectUnavailableError: the store did not answer.
            BadReferenceError: the reference does not fit the object, or names a storage that is not supported.
        """
        uri = reference.uri
        self._allow.check(uri)
        try:
            pinned = self._pin(uri)
        except FileNotFoundError as error:
            raise ObjectNotFoundError(f"there is no object at {uri}") from error
        except OSError as error:
            raise ObjectUnavailableError(f"{uri}: {error}") from error
        except BaseError as error:
            raise ObjectUnavailableError(f"{uri}: {explain(error)}") from error
        try:
            start, length = _checked_range(reference, pinned.version.size_bytes)
        except BadReferenceError:
            pinned.close()
            raise
        return _RangeStream(pinned, start, length, uri)

    def _checked(self, file: FileOnDisk, uri: str) -> FileOnDisk:
        """Return ``file`` unless something else than what was allowed has been opened."""
        try:
            self._allow.check_opened(uri, file.real_path())
            if not file.is_regular:
                raise BadReferenceError(f"{uri} is not a file")
        except BaseException:
            file.close()
            raise
        return file

    def _pin(self, uri: str) -> PinnedObject:
        path = local_path(uri)
        if path is not None:
            if path.exists() and not path.is_file():
                raise BadReferenceError(f"{uri} is not a file")
            return self._checked(FileOnDisk(path), uri)
        parsed = urlparse(uri)
        if parsed.scheme not in _REMOTE_SCHEMES:
            raise BadReferenceError(f"{uri}: objects at {parsed.scheme}:// cannot be read by range")
        place = (parsed.scheme, parsed.netloc)
        if is_s3(uri):
            if place not in self._buckets:
                self._buckets[place] = open_s3(f"{parsed.scheme}://{parsed.netloc}", self._options).store
            # As pypaimon reads keys.
            return ObjectOnS3(self._buckets[place], re.sub("/+", "/", parsed.path).lstrip("/"), uri)
        if place not in self._file_ios:
            self._file_ios[place] = FileIO.get(uri, Options(self._options))
        return ObjectElsewhere(self._file_ios[place], uri)


def _checked_range(reference: BlobReference, size: int) -> tuple[int, int]:
    start = reference.offset_bytes
    length = size - start if reference.length_bytes == WHOLE_OBJECT else reference.length_bytes
    if start < 0 or length < 0 or start + length > size:
        raise BadReferenceError(
            f"{reference.uri} has {size} bytes; offset {start} and length {reference.length_bytes} reach beyond them"
        )
    return start, length


class _RangeStream(BlobStream):
    """A window on a pinned object. Owns and closes it."""

    def __init__(self, pinned: PinnedObject, start: int, length: int, uri: str) -> None:
        self._pinned = pinned
        self._start = start
        self._length = length
        self._uri = uri
        self._position = 0
        self.version = pinned.version
        self.is_whole = (start, length) == (0, pinned.version.size_bytes)

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
        with self._store_errors():
            data = self._pinned.read(self._start + self._position, wanted)
        view[: len(data)] = data
        self._position += len(data)
        return len(data)

    def check_unchanged(self) -> None:
        with self._store_errors():
            self._pinned.check_unchanged()

    @contextmanager
    def _store_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ObjectUnavailableError(f"{self._uri}: {error}") from error

    def close(self) -> None:
        if not self.closed:
            self._pinned.close()
        super().close()
