"""Which stage the others wait for. Pure logic."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from consumers.metrics.types import MODEL_STAGES
from consumers.pool_report import FIRST_STAGE, PoolReport
from schemas.records import Stage


def loads(report: PoolReport) -> dict[Stage, int]:
    """Return how much waits for the workers of each stage that has some: what is queued, and who is held up there.

    A worker that waits for a model cannot take the next video; that video waits for the model as well, in effect, and
    not for a worker.
    """
    held_up = Counter(at.stage for at in report.videos.values() if at.stage in MODEL_STAGES and not at.is_waiting)
    found = {stage: report.waiting.get(stage, 0) + held_up[stage] for stage in _with_workers(report)}
    found[FIRST_STAGE] = max(0, report.waiting.get(FIRST_STAGE, 0) - held_up.total())
    return found


def bottleneck(queued: Mapping[Stage, float], wall_s: Mapping[Stage, float]) -> tuple[Stage, float] | None:
    """Return the bottleneck and its share of the time; None before anything is known.

    It is where the most waits. The workers that hold videos do every stage that asks no model: of those it is the one
    that takes the most time. The same holds where nothing waits, and of queues of one length.

    Args:
        queued: what waits for the workers of each stage that has some, as :func:`loads` tells.
        wall_s: time that the last videos spent, by stage.
    """
    total_s = sum(wall_s.values())
    longest = max(queued.values(), default=0.0)
    if longest <= 0:
        among = set(wall_s)
    else:
        of_workers = (set(wall_s) | {FIRST_STAGE}) - (set(queued) - {FIRST_STAGE})
        among = {
            member
            for stage, length in queued.items()
            if length == longest
            for member in (of_workers if stage == FIRST_STAGE else {stage})
        }
    if not among or (longest <= 0 and total_s <= 0):
        return None
    # In the order of the pipeline where nothing tells them apart.
    stage = max((each for each in Stage if each in among), key=lambda each: wall_s.get(each, 0.0))
    return stage, wall_s.get(stage, 0.0) / total_s if total_s > 0 else 0.0


def _with_workers(report: PoolReport) -> set[Stage]:
    return {stage for stage in MODEL_STAGES if stage in report.replicas or stage in report.waiting}
