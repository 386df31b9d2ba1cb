"""The geometry of the page's drawings: the funnel of the stages and the timeline of one video. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from schemas.api import StageOut, StagesReport
from schemas.records import Stage

SEVEN = (Stage.SCENE, Stage.DURATION, Stage.FRAMES, Stage.NSFW, Stage.MOTION, Stage.AESTHETIC, Stage.CAPTION)


@dataclass(frozen=True, slots=True)
class FunnelRow:
    """One stage of the funnel.

    Attributes:
        stage: its code.
        num_in: items that went in.
        num_out: items that came out.
        width: share of the bar's full width for what came out, 0 to 100.
        lost_width: share for what was rejected, 0 to 100.
        reasons: reasons of rejection and their counts, the most frequent first.
        time_share: share of all time spent, 0 to 1.
        is_bottleneck: whether the others wait for it.
        waiting: items in its queue now, None where it has none of its own.
        mean_batch: of the last clips, None where no model was asked.
    """

    stage: str
    num_in: int
    num_out: int
    width: float
    lost_width: float
    reasons: tuple[tuple[str, int], ...]
    time_share: float
    is_bottleneck: bool
    waiting: int | None
    mean_batch: float | None


@dataclass(frozen=True, slots=True)
class Funnel:
    """The seven stages, and the steps around them."""

    rows: tuple[FunnelRow, ...]
    around: tuple[FunnelRow, ...]
    bottleneck: str | None
    is_empty: bool


def funnel(report: StagesReport) -> Funnel:
    """Return the funnel of a stages report."""
    total_s = sum(stage.wall_s for stage in report.stages)
    most = max((max(stage.num_out, _clips_in(stage)) for stage in report.stages if _is_of_seven(stage)), default=0)
    rows = {
        stage.stage: FunnelRow(
            stage=stage.stage,
            num_in=stage.num_in,
            num_out=stage.num_out,
            width=_percent(stage.num_out, most),
            lost_width=_percent(sum(stage.rejected.values()), most),
            reasons=tuple(sorted(stage.rejected.items(), key=lambda item: (-item[1], item[0]))),
            time_share=stage.wall_s / total_s if total_s else 0.0,
            is_bottleneck=stage.stage == report.bottleneck,
            waiting=stage.waiting,
            mean_batch=stage.mean_batch,
        )
        for stage in report.stages
    }
    around = tuple(
        row for row in rows.values() if row.stage not in SEVEN and (row.reasons or row.num_in or row.time_share)
    )
    is_empty = not any(row.num_in or row.reasons for row in rows.values())
    return Funnel(tuple(rows[stage] for stage in SEVEN if stage in rows), around, report.bottleneck, is_empty)


def _is_of_seven(stage: StageOut) -> bool:
    return stage.stage in SEVEN


def _clips_in(stage: StageOut) -> int:
    # Scene segmentation takes in videos; its clips are what comes out.
    return 0 if stage.stage == Stage.SCENE else stage.num_in


def _percent(part: int, whole: int) -> float:
    return round(min(100.0, 100 * part / whole), 2) if whole else 0.0


@dataclass(frozen=True, slots=True)
class TimelineClip:
    """One clip on the timeline: ``x`` and ``width`` in thousandths of the video, and its row of the ledger."""

    x: float
    width: float
    clip: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TimelineRun:
    """One run over a video: its ledger row, its clips on the timeline, and the ticks below it in seconds."""

    row: Mapping[str, Any]
    duration_s: float
    clips: tuple[TimelineClip, ...]
    ticks: tuple[tuple[float, float], ...]
    timings: tuple[tuple[Mapping[str, Any], float], ...]
    wall_s: float


def timeline(run: Mapping[str, Any]) -> TimelineRun:
    """Return the drawing of one ledger row."""
    clips = run.get("clips") or ()
    duration_s = max([run.get("duration_s") or 0.0, *(clip["end_s"] for clip in clips)])
    drawn = tuple(
        TimelineClip(
            round(1000 * clip["start_s"] / duration_s, 2),
            # Never too narrow to be seen.
            max(2.0, round(1000 * (clip["end_s"] - clip["start_s"]) / duration_s, 2)),
            clip,
        )
        for clip in clips
        if duration_s > 0
    )
    timings = run.get("timings") or ()
    most_s = max((timing["wall_s"] for timing in timings), default=0.0)
    return TimelineRun(
        row=run,
        duration_s=duration_s,
        clips=drawn,
        ticks=_ticks(duration_s),
        timings=tuple((timing, 100 * timing["wall_s"] / most_s if most_s else 0.0) for timing in timings),
        wall_s=sum(timing["wall_s"] for timing in timings),
    )


def _ticks(duration_s: float) -> tuple[tuple[float, float], ...]:
    """Return at most seven places (thousandths, seconds) at round times."""
    if duration_s <= 0:
        return ()
    step_s = next(
        (step for step in (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200, 1800) if duration_s / step <= 6), 3600
    )
    return tuple(
        (round(1000 * step_s * index / duration_s, 2), step_s * index) for index in range(int(duration_s / step_s) + 1)
    )
