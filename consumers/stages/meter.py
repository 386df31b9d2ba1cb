"""What each stage costs."""

from __future__ import annotations

import time
from types import TracebackType

from schemas.records import ModelCall, Stage, StageTiming


class StageMeter:
    """Adds up the wall and thread CPU time spent inside ``with`` blocks; a pair of clock readings each."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._wall_s = self._cpu_s = 0.0
        self._wall_start_s = self._cpu_start_s = 0.0
        self._calls: list[ModelCall] = []
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

    def add_call(self, call: ModelCall, cpu_s: float) -> None:
        """Note that a model was asked, and what CPU time that cost where it runs."""
        self._calls.append(call)
        self._cpu_s += cpu_s

    def merge(self, other: StageMeter) -> None:
        """Add what another thread has measured of the same stage."""
        self._wall_s += other._wall_s
        self._cpu_s += other._cpu_s
        self._calls += other._calls
        self.num_in += other.num_in
        self.num_out += other.num_out

    def timing(self) -> StageTiming:
        """Return the totals so far."""
        return StageTiming(self._stage, self._wall_s, self._cpu_s, self.num_in, self.num_out, tuple(self._calls))
