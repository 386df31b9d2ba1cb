"""The worker pools: calls per second with work that is none, what Ray costs on real videos, memory per replica.

Usage: ``python -m benchmarks.pool [--media DIR] [--calls N] [--rounds N] [--json]``. One line per result:

- ``calls/no_op``: calls per second through the pool on Ray with 1, 2 and 4 curator replicas, and through the inline
  pool, with a processor that does nothing; CPU milliseconds of all processes per call beside it. Wall time counts, so
  a busy machine shows.
- ``overhead_cpu/real_videos``: CPU seconds on every video of ``--media`` that lasts 10 s or more, one worker. In each
  round both pools work on each video one right after the other, and who goes first alternates. ``ratios`` has the pool
  on Ray (this process and its workers) to the inline pool for each round, ``ratio`` is their median.
  ``ray_idle_cpu_s_per_s`` is what both cost while nothing is done: on a busy machine, where ``ray_wall_s`` is long,
  that weighs more. ``ratio_with_background`` counts Ray's own daemons as well, which cost the same whether there is
  work or not. Without a folder of videos this case is left out, and a line on standard error says so.
- ``memory/replica``: of a curator that has worked on all of them: resident, and its alone.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import wait
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import psutil

from benchmarks.pipeline import find_media
from consumers.clock import SystemClock
from consumers.pool.embedded_ray import SINGLE_THREADED
from consumers.pool.inline import InlinePool
from consumers.pool.ray_serve import RayPoolConfig, RayServePool
from consumers.pool_report import VideoProgress
from consumers.ports import VideoProcessor, WorkerPool
from consumers.stages.curate import VideoCurator
from consumers.testing import make_video
from consumers.testing.blobs import LocalFiles
from schemas.profile import Limits, NsfwParams, Profile
from schemas.records import BlobReference, VideoOutcome, VideoTask
from tests.support.videos import VIDEOS

_MIN_DURATION_S = 10.0
_REPLICAS = (1, 2, 4)
_DEADLINE_S = 600.0
_WORKER = "VideoCurator"
_IDLE_S = 10.0


class NoOp:
    """A processor that does nothing."""

    def process(self, task: VideoTask, progress: VideoProgress) -> VideoOutcome:
        """Return an outcome that is as empty as can be."""
        return VideoOutcome()


def make_curator() -> VideoProcessor:
    """Return what a worker runs, with the default profile and nothing held back."""
    return VideoCurator(LocalFiles(), Profile(nsfw=NsfwParams(unscored="pass")), Limits(), SystemClock())


@dataclass(frozen=True, slots=True)
class Cpu:
    """CPU seconds (user and system) of this process and its descendants: those at work, and Ray's daemons."""

    work_s: float
    background_s: float

    def __sub__(self, other: Cpu) -> Cpu:
        return Cpu(self.work_s - other.work_s, self.background_s - other.background_s)

    def __add__(self, other: Cpu) -> Cpu:
        return Cpu(self.work_s + other.work_s, self.background_s + other.background_s)


@dataclass(frozen=True, slots=True)
class Round:
    """What both pools spent on all videos, once each."""

    inline: Cpu
    ray: Cpu
    ray_wall_s: float


def cpu() -> Cpu:
    """Return what has been used so far by processes that are alive."""
    this = psutil.Process()
    work_s = _used_s(this)
    background_s = 0.0
    for process in this.children(recursive=True):
        try:
            used_s, is_worker = _used_s(process), _is_worker(process)
        except psutil.NoSuchProcess:
            continue
        if is_worker:
            work_s += used_s
        else:
            background_s += used_s
    return Cpu(work_s, background_s)


def run(pool: WorkerPool, tasks: Sequence[VideoTask]) -> list[VideoOutcome]:
    """Return the outcome of every task."""
    futures = [pool.submit(task) for task in tasks]
    wait(futures)
    return [future.result() for future in futures]


def calls(pool: WorkerPool, count: int) -> dict[str, float]:
    """Return how fast a started pool of :class:`NoOp` takes ``count`` calls."""
    tasks = [VideoTask(make_video(row_id), 1, _DEADLINE_S) for row_id in range(count)]
    # Every worker, and every connection to it, is warm before the clock runs.
    run(pool, tasks[: 4 * pool.capacity])
    began, began_s = cpu(), time.perf_counter()
    run(pool, tasks)
    wall_s = time.perf_counter() - began_s
    return {
        "calls_per_s": round(count / wall_s, 1),
        "cpu_ms_per_call": round(1000 * (cpu() - began).work_s / count, 2),
    }


def no_op_cases(count: int) -> list[dict[str, object]]:
    """Return the lines of ``calls/no_op``."""
    lines: list[dict[str, object]] = []
    for replicas in _REPLICAS:
        with_inline = InlinePool(NoOp, num_workers=replicas)
        on_ray = RayServePool(NoOp, RayPoolConfig(app_name="benchmark-no-op", num_replicas=replicas))
        for name, pool in (("inline", with_inline), ("ray", on_ray)):
            with _started(pool):
                lines.append({"case": "calls/no_op", "pool": name, "replicas": replicas, **calls(pool, count)})
    return lines


