"""What one consumer of this process is doing, remembered for the control plane: bounded, thread-safe, in memory."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from consumers.clock import Clock
from consumers.pool_report import FIRST_STAGE, PoolReport
from consumers.ports import BreakerState, CommitBatch, CommitReceipt, Observer
from schemas.records import ProcessedVideo, RawVideo, Stage
from service.observe.bottleneck import bottleneck, loads

_NUM_REMEMBERED = 200
_NUM_LOADS = 30

Tell = Callable[[str, Mapping[str, Any]], None]
"""Told of events: a word and what is to be said of it."""


@dataclass(frozen=True, slots=True)
class InFlightVideo:
    """A video that was admitted and is not finished.

    ``num_failures`` calls for it have failed so far. ``stage`` is where it stands, since ``stage_s`` seconds; None
    while it waits for its next call. ``is_waiting``: no worker has taken it yet.
    """

    row_id: int
    video_id: str
    size_bytes: int | None
    admitted_at: datetime
    age_s: float
    num_failures: int
    stage: Stage | None
    stage_s: float | None
    is_waiting: bool


@dataclass(frozen=True, slots=True)
class Trouble:
    """A retry, or a video that failed for good."""

    at: datetime
    kind: str
    row_id: int
    video_id: str
    stage: str | None
    error_class: str | None
    message: str


@dataclass(frozen=True, slots=True)
class CommitNote:
    """A commit of this process."""

    at: datetime
    sequence: int
    num_videos: int
    num_clips: int
    num_bytes: int
    watermark: int
    num_attempts: int


@dataclass(frozen=True, slots=True)
class StageTotals:
    """One stage: since the process started items in and out, rejections by reason, and what it cost, in seconds.

    ``waiting`` is its queue now, ``replicas`` and ``gpu_replicas`` the workers that run now, and those that hold a GPU
    or a share of one; None where it has no workers of its own, or that is unknown. ``mean_batch`` is over the last
    clips that a model has seen, None without any.
    """

    stage: Stage
    num_in: int
    num_out: int
    rejected: Mapping[str, int]
    wall_s: float
    cpu_s: float
    waiting: int | None
    replicas: int | None
    gpu_replicas: int | None
    mean_batch: float | None


@dataclass(frozen=True, slots=True)
class CommittedTotals:
    """What this process has committed since it started."""

    num_videos: int = 0
    num_clips: int = 0
    video_s: float = 0.0
    num_bytes: int = 0


@dataclass(slots=True)
class _StageSums:
    num_in: int = 0
    num_out: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    rejected: Counter[str] = field(default_factory=Counter)
    batches: deque[int] = field(default_factory=lambda: deque(maxlen=_NUM_REMEMBERED))


class ConsumerActivity:
    """Implements :class:`~consumers.ports.Observer`.

    Args:
        clock: time.
        tell: told of commits and failures, for the event stream.
    """

    def __init__(self, clock: Clock, tell: Tell) -> None:
        self._clock = clock
        self._tell = tell
        self._lock = threading.Lock()
        self._in_flight: dict[int, tuple[RawVideo, datetime, float, int]] = {}
        self._stages = {stage: _StageSums() for stage in Stage}
        self._recent: deque[Mapping[Stage, float]] = deque(maxlen=_NUM_REMEMBERED)
        self._report: Callable[[], PoolReport] = PoolReport
        self._loads: deque[Mapping[Stage, int]] = deque(maxlen=_NUM_LOADS)
        self._troubles: deque[Trouble] = deque(maxlen=_NUM_REMEMBERED)
        self._commits: deque[CommitNote] = deque(maxlen=_NUM_REMEMBERED)
        self._totals = CommittedTotals()

    def admitted(self, video: RawVideo) -> None:
        """Note a video in flight."""
        with self._lock:
            self._in_flight[video.row_id] = (video, self._clock.now(), self._clock.monotonic_s(), 0)

    def retried(self, video: RawVideo, attempt: int, reason: str, delay_s: float) -> None:
        """Note a failed call."""
        trouble = Trouble(self._clock.now(), "retry", video.row_id, video.video_id, None, None, reason)
        with self._lock:
            self._troubles.append(trouble)
            known = self._in_flight.get(video.row_id)
            if known is not None:
                self._in_flight[video.row_id] = (*known[:3], attempt)
        self._tell("retry", {"row_id": video.row_id, "attempt": attempt, "reason": reason, "delay_s": delay_s})

    def finished(self, video: ProcessedVideo) -> None:
        """Take a video out of flight and add up its stages."""
        outcome, failure = video.outcome, video.outcome.failure
        with self._lock:
            self._in_flight.pop(video.video.row_id, None)
            for timing in outcome.timings:
                sums = self._stages[timing.stage]
                sums.num_in += timing.num_in
                sums.num_out += timing.num_out
                sums.wall_s += timing.wall_s
                sums.cpu_s += timing.cpu_s
                sums.batches.extend(call.batch_size for call in timing.calls)
            self._recent.append({timing.stage: timing.wall_s for timing in outcome.timings})
            for clip in outcome.clips:
                if clip.rejected_by is not None:
                    self._stages[clip.rejected_by].rejected[clip.reason or "unknown"] += 1
            if failure is not None:
                self._stages[failure.stage].rejected[failure.error_class] += 1
                self._troubles.append(
                    Trouble(
                        video.processed_at,
                        "failed",
                        video.video.row_id,
                        video.video.video_id,
                        failure.stage.value,
                        failure.error_class,
                        failure.message,
                    )
                )
        if failure is not None:
            self._tell(
                "failure",
                {
                    "row_id": video.video.row_id,
                    "stage": failure.stage.value,
                    "error_class": failure.error_class,
                    "message": failure.message,
                },
            )

    def committed(self, batch: CommitBatch, receipt: CommitReceipt) -> None:
        """Note a commit."""
        num_bytes = sum(video.video.size_bytes or 0 for video in batch.videos)
        video_s = sum(video.outcome.media.duration_s for video in batch.videos if video.outcome.media is not None)
        note = CommitNote(
            at=self._clock.now(),
            sequence=receipt.sequence,
            num_videos=len(batch.videos),
            num_clips=receipt.num_clips,
            num_bytes=sum(video.outcome.media_bytes for video in batch.videos),
            watermark=batch.position.watermark,
            num_attempts=receipt.num_attempts,
        )
        with self._lock:
            self._commits.append(note)
            self._totals = CommittedTotals(
                self._totals.num_videos + len(batch.videos),
                self._totals.num_clips + receipt.num_clips,
                self._totals.video_s + video_s,
                self._totals.num_bytes + num_bytes,
            )
        self._tell("commit", {"sequence": note.sequence, "num_videos": note.num_videos, "num_clips": note.num_clips})

    def begin(self, report: Callable[[], PoolReport]) -> None:
        """Forget what was in flight: a new run of the consumer begins, and reads it again.

        Args:
            report: tells where the videos of this run stand; costs nothing.
        """
        with self._lock:
            self._in_flight.clear()
            self._report = report
            self._loads.clear()

    def look(self) -> PoolReport:
        """Return the pool's report, and remember what waits; to be called once a second, for the bottleneck."""
        report = self._report()
        with self._lock:
            self._loads.append(loads(report))
        return report

    def in_flight(self) -> list[InFlightVideo]:
        """Return the videos in flight, the oldest first."""
        now_s, places = self._clock.monotonic_s(), self._report().videos
        with self._lock:
            held = list(self._in_flight.values())
        return sorted(
            (
                InFlightVideo(
                    row_id=video.row_id,
                    video_id=video.video_id,
                    size_bytes=video.size_bytes,
                    admitted_at=at,
                    age_s=now_s - at_s,
                    num_failures=failures,
                    stage=None if place is None else place.stage,
                    stage_s=None if place is None else place.for_s,
                    is_waiting=place is not None and place.is_waiting,
                )
                for video, at, at_s, failures in held
                for place in (places.get(video.row_id),)
            ),
            key=lambda item: -item.age_s,
        )

    def stages(self) -> list[StageTotals]:
        """Return the stages in the order of the pipeline."""
        report = self._report()
        with self._lock:
            return [_totals(stage, sums, report) for stage, sums in self._stages.items()]

    def bottleneck(self) -> tuple[Stage, float] | None:
        """Return the stage that the others wait for, and its share of the time of the last videos; None at first."""
        with self._lock:
            recent, seen = list(self._recent), list(self._loads)
        wall_s: Counter[Stage] = Counter()
        for timings in recent:
            wall_s.update(timings)
        queued: Counter[Stage] = Counter()
        for load in seen:
            queued.update(load)
        return bottleneck(queued, wall_s)

    def breaker(self, state: BreakerState, reason: str | None) -> None:
        """Tell that intake is held, or goes on."""
        self._tell("breaker", {"state": state.value, "reason": reason})

    def troubles(self, limit: int) -> list[Trouble]:
        """Return the last retries and failures, the newest first."""
        with self._lock:
            return list(reversed(self._troubles))[:limit]

    def commits(self, limit: int) -> list[CommitNote]:
        """Return the last commits of this process, the newest first."""
        with self._lock:
            return list(reversed(self._commits))[:limit]

    def totals(self) -> CommittedTotals:
        """Return what this process has committed."""
        with self._lock:
            return self._totals


