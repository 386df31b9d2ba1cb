"""Where the clips of one video are judged: at once where no model is asked, else side by side, and handed on in order.

Each clip goes through the model stages one after the other, in a thread that mostly waits; several clips of a video do
so at once, so that batches form and the decoding goes on meanwhile. What is held is bounded: when so many clips are
waiting, decoding waits as well.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass

from consumers.pool_report import VideoProgress
from consumers.stages.base import ClipEvidence
from consumers.stages.meter import StageMeter
from consumers.stages.pipeline import StagePlan, Verdict, judge
from schemas.records import Stage


@dataclass(frozen=True, slots=True)
class _Waiting:
    clip: ClipEvidence
    verdict: Future[Verdict]
    meters: Mapping[Stage, StageMeter]


class ClipDesk:
    """Judges the clips of one video after the other. Not thread-safe.

    Args:
        max_waiting: clips that may be with the models at once, 1 or more.
    """

    def __init__(self, max_waiting: int) -> None:
        self._max_waiting = max_waiting
        self._threads: ThreadPoolExecutor | None = None
        self._waiting: deque[_Waiting] = deque()
        self.waited_s = 0.0

    def judged(
        self,
        clips: Iterator[ClipEvidence],
        plan: Callable[[], StagePlan],
        meters: Mapping[Stage, StageMeter],
        progress: VideoProgress,
    ) -> Iterator[tuple[ClipEvidence, Verdict]]:
        """Yield each clip with its verdict, in order. Afterwards ``waited_s`` tells how long models held this up.

        Args:
            clips: of one video.
            plan: called once, when there is a first clip.
            meters: one for each judging stage.
            progress: told which models are asked, and when the video waits for them.

        Raises:
            VideoError: what ``clips`` or a stage raised; clips that still wait are let go.
        """
        self.waited_s = 0.0
        stages: StagePlan | None = None
        try:
            for clip in clips:
                stages = stages or plan()
                self._take(clip, stages, meters, progress)
                # One that is done leaves at once, and with it its frames.
                while self._waiting and (self._waiting[0].verdict.done() or len(self._waiting) > self._max_waiting):
                    yield self._next(meters, progress)
            while self._waiting:
                yield self._next(meters, progress)
        finally:
            for waiting in self._waiting:
                waiting.verdict.cancel()
            self._waiting.clear()

    def _take(
        self, clip: ClipEvidence, stages: StagePlan, meters: Mapping[Stage, StageMeter], progress: VideoProgress
    ) -> None:
        verdict = judge(clip, stages.local, meters)
        if verdict.rejected_by is not None or not stages.remote:
            future: Future[Verdict] = Future()
            future.set_result(verdict)
            self._waiting.append(_Waiting(clip, future, {}))
            return
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self._max_waiting, thread_name_prefix="clip")
        own = {stage.stage: StageMeter(stage.stage) for stage in stages.remote}
        future = self._threads.submit(judge, clip, stages.remote, own, verdict, progress)
        self._waiting.append(_Waiting(clip, future, own))

    def _next(self, meters: Mapping[Stage, StageMeter], progress: VideoProgress) -> tuple[ClipEvidence, Verdict]:
        first = self._waiting.popleft()
        began_s = time.perf_counter()
        try:
            with nullcontext() if first.verdict.done() else progress.held_up():
                verdict = first.verdict.result()
        finally:
            self.waited_s += time.perf_counter() - began_s
        for stage, meter in first.meters.items():
            meters[stage].merge(meter)
        return first.clip, verdict
