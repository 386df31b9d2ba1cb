"""The Prometheus sink: every series of ``consumers/metrics/names.py``, in a registry of its own.

:class:`ConsumerTelemetry` is the :class:`~consumers.ports.Observer` of one consumer; beside it stand setters for what
the runtime, the prober and the pool know. All of them are thread-safe, quick, and never raise for a figure that makes
no sense (a negative count is dropped).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import cast

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    start_http_server,
)

from consumers.clock import Clock
from consumers.errors import FencedError, SluiceError
from consumers.loop.reports import ProcessorStatus
from consumers.metrics import names, stage_names
from consumers.metrics.names import METRICS
from consumers.metrics.types import DESIRED_STATES, MODEL_STAGES, STATES, VERDICTS, CommitResult, Metric
from consumers.pool_report import PoolReport
from consumers.ports import BreakerState, CommitBatch, CommitReceipt, Recovered, Sink
from schemas.records import ModelCall, ProcessedVideo, RawVideo, Stage, VideoStatus

_Series = Counter | Gauge | Histogram

# Publish attempts of a commit that met no conflict: one on the ledger and one on the curated table.
_ATTEMPTS_WITHOUT_CONFLICT = 2


class Telemetry:
    """All metrics of one process.

    Args:
        clock: time, for the timestamps and latencies that are exported.
    """

    def __init__(self, clock: Clock) -> None:
        # Otherwise every counter and histogram has a second, undocumented `_created` series.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=self.registry)
        self._clock = clock
        self._metrics = {metric.name: _build(metric, self.registry) for metric in METRICS}

    def consumer(self, consumer_id: str) -> ConsumerTelemetry:
        """Return the sink of one consumer; its series exist from now on, at 0 where 0 is true."""
        for metric in METRICS:
            if metric.starts_at_zero:
                for values in metric.values:
                    self._metrics[metric.name].labels(consumer_id, *values)
        return ConsumerTelemetry(self._metrics, consumer_id, self._clock)

    def serve(self, port: int, host: str = "127.0.0.1") -> MetricsServer:
        """Answer scrapes on a port of its own, in a thread; 0 takes any free port.

        Raises:
            OSError: the port is taken, or the address is not one of this machine.
        """
        return MetricsServer(port, host, self.registry)


class MetricsServer:
    """The HTTP endpoint that Prometheus scrapes. See :meth:`Telemetry.serve`."""

    def __init__(self, port: int, host: str, registry: CollectorRegistry) -> None:
        self._server, self._thread = start_http_server(port, addr=host, registry=registry)

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._server.server_port)

    def close(self) -> None:
        """Stop answering and free the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _build(metric: Metric, registry: CollectorRegistry) -> _Series:
    if metric.kind == "counter":
        return Counter(metric.name, metric.help, metric.labels, registry=registry)
    if metric.kind == "gauge":
        return Gauge(metric.name, metric.help, metric.labels, registry=registry)
    return Histogram(metric.name, metric.help, metric.labels, registry=registry, buckets=metric.buckets)


