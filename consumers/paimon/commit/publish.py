"""Publishing a snapshot without ever overwriting one: the ground under the exactly-once promise.

pypaimon checks that a snapshot file does not exist and then renames over it, so that two writers can both believe that
they published snapshot N, and one of them loses its rows. Here the file comes into being by one atomic operation that
fails when it exists already; what that operation is depends on the storage.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlparse

from pypaimon.common.json_util import JSON
from pypaimon.manifest.manifest_file_manager import ManifestFileManager
from pypaimon.manifest.manifest_list_manager import ManifestListManager
from pypaimon.snapshot.snapshot import Snapshot
from pypaimon.snapshot.snapshot_commit import SnapshotCommit

from consumers.errors import ConfigurationError
from consumers.paimon.catalog import local_path
from consumers.paimon.commit.publish_disk import HardLinkFolder
from consumers.paimon.commit.publish_oss import OssFolder
from consumers.paimon.commit.publish_s3 import S3Folder
from consumers.paimon.stores.s3 import is_s3

_SNAPSHOT_NAME = re.compile(r"^snapshot-(\d+)$")
_HINT = "LATEST"


class SnapshotFolder(Protocol):
    """A table's snapshot folder on one kind of storage. Any method may raise what the storage raises."""

    def create(self, name: str, content: bytes, if_: Callable[[], bool]) -> bool:
        """Create ``name`` atomically if it does not exist and, at the last instant, ``if_`` holds.

        Returns:
            Whether it was created; False also where the client's own retry may have met its first attempt.

        Raises:
            Exception: it may have been created, or may yet be.
        """
        ...

    def read(self, name: str) -> bytes | None:
        """Return the content of ``name``, or None where there is no such file."""
        ...

    def exists(self, name: str) -> bool:
        """Return whether ``name`` exists."""
        ...

    def names(self) -> Iterable[str]:
        """Return the names of all files in the folder."""
        ...

    def delete(self, name: str) -> None:
        """Delete ``name``."""
        ...

    def replace(self, name: str, content: bytes) -> None:
        """Write ``name``, whether it exists or not."""
        ...


def snapshot_commit_for(table: Any) -> Any:
    """Return the publisher that is safe on the storage of ``table``.

    Raises:
        ConfigurationError: none is safe there; names the storage, why, and what to change.
        StoreUnavailableError: the storage did not answer when it was asked what it can do.
    """
    manager, follows = table.snapshot_manager(), Lineage(table).follows
    if table.catalog_environment.supports_version_management:
        # The catalog's server compares and swaps.
        return table.catalog_environment.snapshot_commit(manager)
    name, location = table.identifier.get_full_name(), manager.snapshot_dir
    path = local_path(location)
    if path is not None:
        return NoClobberSnapshotCommit(HardLinkFolder(path), follows)
    if is_s3(location):
        return NoClobberSnapshotCommit(S3Folder.checked(name, location, table.file_io.properties.to_map()), follows)
    if urlparse(location).scheme == "oss":
        return NoClobberSnapshotCommit(OssFolder.checked(name, location, table.file_io), follows)
    raise ConfigurationError(
        f"table {name}: {location} is on a storage where two writers could overwrite each other's commits; use a "
        "warehouse on a local disk, S3 or OSS, or a REST catalog"
    )


