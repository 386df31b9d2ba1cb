"""What one snapshot of a table changed, of what a stream knows.

A stream knows the table's state at the levels that changes have told (:mod:`consumers.paimon.source.told`), and most
snapshots tell by themselves how it grew. Where one does not, the changes are the difference between what was known
before and what is known with it, which costs three reads of the table: of a snapshot that overwrites rows, of the
compaction that comes with one, where the table was altered to tell its changes in another way, and where it told them
before in a way that misleads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from consumers.errors import UnfollowedSnapshotError
from consumers.paimon.snapshots import read_snapshot, snapshot_time
from consumers.paimon.source.difference import difference
from consumers.paimon.source.keyed import what_misleads
from consumers.paimon.source.offsets import first_offset
from consumers.paimon.source.snapshot_reader import KIND, Row, SnapshotReader
from consumers.paimon.source.told import INPUT, Told, told_by

_APPEND, _COMPACT, _OVERWRITE = "APPEND", "COMPACT", "OVERWRITE"
_TELLING = frozenset({_APPEND, _COMPACT, "ANALYZE"})
"""Kinds of snapshots whose changes, if they have any, Paimon tells by itself."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What a snapshot changed.

    Attributes:
        rows: in an order that is the same each time.
        until_id: the last snapshot whose changes are among them; mostly the snapshot itself.
    """

    rows: Iterator[Row]
    until_id: int


class SnapshotChanges:
    """Reads a table without row ids one snapshot at a time, by one of its schemas. Not thread-safe.

    Args:
        raw: the pypaimon table, as it was loaded.
        columns: which columns are read, besides the primary key.

    Attributes:
        keys: columns of the primary key.
        schema_id: the schema by which it reads.

    Raises:
        ConfigurationError: pypaimon cannot read it.
    """

    def __init__(self, raw: Any, columns: tuple[str, ...]) -> None:
        self._name = str(raw.identifier.get_full_name())
        self._raw = raw
        self._manager = raw.snapshot_manager()
        self._reader = SnapshotReader(raw, columns)
        self.keys = self._reader.keys
        self.schema_id = int(raw.table_schema.id)
        self._told_by: dict[int, Told] = {}
        self._told_by_schema(self.schema_id)
        self._is_misleading = bool(self.keys) and what_misleads(raw) is not None
        self._is_untold = lru_cache(maxsize=4096)(self._brings_untold_rows)

    def whole_table(self, snapshot: Any) -> Iterator[Row]:
        """Yield what a stream begins with as of ``snapshot``, which is what one that began before knows by then."""
        yield from self._reader.state(snapshot, self._told(snapshot).holds)

    def of(self, snapshot: Any) -> Changes:
        """Return what ``snapshot`` changed.

        Raises:
            UnfollowedSnapshotError: nothing tells; a person has to say how to go on.
        """
        self._check_kind(snapshot)
        if not self.keys:
            return Changes(self._told_by_itself(snapshot), int(snapshot.id))
        before = self._before_other_producer(snapshot)
        if before is not None and self._knows_otherwise(before, snapshot):
            until = self._first_settled(before, snapshot)
            return Changes(self._difference(before, until), int(until.id))
        if self._is_replacing(snapshot):
            return Changes(self._difference(self._before(snapshot), snapshot), int(snapshot.id))
        return Changes(self._told_by_itself(snapshot), int(snapshot.id))

    def count(self, snapshot: Any) -> int:
        """Return how many rows ``snapshot`` changed; where only a difference tells, the most that it can be."""
        if self.keys:
            before = read_snapshot(self._manager, snapshot.id - 1) if self._is_altered_for(snapshot) else None
            is_other = before is not None and self._told(before).lowest_level != self._told(snapshot).lowest_level
            if is_other or self._is_replacing(snapshot):
                before = before or read_snapshot(self._manager, snapshot.id - 1)
                return int((snapshot.total_record_count or 0) + ((before and before.total_record_count) or 0))
        if self._has_changelog(snapshot):
            return int(snapshot.changelog_record_count or snapshot.delta_record_count or 0)
        return int(snapshot.delta_record_count or 0) if self._is_delta(snapshot) else 0

    def _check_kind(self, snapshot: Any) -> None:
        kind = str(snapshot.commit_kind)
        if kind in _TELLING or (kind == _OVERWRITE and self.keys):
            return
        if kind == _OVERWRITE:
            what = "replaces rows of a table without a primary key: which videos it removed cannot be told"
        else:
            what = "is of a kind that is not known"
        raise self._unfollowed(snapshot, what)

    def _unfollowed(self, snapshot: Any, what: str) -> UnfollowedSnapshotError:
        return UnfollowedSnapshotError(
            f"table {self._name}: snapshot {snapshot.id} ({snapshot.commit_kind}, "
            f"{snapshot_time(snapshot):%Y-%m-%d %H:%M:%S} UTC) {what}. To go on behind it, without its rows: "
            f"`sluice position {first_offset(int(snapshot.id) + 1)}`"
        )

    def _told_by_itself(self, snapshot: Any) -> Iterator[Row]:
        if self._has_changelog(snapshot):
            return self._reader.changelog(snapshot)
        return self._reader.delta(snapshot) if self._is_delta(snapshot) else iter(())

    def _has_changelog(self, snapshot: Any) -> bool:
        told = self._told(snapshot)
        # A writer that does not know yet that the table was altered makes those of the producer before.
        is_meant = told.is_by_compaction or (told.producer == INPUT and str(snapshot.commit_kind) == _APPEND)
        return is_meant and bool(snapshot.changelog_manifest_list)

    def _is_delta(self, snapshot: Any) -> bool:
        return str(snapshot.commit_kind) == _APPEND and not self._told(snapshot).is_by_compaction

    def _is_replacing(self, snapshot: Any) -> bool:
        kind = str(snapshot.commit_kind)
        # The table is told by compactions now; what was written before that is not what it held then.
        is_misleading = self._is_misleading and kind == _APPEND and not self._told(snapshot).is_by_compaction
        return kind == _OVERWRITE or is_misleading or self._is_untold(int(snapshot.id))

    def _brings_untold_rows(self, snapshot_id: int) -> bool:
        """Return whether a compaction takes rows to where they count as told, and no changelog tells of them.

        So is the one that Java commits with an overwrite, and one by a writer that does not know the producer yet.
        """
        snapshot = read_snapshot(self._manager, snapshot_id)
        if snapshot is None or str(snapshot.commit_kind) != _COMPACT or snapshot.changelog_manifest_list:
            return False
        told = self._told(snapshot)
        if not told.is_by_compaction:
            return False
        removed, added = self._reader.levels_of_changed_files(snapshot)
        return any(map(told.holds, added)) and not all(map(told.holds, removed))

    def _before(self, snapshot: Any) -> Any | None:
        """Return the snapshot before; None where there was none.

        Raises:
            UnfollowedSnapshotError: it has expired.
        """
        before = read_snapshot(self._manager, snapshot.id - 1)
        if before is None and snapshot.id > 1:
            raise self._unfollowed(
                snapshot,
                f"replaces rows, and snapshot {snapshot.id - 1}, which tells what they were, has expired",
            )
        return before

    def _difference(self, before: Any | None, after: Any) -> Iterator[Row]:
        return difference(
            lambda: iter(()) if before is None else self.whole_table(before),
            lambda: self.whole_table(after),
            self.keys,
            KIND,
        )

    def _told(self, snapshot: Any) -> Told:
        return self._told_by_schema(int(snapshot.schema_id or 0))

    def _told_by_schema(self, schema_id: int) -> Told:
        told = self._told_by.get(schema_id)
        if told is None:
            schema = self._raw.table_schema
            if schema_id != schema.id:
                schema = self._raw.schema_manager.get_schema(schema_id)
            told = self._told_by[schema_id] = told_by(self._name, schema.options, is_keyed=bool(self.keys))
        return told

    def _is_altered_for(self, snapshot: Any) -> bool:
        """Return whether an earlier schema than that of ``snapshot`` told changes in another way."""
        lowest = self._told(snapshot).lowest_level
        return any(self._told_by_schema(id_).lowest_level != lowest for id_ in range(int(snapshot.schema_id or 0)))

    def _before_other_producer(self, snapshot: Any) -> Any | None:
        """Return the snapshot before, where it may have told its changes in another way.

        Raises:
            UnfollowedSnapshotError: it has expired.
        """
        if snapshot.id == 1 or not self._is_altered_for(snapshot):
            return None
        before = read_snapshot(self._manager, snapshot.id - 1)
        if before is None:
            raise self._unfollowed(
                snapshot,
                f"tells its changes by changelog-producer {self._told(snapshot).producer}, the table had another one, "
                f"and snapshot {snapshot.id - 1}, which says until when, has expired",
            )
        return before

    def _knows_otherwise(self, before: Any, snapshot: Any) -> bool:
        """Return whether what is known as of ``before`` depends on which of the two snapshots' ways it is told in."""
        earlier, told = self._told(before), self._told(snapshot)
        if earlier.lowest_level == told.lowest_level:
            return False
        return self._reader.has_files(before, lambda level: earlier.holds(level) != told.holds(level))

    def _first_settled(self, before: Any, snapshot: Any) -> Any:
        """Return the first snapshot, from ``snapshot`` on, as of which all that the table holds is told.

        Up to there, what was told before and waits for a compaction now would have to be taken for gone.

        Raises:
            UnfollowedSnapshotError: there is none yet.
        """
        newest = self._manager.get_latest_snapshot()
        for snapshot_id in range(int(snapshot.id), int(newest.id) + 1):
            found = snapshot if snapshot_id == snapshot.id else read_snapshot(self._manager, snapshot_id)
            if found is None:
                continue
            self._check_kind(found)
            if self._is_settled(found):
                return found
        raise self._unfollowed(
            snapshot,
            f"tells its changes by changelog-producer {self._told(snapshot).producer}, those before it by "
            f"{self._told(before).producer}, and rows that were told wait for a compaction, which will not tell of "
            "those that are removed by then: compact the whole table (CALL sys.compact with compact_strategy 'full') "
            f"while nothing writes to it, or set changelog-producer = {self._told(before).producer} again and write "
            "to it once, and start again: nothing is lost then",
        )

    def _is_settled(self, snapshot: Any) -> bool:
        told = self._told(snapshot)
        if not told.is_by_compaction:
            return True
        # An append adds to what waits.
        return str(snapshot.commit_kind) != _APPEND and not self._reader.has_files(
            snapshot, lambda level: not told.holds(level)
        )
