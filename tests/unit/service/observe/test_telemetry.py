import shutil
import subprocess
import urllib.request
from dataclasses import replace
from datetime import timedelta

import pytest
from prometheus_client import generate_latest

from consumers.errors import FencedError, StoreUnavailableError
from consumers.loop.reports import Phase, ProcessorStatus
from consumers.metrics.names import METRICS
from consumers.pool_report import PoolReport, StageReplicas
from consumers.ports import BreakerState, CommitBatch, CommitReceipt
from consumers.testing import FakeClock, failed_outcome, kept_outcome, make_video
from schemas.positions import Position
from schemas.records import (
    Failure,
    FailureKind,
    MediaInfo,
    ModelCall,
    ProcessedVideo,
    Stage,
    StageTiming,
    VideoOutcome,
)
from service.observe.telemetry import ConsumerTelemetry, Telemetry, TimedSink

MEDIA = MediaInfo("mp4", "h264", 1280, 720, 25.0, 20.0, 500, 3, 0, True)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def telemetry(clock: FakeClock) -> Telemetry:
    return Telemetry(clock)


@pytest.fixture
def consumer(telemetry: Telemetry) -> ConsumerTelemetry:
    return telemetry.consumer("films")


def value(telemetry: Telemetry, name: str, **labels: str) -> float | None:
    return telemetry.registry.get_sample_value(name, {"consumer": "films", **labels})


def processed(outcome: VideoOutcome, row_id: int = 1) -> ProcessedVideo:
    video = make_video(row_id)
    return ProcessedVideo(video, outcome, attempts=1, processed_at=video.committed_at)


def failed(error_class: str = "not_a_video") -> ProcessedVideo:
    return processed(VideoOutcome(failure=Failure(FailureKind.PERMANENT, Stage.OPEN, error_class, "no such box")))


def test_new_consumer_has_every_counter_at_zero_and_no_lag_yet(
    telemetry: Telemetry, consumer: ConsumerTelemetry
) -> None:
    assert value(telemetry, "sluice_videos_finished_total", status="failed") == 0
    assert value(telemetry, "sluice_commits_total", result="fenced") == 0
    assert value(telemetry, "sluice_clips_rejected_total", stage="motion_filter", reason="motion_below_min") == 0
    assert value(telemetry, "sluice_stage_duration_seconds_count", stage="decode") == 0
    assert value(telemetry, "sluice_lag_records") is None, "an unknown lag is not 0"


def test_exposition_holds_only_listed_series_with_their_types_and_helps(
    telemetry: Telemetry, consumer: ConsumerTelemetry
) -> None:
    consumer.lag_probed(num_records=1, age_s=2, position_offset=3, head_offset=4, shard="0/1")
    consumer.build("1.0", "default", "00ff")
    families = {family.name: family for family in telemetry.registry.collect() if family.name.startswith("sluice_")}
    listed = {metric.name.removesuffix("_total"): metric for metric in METRICS}
    assert set(families) == set(listed)
    for name, family in families.items():
        assert (family.type, family.documentation) == (listed[name].kind, listed[name].help)
        assert not [sample.name for sample in family.samples if sample.name.endswith("_created")]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (.ci/setup-ops installs it)")
def test_exposition_passes_promtool(telemetry: Telemetry, consumer: ConsumerTelemetry) -> None:
    consumer.lag_probed(num_records=1, age_s=2, position_offset=3, head_offset=4, num_bytes=5, num_snapshots=6)
    consumer.build("1.0", "default", "00ff")
    check = subprocess.run(
        ["promtool", "check", "metrics"], input=generate_latest(telemetry.registry), capture_output=True, check=False
    )
    assert (check.returncode, check.stdout + check.stderr) == (0, b"")


def test_finished_video_is_counted_with_rejections_volume_and_stage_cost(
    telemetry: Telemetry, consumer: ConsumerTelemetry
) -> None:
    kept = kept_outcome(make_video(1), num_clips=3)
    clips = (
        kept.clips[0],
        *(replace(clip, rejected_by=Stage.MOTION, reason="motion_below_min", media=None) for clip in kept.clips[1:]),
    )
    timings = (StageTiming(Stage.DECODE, 1.5, 1.0, 1, 1), StageTiming(Stage.MOTION, 0.2, 0.1, 3, 1))
    consumer.admitted(make_video(1))
    consumer.finished(processed(VideoOutcome(media=MEDIA, clips=clips, timings=timings, bytes_read=1234)))
    assert value(telemetry, "sluice_videos_admitted_total") == 1
    assert value(telemetry, "sluice_videos_finished_total", status="curated") == 1
    assert value(telemetry, "sluice_clips_rejected_total", stage="motion_filter", reason="motion_below_min") == 2
    assert value(telemetry, "sluice_video_seconds_total") == 20
    assert value(telemetry, "sluice_source_read_bytes_total") == 1234
    assert value(telemetry, "sluice_corrupt_frames_total") == 3
    assert value(telemetry, "sluice_decoded_videos_total", decoder="cpu") == 1
    assert value(telemetry, "sluice_decoded_videos_total", decoder="nvdec") == 0
    assert value(telemetry, "sluice_stage_duration_seconds_sum", stage="decode") == 1.5
    assert value(telemetry, "sluice_stage_cpu_seconds_total", stage="motion_filter") == pytest.approx(0.1)
    assert value(telemetry, "sluice_stage_items_in_total", stage="motion_filter") == 3
    assert value(telemetry, "sluice_stage_items_out_total", stage="motion_filter") == 1
    assert value(telemetry, "sluice_decode_cost_ratio_sum") == pytest.approx(1.0 / 20)


