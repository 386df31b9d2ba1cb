"""Publishing a snapshot without ever overwriting one: the ground under the exactly-once promise.

pypaimon checks that a snapshot file does not exist and then renames over it, so that two writers can both believe that
they published snapshot N, and one of them loses its rows. Here the file comes into being by one atomic operation that
fails when it exists already.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from pypaimon.common.json_util import JSON
from pypaimon.snapshot.snapshot_commit import SnapshotCommit

from consumers.errors import ConfigurationError
from consumers.paimon.catalog import local_path

_SNAPSHOT_NAME = re.compile(r"^snapshot-(\d+)$")


def snapshot_commit_for(table: Any) -> Any:
    """Return the publisher that is safe on the storage of ``table``.

    Raises:
        ConfigurationError: none is safe there.
    """
    folder = local_path(table.snapshot_manager().snapshot_dir)
    if folder is not None and not table.catalog_environment.supports_version_management:
        return HardLinkSnapshotCommit(folder)
    raise ConfigurationError(
        f"table {table.identifier.get_full_name()}: {table.table_path} is on a storage where two writers could "
        "overwrite each other's commits; use a warehouse on a local disk (object stores come with a later release)"
    )


class HardLinkSnapshotCommit(SnapshotCommit):  # type: ignore[misc]
    """Publishes by hard link: ``link(2)`` fails when the name exists, on every local file system that has links.

    A crash leaves at most a hidden temporary file, which no reader looks at.

    Args:
        folder: the table's snapshot folder.
        before_link: called when the snapshot is written and only the link is missing; for tests of that instant.
    """

    def __init__(self, folder: Path, before_link: Callable[[], None] | None = None) -> None:
        self._folder = folder
        self._before_link = before_link

    def commit(self, base_snapshot_uuid: str | None, snapshot: Any, statistics: Any) -> bool:
        """Publish ``snapshot`` and return True, or return False when another writer was faster.

        Raises:
            OSError: the disk failed; whether the snapshot was published has to be read from the table.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        target = self._folder / f"snapshot-{snapshot.id}"
        temporary = self._folder / f".{target.name}.{uuid.uuid4()}.tmp"
        try:
            _write_durably(temporary, JSON.to_json(snapshot, indent=2))
            if self._before_link is not None:
                self._before_link()
            # The name is free, but it may be free because the snapshot of that name has expired since ours was
            # prepared; then its base has expired too, as expiry goes from the oldest on and spares the newest.
            if not self._has_base(snapshot.id):
                return False
            try:
                os.link(temporary, target)
            except FileExistsError:
                return False
        finally:
            temporary.unlink(missing_ok=True)
        if not self._has_base(snapshot.id, published=True) and not self._succeeded_by_us(snapshot):
            target.unlink()
            return False
        _sync_folder(self._folder)
        self._write_hint(snapshot.id)
        return True

    def close(self) -> None:
        """Nothing is held open."""

    def _has_base(self, snapshot_id: int, *, published: bool = False) -> bool:
        if snapshot_id > 1:
            return (self._folder / f"snapshot-{snapshot_id - 1}").exists()
        return published or not self._ids()

    def _succeeded_by_us(self, snapshot: Any) -> bool:
        """Whether the newest snapshot is ours although its base expired between the check and the link."""
        return bool(max(self._ids()) == snapshot.id)

    def _ids(self) -> list[int]:
        found = (_SNAPSHOT_NAME.match(entry.name) for entry in os.scandir(self._folder))
        return [int(match.group(1)) for match in found if match]

    def _write_hint(self, snapshot_id: int) -> None:
        # Only a hint: readers look one further and list the folder when it lags behind.
        temporary = self._folder / f".LATEST.{uuid.uuid4()}.tmp"
        with suppress(OSError):
            temporary.write_text(str(snapshot_id))
            temporary.replace(self._folder / "LATEST")


def _write_durably(path: Path, text: str) -> None:
    with path.open("xb") as file:
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
