"""What the consumer loop says of itself: its phase, a status for other threads, and the report of a run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from consumers.ports import BreakerState, CommitBatch, CommitReceipt
from schemas.positions import Position
from schemas.records import ProcessedVideo, RawVideo, VideoStatus


class Phase(StrEnum):
    """What the loop is doing."""

    STARTING = "starting"
    """Taking over: the sink is being opened."""
    RUNNING = "running"
    """Reading, or waiting for new rows."""
    PAUSING = "pausing"
    """Nothing new is admitted; what was admitted is being finished."""
    PAUSED = "paused"
    """Everything that was admitted is committed, and nothing is admitted."""
    DRAINING = "draining"
    """A stop was requested; what was admitted is being finished."""
    STOPPED = "stopped"
    """The run is over."""


class EndReason(StrEnum):
    """Why a run returned."""

    CAUGHT_UP = "caught_up"
    """Everything below the head is committed."""
    STOPPED = "stopped"
    """A stop was requested, and everything that was admitted is committed."""
    DRAIN_INCOMPLETE = "drain_incomplete"
    """A stop was requested; some admitted videos were not done in time. The next run reads them again."""


@dataclass(slots=True)
class Counts:
    """What happened in one run. Every video admitted is curated, rejected, failed, retired, moved or still open."""

    num_admitted: int = 0
    num_retries: int = 0
    num_curated: int = 0
    num_rejected: int = 0
    num_failed: int = 0
    num_retired: int = 0
    num_moved: int = 0
    num_skipped_offsets: int = 0
    num_videos_committed: int = 0
    num_clips_committed: int = 0
    num_commits: int = 0

    def finished(self, status: VideoStatus) -> None:
        """Count a video with its final outcome."""
        match status:
            case VideoStatus.CURATED:
                self.num_curated += 1
            case VideoStatus.REJECTED:
                self.num_rejected += 1
            case VideoStatus.FAILED:
                self.num_failed += 1
            case VideoStatus.RETIRED:
                self.num_retired += 1
            case VideoStatus.MOVED:
                self.num_moved += 1


@dataclass(frozen=True, slots=True)
class ProcessorStatus:
    """The loop at one moment.

    Attributes:
        phase: what it is doing.
        counts: totals of this run.
        num_in_flight: videos admitted and not finished, those waiting for a retry included.
        in_flight_bytes: their sizes, plus the clips of finished, uncommitted videos.
        num_uncommitted: videos finished and not committed.
        num_replays: rows that a person asked for once more, and that are not finished since.
        sequence: number of the last commit.
        position: what is committed.
        head_offset: the end of the source when it was last read; None before that.
        store_error: the store's last error while it does not answer, else None.
        breaker: whether videos go to the pool.
        breaker_reason: why they do not; None while they do.
    """

    phase: Phase
    counts: Counts = field(default_factory=Counts)
    num_in_flight: int = 0
    in_flight_bytes: int = 0
    num_uncommitted: int = 0
    num_replays: int = 0
    sequence: int = 0
    position: Position = field(default_factory=Position)
    head_offset: int | None = None
    store_error: str | None = None
    breaker: BreakerState = BreakerState.CLOSED
    breaker_reason: str | None = None

    @property
    def lag(self) -> int | None:
        """Offsets below the last seen head that are not committed; None before the head is known."""
        return None if self.head_offset is None else self.position.num_missing(self.head_offset)


class StatusBoard:
    """Where the loop puts its status for other threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.status = ProcessorStatus(Phase.STARTING)

    def publish(self, status: ProcessorStatus) -> None:
        """Put up ``status``."""
        with self._changed:
            self.status = status
            self._changed.notify_all()

    def wait_until(self, predicate: Callable[[ProcessorStatus], bool], timeout_s: float) -> bool:
        """Block until the status satisfies ``predicate``; return False after ``timeout_s`` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: predicate(self.status), timeout_s)


@dataclass(frozen=True, slots=True)
class RunReport:
    """One finished run.

    ``num_abandoned`` videos were admitted and left for the next run; ``lag`` is None when the head was never read.
    """

    reason: EndReason
    counts: Counts
    num_abandoned: int
    sequence: int
    position: Position
    lag: int | None
    wall_s: float


class SilentObserver:
    """An observer that keeps everything to itself."""

    def admitted(self, video: RawVideo) -> None:
        """Ignore it."""

    def retried(self, video: RawVideo, attempt: int, reason: str, delay_s: float) -> None:
        """Ignore it."""

    def finished(self, video: ProcessedVideo) -> None:
        """Ignore it."""

    def committed(self, batch: CommitBatch, receipt: CommitReceipt) -> None:
        """Ignore it."""

    def breaker(self, state: BreakerState, reason: str | None) -> None:
        """Ignore it."""
