"""The seams of the data plane, as protocols. Every implementation of one port passes the same contract suite."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, Protocol

from schemas.positions import OffsetRange, Position
from schemas.records import BlobReference, ProcessedVideo, RawVideo, SkippedRange, VideoOutcome, VideoTask


class Clock(Protocol):
    """Time, injected so that tests own it."""

    def now(self) -> datetime:
        """Return the current time, timezone-aware UTC."""
        ...

    def monotonic_s(self) -> float:
        """Return seconds on a clock that never goes back."""
        ...


@dataclass(frozen=True, slots=True)
class SourceHead:
    """The end of the source as of its latest snapshot.

    ``next_offset`` is the offset that the next row will get: every existing row is below it. ``snapshot_id`` is None
    for a table without snapshots, and ``next_offset`` then 0.
    """

    snapshot_id: int | None
    next_offset: int
    committed_at: datetime | None


class Source(Protocol):
    """The rows of the raw table, addressed by offset."""

    def head(self) -> SourceHead:
        """Return the current end: one metadata read, whatever the backlog.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        ...

    def read(self, ranges: Sequence[OffsetRange]) -> Iterator[RawVideo | SkippedRange]:
        """Yield, in order of offset, an item for every offset in ``ranges``: a row, or the range that holds none.

        Reads in bounded chunks, and no further than it is pulled. Every offset of ``ranges`` below the head is covered
        by exactly one item.

        Raises:
            StoreUnavailableError: the store did not answer; what was yielded stays valid.
        """
        ...


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a consumer incarnation starts from.

    Attributes:
        position: what the curated table holds: the truth.
        ledgered: what the ledger holds; includes ``position``.
        sequence: sequence number of the last commit of this consumer, 0 when there is none.
        epoch: this incarnation's epoch, above that of every earlier one.
    """

    position: Position
    ledgered: Position
    sequence: int
    epoch: int


@dataclass(frozen=True, slots=True)
class CommitBatch:
    """Outcomes to be committed, with the position that holds once they are. May hold no outcome at all."""

    videos: tuple[ProcessedVideo, ...]
    position: Position


@dataclass(frozen=True, slots=True)
class CommitReceipt:
    """What a commit wrote. ``num_attempts`` counts publish attempts on both tables, 2 when there was no conflict."""

    sequence: int
    num_ledger_rows: int
    num_clips: int
    num_attempts: int


class Sink(Protocol):
    """The ledger and curated tables, written exactly once."""

    def open(self) -> Recovered:
        """Take over as this consumer's newest incarnation: fence the older ones and return where to go on.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        ...

    def commit(self, batch: CommitBatch) -> CommitReceipt:
        """Write ledger rows, then clips and position; returns only when both are durable.

        After a :class:`StoreUnavailableError` the same batch may be committed again: what was written is not written
        twice, whether or not the answer to the first try got lost.

        Raises:
            FencedError: a newer incarnation exists; nothing more may be written.
            StoreUnavailableError: the store did not answer.
        """
        ...

    def close(self) -> None:
        """Release resources. Commits nothing."""
        ...


class VideoProcessor(Protocol):
    """What a worker does with one video. Built inside the worker, by a picklable factory."""

    def process(self, task: VideoTask) -> VideoOutcome:
        """Return what became of the video. Whatever is wrong with it is an outcome; this raises nothing of the kind."""
        ...


class WorkerPool(Protocol):
    """Processes videos, one call per video, in workers."""

    @property
    def capacity(self) -> int:
        """How many videos are worth having in flight: enough to keep every worker busy."""
        ...

    def start(self) -> None:
        """Start the workers; returns when at least one can take a video.

        Raises:
            ConfigurationError: the workers cannot be started as configured.
        """
        ...

    def submit(self, task: VideoTask) -> Future[VideoOutcome]:
        """Hand in one video; never blocks. Every future ends: with an outcome, or with :class:`WorkerDiedError`.

        A video that cannot be processed is an outcome (``VideoOutcome.failure``), not an exception.
        """
        ...

    def close(self) -> None:
        """Stop the workers. Futures that have not ended end with :class:`WorkerDiedError`. Idempotent."""
        ...


class BlobOpener(Protocol):
    """Opens the bytes behind a reference, by range."""

    def open(self, reference: BlobReference) -> BinaryIO:
        """Return a seekable binary stream over exactly the referenced bytes, positioned at 0; the caller closes it.

        Raises:
            UriNotAllowedError: the URI is outside the allow-list.
            ObjectNotFoundError: there is no such object.
            ObjectUnavailableError: the store did not answer.
            BadReferenceError: the reference does not fit the object (offset or length beyond its end).
        """
        ...


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
