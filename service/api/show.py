"""From what the host knows to what the API says."""

from __future__ import annotations

from datetime import datetime

from pydantic import TypeAdapter

from consumers.lag import Throughput, time_to_catch_up_s
from consumers.ports import CommitMark
from schemas.api import (
    ConsumerDetail,
    ConsumerSummary,
    DesiredOut,
    ErrorOut,
    InFlightOut,
    LagOut,
    LagPointOut,
    LagReport,
    PositionOut,
    RangeOut,
    ShardLagOut,
    StageOut,
    StagesReport,
    StateOut,
    ThroughputOut,
    ThroughputReport,
)
from schemas.control import Desired
from schemas.positions import Position
from service.host.hosting import Host, HostedConsumer
from service.observe.prober import Probe

_MAX_RANGES = 100
# An hour of points, converted at once: one by one they took most of the time of an answer.
_POINTS = TypeAdapter(list[LagPointOut])
_MAX_IN_FLIGHT = 100


def desired(wish: Desired, now: datetime) -> DesiredOut:
    """Return what was asked for."""
    return DesiredOut(
        state=wish.effective(now).value, actor=wish.actor, reason=wish.reason, at=wish.at, until=wish.until
    )


def state(host: Host, consumer: HostedConsumer, wish: Desired) -> StateOut:
    """Return what is desired and observed."""
    return StateOut(
        consumer=consumer.consumer_id,
        desired=desired(wish, host.clock.now()),
        observed=consumer.supervisor.status().observed.value,
    )


def position(committed: Position, sequence: int, epoch: int) -> PositionOut:
    """Return a position."""
    return PositionOut(
        watermark=committed.watermark,
        done=[RangeOut(start=r.start, end=r.end) for r in committed.done[:_MAX_RANGES]],
        num_ranges=len(committed.done),
        sequence=sequence,
        epoch=epoch,
    )


def lag(probe: Probe | None) -> LagOut | None:
    """Return the lag as it was measured."""
    if probe is None:
        return None
    return LagOut(
        measured_at=probe.at,
        records=probe.lag.records,
        bytes=probe.lag.num_bytes,
        snapshots=probe.lag.snapshots,
        seconds=probe.lag.seconds,
        is_exact=probe.lag.is_exact,
        retention_headroom_s=probe.lag.headroom_s,
        head_offset=probe.head.next_offset,
        head_snapshot_id=probe.head.snapshot_id,
    )


def _of_shard(probe: Probe, commit: CommitMark) -> ShardLagOut:
    return ShardLagOut(
        shard=str(commit.share.shard),
        records=probe.num_waiting(commit),
        watermark=commit.position.watermark,
        committed_at=commit.committed_at,
    )


def throughput(rates: Throughput) -> ThroughputOut:
    """Return the rates over one window."""
    return ThroughputOut(
        window_s=rates.window_s,
        covered_s=rates.covered_s,
        records_per_s=rates.records_per_s,
        arrived_per_s=rates.arrived_per_s,
        ratio_to_arrival=rates.ratio_to_arrival,
        videos_per_s=rates.videos_per_s,
        clips_per_s=rates.clips_per_s,
        video_s_per_s=rates.video_s_per_s,
        bytes_per_s=rates.bytes_per_s,
    )


def catch_up_s(probe: Probe | None) -> float | None:
    """Return when the backlog is gone at the rates of the last five minutes."""
    return None if probe is None else time_to_catch_up_s(probe.lag.records, probe.throughput[1])


def lag_report(host: Host, consumer: HostedConsumer) -> LagReport:
    """Return the lag now and over the last hour."""
    probe, verdict = consumer.prober.last, host.view(consumer.consumer_id).verdict
    return LagReport(
        verdict=None if verdict is None else verdict.value,
        lag=lag(probe),
        shards=[] if probe is None or len(probe.commits) < 2 else [_of_shard(probe, each) for each in probe.commits],
        time_to_catch_up_s=catch_up_s(probe),
        error=consumer.prober.last_error,
        history=_POINTS.validate_python(consumer.prober.history(), from_attributes=True),
    )


def throughput_report(consumer: HostedConsumer) -> ThroughputReport:
    """Return the rates over every window."""
    probe = consumer.prober.last
    return ThroughputReport(
        windows=[] if probe is None else [throughput(rates) for rates in probe.throughput],
        time_to_catch_up_s=catch_up_s(probe),
    )


def stages_report(consumer: HostedConsumer) -> StagesReport:
    """Return the stages with their counts."""
    bottleneck = consumer.activity.bottleneck()
    return StagesReport(
        stages=[StageOut.model_validate(stage) for stage in consumer.activity.stages()],
        bottleneck=None if bottleneck is None else bottleneck[0].value,
        num_in_flight=len(consumer.activity.in_flight()),
    )


def summary(host: Host, consumer: HostedConsumer) -> ConsumerSummary:
    """Return a consumer in a line."""
    view, probe = host.view(consumer.consumer_id), consumer.prober.last
    return ConsumerSummary(
        consumer=consumer.consumer_id,
        verdict=None if view.verdict is None else view.verdict.value,
        observed=view.status.observed.value,
        desired=desired(view.desired, host.clock.now()),
        lag_records=None if probe is None else probe.lag.records,
        lag_seconds=None if probe is None else probe.lag.seconds,
        records_per_s=None if probe is None else probe.throughput[0].records_per_s,
    )


def detail(host: Host, consumer: HostedConsumer) -> ConsumerDetail:
    """Return everything about a consumer."""
    status, probe = consumer.supervisor.status(), consumer.prober.last
    in_flight, bottleneck = consumer.activity.in_flight(), consumer.activity.bottleneck()
    last = None if probe is None else probe.last_commit
    return ConsumerDetail(
        **summary(host, consumer).model_dump(),
        position=None if last is None else position(last.position, last.sequence, last.epoch),
        lag=lag(probe),
        throughput=[] if probe is None else [throughput(rates) for rates in probe.throughput],
        time_to_catch_up_s=catch_up_s(probe),
        in_flight=[InFlightOut.model_validate(video) for video in in_flight[:_MAX_IN_FLIGHT]],
        num_in_flight=len(in_flight),
        num_uncommitted=0 if status.processor is None else status.processor.num_uncommitted,
        num_replays=0 if status.processor is None else status.processor.num_replays,
        bottleneck=None if bottleneck is None else bottleneck[0].value,
        bottleneck_share=None if bottleneck is None else bottleneck[1],
        store_error=None if status.processor is None else status.processor.store_error,
        breaker_reason=None if status.processor is None else status.processor.breaker_reason,
        last_error=None if status.last_error is None else ErrorOut.model_validate(status.last_error),
        num_restarts=status.num_restarts,
        restart_at=status.restart_at,
        is_superseded=status.is_superseded,
    )
