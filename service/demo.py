"""The main job on an embedded default: a warehouse of its own, rows that land while the consumer runs, and an audit."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from consumers.loop.reports import RunReport
from consumers.paimon.landing.objects import ObjectInfo
from consumers.paimon.reading.audit_report import AuditReport
from consumers.ports import BreakerState, CommitBatch, CommitReceipt, Observer
from schemas.records import ProcessedVideo, RawVideo
from service import wiring
from service.models import pinned
from service.settings import Settings, load_settings

_SETTINGS = """\
# Written by `sluice demo`.
[catalog]
warehouse = {warehouse}

[input]
allow = [{media}]

[consumer]
id = "demo"
poll_interval_s = 0.2
commit_interval_s = 1.0

[profile]
name = "demo"

[profile.nsfw]
# There is no model here: clips pass unscored, and their rows say so.
unscored = "pass"
"""


@dataclass(frozen=True)
class DemoResult:
    """What the demo did, and what the audit says of it."""

    report: RunReport
    videos: tuple[ProcessedVideo, ...]
    audit: AuditReport


def prepare(root: Path, media: Path, overrides: dict[str, Any]) -> Settings:
    """Write settings and create an empty warehouse under ``root`` for videos in ``media``."""
    warehouse = root / "warehouse"
    file = root / "sluice.toml"
    file.write_text(_SETTINGS.format(warehouse=_quoted(warehouse), media=_quoted(media.resolve())), encoding="utf-8")
    settings = pinned(load_settings(file, overrides))
    wiring.create_tables(settings, create_warehouse=True)
    return settings


def run_demo(
    settings: Settings, objects: Sequence[ObjectInfo], observer: Observer, landed: Callable[[ObjectInfo], None]
) -> DemoResult:
    """Register ``objects`` one by one while a consumer runs, wait until all are committed, and audit the tables.

    Args:
        settings: from :func:`prepare`.
        objects: videos to register, in order.
        observer: told what the consumer does.
        landed: told of each registered object.

    Raises:
        SluiceError: the consumer failed.
    """
    pool = wiring.build_pool(settings)
    collector = _Collector(observer)
    processor = wiring.build_processor(settings, pool, collector)
    outcome: list[RunReport | BaseException] = []

    def consume() -> None:
        try:
            outcome.append(processor.run())
        except BaseException as error:
            outcome.append(error)
        finally:
            collector.end()

    try:
        pool.start()
        consumer = threading.Thread(target=consume, name="demo-consumer")
        consumer.start()
        try:
            expected = 0
            for item in objects:
                expected += wiring.register(settings, [item]).num_added
                landed(item)
                processor.wake()
            collector.wait_for(expected)
        finally:
            processor.request_stop()
            consumer.join()
    finally:
        pool.close()
    (ended,) = outcome
    if isinstance(ended, BaseException):
        raise ended
    return DemoResult(ended, tuple(collector.videos), wiring.audit(settings))


class _Collector:
    """Passes everything on, keeps the committed videos without their bytes, and lets a thread wait for them."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._changed = threading.Condition()
        self._ended = False
        self.videos: list[ProcessedVideo] = []

    def admitted(self, video: RawVideo) -> None:
        self._observer.admitted(video)

    def retried(self, video: RawVideo, attempt: int, reason: str, delay_s: float) -> None:
        self._observer.retried(video, attempt, reason, delay_s)

    def finished(self, video: ProcessedVideo) -> None:
        self._observer.finished(video)

    def committed(self, batch: CommitBatch, receipt: CommitReceipt) -> None:
        self._observer.committed(batch, receipt)
        with self._changed:
            self.videos.extend(batch.videos)
            self._changed.notify_all()

    def breaker(self, state: BreakerState, reason: str | None) -> None:
        self._observer.breaker(state, reason)

    def end(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def wait_for(self, count: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._ended or len(self.videos) >= count)


def _quoted(path: Path) -> str:
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'
