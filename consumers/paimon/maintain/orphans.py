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
        before_s = (now - MIN_AGE).timestamp()
        found = [*self._files.metadata_found(), *self._files.data_found()]
        suspects = {file.name: file for file in found if file.modified_s < before_s}
        if not suspects:
            return []
        snapshots = dict.fromkeys(reversed(self._files.snapshot_ids()))
        seen: set[str] = set()
        for snapshot_id in snapshots:
            snapshot = read_snapshot(self._files.manager, snapshot_id)
            if snapshot is not None:
                self._clear(suspects, snapshot, seen)
            if not suspects:
                return []
        for snapshot in self._files.tagged().values():
            self._clear(suspects, snapshot, seen)
        return list(suspects.values())

    def _clear(self, suspects: dict[str, FoundFile], snapshot: Any, seen: set[str]) -> None:
        """Take out of ``suspects`` what ``snapshot`` refers to; ``seen`` are files that were read before."""
        try:
            for name in self._files.lists(snapshot):
                suspects.pop(name, None)
                for manifest in self._files.manifests(name):
                    suspects.pop(manifest.name, None)
                    if manifest.name not in seen:
                        seen.add(manifest.name)
                        for record in self._files.records(manifest.name):
                            for path in self._files.data_paths(record):
                                suspects.pop(path.rsplit("/", 1)[-1], None)
            if snapshot.index_manifest is not None and snapshot.index_manifest not in seen:
                seen.add(snapshot.index_manifest)
                suspects.pop(snapshot.index_manifest, None)
                for path in self._files.index_paths(snapshot.index_manifest):
                    suspects.pop(path.rsplit("/", 1)[-1], None)
        except FileNotFoundError:
            if read_snapshot(self._files.manager, snapshot.id) is not None:
                raise
