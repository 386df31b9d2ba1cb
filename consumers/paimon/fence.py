"""Whose commit is it: the marker that every commit carries, and the fence that keeps an older incarnation out.

pypaimon asks its snapshot manager for the latest snapshot once per attempt, before it prepares the next one. The fence
sits there: it looks at every snapshot since the last one seen, and publishing without clobbering (see
:mod:`consumers.paimon.publish`) makes check and publish one atomic step, for a snapshot published after the check takes
the name that the attempt needs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from consumers.errors import FencedError, StopError
from schemas.positions import Position
from schemas.tables import (
    PROPERTY_CONSUMER,
    PROPERTY_EPOCH,
    PROPERTY_POSITION,
    PROPERTY_SEQUENCE,
    PROPERTY_SOURCE,
)


@dataclass(frozen=True, slots=True)
class Marker:
    """What a commit says of its maker: one incarnation, by its commit user. ``snapshot_id`` is 0 before publication."""

    consumer: str
    source: str
    epoch: int
    sequence: int
    position: Position
    commit_user: str
    snapshot_id: int = 0

    def to_properties(self) -> dict[str, str]:
        """Return the snapshot properties that carry this marker."""
        return {
            PROPERTY_CONSUMER: self.consumer,
            PROPERTY_SOURCE: self.source,
            PROPERTY_EPOCH: str(self.epoch),
            PROPERTY_SEQUENCE: str(self.sequence),
            PROPERTY_POSITION: self.position.to_json(),
        }

    @classmethod
    def of_snapshot(cls, snapshot: Any, consumer: str) -> Marker | None:
        """Return the marker of ``consumer`` in ``snapshot``, or None where it is somebody else's commit.

        Raises:
            StopError: the marker is there and cannot be read; going on could write rows twice.
        """
        properties = snapshot.properties or {}
        if properties.get(PROPERTY_CONSUMER) != consumer:
            return None
        try:
            return cls(
                consumer,
                properties[PROPERTY_SOURCE],
                int(properties[PROPERTY_EPOCH]),
                int(properties[PROPERTY_SEQUENCE]),
                Position.from_json(properties[PROPERTY_POSITION]),
                snapshot.commit_user,
                snapshot.id,
            )
        except (KeyError, ValueError) as error:
            raise StopError(f"snapshot {snapshot.id}: the marker of consumer {consumer} is damaged: {error}") from error


@dataclass(frozen=True, slots=True)
class Walk:
    """What a walk back through the snapshots found.

    Attributes:
        marker: the newest marker of the consumer, or None.
        is_complete: whether ``marker`` None means that there is none; False where snapshots have expired or the walk
            was cut short, so that one may have existed.
    """

    marker: Marker | None
    is_complete: bool


def read_snapshot(manager: Any, snapshot_id: int) -> Any | None:
    """Return a snapshot, or None when it is not there (any more, or vanished while it was being read)."""
    try:
        return manager.get_snapshot_by_id(snapshot_id)
    except FileNotFoundError:
        return None


def newest_marker(manager: Any, consumer: str, latest: Any | None, stop_id: int, max_snapshots: int) -> Walk:
    """Walk from ``latest`` back to ``stop_id`` (exclusive) and return the consumer's newest marker.

    Reads at most ``max_snapshots`` snapshot files and stops at the first that has expired.
    """
    if latest is None:
        return Walk(None, is_complete=True)
    snapshot: Any | None = latest
    for snapshot_id in range(latest.id, max(stop_id, latest.id - max_snapshots), -1):
        if snapshot_id != latest.id:
            snapshot = read_snapshot(manager, snapshot_id)
        if snapshot is None:
            return Walk(None, is_complete=False)
        marker = Marker.of_snapshot(snapshot, consumer)
        if marker is not None:
            return Walk(marker, is_complete=True)
    return Walk(None, is_complete=latest.id - max_snapshots <= stop_id)


class AlreadyPublishedError(Exception):
    """An earlier attempt at this very commit has reached the table after all."""


class Fence:
    """Lets one incarnation commit, and no longer than it is the consumer's newest one.

    Args:
        consumer: the consumer's name.
        commit_user: this incarnation's.
        table_name: for messages.

    Attributes:
        own: the newest marker of this incarnation that was seen.
        committing: sequence number of the commit under way; None for a claim, which repeats a number.
    """

    # More snapshots than this since our last look and the fence gives up rather than walk for minutes.
    _MAX_SNAPSHOTS = 100_000

    def __init__(self, consumer: str, commit_user: str, table_name: str) -> None:
        self._consumer = consumer
        self._commit_user = commit_user
        self._table_name = table_name
        self._seen_id = 0
        self.own: Marker | None = None
        self.committing: int | None = None

    def seen(self, latest: Any | None) -> None:
        """Take every snapshot up to ``latest`` as known."""
        self._seen_id = 0 if latest is None else latest.id

    def check(self, manager: Any, latest: Any | None) -> None:
        """Look at every snapshot since the last one seen, newest first.

        Raises:
            FencedError: another incarnation has committed, or may have: snapshots in between have expired unseen.
            StopError: the table was set back to an earlier snapshot, or a marker is damaged.
            AlreadyPublishedError: the commit under way is in the table.
        """
        latest_id = 0 if latest is None else latest.id
        if latest_id < self._seen_id:
            raise StopError(
                f"table {self._table_name} was set back from snapshot {self._seen_id} to {latest_id} under consumer "
                f"{self._consumer}; start it again to go on from there"
            )
        walk = newest_marker(manager, self._consumer, latest, self._seen_id, self._MAX_SNAPSHOTS)
        if walk.marker is not None and walk.marker.commit_user != self._commit_user:
            raise FencedError(
                f"consumer {self._consumer}: a newer copy (epoch {walk.marker.epoch}) has taken over table "
                f"{self._table_name} in snapshot {walk.marker.snapshot_id}; this one stops so that nothing is written "
                "twice"
            )
        if walk.marker is None and not walk.is_complete:
            raise FencedError(
                f"consumer {self._consumer}: snapshots of table {self._table_name} since {self._seen_id} expired "
                "before they were seen, so another copy may have taken over; start it again to recover the position"
            )
        if walk.marker is not None:
            self.own = walk.marker
        self._seen_id = latest_id
        if self.own is not None and self.committing is not None and self.own.sequence >= self.committing:
            raise AlreadyPublishedError


class CheckedSnapshots:
    """pypaimon's snapshot manager with a check in front of every attempt to commit.

    Args:
        manager: the real one.
        check: called with it and the latest snapshot; raising there ends the commit, nothing is published.
    """

    def __init__(self, manager: Any, check: Callable[[Any, Any | None], None]) -> None:
        self._manager = manager
        self._check = check
        self.num_attempts = 0

    def get_latest_snapshot(self) -> Any | None:
        """Return the latest snapshot after it has been checked."""
        latest = self._manager.get_latest_snapshot()
        self.num_attempts += 1
        self._check(self._manager, latest)
        return latest

    def __getattr__(self, name: str) -> Any:
        return getattr(self._manager, name)
