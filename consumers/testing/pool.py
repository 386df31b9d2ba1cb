"""A pool whose videos end when the test says so."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack

from consumers.errors import WorkerDiedError
from consumers.pool_report import Heard, OpenVideo, PoolReport, VideoProgress, compose
from consumers.testing.clock import FakeClock
from consumers.testing.outcomes import kept_outcome
from schemas.records import (
    Stage,
    VideoOutcome,
    VideoTask,
)


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
