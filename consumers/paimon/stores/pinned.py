"""One version of an object, read by range: on S3, on disk, and through pypaimon's other file systems.

What is promised differs with what the store can do. S3 is asked for ranges of the pinned etag, and refuses others. A
file stays open, so that one that is put in its place is never read, and one that is written to shows by its times.
Elsewhere size and time of modification are looked at before and after.
"""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import obstore
from obstore.exceptions import BaseError, PreconditionError

from consumers.errors import ObjectChangedError
from consumers.paimon.stores.s3 import explain
from schemas.object_version import ObjectVersion, size_and_time

if TYPE_CHECKING:
    from obstore import GetOptions, ObjectMeta
    from obstore.store import S3Store

# Twice the tick by which Linux stamps files: what is written to a file after that has another time.
_TICK_NS = 20_000_000
_MAX_LOOKS = 5


class PinnedObject(Protocol):
    """One version of an object. Its methods raise OSError where the store does not answer."""

    version: ObjectVersion

    def read(self, start: int, length: int) -> bytes:
        """Return ``length`` bytes from ``start`` on, fewer at the end.

        Raises:
            ObjectChangedError: the object is another one by now, where the store tells so early.
        """
        ...

    def check_unchanged(self) -> None:
        """Return if what was read is of this version.

        Raises:
            ObjectChangedError: it may not be.
        """
        ...

    def close(self) -> None:
        """Release resources."""
        ...


class FileOnDisk:
    """A file, by one descriptor.

    Args:
        path: the file.

    Raises:
        OSError: it is not there, or cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # Without waiting: what was a file a moment ago may be a pipe by now.
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        self._pinned = self._settled()
        self.version = ObjectVersion.of_file(self._pinned)

    def _settled(self) -> os.stat_result:
        """Return the file's state once a later write would show in its times."""
        for _ in range(_MAX_LOOKS):
            found = os.fstat(self._descriptor)
            age_ns = time.time_ns() - max(found.st_mtime_ns, found.st_ctime_ns)
            if not 0 <= age_ns < _TICK_NS:
                break
            time.sleep((_TICK_NS - age_ns) / 1e9)
        return found

    @property
    def is_regular(self) -> bool:
        """Whether what was opened is a file with bytes of its own."""
        return stat.S_ISREG(self._pinned.st_mode)

    def real_path(self) -> str:
        """Return where the opened file lies, without symbolic links, whatever its path leads to by now."""
        opened = f"/proc/self/fd/{self._descriptor}"
        # Systems without such a folder have to believe the path.
        return os.readlink(opened) if os.path.lexists(opened) else os.path.realpath(self._path)  # noqa: PTH115

    def read(self, start: int, length: int) -> bytes:
        """Return bytes of the file that was opened, whatever lies at its path by now."""
        return os.pread(self._descriptor, length, start)

    def check_unchanged(self) -> None:
        """Return if the file was not written to, and still lies at its path."""
        try:
            at_path = self._path.stat()
        except FileNotFoundError as error:
            raise ObjectChangedError(f"{self._path}: the file was deleted while it was read") from error
        if (at_path.st_dev, at_path.st_ino) != (self._pinned.st_dev, self._pinned.st_ino):
            raise ObjectChangedError(f"{self._path}: the file was replaced by another while it was read")
        if _state(os.fstat(self._descriptor)) != _state(self._pinned):
            raise ObjectChangedError(f"{self._path}: the file was changed while it was read")

    def close(self) -> None:
        """Close the descriptor."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _state(found: os.stat_result) -> tuple[int, int, int]:
    # The time of change cannot be set back by who copies files together with their times.
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


class ObjectOnS3:
    """An object of S3, by its etag: each range is asked for under the condition that it is the same one.

    Args:
        store: the bucket.
        key: the object.
        uri: for messages.

    Raises:
        FileNotFoundError: there is no such object.
        BaseError: the store did not answer, or the key cannot be asked for.
    """

    def __init__(self, store: S3Store, key: str, uri: str) -> None:
        self._store, self._key, self._uri = store, key, uri
        self._pinned = obstore.head(store, key)
        self.version = s3_version(self._pinned)

    def read(self, start: int, length: int) -> bytes:
        """Return bytes of the pinned version; the store refuses to give those of another."""
        options: GetOptions = {"range": (start, start + length)}
        if self._pinned["e_tag"] is not None:
            options["if_match"] = self._pinned["e_tag"]
        try:
            answer = obstore.get(self._store, self._key, options=options)
            # Not every store that calls itself compatible minds the condition.
            if s3_version(answer.meta) != self.version:
                raise ObjectChangedError(f"{self._uri}: the object was replaced while it was read")
            return bytes(answer.bytes())
        except PreconditionError as error:
            raise ObjectChangedError(f"{self._uri}: the object was replaced while it was read") from error
        except FileNotFoundError as error:
            raise ObjectChangedError(f"{self._uri}: the object was deleted while it was read") from error
        except BaseError as error:
            raise OSError(explain(error)) from error

    def check_unchanged(self) -> None:
        """Return: no read would have given anything else."""

    def close(self) -> None:
        """Nothing is held."""


def s3_version(meta: ObjectMeta) -> ObjectVersion:
    """Return the version of an object by what S3 says of it."""
    etag = meta["e_tag"] or f"{meta['size']}-{meta['last_modified'].isoformat()}"
    return ObjectVersion(meta["size"], etag.strip('"'))


class ObjectElsewhere:
    """An object of a store that knows no conditions.

    Args:
        file_io: pypaimon's file system for it.
        uri: the object.

    Raises:
        OSError: it is not there, or the store did not answer.
    """

    def __init__(self, file_io: Any, uri: str) -> None:
        self._file_io, self._uri = file_io, uri
        self.version = status_version(file_io.get_file_status(uri))
        self._stream = file_io.new_input_stream(uri)

    def read(self, start: int, length: int) -> bytes:
        """Return bytes of whatever lies there."""
        self._stream.seek(start)
        return bytes(self._stream.read(length))

    def check_unchanged(self) -> None:
        """Return if size and time of modification are what they were."""
        try:
            found = status_version(self._file_io.get_file_status(self._uri))
        except FileNotFoundError as error:
            raise ObjectChangedError(f"{self._uri}: the object was deleted while it was read") from error
        if found != self.version:
            raise ObjectChangedError(f"{self._uri}: the object was replaced while it was read")

    def close(self) -> None:
        """Close the stream."""
        self._stream.close()


def status_version(status: Any) -> ObjectVersion:
    """Return the version of an object by what pypaimon's file system says of it."""
    size = int(status.size)
    # HDFS alone tells no nanoseconds.
    mtime_ns = getattr(status, "mtime_ns", None)
    if mtime_ns is None:
        mtime_ns = 0 if status.mtime is None else status.mtime.timestamp() * 1e9
    return ObjectVersion(size, size_and_time(size, int(mtime_ns)))
