"""Expiry of snapshots, from the oldest on, and of the files that only they used.

A snapshot's own file goes first, its manifests and data after it: whatever instant the process dies at, no snapshot
that can be seen refers to a file that is gone. What is left over then is swept up as orphans are
(:mod:`consumers.paimon.maintain.orphans`).

A manifest that a snapshot does not name is named by no later one, for each list is made from the one before. So what
the first retained snapshot and the tags do not name is used by nobody.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from consumers.paimon.commit.markers import read_division
from consumers.paimon.maintain.table_files import DELETE, ManifestName, TableFiles
from consumers.paimon.snapshots import read_snapshot, snapshot_time
from schemas.tables import PROPERTY_CONSUMER

_SNAPSHOTS_AT_ONCE = 1000
_EARLIEST = "EARLIEST"


@dataclass(frozen=True, slots=True)
class Retention:
    """Which snapshots stay.

    Attributes:
        keep_for: younger ones.
        least: so many of the newest, however old.
        most: no more than so many, however young.
    """

    keep_for: timedelta
    least: int
    most: int


@dataclass(frozen=True, slots=True)
class Expired:
    """What an expiry did, or would do.

    Attributes:
        num_snapshots: snapshots that are gone.
        num_files: files that are gone with them.
        num_bytes: of those files.
        held_by: what keeps snapshots that are due, None where nothing does.
        resting: the consumer whose newest marker that is, None where it is something else.
    """

    num_snapshots: int = 0
    num_files: int = 0
    num_bytes: int = 0
    held_by: str | None = None
    resting: str | None = None

    def __add__(self, other: Expired) -> Expired:
        return Expired(
            self.num_snapshots + other.num_snapshots,
            self.num_files + other.num_files,
            self.num_bytes + other.num_bytes,
            other.held_by,
            other.resting,
        )


@dataclass(slots=True)
class _Garbage:
    """What the snapshots of one round leave behind: size by name or path."""

    lists: dict[str, int] = field(default_factory=dict)
    manifests: dict[str, int] = field(default_factory=dict)
    index_manifests: set[str] = field(default_factory=set)
    index_files: dict[str, int] = field(default_factory=dict)
    data_files: dict[str, int] = field(default_factory=dict)


class Expiry:
    """Expires the snapshots of one table.

    Args:
        table: the pypaimon table.
        retention: which stay.
        most_at_once: snapshots in one round.
        expire_before: snapshots before this one do not stay for their number, only for their age.
    """

    def __init__(
        self, table: Any, retention: Retention, most_at_once: int = _SNAPSHOTS_AT_ONCE, *, expire_before: int = 0
    ) -> None:
        self._files = TableFiles(table)
        self._manager = self._files.manager
        self._retention = retention
        self._most_at_once = most_at_once
        self._expire_before = expire_before

    def run(self, now: datetime, *, dry: bool = False) -> Expired:
        """Expire what is due at ``now``; with ``dry`` only say what that would be.

        Raises:
            Exception: whatever the store raises; what was begun is completed by orphan cleaning.
        """
        total = Expired()
        while True:
            done, is_more = self._round(now, dry)
            total += done
            if dry or not is_more:
                return total

    def _round(self, now: datetime, dry: bool) -> tuple[Expired, bool]:
        ids = self._files.snapshot_ids()
        due = self._due(ids, now, len(ids) if dry else self._most_at_once)
        if not due:
            return Expired(), False
        held_by, resting, end = self._limit(due, ids)
        expired = [snapshot for snapshot in due if snapshot.id < end]
        if not expired:
            return Expired(held_by=held_by, resting=resting), False
        first_kept = read_snapshot(self._manager, next(each for each in ids if each > expired[-1].id))
        if first_kept is None:
            # Somebody else expires, too.
            return Expired(held_by=held_by, resting=resting), False
        garbage = self._garbage(expired, first_kept)
        if not dry:
            self._forget(expired, first_kept.id)
        # No tag can be put on them any more, so the tags that there are now are all that matter.
        self._spare(garbage, self._files.tagged().values())
        paths = [f"{self._files.manifest_folder}/{name}" for name in garbage.index_manifests]
        paths += [*garbage.data_files, *garbage.index_files]
        for names in (garbage.manifests, garbage.lists):
            paths += [f"{self._files.manifest_folder}/{name}" for name in names]
        if not dry:
            for path in paths:
                self._delete(path)
        sizes = (garbage.lists, garbage.manifests, garbage.index_files, garbage.data_files)
        num_bytes = sum(sum(each.values()) for each in sizes)
        is_more = len(due) == self._most_at_once and held_by is None
        return Expired(len(expired), len(paths), num_bytes, held_by, resting), is_more

    def _due(self, ids: list[int], now: datetime, most: int) -> list[Any]:
        """Return the oldest snapshots that neither age nor number keeps."""
        due = []
        num_unwanted = max(0, len(ids) - self._retention.least, sum(each < self._expire_before for each in ids))
        for place, snapshot_id in enumerate(ids[: min(num_unwanted, len(ids) - 1, most)]):
            snapshot = read_snapshot(self._manager, snapshot_id)
            if snapshot is None:
                break
            is_old = now - snapshot_time(snapshot) > self._retention.keep_for
            if not is_old and len(ids) - place <= self._retention.most:
                break
            due.append(snapshot)
        return due

    def _limit(self, due: list[Any], ids: list[int]) -> tuple[str | None, str | None, int]:
        """Return who needs a snapshot that is due, which consumer that is, and the first one that is needed."""
        end = due[-1].id + 1
        held_by = resting = None
        for name, needed in self._files.consumer_needs().items():
            if needed < end:
                held_by, end = f"consumer file {name} at snapshot {needed}", needed
        latest = read_snapshot(self._manager, ids[-1])
        consumers = {str((each.properties or {}).get(PROPERTY_CONSUMER, "")) for each in due} - {""}
        for consumer in sorted(consumers):
            division, _ = read_division(_Remembering(self._manager), consumer, latest, len(ids))
            for marker in () if division is None else division.markers.values():
                if marker.snapshot_id < end:
                    end, resting = marker.snapshot_id, consumer
                    held_by = f"newest marker of consumer {consumer}, shard {marker.shard}, in snapshot {end}"
        return held_by, resting, end

    def _garbage(self, expired: list[Any], first_kept: Any) -> _Garbage:
        """Return what ``expired`` use and ``first_kept`` does not."""
        garbage = _Garbage()
        for snapshot in [*expired, first_kept]:
            is_expired = snapshot is not first_kept
            for name, size in self._files.lists(snapshot).items():
                try:
                    manifests = self._files.manifests(name)
                except FileNotFoundError:
                    if not is_expired:
                        raise
                    continue
                if is_expired:
                    garbage.lists[name] = size
                    garbage.manifests.update({each.name: each.num_bytes for each in manifests})
                if name == snapshot.delta_manifest_list and snapshot is not expired[0]:
                    # What the oldest took out went with its predecessors.
                    self._take_out(manifests, garbage.data_files)
            if is_expired and snapshot.index_manifest is not None:
                garbage.index_manifests.add(snapshot.index_manifest)
        for name in garbage.index_manifests:
            garbage.index_files.update(self._files.index_paths(name))
        self._spare(garbage, [first_kept], data=False)
        return garbage

    def _take_out(self, manifests: list[ManifestName], unused: dict[str, int]) -> None:
        """Note in ``unused`` the data files that one snapshot has taken out of the table."""
        if not any(each.num_deleted for each in manifests):
            return
        added: set[str] = set()
        deleted: dict[str, int] = {}
        for each in manifests:
            for record in self._files.records(each.name):
                for path in self._files.data_paths(record):
                    if record["_KIND"] == DELETE:
                        deleted[path] = record["_FILE"]["_FILE_SIZE"]
                    else:
                        # A file that moved to another level is taken out and added under one name.
                        added.add(path)
        unused.update({path: size for path, size in deleted.items() if path not in added})

    def _spare(self, garbage: _Garbage, kept: Iterable[Any], *, data: bool = True) -> None:
        """Take out of ``garbage`` what the snapshots ``kept`` use.

        Raises:
            FileNotFoundError: one of them cannot be read; nothing may be deleted then.
        """
        for snapshot in kept:
            for name in self._files.lists(snapshot):
                garbage.lists.pop(name, None)
                for manifest in self._files.manifests(name):
                    garbage.manifests.pop(manifest.name, None)
            for path in self._files.live_paths(snapshot) if data and garbage.data_files else ():
                garbage.data_files.pop(path, None)
            if snapshot.index_manifest is not None and garbage.index_manifests:
                garbage.index_manifests.discard(snapshot.index_manifest)
                for path in self._files.index_paths(snapshot.index_manifest):
                    garbage.index_files.pop(path, None)

    def _forget(self, expired: list[Any], first_kept: int) -> None:
        """Delete the snapshots' own files, oldest first; the hint to the first that is kept goes ahead."""
        self._files.file_io.overwrite_file_utf8(f"{self._manager.snapshot_dir}/{_EARLIEST}", str(first_kept))
        for snapshot in expired:
            self._delete(self._manager.get_snapshot_path(snapshot.id))

    def _delete(self, path: str) -> None:
        try:
            self._files.file_io.delete(path)
        except FileNotFoundError:
            # Another expiry, or an earlier one that was cut off.
            return


class _Remembering:
    """A snapshot manager that reads each snapshot once."""

    def __init__(self, manager: Any) -> None:
        self._manager = manager
        self._read: dict[int, Any | None] = {}

    def get_snapshot_by_id(self, snapshot_id: int) -> Any | None:
        if snapshot_id not in self._read:
            self._read[snapshot_id] = self._manager.get_snapshot_by_id(snapshot_id)
        return self._read[snapshot_id]