class ConsumerTelemetry:
    """The metrics of one consumer. Made by :meth:`Telemetry.consumer`."""

    def __init__(self, metrics: dict[str, _Series], consumer_id: str, clock: Clock) -> None:
        self._metrics = metrics
        self._consumer = consumer_id
        self._clock = clock

    # The Observer port.

    def admitted(self, video: RawVideo) -> None:
        """Count a video in."""
        self._count(names.VIDEOS_ADMITTED)

    def retried(self, video: RawVideo, attempt: int, reason: str, delay_s: float) -> None:
        """Count a retry. The reason is a sentence, and so no label."""
        self._count(names.RETRIES)

    def finished(self, video: ProcessedVideo) -> None:
        """Count outcome, rejections, volume and the cost of every stage."""
        outcome = video.outcome
        self._count(names.VIDEOS_FINISHED, outcome.status)
        self._count(names.SOURCE_READ_BYTES, amount=outcome.bytes_read)
        if outcome.failure is not None:
            self._count(names.DEAD_LETTERS, outcome.failure.stage, outcome.failure.error_class)
        for clip in outcome.clips:
            if clip.rejected_by is not None:
                self._count(stage_names.CLIPS_REJECTED, clip.rejected_by, clip.reason or "unknown")
        for result, num_clips in outcome.clip_checks.items():
            self._count(stage_names.CLIP_CHECKS, result, amount=num_clips)
        duration_s = 0.0
        if outcome.media is not None:
            duration_s = outcome.media.duration_s
            self._count(names.VIDEO_SECONDS, amount=duration_s)
            self._count(stage_names.DECODED_VIDEOS, outcome.media.decoder)
            self._count(names.CORRUPT_FRAMES, amount=outcome.media.num_corrupt_frames)
        for timing in outcome.timings:
            # A video that fails, or has no clip left, does not come to the stages after that.
            if timing.wall_s > 0:
                self._observe(stage_names.STAGE_DURATION_SECONDS, timing.wall_s, timing.stage)
            self._count(stage_names.STAGE_CPU_SECONDS, timing.stage, amount=timing.cpu_s)
            self._count(stage_names.STAGE_ITEMS_IN, timing.stage, amount=timing.num_in)
            self._count(stage_names.STAGE_ITEMS_OUT, timing.stage, amount=timing.num_out)
            for call in timing.calls:
                self._model_called(timing.stage, call)
            if timing.stage is Stage.DECODE and duration_s > 0:
                self._observe(stage_names.DECODE_COST_RATIO, timing.cpu_s / duration_s)

    def committed(self, batch: CommitBatch, receipt: CommitReceipt) -> None:
        """Count what became durable."""
        if receipt.num_attempts > _ATTEMPTS_WITHOUT_CONFLICT:
            result = CommitResult.CONFLICT
        else:
            result = CommitResult.OK if batch.videos else CommitResult.EMPTY
        self._count(names.COMMITS, result)
        self._observe(names.COMMIT_ATTEMPTS, receipt.num_attempts)
        now = self._clock.now()
        self._set(names.LAST_COMMIT_TIMESTAMP, now.timestamp())
        self._set(names.COMMIT_SEQUENCE, receipt.sequence)
        self._count(names.VIDEOS_COMMITTED, amount=len(batch.videos))
        self._count(names.CLIPS_COMMITTED, amount=receipt.num_clips)
        for video in batch.videos:
            self._observe(names.END_TO_END_SECONDS, (now - video.video.committed_at).total_seconds())
            self._count(names.CLIP_BYTES_COMMITTED, amount=video.outcome.media_bytes)
            kept_s = sum(clip.span.duration_s for clip in video.outcome.clips if clip.kept)
            self._count(names.CLIP_SECONDS_COMMITTED, amount=kept_s)

    def breaker(self, state: BreakerState, reason: str | None) -> None:
        """Publish whether intake is held. The reason is a sentence, and so no label."""
        self._set(names.BREAKER_OPEN, float(state is not BreakerState.CLOSED))

    # Commits, as timed by TimedSink.

    def commit_timed(self, duration_s: float) -> None:
        """Record how long a commit took, whatever its result."""
        self._observe(names.COMMIT_DURATION_SECONDS, duration_s)

    def commit_refused(self, batch: CommitBatch, *, fenced: bool) -> None:
        """Count a commit that did not become durable, and whether it held dead letters."""
        self._count(names.COMMITS, CommitResult.FENCED if fenced else CommitResult.FAILED)
        if any(video.outcome.status is VideoStatus.FAILED for video in batch.videos):
            self._count(names.DEAD_LETTER_WRITE_FAILURES)

    # What the prober knows.

    def lag_probed(
        self,
        *,
        num_records: int,
        age_s: float,
        position_offset: int,
        head_offset: int,
        num_bytes: int | None = None,
        num_snapshots: int | None = None,
        headroom_s: float | None = None,
        shard: str | None = None,
        num_records_of_shard: int = 0,
    ) -> None:
        """Publish one measurement of the lag. What is None is unknown, and its series goes away.

        All is the consumer's, but for ``num_records_of_shard``, which wait for this process's ``shard``; None where
        that has not committed yet.
        """
        self._set(names.LAG_RECORDS, num_records)
        self._set(names.LAG_SECONDS, age_s)
        if shard is not None:
            self._set(names.SHARD_LAG_RECORDS, num_records_of_shard, shard)
        self._set(names.POSITION_OFFSET, position_offset)
        self._set(names.SOURCE_HEAD_OFFSET, head_offset)
        self._set_or_remove(names.LAG_BYTES, num_bytes)
        self._set_or_remove(names.LAG_SNAPSHOTS, num_snapshots)
        self._set_or_remove(names.RETENTION_HEADROOM_SECONDS, headroom_s)
        self._set(names.LAG_PROBE_TIMESTAMP, self._clock.now().timestamp())

    def lag_probe_failed(self) -> None:
        """Count a measurement that failed. The last good one stays, with its timestamp."""
        self._count(names.LAG_PROBE_FAILURES)

    def maintained(self, num_snapshots: int, num_bytes: int) -> None:
        """Count what a round of maintenance has done, and publish now as the time of the last one."""
        self._count(names.SNAPSHOTS_EXPIRED, amount=num_snapshots)
        self._count(names.MAINTENANCE_DELETED_BYTES, amount=num_bytes)
        self._set(names.MAINTENANCE_TIMESTAMP, self._clock.now().timestamp())

    def takedowns_overdue(self, count: int) -> None:
        """Publish of how many takedowns the bytes should be off the store, and are not."""
        self._set(names.TAKEDOWNS_OVERDUE, count)

    def maintenance_failed(self) -> None:
        """Count a round of maintenance that failed."""
        self._count(names.MAINTENANCE_FAILURES)

    # What the runtime knows.

    def state_entered(self, state: str) -> None:
        """Publish the observed state, and now as the time of its beginning.

        Raises:
            ValueError: ``state`` is none of :data:`~consumers.metrics.types.STATES`.
        """
        self._choose(names.CONSUMER_STATE, STATES, state)
        self._set(names.CONSUMER_STATE_TIMESTAMP, self._clock.now().timestamp())

    def desired_state(self, state: str) -> None:
        """Publish what was asked for.

        Raises:
            ValueError: ``state`` is none of :data:`~consumers.metrics.types.DESIRED_STATES`.
        """
        self._choose(names.CONSUMER_DESIRED_STATE, DESIRED_STATES, state)

    def verdict(self, verdict: str) -> None:
        """Publish the verdict.

        Raises:
            ValueError: ``verdict`` is none of :data:`~consumers.metrics.types.VERDICTS`.
        """
        self._choose(names.CONSUMER_VERDICT, VERDICTS, verdict)

    def beat(self) -> None:
        """Note that the consumer loop went round."""
        self._set(names.HEARTBEAT_TIMESTAMP, self._clock.now().timestamp())

    def status(self, status: ProcessorStatus) -> None:
        """Publish the loop's own view of its work in hand."""
        self._set(names.VIDEOS_IN_FLIGHT, status.num_in_flight)
        self._set(names.IN_FLIGHT_BYTES, status.in_flight_bytes)
        self._set(names.VIDEOS_UNCOMMITTED, status.num_uncommitted)

    def restarted(self) -> None:
        """Count a start after a failure."""
        self._count(names.CONSUMER_RESTARTS)

    def build(self, version: str, profile: str, fingerprint: str) -> None:
        """Publish what runs."""
        self._set(names.BUILD_INFO, 1, version, profile, fingerprint)

    # What the pool knows.

    def pool_capacity(self, num_videos: int) -> None:
        """Publish how many videos keep every worker busy."""
        self._set(names.POOL_CAPACITY, num_videos)

    def pool(self, report: PoolReport) -> None:
        """Publish how much waits for each stage, and how many workers of the models hold a GPU."""
        for stage in Stage:
            self._set(stage_names.STAGE_QUEUE_DEPTH, report.waiting.get(stage, 0), stage)
        for stage in MODEL_STAGES:
            workers = report.replicas.get(stage)
            self._set(stage_names.GPU_REPLICAS, 0 if workers is None else workers.num_with_gpu, stage)

    def _model_called(self, stage: Stage, call: ModelCall) -> None:
        self._observe(stage_names.STAGE_BATCH_SIZE, call.batch_size, stage)
        self._observe(stage_names.STAGE_QUEUE_WAIT_SECONDS, call.queue_s, stage)
        if call.on_gpu:
            self._count(stage_names.GPU_BUSY_SECONDS, stage, amount=call.busy_s)

    def _count(self, metric: Metric, *labels: str, amount: float = 1) -> None:
        if amount > 0:
            cast(Counter, self._metrics[metric.name]).labels(self._consumer, *labels).inc(amount)

    def _set(self, metric: Metric, value: float, *labels: str) -> None:
        cast(Gauge, self._metrics[metric.name]).labels(self._consumer, *labels).set(value)

    def _set_or_remove(self, metric: Metric, value: float | None) -> None:
        if value is None:
            self._metrics[metric.name].remove_by_labels({"consumer": self._consumer})
        else:
            self._set(metric, value)

    def _observe(self, metric: Metric, value: float, *labels: str) -> None:
        if value >= 0:
            cast(Histogram, self._metrics[metric.name]).labels(self._consumer, *labels).observe(value)

    def _choose(self, metric: Metric, known: Iterable[str], chosen: str) -> None:
        if chosen not in known:
            raise ValueError(f"{metric.name} knows no {chosen!r}, only {', '.join(known)}")
        for value in known:
            self._set(metric, float(value == chosen), value)


class TimedSink:
    """A sink whose commits are timed, and whose refusals are counted. Everything else is the sink's own.

    Args:
        sink: the real one.
        telemetry: told about every commit.
        clock: where the durations come from.
    """

    def __init__(self, sink: Sink, telemetry: ConsumerTelemetry, clock: Clock) -> None:
        self._sink = sink
        self._telemetry = telemetry
        self._clock = clock

    def open(self) -> Recovered:
        """Open the sink."""
        return self._sink.open()

    def commit(self, batch: CommitBatch) -> CommitReceipt:
        """Commit through the sink."""
        started_s = self._clock.monotonic_s()
        try:
            return self._sink.commit(batch)
        except SluiceError as error:
            self._telemetry.commit_refused(batch, fenced=isinstance(error, FencedError))
            raise
        finally:
            self._telemetry.commit_timed(self._clock.monotonic_s() - started_s)

    def replayable(self, row_ids: Collection[int]) -> frozenset[int]:
        """Ask the sink."""
        return self._sink.replayable(row_ids)

    def close(self) -> None:
        """Close the sink."""
        self._sink.close()
