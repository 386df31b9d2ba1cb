"""What a metric is, and the closed sets of label values beside the stages."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from schemas.records import Stage

Kind = Literal["counter", "gauge", "histogram"]
Group = Literal["Lag and position", "State", "Volume", "Stages", "Commits", "Failures", "Process"]

STATES = ("starting", "running", "pausing", "paused", "draining", "stopped", "failed", "restarting")
"""What a consumer is observed to do; exactly one is 1."""

DESIRED_STATES = ("running", "paused", "stopped")
"""What a person asked for; exactly one is 1."""

VERDICTS = ("idle", "current", "catching_up", "falling_behind", "stalled", "paused", "failed")
"""The state in a word that a person wants to know; exactly one is 1."""

MODEL_STAGES = (Stage.NSFW, Stage.AESTHETIC, Stage.CAPTION)
"""Stages that may run in a pool of their own, on GPUs, in batches across videos."""

FILTER_REASONS: tuple[tuple[Stage, str], ...] = (
    (Stage.DURATION, "duration_below_min"),
    (Stage.DURATION, "duration_above_max"),
    (Stage.FRAMES, "no_frames"),
    (Stage.FRAMES, "pieces_below_scene"),
    (Stage.NSFW, "nsfw_above_max"),
    (Stage.NSFW, "nsfw_unscored"),
    (Stage.MOTION, "motion_below_min"),
    (Stage.MOTION, "motion_above_max"),
    (Stage.MOTION, "motion_unmeasured"),
    (Stage.AESTHETIC, "aesthetic_below_min"),
    (Stage.AESTHETIC, "aesthetic_above_max"),
    (Stage.AESTHETIC, "technical_quality_below_min"),
    (Stage.CAPTION, "caption_refused"),
    (Stage.CUT, "cut_failed"),
)
"""Rejections whose series exist from the start; any other code a stage uses appears with its first clip."""


class CommitResult(StrEnum):
    """How a commit ended; each commit counts once."""

    OK = "ok"
    """Durable at the first attempt, with ledger rows or clips."""
    EMPTY = "empty"
    """Durable, and only moved the position: every offset in it held no row."""
    CONFLICT = "conflict"
    """Durable, after another writer had won at least one race for the next snapshot."""
    FENCED = "fenced"
    """Refused: a newer copy of the consumer exists."""
    FAILED = "failed"
    """The store did not answer; the same batch is tried again."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Attributes:
        name: as exported; a counter's ends in ``_total``.
        kind: Prometheus type.
        help: one sentence for a person.
        group: heading in the reference.
        labels: label names, in order.
        unit: of the value, for the reference; "1" for a number without one.
        buckets: upper bounds of a histogram, in ``unit``; empty for other kinds.
        values: label values whose series exist from the start, one tuple per series, without the consumer.
        starts_at_zero: whether the series exist, at 0, before the first observation. False where 0 would be a claim
            (a lag that was never probed is unknown, not 0).
        exploration_only: used by no rule and no dashboard; for ad hoc queries.
    """

    name: str
    kind: Kind
    help: str
    group: Group
    labels: tuple[str, ...] = ("consumer",)
    unit: str = "1"
    buckets: tuple[float, ...] = ()
    values: tuple[tuple[str, ...], ...] = field(default=((),))
    starts_at_zero: bool = True
    exploration_only: bool = False


def each(values: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """Return ``values`` as :attr:`Metric.values` of a metric with one further label."""
    return tuple((value,) for value in values)
