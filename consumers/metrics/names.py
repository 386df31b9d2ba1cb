"""The closed list of metrics; those of the stages are in :mod:`consumers.metrics.stage_names`.

``docs/metrics.md`` is made from it, and rules and dashboards are checked against it.

Conventions: prefix ``sluice_``, base units (seconds, bytes), ``_total`` on counters, points in time as Unix timestamps
rather than "time since" (an exporter that hangs then shows a growing age, not a frozen one). Labels are bounded:
``consumer``, ``stage``, and closed sets of codes; never a video, a clip, a row or a URI.
"""

from __future__ import annotations

from typing import get_args

from consumers.metrics import buckets, stage_names
from consumers.metrics.types import (
    DESIRED_STATES,
    STATES,
    VERDICTS,
    CommitResult,
    Group,
    Metric,
    each,
)
from schemas.records import Stage, VideoStatus

# Lag and position: set by the lag prober, on its own clock, also while the consumer is paused or dead.
LAG_RECORDS = Metric(
    "sluice_lag_records",
    "gauge",
    "Rows of the raw table that are not committed yet, of all shards of the consumer: every process tells the same.",
    "Lag and position",
    unit="rows",
    starts_at_zero=False,
)
SHARD_LAG_RECORDS = Metric(
    "sluice_shard_lag_records",
    "gauge",
    "Of these rows those that are this process's shard's to do; absent before its first commit.",
    "Lag and position",
    ("consumer", "shard"),
    unit="rows",
    starts_at_zero=False,
)
LAG_SECONDS = Metric(
    "sluice_lag_seconds",
    "gauge",
    "Age of the oldest raw row that is not committed yet; 0 when there is none.",
    "Lag and position",
    unit="seconds",
    starts_at_zero=False,
)
LAG_BYTES = Metric(
    "sluice_lag_bytes",
    "gauge",
    "Bytes of source video that are not committed yet, where the raw table tells sizes.",
    "Lag and position",
    unit="bytes",
    starts_at_zero=False,
)
LAG_SNAPSHOTS = Metric(
    "sluice_lag_snapshots",
    "gauge",
    "Snapshots of the raw table that hold rows not committed yet.",
    "Lag and position",
    unit="snapshots",
    starts_at_zero=False,
)
RETENTION_HEADROOM_SECONDS = Metric(
    "sluice_retention_headroom_seconds",
    "gauge",
    "Time until the oldest snapshot that is still needed may expire by the raw table's own rules; only for sources "
    "that are read snapshot by snapshot, and while something is not committed.",
    "Lag and position",
    unit="seconds",
    starts_at_zero=False,
)
LAG_PROBE_TIMESTAMP = Metric(
    "sluice_lag_probe_timestamp_seconds",
    "gauge",
    "When the lag was last measured; 0 before the first time.",
    "Lag and position",
    unit="Unix time",
)
LAG_PROBE_FAILURES = Metric(
    "sluice_lag_probe_failures_total", "counter", "Lag measurements that failed.", "Lag and position", unit="probes"
)
POSITION_OFFSET = Metric(
    "sluice_position_offset",
    "gauge",
    "Offset below which every row is committed, by all shards (the low watermark).",
    "Lag and position",
    unit="offset",
    starts_at_zero=False,
)
SOURCE_HEAD_OFFSET = Metric(
    "sluice_source_head_offset",
    "gauge",
    "Offset that the next row of the raw table will get.",
    "Lag and position",
    unit="offset",
    starts_at_zero=False,
)

