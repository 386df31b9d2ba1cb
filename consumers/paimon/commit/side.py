"""The two tables of the sink, as one incarnation sees them, and the steps at which it may die."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from consumers.errors import SluiceError, StoreUnavailableError
from consumers.paimon.catalog import store_errors
from consumers.paimon.commit.fence import Fence
from consumers.paimon.commit.markers import Marker
from consumers.paimon.commit.recovery import Standing, standing_of
from consumers.paimon.commit.table_committer import TableCommitter
from schemas.positions import Position
from schemas.shards import Shard

STEPS = (
    "before_ledger_claim",
    "after_ledger_claim",
    "after_curated_claim",
    "before_ledger_write",
    "after_ledger_write",
    "after_ledger_publish",
    "before_curated_write",
    "after_curated_write",
    "after_curated_publish",
)
"""The instants at which ``on_step`` is called, in order; each is one at which a process may die."""


@dataclass
class Side:
    """One of the two tables, as this incarnation of a shard sees it."""

    role: str
    table: Any
    fence: Fence
    committer: TableCommitter
    shard: Shard
    standing: Standing = field(default_factory=Standing)
    is_uncertain: bool = False

    @property
    def position(self) -> Position:
        """What is finished, by this table."""
        return self.standing.position

    @property
    def sequence(self) -> int:
        """Number of its last commit."""
        return self.standing.sequence

    def head(self) -> Any | None:
        """Return the newest snapshot.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        with store_errors(f"{self.role} table"):
            return self.committer.manager.get_latest_snapshot()

    def publish(self, messages: list[Any], marker: Marker, on_published: Callable[[], None] | None = None) -> None:
        """Make ``messages`` and ``marker`` one snapshot; an answer that is lost is looked for in the table.

        Args:
            messages: what was written.
            marker: of this incarnation.
            on_published: called before the answer is believed; None for a claim, which repeats a number.

        Raises:
            FencedError: a newer incarnation exists; nothing was published.
            StoreUnavailableError: nothing was published, or nobody knows: then :attr:`is_uncertain`.
        """
        self.fence.committing = None if on_published is None else marker.sequence
        try:
            self.committer.publish(messages, marker.sequence, marker.to_properties())
            if on_published is not None:
                on_published()
        except SluiceError:
            raise
        except Exception as error:
            self.is_uncertain = True
            self.resolve()
            own, made = self.fence.own, (marker.epoch, marker.sequence, marker.position)
            if own is None or (own.epoch, own.sequence, own.position) != made:
                raise StoreUnavailableError(f"{self.role} table: the commit failed: {error}") from error
        self.fence.published = marker.sequence
        self.standing = standing_of(marker, self.shard)

    def resolve(self) -> bool:
        """Learn from the table's own snapshots whether a commit without an answer was published; whether there was one.

        Raises:
            FencedError: a newer incarnation exists.
            StoreUnavailableError: the store did not answer; it is as uncertain as before.
        """
        if not self.is_uncertain:
            return False
        manager = self.committer.manager
        self.fence.committing = None
        with store_errors(f"{self.role} table"):
            self.fence.check(manager, manager.get_latest_snapshot())
        own = self.fence.own
        if own is not None:
            self.fence.published = own.sequence
            self.standing = standing_of(own, self.shard)
        self.is_uncertain = False
        return True


@dataclass
class Pending:
    """A commit that has begun. It keeps its number until both tables have it."""

    position: Position
    sequence: int
    num_ledger_rows: int = 0
    num_clips: int = 0
