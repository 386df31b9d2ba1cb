"""Is the source still the table that a position counts in?

Row ids and snapshot ids are given again after a rollback, and by a table that takes the name of a dropped one. So a
consumer's markers carry the newest snapshot that brought rows and that it has read, a
:class:`~schemas.source_mark.SourceMark`, and whoever looks at the table compares: a snapshot of that id has the same
uuid, and the next row id never goes back.
Snapshots that brought no rows are not remembered: an engine may roll its own compaction back, and no row id changes.
"""

from __future__ import annotations

from typing import Any

from consumers.errors import SourceChangedError
from consumers.paimon.snapshots import read_snapshot, snapshot_time
from schemas.source_mark import UNKNOWN, SourceMark

WHAT_NOW = (
    "it was rolled back, or dropped and made anew, and gives the same numbers to other rows. Restore it, or start with "
    "`sluice run --accept-new-table`: that curates every row that it holds, from the first on, and keeps what was "
    "curated before apart"
)
"""What has happened to a table that is another one, and what a person can do, for the end of a sentence."""


class SourceIdentity:
    """Compares a table with what is remembered of it. Not thread-safe.

    Args:
        table: the pypaimon table.
        name: its full name, for messages.

    Attributes:
        mark: what is remembered; None before the first snapshot.
    """

    def __init__(self, table: Any, name: str) -> None:
        self._table = table
        self._manager = table.snapshot_manager()
        self._name = name
        self._checked: tuple[int, str] | None = None
        self.mark: SourceMark | None = None

    def resume(self, mark: SourceMark | None) -> None:
        """Compare with ``mark`` from now on; None takes what is found next as given."""
        self.mark, self._checked = mark, None

    def check(self, latest: Any | None) -> None:
        """Compare the table as of ``latest`` with the mark, and move the mark on.

        Costs nothing while ``latest`` is the same, and one more metadata read for each that is new.

        Raises:
            SourceChangedError: it is another table, or was set back.
        """
        if latest is None:
            if self.mark is not None:
                raise self._changed(self.mark, "it has no snapshot at all now")
            return
        if (latest.id, _uuid(latest)) == self._checked:
            return
        if self.mark is not None:
            self._compare(self.mark, latest)
        if self.mark is None or self._moves_on(self.mark, latest):
            self.mark = SourceMark(
                table_id=_table_id(self._table),
                snapshot_id=int(latest.id),
                snapshot_uuid=_uuid(latest),
                next_offset=int(latest.next_row_id or 0),
                committed_at_ms=int(latest.time_millis),
            )
        self._checked = (int(latest.id), _uuid(latest))

    def _compare(self, mark: SourceMark, latest: Any) -> None:
        if latest.id < mark.snapshot_id:
            raise self._changed(mark, f"its newest snapshot is {latest.id} of {_shown(snapshot_time(latest))} now")
        if (latest.next_row_id or 0) < mark.next_offset:
            raise self._changed(
                mark, f"it has row ids up to {(latest.next_row_id or 0) - 1}, of {mark.next_offset - 1} that were read"
            )
        known = latest if latest.id == mark.snapshot_id else read_snapshot(self._manager, mark.snapshot_id)
        if known is not None and not _is_of(mark, known):
            raise self._changed(mark, f"snapshot {known.id} is another one, of {_shown(snapshot_time(known))}, now")
        table_id = _table_id(self._table)
        if known is None and UNKNOWN not in (table_id, mark.table_id) and table_id != mark.table_id:
            raise self._changed(mark, f"it is a table {table_id} now, and was one {mark.table_id}")

    def _moves_on(self, mark: SourceMark, latest: Any) -> bool:
        if mark.snapshot_uuid == UNKNOWN or _brings_rows(latest, mark):
            return True
        return latest.id != mark.snapshot_id and read_snapshot(self._manager, mark.snapshot_id) is None

    def _changed(self, mark: SourceMark, now: str) -> SourceChangedError:
        known = f"snapshot {mark.snapshot_id} of {_shown(mark.committed_at)}"
        if not mark.snapshot_id:
            known = f"row {mark.next_offset - 1}"
        return SourceChangedError(f"table {self._name}: was read up to {known}, and {now}: {WHAT_NOW}")


def _brings_rows(latest: Any, mark: SourceMark) -> bool:
    # Of a table that is read change by change every snapshot counts.
    return bool(latest.id > mark.snapshot_id if latest.next_row_id is None else latest.next_row_id > mark.next_offset)


def _is_of(mark: SourceMark, snapshot: Any) -> bool:
    if mark.snapshot_uuid == UNKNOWN:
        return int(snapshot.time_millis) == mark.committed_at_ms
    return _uuid(snapshot) == mark.snapshot_uuid


def _uuid(snapshot: Any) -> str:
    # Writers before Paimon 1.3 gave none; the name of a manifest list holds one.
    return str(snapshot.uuid or snapshot.delta_manifest_list)


def _table_id(table: Any) -> str:
    uuid = table.catalog_environment.uuid
    if uuid:
        return f"with uuid {uuid}"
    try:
        return f"created at {table.schema_manager.get_schema(0).time_millis} ms"
    except FileNotFoundError:
        return UNKNOWN


def _shown(time: Any) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S} UTC"