# State: set by the runtime.
CONSUMER_STATE = Metric(
    "sluice_consumer_state",
    "gauge",
    "1 for the state that the consumer is observed in, 0 for the others.",
    "State",
    ("consumer", "state"),
    values=each(STATES),
)
CONSUMER_DESIRED_STATE = Metric(
    "sluice_consumer_desired_state",
    "gauge",
    "1 for the state that was asked for, 0 for the others.",
    "State",
    ("consumer", "state"),
    values=each(DESIRED_STATES),
)
CONSUMER_VERDICT = Metric(
    "sluice_consumer_verdict",
    "gauge",
    "1 for the verdict on the consumer, 0 for the others.",
    "State",
    ("consumer", "verdict"),
    values=each(VERDICTS),
)
CONSUMER_STATE_TIMESTAMP = Metric(
    "sluice_consumer_state_timestamp_seconds",
    "gauge",
    "When the consumer entered the state that it is in; 0 before the first time.",
    "State",
    unit="Unix time",
)
HEARTBEAT_TIMESTAMP = Metric(
    "sluice_heartbeat_timestamp_seconds",
    "gauge",
    "When the consumer loop last went round; 0 before the first time.",
    "State",
    unit="Unix time",
)
BREAKER_OPEN = Metric(
    "sluice_breaker_open",
    "gauge",
    "1 while intake is held because failures look like our side's fault, else 0.",
    "State",
)
CONSUMER_RESTARTS = Metric(
    "sluice_consumer_restarts_total",
    "counter",
    "Times that the consumer was started again after a failure.",
    "State",
    unit="restarts",
)

# Volume in and out.
VIDEOS_ADMITTED = Metric(
    "sluice_videos_admitted_total", "counter", "Videos that entered the pipeline.", "Volume", unit="videos"
)
VIDEOS_FINISHED = Metric(
    "sluice_videos_finished_total",
    "counter",
    "Videos with a final outcome: curated (at least one clip kept), rejected, or failed.",
    "Volume",
    ("consumer", "status"),
    unit="videos",
    values=each(tuple(VideoStatus)),
)
VIDEOS_COMMITTED = Metric(
    "sluice_videos_committed_total",
    "counter",
    "Videos whose outcome is durable in the ledger.",
    "Volume",
    unit="videos",
)
VIDEO_SECONDS = Metric(
    "sluice_video_seconds_total", "counter", "Seconds of source video processed.", "Volume", unit="seconds"
)
SOURCE_READ_BYTES = Metric(
    "sluice_source_read_bytes_total",
    "counter",
    "Bytes fetched from the object store for finished videos.",
    "Volume",
    unit="bytes",
)
CLIPS_COMMITTED = Metric(
    "sluice_clips_committed_total", "counter", "Clips durable in the curated table.", "Volume", unit="clips"
)
CLIP_SECONDS_COMMITTED = Metric(
    "sluice_clip_seconds_committed_total", "counter", "Seconds of video in committed clips.", "Volume", unit="seconds"
)
CLIP_BYTES_COMMITTED = Metric(
    "sluice_clip_bytes_committed_total", "counter", "Bytes of committed clips and thumbnails.", "Volume", unit="bytes"
)
VIDEOS_IN_FLIGHT = Metric(
    "sluice_videos_in_flight",
    "gauge",
    "Videos admitted and not finished, those that wait for a retry included.",
    "Volume",
    unit="videos",
)
IN_FLIGHT_BYTES = Metric(
    "sluice_in_flight_bytes",
    "gauge",
    "Bytes of source videos in flight, plus the clips that wait for their commit.",
    "Volume",
    unit="bytes",
)
VIDEOS_UNCOMMITTED = Metric(
    "sluice_videos_uncommitted", "gauge", "Videos finished and waiting for their commit.", "Volume", unit="videos"
)
POOL_CAPACITY = Metric(
    "sluice_pool_capacity_videos", "gauge", "Videos that keep every worker of the pool busy.", "Volume", unit="videos"
)
END_TO_END_SECONDS = Metric(
    "sluice_end_to_end_latency_seconds",
    "histogram",
    "From the commit of the raw row to the commit of its outcome.",
    "Volume",
    unit="seconds",
    buckets=buckets.LATENCY_S,
)

