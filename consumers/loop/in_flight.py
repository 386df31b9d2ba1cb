"""The videos that were admitted and are not finished: with the pool, or waiting for their next call."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field

from consumers.clock import Clock
from consumers.errors import BadReferenceError, PoolLostError
from consumers.loop.breaker import Breaker, Evidence, evidence_of
from consumers.loop.retry import Decision, Final, RetryPolicy, Tally, cause_of
from consumers.ports import BreakerState, Observer, WorkerPool
from schemas.records import RawVideo, RowKind, VideoOutcome, VideoTask

EndedCall = tuple[int, "Future[VideoOutcome]"]


@dataclass(slots=True)
class _Entry:
    video: RawVideo
    num_bytes: int
    tally: Tally = field(default_factory=Tally)


def source_bytes(video: RawVideo) -> int:
    """Return the size of ``video`` as far as its row tells, in bytes; 0 where it does not."""
    if video.size_bytes is not None:
        return max(0, video.size_bytes)
    return max(0, video.blob.length_bytes) if video.blob is not None else 0


def without_worker(video: RawVideo) -> VideoOutcome | None:
    """Return the outcome of a row that no worker has to look at; None for one that has a video to be processed."""
    match video.row_kind:
        case RowKind.DELETE:
            return VideoOutcome(is_takedown=True)
        case RowKind.MOVE:
            return VideoOutcome(is_move=True)
    return None if video.blob is not None else VideoOutcome(failure=BadReferenceError(video.defect).to_failure())


class InFlight:
    """Calls the pool for each video until it is finished, as retries and breaker allow. Not thread-safe.

    While the breaker is open nothing is called but probes: in turn a video that waits for a retry and a fresh one, so
    that videos that are bad by themselves cannot keep it open.

    Args:
        pool: called.
        clock: time.
        retry: how patient it is with one video.
        breaker: holds everything when failures look like ours.
        observer: told of retries and of the breaker.
        deadline_s: time that a worker may spend on one video.
        on_ended: called from any thread with a call that has ended, to be passed to :meth:`ended`.
    """

    def __init__(
        self,
        pool: WorkerPool,
        clock: Clock,
        retry: RetryPolicy,
        breaker: Breaker,
        observer: Observer,
        *,
        deadline_s: float,
        on_ended: Callable[[EndedCall], None],
    ) -> None:
        self._pool = pool
        self._clock = clock
        self._retry = retry
        self._breaker = breaker
        self._observer = observer
        self._deadline_s = deadline_s
        self._on_ended = on_ended
        self._entries: dict[int, _Entry] = {}
        self._waiting: list[tuple[float, int]] = []
        self._told = (breaker.state, breaker.reason)
        self.num_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, row_id: int) -> bool:
        return row_id in self._entries

    @property
    def takes_fresh(self) -> bool:
        """Whether a video that was never tried may be added now."""
        return self._breaker.is_closed or self._breaker.may_probe(self._clock.monotonic_s())

    def add(self, video: RawVideo, tally: Tally | None = None) -> None:
        """Admit a video, with what earlier runs know of it, and call the pool for it."""
        entry = _Entry(video, source_bytes(video), tally or Tally())
        self._entries[video.row_id] = entry
        self.num_bytes += entry.num_bytes
        self._submit(video.row_id)

    def submit_due(self) -> None:
        """Call the pool for the retries that are due, or for one as a probe if it is a retry's turn."""
        if self._breaker.is_closed:
            while self._waiting and self._waiting[0][0] <= self._clock.monotonic_s():
                self._submit(heapq.heappop(self._waiting)[1])
        elif self._breaker.num_probes % 2 == 0:
            self.probe()

    def probe(self) -> None:
        """Call the pool for the retry that has waited longest if the breaker wants a probe."""
        if self._waiting and self._breaker.may_probe(self._clock.monotonic_s()):
            self._submit(heapq.heappop(self._waiting)[1])

    def wake_at_s(self) -> float | None:
        """Return the monotonic time at which there is something to submit; None when only a call's end can tell."""
        if self._breaker.is_closed:
            return self._waiting[0][0] if self._waiting else None
        probe_s = self._breaker.next_probe_s
        is_due = probe_s is not None and probe_s <= self._clock.monotonic_s()
        return None if is_due and not self._waiting else probe_s

    def ended(self, call: EndedCall) -> tuple[RawVideo, Final] | None:
        """Return what became of the video whose call ended, or None when it is tried again.

        Raises:
            PoolLostError: the pool has ended under us, with this call and all others.
        """
        offset, future = call
        entry = self._entries[offset]
        ending: VideoOutcome | BaseException
        try:
            ending = future.exception() or future.result()
        except CancelledError as cancelled:
            ending = cancelled
        if isinstance(ending, PoolLostError):
            raise ending
        evidence = evidence_of(ending)
        now_s = self._clock.monotonic_s()
        self._breaker.ended(offset, evidence, cause_of(ending), now_s)
        self._tell()
        is_excused = evidence is Evidence.SUSPECT and not self._breaker.is_closed
        decision: Decision = (
            self._retry.excuse(entry.tally, ending) if is_excused else self._retry.decide(entry.tally, ending)
        )
        if isinstance(decision, Final):
            del self._entries[offset]
            self.num_bytes -= entry.num_bytes
            return entry.video, decision
        entry.tally = decision.tally
        heapq.heappush(self._waiting, (now_s + decision.delay_s, offset))
        self._observer.retried(entry.video, decision.tally.num_calls, decision.reason, decision.delay_s)
        return None

    def _submit(self, offset: int) -> None:
        if self._breaker.state is BreakerState.OPEN:
            self._breaker.probe_started(offset)
            self._tell()
        entry = self._entries[offset]
        future = self._pool.submit(VideoTask(entry.video, entry.tally.num_calls + 1, self._deadline_s))
        future.add_done_callback(lambda ended: self._on_ended((offset, ended)))

    def _tell(self) -> None:
        now = (self._breaker.state, self._breaker.reason)
        if now != self._told:
            self._told = now
            self._observer.breaker(*now)