def _totals(stage: Stage, sums: _StageSums, report: PoolReport) -> StageTotals:
    workers, has_queue = report.replicas.get(stage), stage in report.waiting
    return StageTotals(
        stage=stage,
        num_in=sums.num_in,
        num_out=sums.num_out,
        rejected=dict(sums.rejected),
        wall_s=sums.wall_s,
        cpu_s=sums.cpu_s,
        waiting=report.waiting.get(stage, 0) if has_queue or workers is not None or stage is FIRST_STAGE else None,
        replicas=None if workers is None else workers.num_running,
        gpu_replicas=None if workers is None else workers.num_with_gpu,
        mean_batch=sum(sums.batches) / len(sums.batches) if sums.batches else None,
    )


class Observers:
    """Passes everything on to several observers, in order."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def admitted(self, video: RawVideo) -> None:
        """Pass it on."""
        for observer in self._observers:
            observer.admitted(video)

    def retried(self, video: RawVideo, attempt: int, reason: str, delay_s: float) -> None:
        """Pass it on."""
        for observer in self._observers:
            observer.retried(video, attempt, reason, delay_s)

    def finished(self, video: ProcessedVideo) -> None:
        """Pass it on."""
        for observer in self._observers:
            observer.finished(video)

    def committed(self, batch: CommitBatch, receipt: CommitReceipt) -> None:
        """Pass it on."""
        for observer in self._observers:
            observer.committed(batch, receipt)

    def breaker(self, state: BreakerState, reason: str | None) -> None:
        """Pass it on."""
        for observer in self._observers:
            observer.breaker(state, reason)
