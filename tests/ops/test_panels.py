"""Every panel on a real Prometheus that scrapes the real sink, fed with the life of two consumers."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from consumers.clock import SystemClock
from consumers.loop.reports import Phase, ProcessorStatus
from consumers.pool_report import PoolReport, StageReplicas
from consumers.ports import CommitBatch, CommitReceipt
from consumers.testing import kept_outcome, make_video
from schemas.positions import Position
from schemas.records import (
    ClipCheck,
    Failure,
    FailureKind,
    MediaInfo,
    ModelCall,
    ProcessedVideo,
    Stage,
    StageTiming,
    VideoOutcome,
)
from service.observe.telemetry import ConsumerTelemetry, Telemetry
from tests.ops.support import DASHBOARDS, dashboard, eventually, expressions, needs

pytestmark = [needs("prometheus", "yaml"), pytest.mark.timeout(240)]

_MEDIA = MediaInfo("mp4", "h264", 1280, 720, 25.0, 20.0, 500, 1, 0, True)
_CALLS = (ModelCall(0.1, 0.3, 2, on_gpu=True), ModelCall(0.2, 0.3, 2, on_gpu=True))
_TIMINGS = tuple(StageTiming(stage, 0.5, 0.4, 2, 1, _CALLS) for stage in Stage)
_GPU_STAGES = (Stage.NSFW, Stage.AESTHETIC, Stage.CAPTION)


def live(consumer: ConsumerTelemetry, tick: int) -> None:
    """One second of a busy consumer: catching up, with rejections, a dead letter, a conflict and a retry."""
    now = SystemClock().now()
    video = replace(make_video(tick), committed_at=now)
    kept = kept_outcome(video, num_clips=2)
    rejected = replace(kept.clips[1], rejected_by=Stage.MOTION, reason="motion_below_min", media=None)
    failure = Failure(FailureKind.PERMANENT, Stage.OPEN, "truncated", "ends early")
    checks = {ClipCheck.PASSED: 1, ClipCheck.ENCODED_AGAIN: 1}
    outcomes = (
        VideoOutcome(_MEDIA, (kept.clips[0], rejected), None, _TIMINGS, 1000, clip_checks=checks),
        VideoOutcome(failure=failure),
    )
    videos = tuple(ProcessedVideo(video, outcome, 1, now) for outcome in outcomes)
    for processed in videos:
        consumer.admitted(processed.video)
        consumer.finished(processed)
    consumer.retried(video, 1, "a worker ended", 1.0)
    consumer.commit_timed(0.2)
    consumer.committed(CommitBatch(videos, Position(tick)), CommitReceipt(tick, 2, 1, 2 + tick % 2))
    consumer.commit_refused(CommitBatch(videos, Position(tick)), fenced=False)
    for shard in ("0/2", "1/2"):
        consumer.lag_probed(
            num_records=1000 - tick,
            age_s=60.0,
            position_offset=2 * tick,
            head_offset=1000 + tick,
            num_bytes=5000,
            num_snapshots=3,
            headroom_s=7200.0,
            shard=shard,
            num_records_of_shard=(1000 - tick) // 2,
        )
    consumer.lag_probe_failed()
    consumer.beat()
    consumer.status(ProcessorStatus(Phase.RUNNING, num_in_flight=4, in_flight_bytes=99, num_uncommitted=2))
    waiting, workers = dict.fromkeys(_GPU_STAGES, 5), dict.fromkeys(_GPU_STAGES, StageReplicas(1, 0.5))
    consumer.pool(PoolReport(waiting=waiting, replicas=workers))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    from tests.ops.prometheus import prometheus

    telemetry = Telemetry(SystemClock())
    consumers = [telemetry.consumer(name) for name in ("films", "shorts")]
    for consumer in consumers:
        consumer.build("0.1.0", "default", "00ff")
        consumer.pool_capacity(8)
        consumer.restarted()
    consumers[0].state_entered("running")
    consumers[0].desired_state("running")
    consumers[0].verdict("catching_up")
    consumers[1].state_entered("failed")
    consumers[1].desired_state("running")
    consumers[1].verdict("failed")
    metrics = telemetry.serve(0)
    ended = threading.Event()

    def feed() -> None:
        tick = 0
        while not ended.wait(0.5):
            tick += 1
            for consumer in consumers:
                live(consumer, tick)

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        with prometheus(tmp_path_factory.mktemp("prometheus"), metrics.port, {"namespace": "sluice"}) as running:
            yield running
    finally:
        ended.set()
        feeder.join()
        metrics.close()


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_panel_of_a_dashboard_shows_data(server, path: Path) -> None:
    # One consumer is running and none is paused, so that annotation alone has nothing to show.
    pending = {(where, expr) for where, expr in expressions(dashboard(path)) if where != "Pauses"}

    def all_have_data() -> bool:
        for item in list(pending):
            if server.query(item[1]):
                pending.discard(item)
        return not pending

    assert eventually(all_have_data), f"no data: {sorted(pending)}"


def test_state_metric_tells_a_failure_from_a_run(server) -> None:
    assert eventually(lambda: bool(server.query("sluice_consumer_state == 1")))
    states = {
        sample["metric"]["consumer"]: sample["metric"]["state"] for sample in server.query("sluice_consumer_state == 1")
    }
    assert states == {"films": "running", "shorts": "failed"}


def test_autoscaler_sees_the_lag_of_both(server) -> None:
    assert eventually(lambda: len(server.query("sluice:lag_records:unpaused")) == 2)
