"""Snapshots of a table, one by one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

_PREFIX = "snapshot-"


def read_snapshot(manager: Any, snapshot_id: int) -> Any | None:
    """Return a snapshot, or None when it is not there (any more, or vanished while it was being read)."""
    try:
        return manager.get_snapshot_by_id(snapshot_id)
    except FileNotFoundError:
        return None


def earliest_snapshot_id(manager: Any) -> int:
    """Return the id of the oldest snapshot that is retained, 1 where there is none.

    The hint is believed where it leads to a snapshot; else the snapshots are listed, however many have expired.
    """
    hint = f"{manager.snapshot_dir}/EARLIEST"
    try:
        found = int(manager.file_io.read_file_utf8(hint))
        if read_snapshot(manager, found) is not None and read_snapshot(manager, found - 1) is None:
            return found
    except (FileNotFoundError, ValueError):
        pass
    try:
        names = [status.base_name for status in manager.file_io.list_status(manager.snapshot_dir)]
    except FileNotFoundError:
        return 1
    ids = [int(name.removeprefix(_PREFIX)) for name in names if name.removeprefix(_PREFIX).isdecimal()]
    return min(ids, default=1)


def snapshot_time(snapshot: Any) -> datetime:
    """Return the commit time of ``snapshot``."""
    return datetime.fromtimestamp(snapshot.time_millis / 1000, UTC)


def identity_of(snapshot: Any) -> tuple[object, ...]:
    """Return what tells ``snapshot`` from any other that had its number before a rollback, or has it after one."""
    if snapshot.uuid is not None:
        return (snapshot.uuid,)
    # Older writers gave none.
    return (snapshot.commit_user, snapshot.commit_identifier, snapshot.commit_kind, snapshot.time_millis)