class NoClobberSnapshotCommit(SnapshotCommit):  # type: ignore[misc]
    """Publishes by creating the snapshot's file, on any storage that can create without overwriting.

    Args:
        folder: the table's snapshot folder.
        follows: tells of a snapshot and the one of the next number whether the second was made from the first; asked
            only where the base of a snapshot has expired by the time that it is published.
    """

    def __init__(self, folder: SnapshotFolder, follows: Callable[[Any, Any], bool]) -> None:
        self._folder = folder
        self._follows = follows

    def commit(self, base_snapshot_uuid: str | None, snapshot: Any, statistics: Any) -> bool:
        """Publish ``snapshot`` and return True, or return False when another writer was faster.

        An answer that says nothing (a cut connection, a timeout, a server error) is resolved by reading the file back:
        every snapshot has a uuid of its own.

        Raises:
            Exception: the storage failed and the file is not there, or could not be read back; whether the snapshot
                is published in the end has to be read from the table.
        """
        name = _name(snapshot.id)
        content = JSON.to_json(snapshot, indent=2).encode()
        # The name is free, but it may be free because the snapshot of that name has expired since ours was
        # prepared; then its base has expired too, as expiry goes from the oldest on and spares the newest.
        try:
            is_created = self._folder.create(name, content, lambda: self._has_base(snapshot.id))
        except Exception:
            owner = self._uuid_of(name)
            if owner is None:
                raise
            is_created = owner == snapshot.uuid
        if not is_created and self._uuid_of(name) != snapshot.uuid:
            return False
        if not self._has_base(snapshot.id, published=True) and not self._is_of_the_table(snapshot):
            self._folder.delete(name)
            return False
        # Only a hint: readers look one further and list the folder when it lags behind.
        with suppress(Exception):
            self._folder.replace(_HINT, str(snapshot.id).encode())
        return True

    def close(self) -> None:
        """Nothing is held open."""

    def _uuid_of(self, name: str) -> str | None:
        content = self._folder.read(name)
        if content is None:
            return None
        found: Any = JSON.from_json(content.decode(), Snapshot)
        # Snapshots of other writers may lack one; theirs is not ours.
        return str(found.uuid)

    def _has_base(self, snapshot_id: int, *, published: bool = False) -> bool:
        if snapshot_id > 1:
            return self._folder.exists(_name(snapshot_id - 1))
        return published or not self._ids()

    def _is_of_the_table(self, snapshot: Any) -> bool:
        """Return whether ours stands although its base is gone: the base expired after ours was published.

        The alternative is that ours took the name of one that had expired. Then what has the next number was made from
        that other one, or is gone as well, for what expires goes from the oldest on.

        Raises:
            RuntimeError: ours has expired, too, so that nothing tells.
        """
        ids = self._ids()
        if max(ids, default=0) == snapshot.id:
            return True
        if snapshot.id not in ids:
            raise RuntimeError(f"snapshot {snapshot.id} has expired before its publisher saw that it was published")
        content = self._folder.read(_name(snapshot.id + 1))
        return content is not None and self._follows(snapshot, JSON.from_json(content.decode(), Snapshot))

    def _ids(self) -> list[int]:
        found = (_SNAPSHOT_NAME.match(name) for name in self._folder.names())
        return [int(match.group(1)) for match in found if match]


class HardLinkSnapshotCommit(NoClobberSnapshotCommit):
    """Publishes on a local disk.

    Args:
        folder: the table's snapshot folder.
        follows: as above.
        before_link: called when the snapshot is written and only the link is missing; for tests of that instant.
    """

    def __init__(
        self, folder: Path, follows: Callable[[Any, Any], bool], before_link: Callable[[], None] | None = None
    ) -> None:
        super().__init__(HardLinkFolder(folder, before_link), follows)


class Lineage:
    """Which snapshot of a table was made from which, by the files that they hold.

    Args:
        table: the pypaimon table.
    """

    def __init__(self, table: Any) -> None:
        self._table = table

    def follows(self, snapshot: Any, following: Any) -> bool:
        """Return whether ``following``, of the next number, was made from ``snapshot``; False only if surely not.

        What it was made from is in its base list, rewritten or not: every file that ``snapshot`` added is there. One
        that added none is in the table's history whether it was made from or not, for it changes no data.
        """
        lists, manifests = ManifestListManager(self._table), ManifestFileManager(self._table)

        def added(metas: Iterable[Any]) -> set[str]:
            entries = (entry for meta in metas for entry in manifests.read(meta.file_name))
            return {str(entry.file.file_name) for entry in entries if entry.kind == 0}

        return added(lists.read_delta(snapshot)) <= added(lists.read_base(following))


def _name(snapshot_id: int) -> str:
    return f"snapshot-{snapshot_id}"
