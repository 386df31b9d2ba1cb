"""In-memory stand-ins for the ports, for tests of anything that drives them.

They keep the same contracts as the real adapters and pass the same suites: a :class:`FakeSink` fences, writes its
ledger before its curated table, and can lose its answer or its process between the two.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from fractions import Fraction
from typing import BinaryIO

from consumers.clock import Clock
from consumers.errors import FencedError, StagingUnavailableError, StoreUnavailableError, WorkerDiedError
from consumers.pool_report import Heard, OpenVideo, PoolReport, VideoProgress, compose
from consumers.ports import CommitBatch, CommitReceipt, Recovered, SourceHead
from schemas.control import AuditEntry, Desired
from schemas.positions import OffsetRange, Position
from schemas.records import (
    BlobReference,
    ClipMedia,
    ClipOutcome,
    CutMethod,
    Failure,
    FailureKind,
    RawVideo,
    SkippedRange,
    Span,
    Stage,
    VideoOutcome,
    VideoTask,
)

_START = datetime(2026, 1, 1, tzinfo=UTC)


class FakeClock:
    """Time that moves only when told to.

    ``on_advance`` callbacks run after each move: register ``Processor.wake`` there, so that its loop looks again.
    """

    def __init__(self) -> None:
        self._elapsed_s = 0.0
        self.on_advance: list[Callable[[], None]] = []

    def now(self) -> datetime:
        """Return the fake time, timezone-aware UTC."""
        return _START + timedelta(seconds=self._elapsed_s)

    def monotonic_s(self) -> float:
        """Return the fake seconds since the start."""
        return self._elapsed_s

    def advance(self, seconds: float) -> None:
        """Move time on."""
        self._elapsed_s += seconds
        for callback in self.on_advance:
            callback()


def make_video(row_id: int, size_bytes: int | None = 1000, *, defect: str | None = None) -> RawVideo:
    """Return a row of a raw table; with ``defect``, one whose reference cannot be understood."""
    return RawVideo(
        row_id=row_id,
        snapshot_id=1,
        committed_at=_START,
        source_table="default.raw",
        video_id=f"video-{row_id}",
        blob=BlobReference(f"memory://videos/{row_id}.mp4") if defect is None else None,
        size_bytes=size_bytes,
        defect=defect,
    )


def kept_outcome(video: RawVideo, num_clips: int = 1, clip_bytes: int = 10) -> VideoOutcome:
    """Return an outcome with ``num_clips`` kept clips of ``clip_bytes`` each."""
    return VideoOutcome(clips=tuple(_clip(video, index, clip_bytes) for index in range(num_clips)))


def rejected_outcome(video: RawVideo) -> VideoOutcome:
    """Return an outcome whose only clip does not move enough."""
    clip = ClipOutcome(f"{video.row_id}-0", 0, _span(0), rejected_by=Stage.MOTION, reason="motion_below_min")
    return VideoOutcome(clips=(clip,))


def failed_outcome(kind: FailureKind = FailureKind.PERMANENT, message: str = "not a video") -> VideoOutcome:
    """Return the outcome of a video that could not be processed."""
    code = "not_a_video" if kind is FailureKind.PERMANENT else "object_unavailable"
    return VideoOutcome(failure=Failure(kind, Stage.OPEN, code, message))


def _span(index: int) -> Span:
    return Span(float(index), index + 1.0, index * 25, index * 25 + 25, Fraction(1, 25), index * 25, index * 25 + 25)


def _clip(video: RawVideo, index: int, clip_bytes: int) -> ClipOutcome:
    media = ClipMedia(CutMethod.STREAM_COPY, bytes(clip_bytes), None, 25, 0, has_audio=False)
    return ClipOutcome(f"{video.row_id}-{index}", index, _span(index), media=media)


class FakeSource:
    """A raw table in memory.

    Attributes:
        num_pulled: items that readers have pulled so far.
        num_head_reads: looks at the head so far.
    """

    def __init__(self, num_rows: int = 0) -> None:
        self._rows: list[RawVideo | None] = []
        self._snapshot_id = 0
        self._failures = 0
        self._lock = threading.Lock()
        self.num_pulled = 0
        self.num_head_reads = 0
        if num_rows:
            self.append(*(make_video(row_id) for row_id in range(num_rows)))

    def append(self, *videos: RawVideo) -> None:
        """Commit rows; their ``row_id`` must be the next ones."""
        with self._lock:
            for video in videos:
                if video.row_id != len(self._rows):
                    raise ValueError(f"the next row id is {len(self._rows)}, not {video.row_id}")
                self._rows.append(video)
            self._snapshot_id += 1

    def delete(self, *offsets: int) -> None:
        """Delete rows; their offsets are skipped from now on."""
        with self._lock:
            for offset in offsets:
                self._rows[offset] = None
            self._snapshot_id += 1

    def fail_next(self, num_calls: int) -> None:
        """Let the next ``num_calls`` looks or pulls meet a store that does not answer."""
        with self._lock:
            self._failures = num_calls

    def _answer(self) -> None:
        if self._failures > 0:
            self._failures -= 1
            raise StoreUnavailableError("the fake source does not answer")

    def head(self) -> SourceHead:
        """Return the end of the rows.

        Raises:
            StoreUnavailableError: a failure was asked for.
        """
        with self._lock:
            self.num_head_reads += 1
            self._answer()
            if not self._snapshot_id:
                return SourceHead(None, 0, None)
            return SourceHead(self._snapshot_id, len(self._rows), _START)

    def read(self, ranges: Sequence[OffsetRange]) -> Iterator[RawVideo | SkippedRange]:
        """Yield a row, or the longest range without rows, for every offset in ``ranges`` below the head.

        Raises:
            StoreUnavailableError: a failure was asked for.
        """
        for item in ranges:
            offset = item.start
            while offset < min(item.end, len(self._rows)):
                with self._lock:
                    self._answer()
                    self.num_pulled += 1
                    row = self._rows[offset]
                    end = offset + 1
                    while row is None and end < min(item.end, len(self._rows)) and self._rows[end] is None:
                        end += 1
                yield row if row is not None else SkippedRange(OffsetRange(offset, end))
                offset = end


class SinkFault(StrEnum):
    """Where a commit of :class:`FakeSink` goes wrong."""

    BEFORE = "before"
    """The store does not answer; nothing is written."""
    BETWEEN = "between"
    """The store goes away after the ledger was written."""
    ANSWER_LOST = "answer_lost"
    """Everything is written, and the answer does not arrive."""
    CRASH_BETWEEN = "crash_between"
    """The process dies after the ledger was written."""


class SimulatedCrashError(BaseException):
    """The end of a process, as far as a test in one process can have it: no ordinary handler catches it."""


@dataclass
class FakeTables:
    """A ledger and a curated table, shared by all the sinks that are opened on them.

    Attributes:
        ledger: row ids, one for each ledger row, in order of commit.
        failures: failure class by row id, for rows that failed.
        clips: clip ids, one for each curated row, in order of commit.
    """

    ledger: list[int] = field(default_factory=list)
    failures: dict[int, Failure] = field(default_factory=dict)
    clips: list[str] = field(default_factory=list)
    position: Position = field(default_factory=Position)
    ledgered: Position = field(default_factory=Position)
    sequence: int = 0
    epoch: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def duplicates(self) -> list[int | str]:
        """Return every ledger row and clip that stands more than once."""
        counts: Counter[int | str] = Counter(self.ledger)
        counts.update(self.clips)
        return [key for key, count in counts.items() if count > 1]


class FakeSink:
    """One consumer's sink on :class:`FakeTables`.

    Args:
        tables: what is written to.
        faults: taken one by one by the next commits; None is a commit without a fault.
    """

    def __init__(self, tables: FakeTables, faults: Sequence[SinkFault | None] = ()) -> None:
        self._tables = tables
        self._faults = deque(faults)
        self._epoch = 0
        self.num_opens_to_fail = 0
        self.batches: list[CommitBatch] = []

    def open(self) -> Recovered:
        """Fence all earlier sinks on these tables.

        Raises:
            StoreUnavailableError: ``num_opens_to_fail`` is not used up.
        """
        if self.num_opens_to_fail > 0:
            self.num_opens_to_fail -= 1
            raise StoreUnavailableError("the fake sink does not answer")
        tables = self._tables
        with tables.lock:
            tables.epoch += 1
            self._epoch = tables.epoch
            return Recovered(
                tables.position, tables.ledgered.union(tables.position.ranges()), tables.sequence, self._epoch
            )

    def commit(self, batch: CommitBatch) -> CommitReceipt:
        """Write ledger rows, then clips and position; each table only what its own position lacks.

        Raises:
            FencedError: another sink was opened on the tables after this one.
            StoreUnavailableError: a fault was asked for.
        """
        fault = self._faults.popleft() if self._faults else None
        tables = self._tables
        with tables.lock:
            if self._epoch != tables.epoch:
                raise FencedError
            if fault is SinkFault.BEFORE:
                raise StoreUnavailableError("the fake sink does not answer")
            new_rows = [done for done in batch.videos if not tables.ledgered.covers(done.video.row_id)]
            tables.ledger.extend(done.video.row_id for done in new_rows)
            for done in new_rows:
                if done.outcome.failure is not None:
                    tables.failures[done.video.row_id] = done.outcome.failure
            tables.ledgered = tables.ledgered.union(batch.position.ranges())
            if fault is SinkFault.BETWEEN:
                raise StoreUnavailableError("the fake sink went away between its tables")
            if fault is SinkFault.CRASH_BETWEEN:
                raise SimulatedCrashError
            clips = [
                clip.clip_id
                for done in batch.videos
                if not tables.position.covers(done.video.row_id)
                for clip in done.outcome.clips
                if clip.kept
            ]
            if not tables.position.includes(batch.position):
                tables.clips.extend(clips)
                tables.position = tables.position.union(batch.position.ranges())
                tables.sequence += 1
            self.batches.append(batch)
            if fault is SinkFault.ANSWER_LOST:
                raise StoreUnavailableError("the answer of the fake sink got lost")
            return CommitReceipt(tables.sequence, len(new_rows), len(clips), num_attempts=2)

    def close(self) -> None:
        """Do nothing: there is nothing to release."""


@dataclass
class FakeStore:
    """Objects that several stagings share: content by URI, and when each was put."""

    contents: dict[str, bytes] = field(default_factory=dict)
    put_at: dict[str, datetime] = field(default_factory=dict)


class FakeStaging:
    """One owner's staged clips in a :class:`FakeStore`.

    Attributes:
        num_failures_to_come: so many of the next calls meet a store that does not answer.
    """

    def __init__(self, store: FakeStore, owner: str, clock: Clock | None = None) -> None:
        self._store = store
        self._owner = owner
        self._clock = clock or FakeClock()
        self.num_failures_to_come = 0

    def put(self, clip_id: str, content: BinaryIO) -> BlobReference:
        """Keep the content under a name of its own.

        Raises:
            StagingUnavailableError: a failure was asked for.
        """
        if self._fails():
            raise StagingUnavailableError
        uri = f"memory://staged/{self._owner}/{clip_id}/{len(self._store.put_at)}"
        self._store.contents[uri] = content.read()
        self._store.put_at[uri] = self._clock.now()
        return BlobReference(uri, 0, len(self._store.contents[uri]))

    def stale(self) -> list[BlobReference]:
        """Return this owner's objects, and those of others that are older than a day.

        Raises:
            StoreUnavailableError: a failure was asked for.
        """
        if self._fails():
            raise StoreUnavailableError("the fake store does not answer")
        long_ago = self._clock.now() - timedelta(days=1)
        return [
            BlobReference(uri, 0, len(content))
            for uri, content in self._store.contents.items()
            if uri.startswith(f"memory://staged/{self._owner}/") or self._store.put_at[uri] < long_ago
        ]

    def discard(self, references: Iterable[BlobReference]) -> None:
        """Forget objects."""
        for reference in references:
            self._store.contents.pop(reference.uri, None)

    def _fails(self) -> bool:
        if self.num_failures_to_come <= 0:
            return False
        self.num_failures_to_come -= 1
        return True


class FakePool:
    """A pool whose workers do what the test says, when it says so.

    Without a script, each submitted video stays open until :meth:`finish` or :meth:`die`. With one, it is called in
    :meth:`submit`, and what it returns or raises ends the future at once; None leaves it open.

    Attributes:
        submitted: every task handed in, in order.
        open_tasks: those without an end, by row id.
        progress: of those that a worker holds, which the test says, too.
    """

    def __init__(
        self, capacity: int = 4, script: Callable[[VideoTask], VideoOutcome | BaseException | None] | None = None
    ) -> None:
        self._capacity = capacity
        self._script = script
        self._changed = threading.Condition()
        self._futures: dict[int, Future[VideoOutcome]] = {}
        self.submitted: list[VideoTask] = []
        self.open_tasks: dict[int, VideoTask] = {}
        self.progress: dict[int, VideoProgress] = {}
        self._asked = ExitStack()

    @property
    def capacity(self) -> int:
        """How many videos are worth having in flight."""
        return self._capacity

    def start(self) -> None:
        """Do nothing: the workers are the test."""

    def submit(self, task: VideoTask) -> Future[VideoOutcome]:
        """Note the task and ask the script, if there is one."""
        future: Future[VideoOutcome] = Future()
        with self._changed:
            self.submitted.append(task)
            self.open_tasks[task.video.row_id] = task
            self._futures[task.video.row_id] = future
            self._changed.notify_all()
        if self._script is not None:
            result = self._script(task)
            if isinstance(result, BaseException):
                self.die(task.video.row_id, result)
            elif result is not None:
                self.finish(task.video.row_id, result)
        return future

    def finish(self, row_id: int, outcome: VideoOutcome | None = None) -> None:
        """End an open video with ``outcome``, or with one kept clip."""
        future, task = self._pop(row_id)
        future.set_result(outcome or kept_outcome(task.video))

    def die(self, row_id: int, error: BaseException | None = None) -> None:
        """End an open video with the death of its worker, or with another error."""
        self._pop(row_id)[0].set_exception(error or WorkerDiedError())

    def wait_for(self, num_submitted: int, timeout_s: float = 10.0) -> None:
        """Return once ``num_submitted`` tasks have been handed in.

        Raises:
            TimeoutError: they were not within ``timeout_s`` real seconds.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.submitted) >= num_submitted, timeout_s):
                raise TimeoutError(f"{len(self.submitted)} tasks were submitted, not {num_submitted}")

    def take(self, row_id: int, stage: Stage, num_asking: int = 0) -> None:
        """Let a worker hold an open video at ``stage``, with so many clips that ask the stage's model."""
        progress = self.progress[row_id] = VideoProgress(FakeClock(), row_id)
        progress.enter(stage)
        for _ in range(num_asking):
            self._asked.enter_context(progress.asking(stage))

    def report(self) -> PoolReport:
        """Return where the open videos stand; those that no worker holds wait for one."""
        states = {row_id: progress.state() for row_id, progress in self.progress.items()}
        opened = [OpenVideo(row_id, 0.0, 0.0 if row_id in states else None) for row_id in self.open_tasks]
        return compose(opened, Heard(states, at_s=0.0), {}, 0.0)

    def _pop(self, row_id: int) -> tuple[Future[VideoOutcome], VideoTask]:
        with self._changed:
            self.progress.pop(row_id, None)
            return self._futures.pop(row_id), self.open_tasks.pop(row_id)

    def close(self) -> None:
        """End every open video with the death of its worker."""
        for row_id in list(self.open_tasks):
            self.die(row_id, WorkerDiedError("the pool was closed"))


