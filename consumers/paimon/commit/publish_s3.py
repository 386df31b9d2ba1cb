"""Creating an object without overwriting one, on S3 and stores that speak its protocol."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress

import obstore
from obstore.exceptions import AlreadyExistsError, PermissionDeniedError, UnauthenticatedError

from consumers.errors import ConfigurationError, StoreUnavailableError
from consumers.paimon.stores.s3 import S3Location, explain, open_s3

_lock = threading.Lock()
_checked: set[tuple[str, str]] = set()


class S3Folder:
    """Creates by conditional put: ``If-None-Match: *``.

    Args:
        location: the folder.
    """

    def __init__(self, location: S3Location) -> None:
        self._store = location.store
        self._key = location.key

    @classmethod
    def checked(cls, table: str, location: str, options: Mapping[str, str]) -> S3Folder:
        """Return the folder at ``location`` once the store has shown that it refuses to overwrite.

        An object is put twice and deleted again, once per bucket and process.

        Raises:
            ConfigurationError: the store overwrites all the same, knows no such request, or grants no access.
            StoreUnavailableError: it did not answer.
        """
        opened = open_s3(location, options)
        with _lock:
            known = (opened.endpoint, opened.bucket)
            if known not in _checked:
                _probe(table, opened)
                _checked.add(known)
        return cls(opened)

    def create(self, name: str, content: bytes, if_: Callable[[], bool]) -> bool:
        """Create ``name``, unless it exists or ``if_`` does not hold.

        Raises:
            obstore.exceptions.BaseError: the store failed; the object may exist, or may come to exist.
        """
        return if_() and _create(self._store, self._path(name), content)

    def read(self, name: str) -> bytes | None:
        """Return the content of ``name``, or None where there is no such object."""
        try:
            return bytes(obstore.get(self._store, self._path(name)).bytes())
        except FileNotFoundError:
            return None

    def exists(self, name: str) -> bool:
        """Return whether ``name`` exists."""
        try:
            obstore.head(self._store, self._path(name))
        except FileNotFoundError:
            return False
        return True

    def names(self) -> list[str]:
        """Return the names of all objects in the folder."""
        found = obstore.list_with_delimiter(self._store, self._key)["objects"]
        return [item["path"].rpartition("/")[2] for item in found]

    def delete(self, name: str) -> None:
        """Delete ``name``."""
        obstore.delete(self._store, self._path(name))

    def replace(self, name: str, content: bytes) -> None:
        """Write ``name``, whether it exists or not."""
        obstore.put(self._store, self._path(name), content, mode="overwrite", use_multipart=False)

    def _path(self, name: str) -> str:
        return f"{self._key}/{name}"


def _create(store: obstore.store.S3Store, path: str, content: bytes) -> bool:
    try:
        obstore.put(store, path, content, mode="create", use_multipart=False)
    except AlreadyExistsError:
        return False
    return True


def _probe(table: str, location: S3Location) -> None:
    where = f"table {table}: the store of s3://{location.bucket} ({location.endpoint})"
    path = f"{location.key}/.sluice-probe-{uuid.uuid4()}"
    try:
        _create(location.store, path, b"first")
        try:
            is_overwritten = _create(location.store, path, b"second")
        finally:
            with suppress(Exception):
                obstore.delete(location.store, path)
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise ConfigurationError(
            f"{where} refuses to write under {location.key}: {explain(error)}; check the keys and their rights"
        ) from error
    except FileNotFoundError as error:
        raise ConfigurationError(f"{where}: there is no such bucket; create it, or correct the warehouse") from error
    except obstore.exceptions.NotSupportedError as error:
        raise ConfigurationError(_unsafe(where)) from error
    except Exception as error:
        if "NotImplemented" in str(error):
            raise ConfigurationError(_unsafe(where)) from error
        raise StoreUnavailableError(f"{where} did not answer: {explain(error)}") from error
    if is_overwritten:
        raise ConfigurationError(_unsafe(where))


def _unsafe(where: str) -> str:
    return (
        f"{where} does not honour 'If-None-Match: *', so two writers could overwrite each other's commits; use a store "
        "that does (AWS S3 and Ceph RGW do), or a REST catalog"
    )
