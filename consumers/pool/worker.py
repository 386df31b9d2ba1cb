"""What every pool does with a task, wherever its workers are: run it guarded, and end its future exactly once."""

from __future__ import annotations

import threading
from concurrent.futures import Future

from consumers.errors import VideoError, WorkerDiedError, out_of_memory
from consumers.ports import VideoProcessor
from schemas.records import Failure, FailureKind, Stage, VideoOutcome, VideoTask

UNEXPECTED_ERROR = "unexpected_error"
"""Bounded code of a failure that no stage foresaw: a bug of ours, or of a library."""


def unexpected_failure(error: BaseException) -> VideoOutcome:
    """Return ``error`` as an outcome; transient, because nobody knows whether it comes again."""
    message = f"{type(error).__name__}: {error}"
    return VideoOutcome(failure=Failure(FailureKind.TRANSIENT, Stage.POOL, UNEXPECTED_ERROR, message))


def process_guarded(processor: VideoProcessor, task: VideoTask) -> VideoOutcome:
    """Return the outcome of ``task``; an exception that escapes the processor is one as well."""
    try:
        return processor.process(task)
    except VideoError as error:
        return VideoOutcome(failure=error.to_failure())
    except MemoryError as error:
        return VideoOutcome(failure=out_of_memory(error, Stage.POOL))
    except Exception as error:
        return unexpected_failure(error)


class OpenFutures:
    """The futures that a pool owes a result. Thread-safe; each ends once, whoever comes first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._futures: set[Future[VideoOutcome]] = set()
        self._is_closed = False

    def add(self) -> Future[VideoOutcome]:
        """Return a new future; after :meth:`close` one that has ended already."""
        future: Future[VideoOutcome] = Future()
        with self._lock:
            if not self._is_closed:
                self._futures.add(future)
                return future
        future.set_exception(WorkerDiedError("the pool is closed"))
        return future

    def begin(self, future: Future[VideoOutcome]) -> bool:
        """Note that a worker is about to take the video; return False if nobody wants its result any more."""
        with self._lock:
            if future not in self._futures:
                return False
            # From here on it cannot be cancelled; one that is cancelled already is told to those who wait for it.
            if future.set_running_or_notify_cancel():
                return True
            self._futures.remove(future)
            return False

    def end(self, future: Future[VideoOutcome], result: VideoOutcome | WorkerDiedError) -> None:
        """End a future that has begun, unless it has ended."""
        with self._lock:
            if future not in self._futures:
                return
            self._futures.remove(future)
        if isinstance(result, WorkerDiedError):
            future.set_exception(result)
        else:
            future.set_result(result)

    def close(self) -> bool:
        """End all that is open with :class:`WorkerDiedError`, and take no more; return False if it was done before."""
        with self._lock:
            if self._is_closed:
                return False
            self._is_closed = True
            left = [future for future in self._futures if future.running() or future.set_running_or_notify_cancel()]
            self._futures.clear()
        for future in left:
            future.set_exception(WorkerDiedError("the pool was closed before this video had a result"))
        return True
