"""Where the videos in a worker pool stand, and what waits at each stage: one read-only report."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from consumers.clock import Clock
from schemas.records import Stage

FIRST_STAGE: Final = Stage.SCENE
"""Where a video waits that no worker has taken yet. Its workers do all that no model does: they are one queue."""

# From the moment that a worker takes a video until its word of it has come here.
_SPEAKS_WITHIN_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class VideoAt:
    """Where one video stands.

    Attributes:
        stage: what its worker does, or waits for; ``pool`` where the worker has not said anything yet.
        for_s: seconds since it got there.
        is_waiting: no worker has taken it yet; ``stage`` is then :data:`FIRST_STAGE`.
    """

    stage: Stage
    for_s: float
    is_waiting: bool = False


@dataclass(frozen=True, slots=True)
class StageReplicas:
    """The workers of one stage that run now, and the share of a GPU that each holds, 0 on the CPU."""

    num_running: int
    gpus_each: float = 0.0

    @property
    def num_with_gpu(self) -> int:
        """How many of them hold a GPU or a share of one."""
        return self.num_running if self.gpus_each > 0 else 0


@dataclass(frozen=True, slots=True)
class PoolReport:
    """A pool at one moment, a few seconds ago; the number of replicas may be twenty seconds old.

    Attributes:
        videos: those handed in and not ended, by row id.
        waiting: items that wait for a stage's workers: videos for :data:`FIRST_STAGE`, clips for a model. A clip
            whose batch is running does not wait.
        replicas: by stage; :data:`FIRST_STAGE` stands for the workers that hold videos. Empty where it is unknown.
    """

    videos: Mapping[int, VideoAt] = field(default_factory=dict)
    waiting: Mapping[Stage, int] = field(default_factory=dict)
    replicas: Mapping[Stage, StageReplicas] = field(default_factory=dict)


NOTHING_TO_REPORT: Final = PoolReport()


@dataclass(frozen=True, slots=True)
class VideoState:
    """What a worker says of the video it holds: stage, seconds in it, and clips that ask a model, by its stage."""

    row_id: int
    stage: Stage
    for_s: float
    asking: Mapping[Stage, int] = field(default_factory=dict)


class VideoProgress:
    """Written by a processor as a video goes through its stages, read by the pool. Thread-safe; never blocks for long.

    Args:
        clock: time.
        row_id: of the video.
        on_change: called after every change, from the thread that made it; must return at once.
    """

    def __init__(self, clock: Clock, row_id: int = -1, on_change: Callable[[], None] = lambda: None) -> None:
        self._clock = clock
        self._row_id = row_id
        self._on_change = on_change
        self._lock = threading.Lock()
        self._stage = Stage.OPEN
        self._since_s = clock.monotonic_s()
        self._held_up_since_s: float | None = None
        self._asking: Counter[Stage] = Counter()

    def enter(self, stage: Stage) -> None:
        """Note that the video goes on to ``stage``."""
        with self._lock:
            self._stage, self._since_s = stage, self._clock.monotonic_s()
        self._on_change()

    @contextlib.contextmanager
    def asking(self, stage: Stage) -> Iterator[None]:
        """Count a clip that asks the model of ``stage`` inside the block; several may at once."""
        self._count(stage, 1)
        try:
            yield
        finally:
            self._count(stage, -1)

    @contextlib.contextmanager
    def held_up(self) -> Iterator[None]:
        """Note that nothing goes on inside the block until a model has answered."""
        self._hold(self._clock.monotonic_s())
        try:
            yield
        finally:
            self._hold(None)

    def state(self) -> VideoState:
        """Return where the video stands. One that is held up stands at the model that most of its clips ask."""
        with self._lock:
            asking = {stage: count for stage, count in self._asking.items() if count > 0}
            stage, since_s = self._stage, self._since_s
            if self._held_up_since_s is not None and asking:
                stage, since_s = max(asking, key=lambda each: asking[each]), self._held_up_since_s
            return VideoState(self._row_id, stage, self._clock.monotonic_s() - since_s, asking)

    def _count(self, stage: Stage, change: int) -> None:
        with self._lock:
            self._asking[stage] += change
        self._on_change()

    def _hold(self, since_s: float | None) -> None:
        with self._lock:
            self._held_up_since_s = since_s
        self._on_change()


@dataclass(frozen=True, slots=True)
class OpenVideo:
    """A video that a pool owes a result; when it was handed in, and to a worker (None: not yet): monotonic seconds."""

    row_id: int
    added_s: float
    begun_s: float | None


@dataclass(frozen=True, slots=True)
class Heard:
    """What workers have said, as of ``at_s`` monotonic seconds: of their videos, and clips in running batches."""

    videos: Mapping[int, VideoState] = field(default_factory=dict)
    running: Mapping[Stage, int] = field(default_factory=dict)
    at_s: float = float("-inf")


def compose(
    open_videos: Iterable[OpenVideo], heard: Heard, replicas: Mapping[Stage, StageReplicas], now_s: float
) -> PoolReport:
    """Return the report of a pool.

    Args:
        open_videos: what it owes a result.
        heard: what its workers have said.
        replicas: that run.
        now_s: monotonic seconds.
    """
    videos: dict[int, VideoAt] = {}
    waiting: Counter[Stage] = Counter()
    for video in open_videos:
        at = _where(video, heard, now_s)
        videos[video.row_id] = at
        if at.is_waiting:
            waiting[FIRST_STAGE] += 1
        elif at.stage is not Stage.POOL:
            waiting.update(heard.videos[video.row_id].asking)
    waiting.subtract({stage: count for stage, count in heard.running.items() if stage in waiting})
    return PoolReport(videos, {stage: max(0, count) for stage, count in waiting.items()}, replicas)


def _where(video: OpenVideo, heard: Heard, now_s: float) -> VideoAt:
    if video.begun_s is None:
        return VideoAt(FIRST_STAGE, now_s - video.added_s, is_waiting=True)
    state, with_worker_s = heard.videos.get(video.row_id), now_s - video.begun_s
    if state is not None:
        for_s = state.for_s + now_s - heard.at_s
        # What was said before this call began was said of an earlier one.
        if for_s <= with_worker_s + _SPEAKS_WITHIN_S:
            return VideoAt(state.stage, min(for_s, with_worker_s))
    if heard.at_s - video.begun_s > _SPEAKS_WITHIN_S:
        # It was handed over, and no worker has it: a worker ended, and its successor is not ready.
        return VideoAt(FIRST_STAGE, with_worker_s, is_waiting=True)
    return VideoAt(Stage.POOL, with_worker_s)
