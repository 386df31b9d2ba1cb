"""A pool of threads in this process: for development and fast tests, without isolation.

A decoder that crashes takes the consumer with it, and one that hangs keeps its thread: the deadline is only as good as
the processor's own checks of it. Everything else is as with the pool on Ray.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future

from consumers.clock import SystemClock
from consumers.errors import ConfigurationError
from consumers.pool.worker import OpenFutures, process_guarded
from consumers.pool_report import Heard, PoolReport, VideoProgress, compose
from consumers.ports import VideoProcessor
from schemas.records import VideoOutcome, VideoTask

_Call = tuple[VideoTask, "Future[VideoOutcome]"]


class InlinePool:
    """``num_workers`` daemon threads, each with a processor of its own.

    Args:
        make_processor: called once in each thread.
        num_workers: 1 or more.
    """

    def __init__(self, make_processor: Callable[[], VideoProcessor], num_workers: int = 2) -> None:
        if num_workers < 1:
            raise ConfigurationError(f"the inline pool needs 1 worker or more, not {num_workers}")
        self._make_processor = make_processor
        self._num_workers = num_workers
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._clock = SystemClock()
        self._open = OpenFutures(self._clock)
        self._held: dict[int, VideoProgress] = {}
        self._is_started = False

    @property
    def capacity(self) -> int:
        """One video for each worker, and one that waits for it."""
        return 2 * self._num_workers

    def start(self) -> None:
        """Start the threads. Idempotent.

        Raises:
            ConfigurationError: a processor could not be made.
        """
        if self._is_started:
            return
        self._is_started = True
        try:
            processors = [self._make_processor() for _ in range(self._num_workers)]
        except ConfigurationError:
            raise
        except Exception as error:
            raise ConfigurationError(f"a worker could not be made: {type(error).__name__}: {error}") from error
        for index, processor in enumerate(processors):
            threading.Thread(target=self._work, args=(processor,), name=f"sluice-worker-{index}", daemon=True).start()

    def submit(self, task: VideoTask) -> Future[VideoOutcome]:
        """Queue one video; never blocks."""
        future = self._open.add(task.video.row_id)
        self._calls.put((task, future))
        return future

    def _work(self, processor: VideoProcessor) -> None:
        while (call := self._calls.get()) is not None:
            task, future = call
            row_id = task.video.row_id
            progress = self._held[row_id] = VideoProgress(self._clock, row_id)
            if self._open.begin(future):
                self._open.end(future, process_guarded(processor, task, progress))
            self._held.pop(row_id, None)

    def report(self) -> PoolReport:
        """Return where the videos stand. A model in this process answers one clip at a time; the others wait."""
        states = {row_id: progress.state() for row_id, progress in list(self._held.items())}
        running = {stage: 1 for state in states.values() for stage in state.asking}
        now_s = self._clock.monotonic_s()
        return compose(self._open.videos(), Heard(states, running, now_s), {}, now_s)

    def close(self) -> None:
        """End the open futures and let the threads go when they are done with their video. Idempotent."""
        if self._open.close():
            for _ in range(self._num_workers):
                self._calls.put(None)
