"""What each stage costs."""

from __future__ import annotations

import time
from types import TracebackType

from schemas.records import Stage, StageTiming


class StageMeter:
    """Adds up the wall and thread CPU time spent inside ``with`` blocks; a pair of clock readings each."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._wall_s = self._cpu_s = 0.0
        self._wall_start_s = self._cpu_start_s = 0.0
        self.num_in = 0
        self.num_out = 0

    def __enter__(self) -> None:
        self._wall_start_s = time.perf_counter()
        self._cpu_start_s = time.thread_time()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cpu_s += time.thread_time() - self._cpu_start_s
        self._wall_s += time.perf_counter() - self._wall_start_s

    def timing(self) -> StageTiming:
        """Return the totals so far."""
        return StageTiming(self._stage, self._wall_s, self._cpu_s, self.num_in, self.num_out)
