"""Files that nothing refers to: what killed writers, cut-off expiries and lost races left behind.

A file is an orphan where it is older than a day and no snapshot and no tag names it. Files are listed before the
snapshots are read, so that what is committed meanwhile is known; what a writer holds back for more than a day is not,
and no commit takes that long.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from consumers.paimon.maintain.table_files import FoundFile, TableFiles
from consumers.paimon.snapshots import read_snapshot

MIN_AGE = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Swept:
    """Orphans that are gone, or would be: how many files, of how many bytes."""

    num_files: int = 0
    num_bytes: int = 0


class Orphans:
    """Sweeps the folders of one table.

    Args:
        table: the pypaimon table.
    """

    def __init__(self, table: Any) -> None:
        self._files = TableFiles(table)

    def run(self, now: datetime, *, dry: bool = False) -> Swept:
        """Delete what nothing refers to; with ``dry`` only count it.

        Raises:
            Exception: whatever the store raises, also where a snapshot cannot be read: then nothing is deleted.
        """
        orphans = self.find(now)
        if not dry:
            for orphan in orphans:
                try:
                    self._files.file_io.delete(orphan.path)
                except FileNotFoundError:
                    continue
        return Swept(len(orphans), sum(orphan.num_bytes for orphan in orphans))

    def find(self, now: datetime) -> list[FoundFile]:
        """Return the orphans as of ``now``."""
        found = [*self._files.metadata_found(), *self._files.data_found()]
        return self._unnamed(found, now - MIN_AGE) or []

    def find_data(self, before: datetime) -> list[FoundFile] | None:
        """Return the files of rows that are older than ``before`` and that nothing refers to; None if nobody can tell.

        They may be younger than a day, and belong to a commit under way.
        """
        return self._unnamed(list(self._files.data_found()), before)

    def _unnamed(self, found: list[FoundFile], before: datetime) -> list[FoundFile] | None:
        suspects = {file.name: file for file in found if file.modified_s < before.timestamp()}
        if not suspects:
            return []
        ids = set(self._files.snapshot_ids())
        for snapshot_id in sorted(ids, reverse=True):
            snapshot = read_snapshot(self._files.manager, snapshot_id)
            # What a snapshot has, its predecessor had, or it was added by it.
            if snapshot is None or not self._clear(suspects, snapshot, is_complete=snapshot_id - 1 not in ids):
                # It expires at this moment, and what it leaves to the next one is not known.
                return None
            if not suspects:
                return []
        for snapshot in self._files.tagged().values():
            self._clear(suspects, snapshot, is_complete=True)
        return list(suspects.values())

    def _clear(self, suspects: dict[str, FoundFile], snapshot: Any, *, is_complete: bool) -> bool:
        """Take out of ``suspects`` what ``snapshot`` refers to; return whether it was there to be read.

        Args:
            suspects: by name.
            snapshot: which.
            is_complete: all of its data files, not only those that its predecessor had not.
        """
        try:
            names = set()
            for name in self._files.lists(snapshot):
                names.add(name)
                names.update(manifest.name for manifest in self._files.manifests(name))
            paths = self._files.live_paths(snapshot) if is_complete else self._files.added_paths(snapshot)
            if snapshot.index_manifest is not None:
                names.add(snapshot.index_manifest)
                paths.update(self._files.index_paths(snapshot.index_manifest))
        except FileNotFoundError:
            if read_snapshot(self._files.manager, snapshot.id) is not None:
                raise
            return False
        for name in (*names, *(path.rsplit("/", 1)[-1] for path in paths)):
            suspects.pop(name, None)
        return True