# Commits.
COMMITS = Metric(
    "sluice_commits_total",
    "counter",
    "Commits by result: ok, empty, conflict (durable after a lost race), fenced, failed (the store did not answer).",
    "Commits",
    ("consumer", "result"),
    unit="commits",
    values=each(tuple(CommitResult)),
)
COMMIT_DURATION_SECONDS = Metric(
    "sluice_commit_duration_seconds",
    "histogram",
    "Wall time of one commit of ledger and curated table, whatever its result.",
    "Commits",
    unit="seconds",
    buckets=buckets.COMMIT_S,
)
COMMIT_ATTEMPTS = Metric(
    "sluice_commit_attempts",
    "histogram",
    "Publish attempts of one durable commit on both tables together; 2 without a conflict.",
    "Commits",
    unit="attempts",
    buckets=buckets.ATTEMPTS,
)
LAST_COMMIT_TIMESTAMP = Metric(
    "sluice_last_commit_timestamp_seconds",
    "gauge",
    "When the last commit became durable; 0 before the first one of this process.",
    "Commits",
    unit="Unix time",
)
MAINTENANCE_TIMESTAMP = Metric(
    "sluice_maintenance_timestamp_seconds",
    "gauge",
    "When a round of maintenance of the tables last ended well; the start of the service before the first. Absent "
    "where another engine maintains them.",
    "Commits",
    unit="Unix time",
    starts_at_zero=False,
)
MAINTENANCE_FAILURES = Metric(
    "sluice_maintenance_failures_total",
    "counter",
    "Rounds of maintenance that failed; the next one tries again.",
    "Commits",
    unit="rounds",
    exploration_only=True,
)
SNAPSHOTS_EXPIRED = Metric(
    "sluice_snapshots_expired_total",
    "counter",
    "Snapshots of ledger, curated and control table that maintenance has expired.",
    "Commits",
    unit="snapshots",
    exploration_only=True,
)
MAINTENANCE_DELETED_BYTES = Metric(
    "sluice_maintenance_deleted_bytes_total",
    "counter",
    "Bytes of files that maintenance has deleted: what expired snapshots alone used, and orphans.",
    "Commits",
    unit="bytes",
    exploration_only=True,
)
TAKEDOWNS_OVERDUE = Metric(
    "sluice_takedowns_overdue",
    "gauge",
    "Takedowns whose bytes are still on the store past their deadline, as of the last round of maintenance here.",
    "Commits",
    unit="takedowns",
)
COMMIT_SEQUENCE = Metric(
    "sluice_commit_sequence",
    "gauge",
    "Sequence number of the last durable commit, as in the tables' commit_sequence columns.",
    "Commits",
    exploration_only=True,
)

# Failures.
RETRIES = Metric(
    "sluice_retries_total",
    "counter",
    "Calls to the pool that failed for a passing reason and are made again.",
    "Failures",
    unit="calls",
)
DEAD_LETTERS = Metric(
    "sluice_dead_letters_total",
    "counter",
    "Videos that failed for good, by the stage where and the class of the error.",
    "Failures",
    ("consumer", "stage", "reason"),
    unit="videos",
    # Which stage meets which error is open; the alert adds them up, and 0 needs one series.
    values=((Stage.POOL.value, "poison_video"),),
)
DEAD_LETTER_WRITE_FAILURES = Metric(
    "sluice_dead_letter_write_failures_total",
    "counter",
    "Commits that failed while they held dead letters.",
    "Failures",
    unit="commits",
)
CORRUPT_FRAMES = Metric(
    "sluice_corrupt_frames_total",
    "counter",
    "Frames dropped because they could not be decoded cleanly.",
    "Failures",
    unit="frames",
)

# Process.
BUILD_INFO = Metric(
    "sluice_build_info",
    "gauge",
    "1; the labels say which version runs with which profile.",
    "Process",
    ("consumer", "version", "profile", "fingerprint"),
    starts_at_zero=False,
)

_GROUPS: tuple[str, ...] = get_args(Group)
METRICS: tuple[Metric, ...] = tuple(
    sorted(
        (value for value in (*globals().values(), *vars(stage_names).values()) if isinstance(value, Metric)),
        key=lambda metric: _GROUPS.index(metric.group),
    )
)
"""Every metric, in the order of the reference."""

FOREIGN = {
    "up": "Prometheus: whether the last scrape of a target succeeded.",
    "process_cpu_seconds_total": "prometheus_client: CPU time of the service process.",
    "process_resident_memory_bytes": "prometheus_client: resident memory of the service process.",
    "process_start_time_seconds": "prometheus_client: when the service process started, as Unix time.",
    "process_open_fds": "prometheus_client: open file descriptors of the service process.",
}
"""Metrics of others that rules and dashboards may use; ``process_*`` come from the service's own endpoint."""
