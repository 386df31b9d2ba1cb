"""How many snapshots a trickle of videos makes in real tables, on a clock that the test advances."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from consumers.loop.commit_policy import CommitPolicy
from consumers.loop.config import ProcessorConfig
from consumers.loop.processor import Processor
from consumers.paimon.catalog import CatalogConfig
from consumers.paimon.commit.sink import PaimonSink
from consumers.paimon.source.row_source import RowIdSource
from consumers.testing import FakeClock, FakePool
from tests.support.consuming import outcome_of
from tests.support.warehouse import NAMES, PROFILE, append_raw, ledger_counts, make_warehouse, table


@pytest.fixture
def config(tmp_path: Path) -> CatalogConfig:
    return make_warehouse(tmp_path)


def num_snapshots(config: CatalogConfig, name: str) -> int:
    latest = table(config, name).snapshot_manager().get_latest_snapshot()
    return 0 if latest is None else int(latest.id)


@contextmanager
def running(config: CatalogConfig, clock: FakeClock, commit: CommitPolicy) -> Iterator[Processor]:
    """Run a consumer whose pool answers at once, until the end of the block; it is stopped then."""
    sink = PaimonSink(config, NAMES, "main", PROFILE)
    processor = Processor(
        RowIdSource(config, NAMES.raw),
        sink,
        FakePool(script=outcome_of),
        clock,
        config=ProcessorConfig(commit=commit),
    )
    clock.on_advance.append(processor.wake)
    thread = threading.Thread(target=processor.run, daemon=True)
    thread.start()
    try:
        yield processor
    finally:
        processor.request_stop()
        thread.join(30)
        sink.close()
    assert not thread.is_alive()


def test_a_trickle_of_an_hour_makes_a_snapshot_a_minute_where_a_minute_was_asked_for(config: CatalogConfig) -> None:
    clock = FakeClock()
    with running(config, clock, CommitPolicy(interval_s=60)) as processor:
        for number in range(120):
            append_raw(config, [f"v{number}"])
            clock.advance(30)
            done = number + 1
            assert processor.wait_until(
                lambda status, done=done: status.counts.num_curated == done and status.head_offset == done, 30
            )
        # Beside those of the hour there are the four that need not wait, and the claim.
        assert num_snapshots(config, NAMES.curated) <= 60 + 4 + 1
        assert num_snapshots(config, NAMES.ledger) <= 60 + 4 + 1
    assert len(ledger_counts(config)) == 120


def test_an_idle_consumer_commits_nothing(config: CatalogConfig) -> None:
    append_raw(config, ["v0"])
    clock = FakeClock()
    with running(config, clock, CommitPolicy(interval_s=10)) as processor:
        assert processor.wait_until(lambda status: status.sequence == 1, 30)
        before = num_snapshots(config, NAMES.curated), num_snapshots(config, NAMES.ledger)
        for _ in range(24):
            before_status = processor.snapshot()
            clock.advance(3600)
            assert processor.wait_until(lambda status, before=before_status: status is not before, 30)
        assert (num_snapshots(config, NAMES.curated), num_snapshots(config, NAMES.ledger)) == before
