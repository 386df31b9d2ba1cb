"""The one loop of a consumer: poll, admit, collect, commit, pause, drain.

Everything happens in the thread that calls :meth:`Processor.run`. Other threads, the pool's callbacks and signal
handlers only set flags and put something into the queue on which the loop waits; it never spins and never sleeps past
an event.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Collection
from concurrent.futures import Future
from dataclasses import replace

from consumers.clock import Clock
from consumers.errors import BreakerOpenError, PoolLostError
from consumers.loop.breaker import Breaker
from consumers.loop.careful import CarefulStart
from consumers.loop.committer import Committer
from consumers.loop.config import ProcessorConfig
from consumers.loop.in_flight import EndedCall, InFlight, source_bytes, without_worker
from consumers.loop.intake import Intake, offsets_of
from consumers.loop.replays import ReplayAnswer, Replays
from consumers.loop.reports import (
    Counts,
    EndReason,
    Phase,
    ProcessorStatus,
    RunReport,
    SilentObserver,
    StatusBoard,
)
from consumers.loop.retry import StorePatience
from consumers.ports import Observer, RunNotes, Sink, Source, WorkerPool
from schemas.records import (
    ProcessedVideo,
    RawVideo,
    SkippedRange,
    VideoOutcome,
)
from schemas.shards import WHOLE, owned_part

# A queue's timeout is limited by the platform; the loop just goes round once more.
_LONGEST_WAIT_S = 3600.0


class Processor:
    """Drives one consumer from source to sink.

    It does not own its parts: the pool must be started before :meth:`run`, and whoever made pool and sink closes them
    after it. An instance runs once.

    Args:
        source: the raw table.
        sink: the ledger and curated tables.
        pool: started workers.
        clock: time.
        config: the bounds.
        observer: told what happens, for progress output and metrics.
        run_notes: what runs that end without a word leave for the next; None has a video that ends the whole process
            tried again for ever.
    """

    def __init__(
        self,
        source: Source,
        sink: Sink,
        pool: WorkerPool,
        clock: Clock,
        *,
        config: ProcessorConfig | None = None,
        observer: Observer | None = None,
        run_notes: RunNotes | None = None,
    ) -> None:
        self._source = source
        self._pool = pool
        self._clock = clock
        self._config = config or ProcessorConfig()
        self._observer: Observer = observer or SilentObserver()
        # SimpleQueue.put is reentrant, so that a signal handler may call it; flags are plain for the same reason.
        self._events: queue.SimpleQueue[EndedCall | None] = queue.SimpleQueue()
        self._stop_requested = False
        self._pause_requested = False
        self._drain_timeout_s = self._config.drain_timeout_s
        self._drain_until_s: float | None = None
        self._is_ending = False
        self._breaker = Breaker(self._config.breaker, self._config.retry.jitter)
        self._in_flight = InFlight(
            pool,
            clock,
            self._config.retry,
            self._breaker,
            self._observer,
            deadline_s=self._config.deadline_s,
            on_ended=self._events.put,
        )
        self._committer = Committer(sink, clock, self._config.commit, self._patience())
        self._replays = Replays(source, self._committer, self._in_flight)
        self._careful = CarefulStart(run_notes, self._config.retry.max_worker_deaths)
        self._counts = Counts()
        self._board = StatusBoard()

    # Callable from any thread and from signal handlers.

    def request_stop(self, drain_timeout_s: float | None = None) -> None:
        """Stop admitting, finish and commit what was admitted, and return from :meth:`run`.

        Videos that are not done after ``drain_timeout_s`` (the configured time if None) are left to the next run. A
        request made before :meth:`run` is kept. Returns at once.
        """
        if drain_timeout_s is not None:
            self._drain_timeout_s = drain_timeout_s
        self._stop_requested = True
        self.wake()

    def pause(self) -> None:
        """Stop admitting, and commit what was admitted once it is finished. Returns at once."""
        self._pause_requested = True
        self.wake()

    def resume(self) -> None:
        """Take back :meth:`pause`. Returns at once."""
        self._pause_requested = False
        self.wake()

    def replay(self, row_ids: Collection[int]) -> Future[ReplayAnswer]:
        """Ask for finished rows that failed to be processed once more, beside everything else. Returns at once.

        The answer comes when the tables hold the request; it is an error where the run ends before, or the store does
        not answer. Not for signal handlers.
        """
        answer = self._replays.ask(row_ids)
        self.wake()
        return answer

    def wake(self) -> None:
        """Make the loop look again at everything it waits for."""
        self._events.put(None)

    def snapshot(self) -> ProcessorStatus:
        """Return the loop's latest status; costs nothing."""
        return self._board.status

    def wait_until(self, predicate: Callable[[ProcessorStatus], bool], timeout_s: float) -> bool:
        """Block another thread until the status satisfies ``predicate``; return False after ``timeout_s`` seconds.

        Not for signal handlers.
        """
        return self._board.wait_until(predicate, timeout_s)

    def run(self, until_caught_up: bool = False) -> RunReport:
        """Consume until a stop is requested or, if asked, until everything below the head is committed.

        Raises:
            FencedError: a newer copy of this consumer has taken over; nothing more was written.
            StoreUnavailableError: a store was away for longer than ``store_give_up_after_s``. Nothing is lost: the
                next run starts from the last commit.
            BreakerOpenError: it was to catch up, and the breaker was open for as long.
            PoolLostError: the workers are gone as a whole. What was finished is committed, the rest is left to the next
                run with another pool, and held against no video.
        """
        self._is_ending = until_caught_up
        try:
            with self._careful.told():
                return self._run()
        finally:
            self._replays.close()

    def _run(self) -> RunReport:
        started_s = self._clock.monotonic_s()
        while not self._committer.open():
            if self._stop_requested:
                return self._report(EndReason.STOPPED, None, started_s)
            self._collect((self._committer.wake_at_s() or 0.0) - self._clock.monotonic_s())
        self._careful.begin(self._max_in_flight())
        if self._committer.source_table is not None:
            self._source.resume(self._committer.source_table, self._committer.mark)
        self._replays.open_rows.update(owned_part(WHOLE, self._committer.replays.ranges()))
        intake = Intake(
            self._source,
            self._committer.share,
            self._committer.position,
            self._clock,
            self._config.poll_interval_s,
            self._patience(),
        )
        while True:
            if not self._committer.is_pending and self._phase() is not Phase.DRAINING:
                self._replays.begin()
            self._in_flight.submit_due()
            self._admit(intake)
            self._committer.mark = intake.mark or self._committer.mark
            self._in_flight.probe()
            self._commit_if_due(intake)
            reason = self._end_reason(intake)
            self._publish_status(intake)
            if reason is not None:
                return self._report(reason, intake.head_offset, started_s)
            try:
                self._collect(self._wait_s(intake))
            except PoolLostError:
                self._commit_all()
                if self._phase() is Phase.DRAINING:
                    return self._report(EndReason.DRAIN_INCOMPLETE, intake.head_offset, started_s)
                raise

    # Phases and the end.

    def _patience(self) -> StorePatience:
        config = self._config
        return StorePatience(config.store_base_s, config.store_max_s, config.store_give_up_after_s, config.retry.jitter)

    def _is_done(self) -> bool:
        return not self._in_flight and self._committer.is_empty

    def _phase(self) -> Phase:
        if self._stop_requested:
            return Phase.DRAINING
        if self._pause_requested:
            return Phase.PAUSED if self._is_done() else Phase.PAUSING
        return Phase.RUNNING

    def _end_reason(self, intake: Intake) -> EndReason | None:
        phase = self._phase()
        if phase is Phase.DRAINING:
            now_s = self._clock.monotonic_s()
            if self._drain_until_s is None:
                self._drain_until_s = now_s + self._drain_timeout_s
            if self._is_done():
                return EndReason.STOPPED
            if now_s >= self._drain_until_s:
                self._commit_all()
                return EndReason.DRAIN_INCOMPLETE if self._in_flight else EndReason.STOPPED
        elif self._is_ending and self._is_held_for_long():
            self._commit_all()
            raise BreakerOpenError(
                f"the breaker is open: {self._breaker.reason}; {len(self._in_flight)} videos are left to the next run"
            )
        elif self._is_caught_up(intake):
            # The head may have moved since it was read: look again before believing it.
            intake.poll_now()
            if intake.peek() is None and intake.is_at_head and intake.last_error is None:
                return EndReason.CAUGHT_UP
        return None

    def _is_caught_up(self, intake: Intake) -> bool:
        """Whether the run is to end now, as far as is known."""
        is_ending = self._is_ending and self._phase() is Phase.RUNNING
        return is_ending and self._is_done() and intake.is_at_head and not self._replays.is_asked

    def _is_held_for_long(self) -> bool:
        opened_at_s = self._breaker.opened_at_s
        return opened_at_s is not None and self._clock.monotonic_s() - opened_at_s >= self._config.store_give_up_after_s

    # Admitting.

    def _admit(self, intake: Intake) -> None:
        """Hand videos to the pool while the bounds allow it."""
        while self._may_read() and not self._committer.is_due:
            item = intake.peek()
            if item is None or not self._fits(item):
                return
            intake.take()
            if isinstance(item, SkippedRange):
                self._counts.num_skipped_offsets += 0 if item.is_expected else len(item.range)
                self._committer.skip(item)
                self._replays.finished(item.range)
                continue
            self._counts.num_admitted += 1
            self._observer.admitted(item)
            outcome, num_attempts = without_worker(item), 0
            if outcome is None:
                outcome, num_attempts = self._careful.given_up(item.row_id)
            if outcome is None:
                self._in_flight.add(item, self._careful.admit(item.row_id))
            else:
                self._finish(item, outcome, num_attempts)

    def _may_read(self) -> bool:
        # While a batch cannot be committed, finished clips would pile up.
        if self._phase() is not Phase.RUNNING or self._committer.is_pending or not self._in_flight.takes_fresh:
            return False
        return len(self._in_flight) < self._careful.bound(self._max_in_flight())

    def _max_in_flight(self) -> int:
        return self._config.max_in_flight_videos or self._pool.capacity

    def _held_bytes(self) -> int:
        return self._in_flight.num_bytes + self._committer.num_bytes

    def _fits(self, item: RawVideo | SkippedRange) -> bool:
        if isinstance(item, SkippedRange) or without_worker(item) is not None:
            return True
        held_bytes = self._held_bytes()
        is_alone = not self._in_flight and held_bytes == 0
        return is_alone or held_bytes + source_bytes(item) <= self._config.max_in_flight_bytes

    # Collecting.

    def _collect(self, timeout_s: float) -> None:
        """Wait for an event, then take all that are there."""
        try:
            event = self._events.get(timeout=min(timeout_s, _LONGEST_WAIT_S)) if timeout_s > 0 else None
            while True:
                if event is not None:
                    self._call_ended(event)
                event = self._events.get_nowait()
        except queue.Empty:
            return

    def _call_ended(self, call: EndedCall) -> None:
        finished = self._in_flight.ended(call)
        if finished is None:
            self._counts.num_retries += 1
            return
        video, final = finished
        self._finish(video, final.outcome, final.num_attempts)

    def _finish(self, video: RawVideo, outcome: VideoOutcome, num_attempts: int) -> None:
        processed = ProcessedVideo(video, outcome, num_attempts, self._clock.now())
        self._counts.finished(outcome.status)
        self._committer.add(processed)
        self._replays.finished(offsets_of(video))
        self._careful.finished(video.row_id)
        self._observer.finished(processed)

    # Committing.

    def _commit_if_due(self, intake: Intake) -> None:
        while self._committer.is_pending or self._is_commit_due(intake):
            if not self._commit():
                return
            self._careful.passed(is_idle=self._is_done() and self._is_idle(intake))
            intake.again(self._replays.unread())

    def _is_commit_due(self, intake: Intake) -> bool:
        if self._committer.is_empty:
            return False
        is_running, is_idle = self._phase() is Phase.RUNNING, self._is_idle(intake)
        if (is_idle and (self._is_ending or not is_running)) or self._replays.is_urgent:
            return True
        return self._committer.is_early_due(is_idle=is_idle) or (is_running and self._is_held_up_by_clips(intake))

    def _is_idle(self, intake: Intake) -> bool:
        """Whether nothing is to be done just now."""
        return not self._in_flight and (intake.is_at_head or self._phase() is not Phase.RUNNING)

    def _is_held_up_by_clips(self, intake: Intake) -> bool:
        """Whether the next video does not fit and committing the finished clips is the way to make room for it."""
        if intake.held is None or self._committer.num_bytes == 0 or self._fits(intake.held):
            return False
        return not self._in_flight or self._committer.num_bytes * 2 >= self._config.max_in_flight_bytes

    def _commit_all(self) -> None:
        while not self._committer.is_empty:
            self._commit(at_once=True)

    def _commit(self, at_once: bool = False) -> bool:
        committed = self._committer.commit(at_once)
        if committed is None:
            return False
        batch, receipt = committed
        self._replays.committed()
        self._careful.committed(video.video.row_id for video in batch.videos)
        self._counts.num_commits += 1
        self._counts.num_videos_committed += len(batch.videos)
        self._counts.num_clips_committed += receipt.num_clips
        self._observer.committed(batch, receipt)
        return True

    # Waiting and telling.

    def _wait_s(self, intake: Intake) -> float:
        """Return how long nothing can happen without an event, in seconds."""
        retry_at_s = self._in_flight.wake_at_s()
        times_s = [] if retry_at_s is None else [retry_at_s]
        if self._drain_until_s is not None:
            times_s.append(self._drain_until_s)
        commit_at_s = self._committer.wake_at_s(is_idle=self._is_idle(intake))
        if commit_at_s is not None:
            times_s.append(commit_at_s)
        # An item that does not fit waits for an event, not for a time.
        if self._may_read() and (intake.held is None or self._fits(intake.held)):
            times_s.append(intake.wake_at_s())
        return min(times_s) - self._clock.monotonic_s() if times_s else _LONGEST_WAIT_S

    def _publish_status(self, intake: Intake) -> None:
        status = ProcessorStatus(
            phase=self._phase(),
            counts=replace(self._counts),
            num_in_flight=len(self._in_flight),
            in_flight_bytes=self._held_bytes(),
            num_replays=len(self._replays.open_rows),
            num_uncommitted=self._committer.num_videos,
            sequence=self._committer.sequence,
            position=self._committer.position,
            head_offset=intake.head_offset,
            store_error=self._committer.last_error or intake.last_error,
            breaker=self._breaker.state,
            breaker_reason=self._breaker.reason,
        )
        self._board.publish(status)

    def _report(self, reason: EndReason, head_offset: int | None, started_s: float) -> RunReport:
        self._board.publish(replace(self._board.status, phase=Phase.STOPPED))
        position = self._committer.position
        return RunReport(
            reason=reason,
            counts=replace(self._counts),
            num_abandoned=len(self._in_flight),
            sequence=self._committer.sequence,
            position=position,
            lag=None if head_offset is None else self._committer.share.num_missing(position, head_offset),
            wall_s=self._clock.monotonic_s() - started_s,
        )
