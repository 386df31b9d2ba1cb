"""Whose commit is it: the fence that keeps an older incarnation out, by the marker that every commit carries.

pypaimon asks its snapshot manager for the latest snapshot once per attempt, before it prepares the next one. The fence
sits there: it looks at every snapshot since the last one seen, and publishing without clobbering (see
:mod:`consumers.paimon.commit.publish`) makes check and publish one atomic step, for a snapshot published after the
check takes the name that the attempt needs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from consumers.errors import FencedError, SightLostError, StopError
from consumers.paimon.commit.markers import Marker, newest_marker
from consumers.paimon.snapshots import identity_of, read_snapshot, snapshot_time
from schemas.shards import WHOLE, Shard


class AlreadyPublishedError(Exception):
    """An earlier attempt at this very commit has reached the table after all."""


class Fence:
    """Lets one incarnation commit, and no longer than it is the consumer's newest one.

    Args:
        consumer: the consumer's name.
        commit_user: this incarnation's.
        table_name: for messages.
        shard: the incarnation's; commits of its siblings pass. None is a division, which no commit may cross.

    Attributes:
        own: the newest marker of this incarnation that was seen.
        committing: sequence number of the commit under way; None for a claim, which repeats a number.
        published: sequence number of the commit that was published after what was seen, None where there is none.
    """

    # More snapshots than this since our last look and the fence gives up rather than walk for minutes.
    _MAX_SNAPSHOTS = 100_000

    def __init__(self, consumer: str, commit_user: str, table_name: str, shard: Shard | None = WHOLE) -> None:
        self._consumer = consumer
        self._shard = shard
        self._commit_user = commit_user
        self._table_name = table_name
        self._seen_id = 0
        self._seen: tuple[object, ...] = ()
        self.own: Marker | None = None
        self.committing: int | None = None
        self.published: int | None = None

    def seen(self, latest: Any | None) -> None:
        """Take every snapshot up to ``latest`` as known."""
        self._seen_id, self._seen = (0, ()) if latest is None else (latest.id, identity_of(latest))
        self.published = None

    def check(self, manager: Any, latest: Any | None) -> None:
        """Look at every snapshot since the last one seen, newest first.

        Raises:
            FencedError: another incarnation has committed.
            SightLostError: it may have, for snapshots in between have expired unseen.
            StopError: the table was set back to an earlier snapshot, whatever came after that, or a marker is damaged.
            AlreadyPublishedError: the commit under way is in the table.
        """
        self._check_history(manager, latest)
        walk = newest_marker(
            manager, self._consumer, latest, self._seen_id, self._MAX_SNAPSHOTS, self._concerns_us, is_each=True
        )
        if walk.marker is not None and walk.marker.commit_user != self._commit_user:
            if walk.marker.is_division or (self._shard and walk.marker.shard.count != self._shard.count):
                raise FencedError(
                    f"consumer {self._consumer}: was divided into {walk.marker.shard.count} shards in snapshot "
                    f"{walk.marker.snapshot_id} of table {self._table_name}; start its shards as `sluice run --shard "
                    f"0/{walk.marker.shard.count}` and so on"
                )
            raise FencedError(
                f"consumer {self._consumer}: a newer copy (epoch {walk.marker.epoch}) has taken over table "
                f"{self._table_name} in snapshot {walk.marker.snapshot_id}; this one stops so that nothing is written "
                "twice"
            )
        if walk.marker is None and not walk.is_complete:
            raise SightLostError(
                f"consumer {self._consumer}: snapshots of table {self._table_name} since {self._seen_id} expired "
                "before they were seen, so another copy may have taken over; start it again to recover the position"
            )
        if walk.marker is not None:
            self.own = walk.marker
        self._check_own(latest)
        self.seen(latest)
        if self.own is not None and self.committing is not None and self.own.sequence >= self.committing:
            raise AlreadyPublishedError

    def _check_history(self, manager: Any, latest: Any | None) -> None:
        """Check that ``latest`` comes after what was seen: numbers alone are given again after a rollback."""
        latest_id = 0 if latest is None else latest.id
        again = f"start consumer {self._consumer} again to go on from there"
        if latest_id < self._seen_id:
            raise StopError(
                f"table {self._table_name} was set back from snapshot {self._seen_id} to {latest_id} under consumer "
                f"{self._consumer}; {again}"
            )
        if latest is None or self._seen_id == 0:
            return
        if latest_id == self._seen_id + 1 and latest.commit_user == self._commit_user:
            # Our own commit, made on top of what was seen.
            return
        then = latest if latest_id == self._seen_id else read_snapshot(manager, self._seen_id)
        if then is None:
            raise SightLostError(
                f"consumer {self._consumer}: snapshots of table {self._table_name} from {self._seen_id} on expired "
                "before they were seen, so the table may have been set back, or another copy may have taken over; "
                "start it again to recover the position"
            )
        if identity_of(then) != self._seen:
            raise StopError(
                f"table {self._table_name} was set back under consumer {self._consumer}, and written anew: its "
                f"snapshot {self._seen_id}, by {then.commit_user} at {snapshot_time(then):%Y-%m-%d %H:%M:%S} UTC, is "
                f"not the one that was seen; {again}"
            )

    def _check_own(self, latest: Any | None) -> None:
        """Check that the last commit is there: it came after what was seen, and may have been taken away since."""
        if self.published is not None and (self.own is None or self.own.sequence < self.published):
            raise StopError(
                f"table {self._table_name} was set back under consumer {self._consumer}: commit {self.published}, "
                f"which was published, is not in it any more as of snapshot {0 if latest is None else latest.id}; "
                f"start consumer {self._consumer} again to go on from there"
            )

    def _concerns_us(self, marker: Marker) -> bool:
        return self._shard is None or marker.concerns(self._shard)


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
