"""What every pool does with a task, wherever its workers are: run it guarded, and end its future exactly once."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from dataclasses import dataclass

from consumers.clock import Clock
from consumers.errors import PoolLostError, VideoError, WorkerDiedError, out_of_memory
from consumers.pool_report import OpenVideo, VideoProgress
from consumers.ports import VideoProcessor
from schemas.records import Failure, FailureKind, Stage, VideoOutcome, VideoTask

UNEXPECTED_ERROR = "unexpected_error"
"""Bounded code of a failure that no stage foresaw: a bug of ours, or of a library."""


def unexpected_failure(error: BaseException) -> VideoOutcome:
    """Return ``error`` as an outcome; transient, because nobody knows whether it comes again."""
    message = f"{type(error).__name__}: {error}"
    return VideoOutcome(failure=Failure(FailureKind.TRANSIENT, Stage.POOL, UNEXPECTED_ERROR, message))


def process_guarded(processor: VideoProcessor, task: VideoTask, progress: VideoProgress) -> VideoOutcome:
    """Return the outcome of ``task``; an exception that escapes the processor is one as well."""
    try:
        return processor.process(task, progress)
    except VideoError as error:
        return VideoOutcome(failure=error.to_failure())
    except MemoryError as error:
        return VideoOutcome(failure=out_of_memory(error, Stage.POOL))
    except Exception as error:
        return unexpected_failure(error)


@dataclass(slots=True)
class _Entry:
    row_id: int
    added_s: float
    begun_s: float | None = None


class OpenFutures:
    """The futures that a pool owes a result. Thread-safe; each ends once, whoever comes first.

    Args:
        clock: time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._futures: dict[Future[VideoOutcome], _Entry] = {}
        self._end_error: WorkerDiedError | None = None
        self._is_closed = False

    def add(self, row_id: int) -> Future[VideoOutcome]:
        """Return a new future; after :meth:`close` or :meth:`lose` one that has ended already."""
        future: Future[VideoOutcome] = Future()
        with self._lock:
            error = self._end_error
            if error is None:
                self._futures[future] = _Entry(row_id, self._clock.monotonic_s())
                return future
        future.set_exception(error)
        return future

    def begin(self, future: Future[VideoOutcome]) -> bool:
        """Note that a worker is about to take the video; return False if nobody wants its result any more."""
        with self._lock:
            entry = self._futures.get(future)
            if entry is None:
                return False
            # From here on it cannot be cancelled; one that is cancelled already is told to those who wait for it.
            if future.set_running_or_notify_cancel():
                entry.begun_s = self._clock.monotonic_s()
                return True
            del self._futures[future]
            return False

    def end(self, future: Future[VideoOutcome], result: VideoOutcome | WorkerDiedError) -> None:
        """End a future that has begun, unless it has ended."""
        with self._lock:
            if self._futures.pop(future, None) is None:
                return
        if isinstance(result, WorkerDiedError):
            future.set_exception(result)
        else:
            future.set_result(result)

    def videos(self) -> list[OpenVideo]:
        """Return the videos that wait for a result, and for how long."""
        with self._lock:
            return [
                OpenVideo(entry.row_id, entry.added_s, entry.begun_s)
                for future, entry in self._futures.items()
                if not future.cancelled()
            ]

    def lose(self, error: PoolLostError) -> None:
        """End all that is open with ``error``, and all that is added from now on."""
        self._end_all(error, error)

    def close(self) -> bool:
        """End all that is open with :class:`WorkerDiedError`, and take no more; return False if it was done before."""
        with self._lock:
            if self._is_closed:
                return False
            self._is_closed = True
        self._end_all(
            WorkerDiedError("the pool was closed before this video had a result"), WorkerDiedError("the pool is closed")
        )
        return True

    def _end_all(self, error: WorkerDiedError, later: WorkerDiedError) -> None:
        with self._lock:
            self._end_error = later
            left = [future for future in self._futures if future.running() or future.set_running_or_notify_cancel()]
            self._futures.clear()
        for future in left:
            future.set_exception(error)
