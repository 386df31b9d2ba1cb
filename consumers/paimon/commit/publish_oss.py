"""Creating an object without overwriting one, on Alibaba Cloud's OSS.

Tested against a local server that answers as OSS documents it, not against OSS itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from consumers.errors import ConfigurationError, StoreUnavailableError


class OssFolder:
    """Creates through pypaimon's own file system for OSS: a put with ``x-oss-forbid-overwrite: true``.

    Args:
        location: the folder, ``oss://bucket/...``.
        file_io: pypaimon's file system for it.
    """

    def __init__(self, location: str, file_io: Any) -> None:
        self._location = location
        self._file_io = file_io

    @classmethod
    def checked(cls, table: str, location: str, file_io: Any) -> OssFolder:
        """Return the folder at ``location`` once the bucket is known to refuse overwriting.

        OSS ignores the header in a bucket whose versioning is on or suspended.

        Raises:
            ConfigurationError: versioning is or may be on, ``oss2`` is missing, or keys or endpoint are not set.
            StoreUnavailableError: OSS did not answer.
        """
        status = _versioning(table, file_io)
        if status is not None:
            raise ConfigurationError(
                f"table {table}: bucket versioning of {location} is {status}, with which OSS overwrites in spite of "
                "x-oss-forbid-overwrite; use a bucket that never had versioning, or a REST catalog"
            )
        return cls(location, file_io)

    def create(self, name: str, content: bytes, if_: Callable[[], bool]) -> bool:
        """Create ``name``, unless it exists or ``if_`` does not hold.

        Raises:
            OSError: OSS failed; the object may exist, or may come to exist.
        """
        return if_() and bool(self._file_io.try_to_write_atomic(self._path(name), content.decode()))

    def read(self, name: str) -> bytes | None:
        """Return the content of ``name``, or None where there is no such object."""
        try:
            with self._file_io.new_input_stream(self._path(name)) as stream:
                return bytes(stream.read())
        except FileNotFoundError:
            return None

    def exists(self, name: str) -> bool:
        """Return whether ``name`` exists."""
        return bool(self._file_io.exists(self._path(name)))

    def names(self) -> list[str]:
        """Return the names of all objects in the folder."""
        return [status.path.rpartition("/")[2] for status in self._file_io.list_status(self._location)]

    def delete(self, name: str) -> None:
        """Delete ``name``."""
        self._file_io.delete(self._path(name))

    def replace(self, name: str, content: bytes) -> None:
        """Write ``name``, whether it exists or not."""
        self._file_io.write_file(self._path(name), content.decode(), overwrite=True)

    def _path(self, name: str) -> str:
        return f"{self._location}/{name}"


def _versioning(table: str, file_io: Any) -> str | None:
    """Return the state of the bucket's versioning, None where it has never been on."""
    try:
        import oss2  # noqa: PLC0415  an optional dependency
    except ImportError as error:
        raise ConfigurationError(
            f"table {table}: a warehouse on OSS needs the package oss2; install sluice-video-curation[oss]"
        ) from error
    session = oss2.Session()
    try:
        status: str | None = file_io._create_oss_bucket(session).get_bucket_versioning().status
    except ValueError as error:
        raise ConfigurationError(f"table {table}: {error}") from error
    except oss2.exceptions.ServerError as error:
        if error.status == 403:
            raise ConfigurationError(
                f"table {table}: whether overwriting can be forbidden is unknown: the keys may not ask for the "
                "bucket's versioning; grant oss:GetBucketVersioning"
            ) from error
        raise StoreUnavailableError(f"table {table}: OSS did not answer: {error.code or error.status}") from error
    except oss2.exceptions.OssError as error:
        raise StoreUnavailableError(f"table {table}: OSS did not answer: {type(error).__name__}") from error
    finally:
        session.session.close()
    return status