def test_failed_video_is_a_dead_letter_with_stage_and_class(telemetry: Telemetry, consumer: ConsumerTelemetry) -> None:
    consumer.retried(make_video(1), 1, "worker ended", 2.0)
    consumer.finished(failed("truncated"))
    assert value(telemetry, "sluice_retries_total") == 1
    assert value(telemetry, "sluice_dead_letters_total", stage="open", reason="truncated") == 1
    assert value(telemetry, "sluice_videos_finished_total", status="failed") == 1


@pytest.mark.parametrize(("num_videos", "num_attempts", "result"), [(1, 2, "ok"), (0, 2, "empty"), (1, 5, "conflict")])
def test_commit_is_counted_once_by_its_result(
    telemetry: Telemetry, consumer: ConsumerTelemetry, num_videos: int, num_attempts: int, result: str
) -> None:
    videos = tuple(processed(kept_outcome(make_video(row_id)), row_id) for row_id in range(num_videos))
    consumer.committed(CommitBatch(videos, Position(9)), CommitReceipt(7, num_videos, num_videos, num_attempts))
    counts = {
        name: value(telemetry, "sluice_commits_total", result=name)
        for name in ("ok", "empty", "conflict", "fenced", "failed")
    }
    assert counts == {name: float(name == result) for name in counts}
    assert value(telemetry, "sluice_commit_attempts_sum") == num_attempts


def test_commit_publishes_volume_latency_and_time(
    telemetry: Telemetry, consumer: ConsumerTelemetry, clock: FakeClock
) -> None:
    clock.advance(40)
    video = processed(kept_outcome(make_video(1), num_clips=2, clip_bytes=50))
    consumer.committed(CommitBatch((video,), Position(2)), CommitReceipt(3, 1, 2, 2))
    assert value(telemetry, "sluice_videos_committed_total") == 1
    assert value(telemetry, "sluice_clips_committed_total") == 2
    assert value(telemetry, "sluice_clip_bytes_committed_total") == video.outcome.media_bytes
    assert value(telemetry, "sluice_end_to_end_latency_seconds_sum") == 40
    assert value(telemetry, "sluice_last_commit_timestamp_seconds") == clock.now().timestamp()
    assert value(telemetry, "sluice_commit_sequence") == 3


class _FailingSink:
    def __init__(self, clock: FakeClock, error: Exception) -> None:
        self._clock = clock
        self._error = error

    def open(self):
        raise self._error

    def commit(self, batch: CommitBatch) -> CommitReceipt:
        self._clock.advance(3)
        raise self._error

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("error", "result"), [(StoreUnavailableError("no answer"), "failed"), (FencedError("newer copy"), "fenced")]
)
def test_refused_commit_is_counted_timed_and_still_raised(
    telemetry: Telemetry, consumer: ConsumerTelemetry, clock: FakeClock, error: Exception, result: str
) -> None:
    sink = TimedSink(_FailingSink(clock, error), consumer, clock)
    with pytest.raises(type(error)):
        sink.commit(CommitBatch((failed(),), Position(1)))
    assert value(telemetry, "sluice_commits_total", result=result) == 1
    assert value(telemetry, "sluice_commit_duration_seconds_sum") == 3
    assert value(telemetry, "sluice_dead_letter_write_failures_total") == 1


def test_state_change_moves_the_one_and_stamps_the_time(
    telemetry: Telemetry, consumer: ConsumerTelemetry, clock: FakeClock
) -> None:
    consumer.state_entered("running")
    clock.advance(60)
    consumer.state_entered("paused")
    assert value(telemetry, "sluice_consumer_state", state="running") == 0
    assert value(telemetry, "sluice_consumer_state", state="paused") == 1
    assert value(telemetry, "sluice_consumer_state_timestamp_seconds") == clock.now().timestamp()
    with pytest.raises(ValueError, match="knows no 'sleeping'"):
        consumer.state_entered("sleeping")


