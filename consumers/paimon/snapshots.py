"""Snapshots of a table, one by one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any


def read_snapshot(manager: Any, snapshot_id: int) -> Any | None:
    """Return a snapshot, or None when it is not there (any more, or vanished while it was being read)."""
    try:
        return manager.get_snapshot_by_id(snapshot_id)
    except FileNotFoundError:
        return None


def snapshot_time(snapshot: Any) -> datetime:
    """Return the commit time of ``snapshot``."""
    return datetime.fromtimestamp(snapshot.time_millis / 1000, UTC)


def identity_of(snapshot: Any) -> tuple[object, ...]:
    """Return what tells ``snapshot`` from any other that had its number before a rollback, or has it after one."""
    if snapshot.uuid is not None:
        return (snapshot.uuid,)
    # Older writers gave none.
    return (snapshot.commit_user, snapshot.commit_identifier, snapshot.commit_kind, snapshot.time_millis)
