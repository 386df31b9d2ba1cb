"""The loop itself as shards, rescaled while it works: rows land, outcomes come back, and every row stands once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from consumers.clock import SystemClock
from consumers.errors import FencedError
from consumers.loop.commit_policy import CommitPolicy
from consumers.loop.config import ProcessorConfig
from consumers.loop.processor import Processor
from consumers.loop.reports import EndReason, RunReport
from consumers.paimon.catalog import CatalogConfig
from consumers.paimon.commit.rescale import Rescaler
from consumers.paimon.commit.sink import PaimonSink
from consumers.paimon.reading.audit import audit
from consumers.paimon.source.row_source import RowIdSource
from consumers.testing import FakePool
from schemas.records import VideoOutcome, VideoTask
from schemas.shards import Shard
from tests.support.warehouse import NAMES, PROFILE, append_raw, make_warehouse, processed


@pytest.fixture
def config(tmp_path: Path) -> CatalogConfig:
    made = make_warehouse(tmp_path / "warehouse")
    append_raw(made, (f"v{n}" for n in range(30)))
    return made


class Running:
    """A shard of consumer ``main`` that runs in a thread until it is stopped or fenced."""

    def __init__(self, config: CatalogConfig, shard: str, until_caught_up: bool) -> None:
        def script(task: VideoTask) -> VideoOutcome:
            return processed(task.video.row_id).outcome

        self.processor = Processor(
            RowIdSource(config, NAMES.raw),
            PaimonSink(config, NAMES, "main", PROFILE, shard=Shard.parse(shard)),
            FakePool(capacity=3, script=script),
            SystemClock(),
            config=ProcessorConfig(commit=CommitPolicy(interval_s=0.01, max_videos=2), poll_interval_s=0.01),
        )
        self._executor = ThreadPoolExecutor(1)
        self.ended: Future[RunReport] = self._executor.submit(self.processor.run, until_caught_up)
        self._executor.shutdown(wait=False)

    def has_committed(self) -> bool:
        return self.processor.wait_until(lambda status: status.counts.num_commits > 1, 30)


@contextmanager
def _landing(config: CatalogConfig) -> Iterator[None]:
    """Let rows land all the while."""
    stop = threading.Event()

    def land() -> None:
        batch = 0
        while not stop.wait(0.05):
            append_raw(config, (f"w{batch}-{n}" for n in range(3)))
            batch += 1

    thread = threading.Thread(target=land)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_rescale_1_to_3_to_2_under_load_leaves_a_clean_audit(config: CatalogConfig) -> None:
    running = [Running(config, "0/1", until_caught_up=False)]
    with _landing(config):
        for count in (3, 2):
            assert all(shard.has_committed() for shard in running)
            Rescaler(config, NAMES, "main").rescale(count)
            for shard in running:
                with pytest.raises(FencedError, match=f"divided into {count} shards"):
                    shard.ended.result(60)
            assert audit(config, NAMES, "main").is_clean
            running = [Running(config, f"{index}/{count}", until_caught_up=False) for index in range(count)]
        assert all(shard.has_committed() for shard in running)
    for shard in running:
        shard.processor.request_stop()
    assert [shard.ended.result(60).reason for shard in running] == [EndReason.STOPPED] * 2
    last = [Running(config, f"{index}/2", until_caught_up=True).ended.result(60) for index in range(2)]
    assert [(report.reason, report.lag) for report in last] == [(EndReason.CAUGHT_UP, 0)] * 2
    report = audit(config, NAMES, "main")
    assert report.is_clean, report
    assert (report.pending, report.ledger_rows, report.clips) == (0, report.rows, report.rows)
    assert report.rows > 30