def real_cases(media: Path, rounds: int) -> list[dict[str, object]]:
    """Return the lines of ``overhead_cpu/real_videos`` and ``memory/replica``."""
    with_inline = InlinePool(make_curator, num_workers=1)
    on_ray = RayServePool(make_curator, RayPoolConfig(app_name="benchmark-real", num_replicas=1))
    with _started(with_inline), _started(on_ray):
        tasks = [_task(path) for path in find_media(media)]
        outcomes = run(with_inline, tasks)
        chosen = [
            task
            for task, outcome in zip(tasks, outcomes, strict=True)
            if outcome.media is not None and outcome.failure is None and outcome.media.duration_s >= _MIN_DURATION_S
        ]
        if not chosen:
            return []
        seconds = sum(o.media.duration_s for o in outcomes if o.media and not o.failure and o.media.duration_s >= 10)
        run(on_ray, chosen)
        measured = [_round(with_inline, on_ray, chosen, number) for number in range(rounds)]
        began = cpu()
        time.sleep(_IDLE_S)
        idle_s = (cpu() - began).work_s / _IDLE_S
        ratios = [each.ray.work_s / each.inline.work_s for each in measured]
        with_background = [(each.ray.work_s + each.ray.background_s) / each.inline.work_s for each in measured]
        return [
            {
                "case": "overhead_cpu/real_videos",
                "num_videos": len(chosen),
                "video_s": round(seconds, 1),
                "inline_cpu_s": round(statistics.median(each.inline.work_s for each in measured), 2),
                "ray_cpu_s": round(statistics.median(each.ray.work_s for each in measured), 2),
                "ray_background_cpu_s": round(statistics.median(each.ray.background_s for each in measured), 2),
                "ray_idle_cpu_s_per_s": round(idle_s, 4),
                "ray_wall_s": round(statistics.median(each.ray_wall_s for each in measured), 1),
                "ratios": [round(ratio, 3) for ratio in ratios],
                "ratio": round(statistics.median(ratios), 3),
                "ratio_with_background": round(statistics.median(with_background), 3),
            },
            _memory(),
        ]


def _round(inline: WorkerPool, on_ray: WorkerPool, tasks: Sequence[VideoTask], number: int) -> Round:
    """Return what one pass over all videos took; the videos go in pairs, so that both meet the same machine."""
    spent = {"inline": Cpu(0.0, 0.0), "ray": Cpu(0.0, 0.0)}
    ray_wall_s = 0.0
    for index, task in enumerate(tasks):
        pair = [("inline", inline), ("ray", on_ray)]
        for name, pool in pair if (number + index) % 2 == 0 else reversed(pair):
            began, began_s = cpu(), time.perf_counter()
            run(pool, [task])
            ray_wall_s += time.perf_counter() - began_s if name == "ray" else 0.0
            spent[name] += cpu() - began
    return Round(spent["inline"], spent["ray"], ray_wall_s)


def _memory() -> dict[str, object]:
    (replica,) = [process for process in psutil.Process().children(recursive=True) if _is_worker(process)]
    memory = replica.memory_full_info()
    return {"case": "memory/replica", "rss_mb": round(memory.rss / 2**20), "unique_mb": round(memory.uss / 2**20)}


def _task(path: Path) -> VideoTask:
    return VideoTask(replace(make_video(0, None), blob=BlobReference(str(path))), 1, _DEADLINE_S)


class _started:  # noqa: N801 - used as a function
    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool

    def __enter__(self) -> None:
        self._pool.start()

    def __exit__(self, *_: object) -> None:
        self._pool.close()


def _used_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _is_worker(process: psutil.Process) -> bool:
    return any(_WORKER in word for word in process.cmdline())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code: 0, or 2 where there is nothing to measure."""
    parser = argparse.ArgumentParser(prog="benchmarks.pool", description="What the worker pools cost.")
    parser.add_argument("--media", type=Path, default=VIDEOS, help="folder of real videos; the tests' own by default")
    parser.add_argument("--calls", type=int, default=500, help="calls per measurement")
    parser.add_argument("--rounds", type=int, default=5, help="how often both pools work on the videos")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    options = parser.parse_args(arguments)
    if options.calls < 1 or options.rounds < 1:
        parser.error("--calls and --rounds must be at least 1")
    if options.media is not None and not options.media.is_dir():
        parser.error(f"--media {options.media}: no such folder")
    os.environ.update(SINGLE_THREADED)
    cases: list[Callable[[], list[dict[str, object]]]] = [partial(no_op_cases, options.calls)]
    if options.media is not None:
        cases.append(partial(real_cases, options.media, options.rounds))
    else:
        sys.stderr.write("overhead_cpu/real_videos is left out: no --media, and no TEST_SLUICE_VIDEOS\n")
    for case in cases:
        lines = case()
        if not lines:
            sys.stderr.write(f"nothing to measure: no video of 10 s or more in {options.media}\n")
            return 2
        for line in lines:
            text = json.dumps(line) if options.json else "  ".join(f"{key} {value}" for key, value in line.items())
            print(text, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