def test_lag_that_becomes_unknown_loses_its_series(telemetry: Telemetry, consumer: ConsumerTelemetry) -> None:
    known = {"num_records": 5, "age_s": 12.5, "position_offset": 10, "head_offset": 15}
    consumer.lag_probed(**known, num_bytes=100, num_snapshots=2, headroom_s=3600.0)
    assert value(telemetry, "sluice_retention_headroom_seconds") == 3600
    consumer.lag_probed(**known)
    assert value(telemetry, "sluice_lag_bytes") is None
    assert value(telemetry, "sluice_retention_headroom_seconds") is None
    assert value(telemetry, "sluice_lag_seconds") == 12.5


def test_video_that_does_not_come_to_a_stage_is_no_observation_of_its_duration(
    telemetry: Telemetry, consumer: ConsumerTelemetry
) -> None:
    timings = (StageTiming(Stage.DECODE, 0.5, 0.4, 1, 0), StageTiming(Stage.CAPTION, 0.0, 0.0, 0, 0))
    consumer.finished(processed(replace(failed_outcome(), timings=timings)))
    count = "sluice_stage_duration_seconds_count"
    assert value(telemetry, count, stage="decode") == 1
    assert value(telemetry, count, stage="caption") == 0


def test_each_process_tells_the_lag_of_the_consumer_and_that_of_its_own_shard(
    telemetry: Telemetry, consumer: ConsumerTelemetry
) -> None:
    consumer.lag_probed(num_records=9, age_s=1, position_offset=0, head_offset=9)
    assert value(telemetry, "sluice_shard_lag_records", shard="1/3") is None
    consumer.lag_probed(num_records=9, age_s=1, position_offset=0, head_offset=9, shard="1/3", num_records_of_shard=4)
    assert value(telemetry, "sluice_lag_records") == 9
    assert value(telemetry, "sluice_shard_lag_records", shard="1/3") == 4


def test_failed_probe_keeps_the_old_lag_with_its_old_time(
    telemetry: Telemetry, consumer: ConsumerTelemetry, clock: FakeClock
) -> None:
    consumer.lag_probed(num_records=5, age_s=1, position_offset=0, head_offset=5)
    measured_at = clock.now() + timedelta()
    clock.advance(90)
    consumer.lag_probe_failed()
    assert value(telemetry, "sluice_lag_records") == 5
    assert value(telemetry, "sluice_lag_probe_timestamp_seconds") == measured_at.timestamp()
    assert value(telemetry, "sluice_lag_probe_failures_total") == 1


def test_batch_of_a_model_stage_records_size_waits_and_gpu_time(
    telemetry: Telemetry, consumer: ConsumerTelemetry
) -> None:
    calls = tuple(ModelCall(wait_s, 0.05 / 3, 3, on_gpu=True) for wait_s in (0.1, 0.2, 0.3))
    consumer.finished(processed(VideoOutcome(timings=(StageTiming(Stage.NSFW, 0.4, 0.1, 3, 3, calls),))))
    assert value(telemetry, "sluice_stage_batch_size_sum", stage="nsfw_filter") == 9
    assert value(telemetry, "sluice_stage_queue_wait_seconds_count", stage="nsfw_filter") == 3
    assert value(telemetry, "sluice_gpu_busy_seconds_total", stage="nsfw_filter") == 0.05


def test_two_consumers_share_a_registry_and_not_their_figures(telemetry: Telemetry) -> None:
    first, second = telemetry.consumer("films"), telemetry.consumer("shorts")
    first.breaker(BreakerState.PROBING, "the store is away")
    second.restarted()
    assert value(telemetry, "sluice_breaker_open") == 1
    assert value(telemetry, "sluice_consumer_restarts_total") == 0


def test_scrape_over_http_shows_what_was_published(telemetry: Telemetry, consumer: ConsumerTelemetry) -> None:
    consumer.status(ProcessorStatus(Phase.RUNNING, num_in_flight=4, in_flight_bytes=77))
    consumer.pool_capacity(8)
    consumer.pool(PoolReport(waiting={Stage.CAPTION: 6}, replicas={Stage.CAPTION: StageReplicas(3, 0.6)}))
    server = telemetry.serve(0)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
    finally:
        server.close()
    assert 'sluice_videos_in_flight{consumer="films"} 4.0' in text
    assert 'sluice_pool_capacity_videos{consumer="films"} 8.0' in text
    assert 'sluice_stage_queue_depth{consumer="films",stage="caption"} 6.0' in text
    assert 'sluice_gpu_replicas{consumer="films",stage="caption"} 3.0' in text
    assert "process_resident_memory_bytes" in text
