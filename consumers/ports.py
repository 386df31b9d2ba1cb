"""The seams of the data plane, as protocols. Every implementation of one port passes the same contract suite."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import BinaryIO, Protocol

from consumers.pool_report import PoolReport, VideoProgress
from schemas.control import AuditEntry, Desired
from schemas.object_version import ObjectVersion
from schemas.positions import OffsetRange, Position
from schemas.records import BlobReference, ProcessedVideo, RawVideo, SkippedRange, VideoOutcome, VideoTask
from schemas.shards import EVERYTHING, Share
from schemas.source_mark import SourceMark


class BreakerState(StrEnum):
    """Whether videos go to the pool."""

    CLOSED = "closed"
    """As many as the bounds allow."""
    OPEN = "open"
    """None, until the next probe is due."""
    PROBING = "probing"
    """One, whose end decides."""


@dataclass(frozen=True, slots=True)
class SourceHead:
    """The end of the source as of its latest snapshot.

    ``next_offset`` is the offset that the next row will get: every existing row is below it. ``snapshot_id`` is None
    for a table without snapshots, and ``next_offset`` then 0.

    ``mark`` is what is to be remembered of the source with a position in it.

    Where offsets have gaps, ``count`` returns how many rows ranges of them hold, and ``num_rows`` is how many the
    source has had since some fixed moment; None where every offset below the head is, or was, a row.
    """

    snapshot_id: int | None
    next_offset: int
    committed_at: datetime | None
    num_rows: int | None = None
    mark: SourceMark | None = None
    count: Callable[[Sequence[OffsetRange]], int] | None = field(default=None, compare=False, repr=False)

    def num_missing(self, position: Position, share: Share) -> int:
        """Return how many rows below the head ``share`` has to do still, where ``position`` is finished."""
        if self.count is None:
            return share.num_missing(position, self.next_offset)
        return self.count(list(position.missing(self.next_offset)))


class Source(Protocol):
    """The rows of the raw table, addressed by offset."""

    def head(self) -> SourceHead:
        """Return the current end: one metadata read, whatever the backlog.

        Raises:
            ConfigurationError: the source is not there any more, or cannot be read as it is now.
            SourceChangedError: it is not the one that :meth:`resume` told of, or that was there before.
            StoreUnavailableError: the store did not answer.
        """
        ...

    def resume(self, source_table: str, mark: SourceMark | None) -> None:
        """Go on where a consumer was: its rows are of ``source_table`` from now on, and the source is held to ``mark``.

        Args:
            source_table: the name that rows carry; the table's own, unless it is not the first of that name.
            mark: what is remembered of the source; None where nothing is.
        """
        ...

    def removed(self) -> Iterator[RawVideo]:
        """Yield rows that were read before and are gone, as deletes at the offsets that they had, as they are found.

        Asked after :meth:`head`, once everything below it was read. What is yielded and not committed comes again.

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
        share: which offsets are this shard's to do.
        source_table: the source's name in this consumer's rows; None where it has the table's own.
        mark: what is remembered of the source.
    """

    position: Position
    ledgered: Position
    sequence: int
    epoch: int
    share: Share = EVERYTHING
    source_table: str | None = None
    mark: SourceMark | None = None


@dataclass(frozen=True, slots=True)
class CommitBatch:
    """Outcomes to be committed, with the position that holds once they are. May hold no outcome at all.

    ``mark`` is what the source was when these offsets were read; None keeps what was known.
    """

    videos: tuple[ProcessedVideo, ...]
    position: Position
    mark: SourceMark | None = None


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

    def process(self, task: VideoTask, progress: VideoProgress) -> VideoOutcome:
        """Return what became of the video. Whatever is wrong with it is an outcome; this raises nothing of the kind.

        Args:
            task: the video.
            progress: told where it stands.
        """
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

        A video that cannot be processed is an outcome (``VideoOutcome.failure``), not an exception. A future that ends
        with :class:`PoolLostError` says that the pool itself is gone, and so do all others: it is to be closed, and
        another to be made.
        """
        ...

    def report(self) -> PoolReport:
        """Return where every video stands that is handed in and not ended, and what waits at each stage.

        Costs nothing and never blocks: what workers elsewhere have told is a few seconds old, and the number of
        replicas twenty. Without them, and after :meth:`close`, it says less, and raises nothing.
        """
        ...

    def close(self) -> None:
        """Stop the workers. Futures that have not ended end with :class:`WorkerDiedError`. Idempotent."""
        ...


class BlobStream(io.RawIOBase, ABC):
    """A seekable stream over bytes of one version of an object, the one that was there when it was opened.

    A read raises :class:`~consumers.errors.ObjectChangedError` where it can tell that the object is another one by now.

    Attributes:
        version: of the object.
        is_whole: whether the stream is the whole object.
    """

    version: ObjectVersion
    is_whole: bool

    @abstractmethod
    def check_unchanged(self) -> None:
        """Return if everything that was read so far is of :attr:`version`.

        Raises:
            ObjectChangedError: the object was replaced, changed or deleted since it was opened.
            ObjectUnavailableError: the store did not answer.
        """


class BlobOpener(Protocol):
    """Opens the bytes behind a reference, by range."""

    def open(self, reference: BlobReference) -> BlobStream:
        """Return a stream over exactly the referenced bytes, positioned at 0; the caller closes it.

        Raises:
            UriNotAllowedError: the URI is outside the allow-list.
            ObjectNotFoundError: there is no such object.
            ObjectUnavailableError: the store did not answer.
            BadReferenceError: the reference does not fit the object (offset or length beyond its end).
        """
        ...


class ClipStaging(Protocol):
    """Keeps finished clips that are too large for memory where both workers and sink reach them, until committed.

    One per consumer and shard, its owner; an owner's objects are told from those of others. Picklable.
    """

    def put(self, clip_id: str, content: BinaryIO) -> BlobReference:
        """Store ``content``, from its position to its end, in bounded memory, as a new object of its own.

        Raises:
            StagingUnavailableError: the store did not take it; nothing of it is left that :meth:`stale` does not find.
        """
        ...

    def stale(self) -> list[BlobReference]:
        """Return all objects of this owner, and those of others that have been there for more than a day.

        An incarnation that asks before it takes over, and discards the answer after, hits no object that anybody can
        still commit: whoever put it is fenced by then.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        ...

    def discard(self, references: Iterable[BlobReference]) -> None:
        """Delete objects that exist; raises nothing: what stays is found by the next :meth:`stale`."""
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
    """One commit of a consumer, as its curated snapshot tells it."""

    position: Position
    sequence: int
    epoch: int
    committed_at: datetime
    snapshot_id: int
    share: Share = EVERYTHING


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
        """Return the consumer's newest commit; None when it never committed or that has expired.

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
