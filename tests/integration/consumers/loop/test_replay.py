"""Dead letters processed again by a loop over real tables, while it holds other videos in flight."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from consumers.lag import measure_lag
from consumers.loop.config import ProcessorConfig
from consumers.loop.processor import Processor
from consumers.paimon.catalog import CatalogConfig
from consumers.paimon.commit.rescale import Rescaler
from consumers.paimon.commit.side import STEPS
from consumers.paimon.commit.sink import PaimonSink
from consumers.paimon.reading.audit import audit
from consumers.paimon.reading.known_rows import KnownRows
from consumers.paimon.reading.progress import PaimonProgress
from consumers.paimon.source.row_source import RowIdSource
from consumers.paimon.tables import RawColumns
from consumers.testing import FakeClock, FakePool, SimulatedCrashError, failed_outcome
from schemas.positions import OffsetRange, Position
from schemas.records import VideoOutcome, VideoTask
from schemas.shards import WHOLE, Shard
from tests.support.consuming import outcome_of
from tests.support.warehouse import (
    AT,
    NAMES,
    PROFILE,
    append_raw,
    clip_counts,
    ledger_counts,
    make_warehouse,
)


@pytest.fixture
def config(tmp_path: Path) -> CatalogConfig:
    config = make_warehouse(tmp_path)
    append_raw(config, [f"v{n}" for n in range(6)])
    run(config, failing=(1, 4))
    assert ledger_counts(config) == {(row_id, 1): 1 for row_id in range(6)}
    return config


def processor_of(
    config: CatalogConfig, pool: FakePool, shard: Shard = WHOLE, on_step: Callable[[str], None] | None = None
) -> Processor:
    source = KnownRows(RowIdSource(config, NAMES.raw), config, NAMES, "main", RawColumns(), shard=shard)
    sink = PaimonSink(config, NAMES, "main", PROFILE, shard=shard, on_step=on_step)
    return Processor(source, sink, pool, FakeClock(), config=ProcessorConfig(poll_interval_s=0.01))


def run(config: CatalogConfig, *, failing: tuple[int, ...] = (), shard: Shard = WHOLE) -> list[int]:
    """Run until everything is done, and return which rows the pool was asked for."""
    seen: list[int] = []

    def script(task: VideoTask) -> VideoOutcome:
        seen.append(task.video.row_id)
        return failed_outcome() if task.video.row_id in failing else outcome_of(task)

    processor_of(config, FakePool(script=script), shard).run(until_caught_up=True)
    return seen


@contextmanager
def running(processor: Processor) -> Iterator[None]:
    thread = threading.Thread(target=processor.run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        processor.request_stop(0)
        thread.join(30)
    assert not thread.is_alive()


def test_replay_beside_videos_in_flight_is_one_further_run_and_no_lag(config: CatalogConfig) -> None:
    append_raw(config, ["v6", "v7"])
    pool = FakePool(capacity=8)
    processor = processor_of(config, pool)
    with running(processor):
        pool.wait_for(2)
        assert processor.replay([1, 4]).result(30).accepted == {1, 4}
        pool.wait_for(4)
        assert sorted(pool.open_tasks) == [1, 4, 6, 7]
        progress = PaimonProgress(config, NAMES, "main")
        last = progress.last_commit()
        assert last is not None
        assert list(last.position.missing(8)) == [OffsetRange(1, 2), OffsetRange(4, 5), OffsetRange(6, 8)]
        assert measure_lag(progress.head(), [last], progress.origin(6), None, AT).records == 2
        for row_id in (1, 4):
            task = pool.open_tasks[row_id]
            pool.finish(row_id, failed_outcome() if row_id == 4 else outcome_of(task))
        assert processor.wait_until(lambda status: status.position == Position(6), 30)
        assert sorted(pool.open_tasks) == [6, 7]
        for row_id in (6, 7):
            pool.finish(row_id, outcome_of(pool.open_tasks[row_id]))
        assert processor.wait_until(lambda status: status.position == Position(8), 30)
    assert {row_id: run for row_id, run in ledger_counts(config) if run > 1} == {1: 2, 4: 2}
    assert clip_counts(config)[1] == 2
    assert audit(config, NAMES, "main").is_clean


@pytest.mark.parametrize("step", [step for step in STEPS if not step.endswith("_claim")])
@pytest.mark.parametrize("which", ["asked", "done"])
def test_replay_survives_a_crash_at_every_step(config: CatalogConfig, step: str, which: str) -> None:
    num_left = {"asked": 1, "done": 2}[which]

    def on_step(at: str) -> None:
        nonlocal num_left
        num_left -= at == step
        if at == step and num_left == 0:
            raise SimulatedCrashError

    processor = processor_of(config, FakePool(script=lambda task: failed_outcome()), on_step=on_step)
    asked = processor.replay([1])
    with pytest.raises(SimulatedCrashError):
        processor.run(until_caught_up=True)
    run(config, failing=(1,))
    # A request that was not answered may be forgotten, and whatever crashes it is done once.
    num_runs = sum(row_id == 1 for row_id, _ in ledger_counts(config))
    assert num_runs == 2 or (
        num_runs == 1 and which == "asked" and step.startswith(("before_ledger", "after_ledger_w"))
    )
    assert asked.exception(0) is not None or num_runs == 2
    assert max(ledger_counts(config).values()) == 1
    assert audit(config, NAMES, "main").is_clean


def test_rows_that_were_finished_before_the_shards_changed_can_be_replayed(config: CatalogConfig) -> None:
    append_raw(config, ["v6"])
    Rescaler(config, NAMES, "main").rescale(2)
    for shard in (Shard(0, 2), Shard(1, 2)):
        processor = processor_of(config, FakePool(script=outcome_of), shard)
        asked = processor.replay([1, 4])
        processor.run(until_caught_up=True)
        answer = asked.result(0)
        assert (answer.accepted, answer.unfit) == ({4}, {1}) if shard.index == 0 else ({1}, {4})
    assert clip_counts(config) == dict.fromkeys(range(7), 2)
    assert max(ledger_counts(config).values()) == 1
    assert audit(config, NAMES, "main").is_clean
