"""What people want and see: wishes, what happens, how far a consumer is."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from consumers.ports.sink import CommitBatch, CommitReceipt
from consumers.ports.source import SourceHead
from schemas.control import AuditEntry, Desired
from schemas.positions import OffsetRange, Position
from schemas.records import ProcessedVideo, RawVideo
from schemas.shards import EVERYTHING, Share


class BreakerState(StrEnum):
    """Whether videos go to the pool."""

    CLOSED = "closed"
    """As many as the bounds allow."""
    OPEN = "open"
    """None, until the next probe is due."""
    PROBING = "probing"
    """One, whose end decides."""


class Observer(Protocol):
    """Told what the consumer does, for progress output and metrics. Must return quickly and never raise."""

    def admitted(self, video: RawVideo) -> None:
        """A video was handed to the pool for the first time."""
        ...

    def retried(self, video: RawVideo, attempt: int, reason: str, delay_s: float) -> None:
        """A video will be tried again after ``delay_s``; ``attempt`` is the one that failed."""
        ...

    def finished(self, video: ProcessedVideo) -> None:
        """A video has its final outcome, not yet committed."""
        ...

    def committed(self, batch: CommitBatch, receipt: CommitReceipt) -> None:
        """A batch is durable."""
        ...

    def breaker(self, state: BreakerState, reason: str | None) -> None:
        """The breaker is in another state, or for another reason; None once it is closed."""
        ...


class ControlStore(Protocol):
    """What operators want of each consumer, and what they did. Thread-safe."""

    def version(self) -> int:
        """Return a number that grows with every write, 0 when there is none yet; cheap enough to poll.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        ...

    def desired(self, consumer: str) -> Desired:
        """Return what is wanted of ``consumer``; running where nobody has asked for anything.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        ...

    def write(self, entry: AuditEntry, desired: Desired | None = None) -> None:
        """Store ``entry`` and, if given, what is wanted of its consumer, as one step; durable when this returns.

        Raises:
            StoreUnavailableError: the store did not answer; writing the same again is harmless.
        """
        ...

    def audit_trail(self, consumer: str | None = None, limit: int = 100) -> list[AuditEntry]:
        """Return the newest entries, newest first, of ``consumer`` or of all.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        ...


@dataclass(frozen=True, slots=True)
class CommitMark:
    """One commit of a consumer, as its curated snapshot tells it.

    ``replays`` are rows that ``position`` lacks because a person wants to see them processed once more.
    """

    position: Position
    sequence: int
    epoch: int
    committed_at: datetime
    snapshot_id: int
    share: Share = EVERYTHING
    replays: Position = field(default_factory=Position)

    @property
    def reached(self) -> Position:
        """What has been finished at least once: what is replayed is no backlog."""
        return self.position.union(self.replays.ranges()) if self.replays != Position() else self.position


@dataclass(frozen=True, slots=True)
class RowOrigin:
    """When a row came into the source.

    ``is_exact`` is False where the snapshot that brought it has expired: it is then at least as old as this one.
    """

    snapshot_id: int
    committed_at: datetime
    is_exact: bool


@dataclass(frozen=True, slots=True)
class Retention:
    """What a table's rules for expiring snapshots say about one that a consumer still needs.

    Attributes:
        needed_id: the oldest snapshot that is still needed.
        needed_at: its commit time; None where it has expired already.
        newest_id: the table's newest snapshot.
        newest_at: its commit time.
        time_retained_s: snapshots that are older may expire.
        num_retained_min: of the newest so many none expires, however old.
        num_retained_max: snapshots beyond the newest so many may expire, however young.
    """

    needed_id: int
    needed_at: datetime | None
    newest_id: int
    newest_at: datetime
    time_retained_s: float
    num_retained_min: int
    num_retained_max: int


class ProgressReader(Protocol):
    """How far one consumer is, read from the tables alone: it tells the truth about a dead consumer, too.

    Every call is a bounded number of metadata reads, whatever the backlog.
    """

    def head(self) -> SourceHead:
        """Return the current end of the source.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        ...

    def last_commit(self) -> CommitMark | None:
        """Return the newest commit of the shard that is asked for; None when it never committed or that has expired.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        ...

    def commits(self) -> tuple[CommitMark, ...]:
        """Return the newest commit of each of the consumer's shards, by index; empty where it never committed.

        Of a shard that has not committed while others have, it is one without any offset.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        ...

    def recent_commits(self, limit: int) -> list[CommitMark]:
        """Return the consumer's newest retained commits, newest first.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        ...

    def origin(self, offset: int) -> RowOrigin | None:
        """Return when the row at ``offset`` was committed; None when there is no such row yet.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        ...

    def retention(self, offset: int) -> Retention | None:
        """Return what becomes of the snapshot of ``offset``; None where rows outlive their snapshots.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        ...

    def mean_bytes(self, offsets: OffsetRange) -> float | None:
        """Return the mean object size of the first few rows in ``offsets``, None where no row tells its size.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        ...
