"""Lag, rates and the verdict in words: pure arithmetic over observations, with the time passed in."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum

from consumers.ports import CommitMark, Retention, RowOrigin, SourceHead
from schemas.control import DesiredState
from schemas.positions import Position
from schemas.shards import EVERYTHING

WINDOWS_S = (60.0, 300.0, 900.0)
"""The windows of throughput: 1, 5 and 15 minutes."""


class ObservedState(StrEnum):
    """What is true of a consumer now."""

    STARTING = "starting"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    DRAINING = "draining"
    STOPPED = "stopped"
    FAILED = "failed"
    """It ended on something that a person has to change; it is not tried again by itself."""
    RESTARTING = "restarting"
    """It ended on an error and is started again after a delay."""


class Verdict(StrEnum):
    """What a person on call wants to know."""

    IDLE = "idle"
    """Everything is committed, and nothing has arrived for a while."""
    CURRENT = "current"
    """It keeps up: everything is committed, or the oldest row that is not is young."""
    CATCHING_UP = "catching_up"
    """It has a backlog, which it works off faster than rows arrive."""
    FALLING_BEHIND = "falling_behind"
    """It has a backlog, and rows arrive at least as fast as it works."""
    STALLED = "stalled"
    """There is work, and nothing has been committed for too long."""
    PAUSED = "paused"
    """An operator has paused or stopped it."""
    FAILED = "failed"
    """It has ended on an error."""


@dataclass(frozen=True, slots=True)
class LagPolicy:
    """The bounds of the words.

    Attributes:
        current_within_s: a backlog whose oldest row is younger than this is no backlog.
        stalled_after_s: time with work and without a commit that counts as stalled.
        idle_after_s: time without new rows after which a consumer that has caught up is called idle.

    Raises:
        ValueError: a bound is not positive.
    """

    current_within_s: float = 60.0
    stalled_after_s: float = 300.0
    idle_after_s: float = 300.0

    def __post_init__(self) -> None:
        for item in fields(self):
            if getattr(self, item.name) <= 0:
                raise ValueError(f"{item.name} must be above 0: {getattr(self, item.name)}")


@dataclass(frozen=True, slots=True)
class Lag:
    """How far behind a consumer is.

    Attributes:
        records: offsets below the head that are not committed.
        num_bytes: their objects' sizes, estimated from the mean of a sample; None where no row tells its size.
        snapshots: source snapshots from the one that brought the oldest uncommitted row to the newest, both included.
        seconds: age of the oldest uncommitted row's commit; 0 when there is none.
        is_exact: False where that row's own snapshot has expired, so that it is at least so old.
        headroom_s: see :func:`retention_headroom_s`.
    """

    records: int
    num_bytes: int | None
    snapshots: int
    seconds: float
    is_exact: bool = True
    headroom_s: float | None = None


def retention_headroom_s(retention: Retention, now: datetime) -> float | None:
    """Return the time until the needed snapshot may expire by its table's rules, in seconds; 0 when it may already.

    The rules are those of Paimon's expiry: the newest ``num_retained_min`` snapshots stay, those beyond the newest
    ``num_retained_max`` go, and of the others those that are older than ``time_retained_s``. Where that depends on
    snapshots to come, they are taken to come at the mean pace since the needed one; None where none have come, so that
    nothing tells when. A consumer file that keeps the snapshot beyond these rules is not counted on here.
    """
    if retention.needed_at is None:
        return 0.0
    age_s = max(0.0, (now - retention.needed_at).total_seconds())
    num_newer = retention.newest_id - retention.needed_id
    interval_s = age_s / num_newer if num_newer > 0 and age_s > 0 else math.inf

    def leaves_s(num_retained: int) -> float:
        """Return when it is no longer among the newest ``num_retained``."""
        return (num_retained - num_newer) * interval_s if num_retained > num_newer else 0.0

    too_old_s = max(0.0, retention.time_retained_s - age_s)
    left_s = min(max(too_old_s, leaves_s(retention.num_retained_min)), leaves_s(retention.num_retained_max))
    return None if left_s == math.inf else left_s


def num_waiting(head: SourceHead, commits: Sequence[CommitMark]) -> int:
    """Return how many rows below the head are not committed by the shard whose they are."""
    if not commits:
        return head.num_missing(Position(), EVERYTHING)
    return sum(head.num_missing(each.reached, each.share) for each in commits)


def oldest_waiting(head: SourceHead, commits: Sequence[CommitMark]) -> int | None:
    """Return the lowest offset below the head that is not committed by the shard whose it is; None where all are."""
    if not commits:
        return 0 if head.next_offset else None
    firsts = (each.share.first_missing(each.reached, head.next_offset) for each in commits)
    return min((first for first in firsts if first is not None), default=None)


def measure_lag(
    head: SourceHead,
    commits: Sequence[CommitMark],
    oldest: RowOrigin | None,
    mean_bytes: float | None,
    now: datetime,
    retention: Retention | None = None,
) -> Lag:
    """Return the lag at ``now``.

    Args:
        head: the end of the source.
        commits: the newest commit of each of the consumer's shards; none where it never committed.
        oldest: where the oldest uncommitted row came from, None when there is none.
        mean_bytes: mean size of uncommitted objects.
        now: timezone-aware.
        retention: of the oldest uncommitted row's snapshot; None where rows outlive their snapshots.
    """
    records = num_waiting(head, commits)
    if records == 0 or oldest is None or head.snapshot_id is None:
        return Lag(records, 0 if records == 0 else None, 0, 0.0)
    return Lag(
        records=records,
        num_bytes=None if mean_bytes is None else round(mean_bytes * records),
        snapshots=max(1, head.snapshot_id - oldest.snapshot_id + 1),
        # Clocks of writers differ a little; a row is never committed in the future.
        seconds=max(0.0, (now - oldest.committed_at).total_seconds()),
        is_exact=oldest.is_exact,
        headroom_s=None if retention is None else retention_headroom_s(retention, now),
    )


@dataclass(frozen=True, slots=True)
class Totals:
    """Counters since the process started, all of them only ever growing.

    Attributes:
        records: offsets committed.
        arrived: offsets that the source has had so far: its head.
        videos: videos committed.
        clips: clips committed.
        video_s: seconds of video in them.
        num_bytes: bytes of source objects in them.
    """

    records: int = 0
    arrived: int = 0
    videos: int = 0
    clips: int = 0
    video_s: float = 0.0
    num_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Throughput:
    """Rates per second over one window; ``covered_s`` is how much of it there are observations for."""

    window_s: float
    covered_s: float
    records_per_s: float
    arrived_per_s: float
    videos_per_s: float
    clips_per_s: float
    video_s_per_s: float
    bytes_per_s: float

    @property
    def ratio_to_arrival(self) -> float | None:
        """Records committed for each that arrived; None when none arrived."""
        return self.records_per_s / self.arrived_per_s if self.arrived_per_s > 0 else None


class RateWindows:
    """Remembers totals for as long as the longest window reaches back. Times are monotonic seconds."""

    def __init__(self, windows_s: tuple[float, ...] = WINDOWS_S) -> None:
        self._windows_s = windows_s
        self._samples: deque[tuple[float, Totals]] = deque()

    def add(self, now_s: float, totals: Totals) -> None:
        """Note the totals at ``now_s``. Totals below the last ones (a position set back) begin a new history."""
        if self._samples and (totals.records < self._samples[-1][1].records or now_s < self._samples[-1][0]):
            self._samples.clear()
        self._samples.append((now_s, totals))
        longest_s = max(self._windows_s)
        # One sample older than the window stays, to measure from.
        while len(self._samples) > 2 and self._samples[1][0] <= now_s - longest_s:
            self._samples.popleft()

    def rates(self, now_s: float) -> tuple[Throughput, ...]:
        """Return the rates over each window that ends at ``now_s``."""
        return tuple(self._rate(now_s, window_s) for window_s in self._windows_s)

    def _rate(self, now_s: float, window_s: float) -> Throughput:
        if not self._samples:
            return Throughput(window_s, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
        start_s, first = self._samples[0]
        for at_s, totals in self._samples:
            if at_s > now_s - window_s:
                break
            start_s, first = at_s, totals
        last = self._samples[-1][1]
        elapsed_s = now_s - start_s
        if elapsed_s <= 0:
            return Throughput(window_s, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
        return Throughput(
            window_s=window_s,
            covered_s=min(elapsed_s, window_s),
            records_per_s=(last.records - first.records) / elapsed_s,
            arrived_per_s=(last.arrived - first.arrived) / elapsed_s,
            videos_per_s=(last.videos - first.videos) / elapsed_s,
            clips_per_s=(last.clips - first.clips) / elapsed_s,
            video_s_per_s=(last.video_s - first.video_s) / elapsed_s,
            bytes_per_s=(last.num_bytes - first.num_bytes) / elapsed_s,
        )


def time_to_catch_up_s(records: int, throughput: Throughput) -> float | None:
    """Return when the backlog is gone at these rates, in seconds; None when it never is, 0 when there is none."""
    if records == 0:
        return 0.0
    gain_per_s = throughput.records_per_s - throughput.arrived_per_s
    return records / gain_per_s if gain_per_s > 0 else None


@dataclass(frozen=True, slots=True)
class Situation:
    """What the verdict is made from.

    Attributes:
        desired: what the operators want.
        observed: what is true.
        lag: how far behind.
        throughput: rates over a window long enough to hold several commits.
        since_commit_s: seconds since the last commit; None when there was none.
        since_started_s: seconds since intake was allowed: the start, or the end of a pause.
        since_arrival_s: seconds since the newest row arrived; None for an empty source.
    """

    desired: DesiredState
    observed: ObservedState
    lag: Lag
    throughput: Throughput
    since_commit_s: float | None
    since_started_s: float
    since_arrival_s: float | None


def judge(situation: Situation, policy: LagPolicy) -> Verdict:
    """Return the one word for a situation."""
    if situation.observed in (ObservedState.FAILED, ObservedState.RESTARTING):
        return Verdict.FAILED
    if situation.desired is not DesiredState.RUNNING:
        return Verdict.PAUSED
    lag = situation.lag
    if lag.records == 0:
        quiet_s = situation.since_arrival_s
        return Verdict.IDLE if quiet_s is None or quiet_s >= policy.idle_after_s else Verdict.CURRENT
    # Work that has only just arrived cannot have been neglected for longer than it exists.
    waiting_s = min(lag.seconds, situation.since_started_s)
    if situation.since_commit_s is not None:
        waiting_s = min(waiting_s, situation.since_commit_s)
    if waiting_s >= policy.stalled_after_s:
        return Verdict.STALLED
    if lag.seconds < policy.current_within_s:
        return Verdict.CURRENT
    rates = situation.throughput
    return Verdict.CATCHING_UP if rates.records_per_s > rates.arrived_per_s else Verdict.FALLING_BEHIND