class FakeControlStore:
    """A control table in memory."""

    def __init__(self) -> None:
        self._desired: dict[str, Desired] = {}
        self._entries: dict[str, AuditEntry] = {}
        self._version = 0
        self._lock = threading.Lock()
        self.num_failures_to_come = 0

    def version(self) -> int:
        """Return how often it was written to."""
        with self._lock:
            self._answer()
            return self._version

    def desired(self, consumer: str) -> Desired:
        """Return what is wanted of ``consumer``; running where nobody has asked for anything."""
        with self._lock:
            self._answer()
            return self._desired.get(consumer, Desired.initial())

    def write(self, entry: AuditEntry, desired: Desired | None = None) -> None:
        """Store ``entry`` and, if given, what is wanted of its consumer."""
        with self._lock:
            self._answer()
            self._version += 1
            self._entries[entry.entry_id] = entry
            if desired is not None:
                self._desired[entry.consumer] = desired

    def audit_trail(self, consumer: str | None = None, limit: int = 100) -> list[AuditEntry]:
        """Return the newest entries, newest first, of ``consumer`` or of all."""
        with self._lock:
            self._answer()
            entries = sorted(self._entries.values(), key=lambda entry: entry.entry_id, reverse=True)
        return [entry for entry in entries if consumer is None or entry.consumer == consumer][:limit]

    def _answer(self) -> None:
        if self.num_failures_to_come > 0:
            self.num_failures_to_come -= 1
            raise StoreUnavailableError("the fake control table does not answer")
