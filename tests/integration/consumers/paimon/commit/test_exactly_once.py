from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from consumers.errors import ConfigurationError, FencedError, StoreUnavailableError
from consumers.paimon.catalog import CatalogConfig, open_catalog
from consumers.paimon.commit.side import STEPS
from consumers.paimon.commit.sink import PaimonSink
from consumers.paimon.reading.audit import audit
from consumers.paimon.tables import TableNames, create_tables
from consumers.ports import CommitBatch
from consumers.testing import SimulatedCrashError
from schemas.positions import OffsetRange, Position
from tests.support.stores import warehouse_of
from tests.support.warehouse import (
    NAMES,
    PROFILE,
    append_raw,
    batch,
    but_for_what_others_have_too,
    clip_counts,
    expire_all_but_newest,
    ledger_counts,
    make_warehouse,
    processed,
    table,
)

_ROOT = Path(__file__).resolve().parents[5]
_COMMIT_STEPS = STEPS[3:]


@pytest.fixture
def config(request: pytest.FixtureRequest, tmp_path: Path) -> CatalogConfig:
    return warehouse_of(request, tmp_path)


def _sink(config: CatalogConfig, consumer: str = "main", die_at: str | None = None, after: int = 0) -> PaimonSink:
    num_seen = 0

    def on_step(step: str) -> None:
        nonlocal num_seen
        if step == die_at:
            num_seen += 1
            if num_seen > after:
                raise SimulatedCrashError

    return PaimonSink(config, NAMES, consumer, PROFILE, on_step=on_step)


def _start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.integration.consumers.paimon.commit.racing_consumer", *arguments]
    return subprocess.Popen(
        command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def _once(num_rows: int) -> Counter[tuple[int, int]]:
    return Counter({(row_id, 1): 1 for row_id in range(num_rows)})


@pytest.mark.parametrize("step", STEPS)
def test_crash_at_any_step_loses_and_repeats_nothing(config: CatalogConfig, step: str) -> None:
    append_raw(config, (f"v{n}" for n in range(6)))
    first = _sink(config)
    done = first.open().position
    first.commit(batch(done, [0, 3]))
    with pytest.raises(SimulatedCrashError):
        _crash(_sink(config, die_at=step))
    successor = _sink(config)
    recovered = successor.open()
    assert recovered.position.includes(Position.from_ranges([OffsetRange(0, 1), OffsetRange(3, 4)]))
    assert recovered.ledgered.includes(recovered.position)
    left = [row for gap in recovered.position.missing(6) for row in range(gap.start, gap.end)]
    successor.commit(batch(recovered.position, left))
    assert ledger_counts(config) == _once(6)
    assert clip_counts(config) == Counter(range(6))
    assert audit(config, NAMES, "main").is_clean


def _crash(sink: PaimonSink) -> None:
    done = sink.open().position
    sink.commit(batch(done, [1, 2, 5]))


def test_process_killed_between_the_tables_is_continued_by_the_next(config: CatalogConfig) -> None:
    append_raw(config, (f"v{n}" for n in range(3)))
    killed = _start(config.warehouse, "main", "3", "after_ledger_publish")
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert ledger_counts(config) == _once(3)
    assert clip_counts(config) == Counter()
    sink = _sink(config)
    recovered = sink.open()
    assert (recovered.position, recovered.ledgered) == (Position(), Position(3))
    sink.commit(batch(Position(), range(3)))
    assert ledger_counts(config) == _once(3)
    assert audit(config, NAMES, "main").is_clean


def test_three_copies_race_while_another_consumer_commits_and_each_row_stands_once(config: CatalogConfig) -> None:
    num_rows = 30
    append_raw(config, (f"v{n}" for n in range(num_rows)))
    racers = [_start(config.warehouse, "main", str(num_rows), str(seed)) for seed in range(3)]
    other = _start(config.warehouse, "other", str(num_rows), "3")
    for process in (*racers, other):
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in (*racers, other):
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=120) for process in (*racers, other)]
    assert [process.returncode for process in (*racers, other)] == [0, 0, 0, 0], outputs
    fenced = [int(stdout.split()[1]) for stdout, _ in outputs]
    assert sum(fenced[:3]) > 0
    assert fenced[3] == 0
    last = _sink(config)
    done = last.open().position
    last.commit(batch(done, [row for gap in done.missing(num_rows) for row in range(gap.start, gap.end)]))
    for consumer in ("main", "other"):
        report = audit(config, NAMES, consumer)
        assert but_for_what_others_have_too(report).is_clean, report
        assert (report.rows, report.ledger_rows, report.clips, report.pending) == (num_rows, num_rows, num_rows, 0)


def test_reprocessing_that_comes_out_differently_supersedes_the_ledger_row(config: CatalogConfig) -> None:
    append_raw(config, (f"v{n}" for n in range(2)))
    crashed = _sink(config, die_at="after_ledger_publish")
    crashed.open()
    with pytest.raises(SimulatedCrashError):
        crashed.commit(batch(Position(), [0, 1]))
    sink = _sink(config)
    sink.open()
    receipt = sink.commit(CommitBatch((processed(0, 3), processed(1, 1)), Position(2)))
    assert (receipt.num_ledger_rows, receipt.num_clips) == (1, 4)
    assert ledger_counts(config) == Counter({(0, 1): 1, (0, 2): 1, (1, 1): 1})
    assert audit(config, NAMES, "main").is_clean


def test_superseding_row_is_not_repeated_after_another_crash(config: CatalogConfig) -> None:
    append_raw(config, (f"v{n}" for n in range(1)))
    for num_kept in (1, 2):
        crashed = _sink(config, die_at="after_ledger_publish")
        crashed.open()
        with pytest.raises(SimulatedCrashError):
            crashed.commit(CommitBatch((processed(0, num_kept),), Position(1)))
    sink = _sink(config)
    sink.open()
    assert sink.commit(CommitBatch((processed(0, 2),), Position(1))).num_ledger_rows == 0
    assert ledger_counts(config) == Counter({(0, 1): 1, (0, 2): 1})
    assert audit(config, NAMES, "main").is_clean


@pytest.mark.parametrize("step", _COMMIT_STEPS)
def test_store_that_fails_at_any_step_gets_the_same_batch_again_and_holds_it_once(
    config: CatalogConfig, step: str
) -> None:
    append_raw(config, (f"v{n}" for n in range(2)))
    failing = [True]

    def on_step(reached: str) -> None:
        if reached == step and failing:
            failing.clear()
            raise OSError("the disk went away")

    sink = PaimonSink(config, NAMES, "main", PROFILE, on_step=on_step)
    sink.open()
    work = batch(Position(), [0, 1])
    try:
        receipt = sink.commit(work)
    except StoreUnavailableError:
        receipt = sink.commit(work)
    assert (receipt.sequence, receipt.num_ledger_rows, receipt.num_clips) == (1, 2, 2)
    assert ledger_counts(config) == _once(2)
    assert audit(config, NAMES, "main").is_clean


def test_larger_batch_after_a_failed_one_writes_each_row_once(config: CatalogConfig) -> None:
    append_raw(config, (f"v{n}" for n in range(4)))
    failing = [True]

    def on_step(reached: str) -> None:
        if reached == "before_curated_write" and failing:
            failing.clear()
            raise OSError("gone")

    sink = PaimonSink(config, NAMES, "main", PROFILE, on_step=on_step)
    sink.open()
    with pytest.raises(StoreUnavailableError):
        sink.commit(batch(Position(), [0, 1]))
    sink.commit(batch(Position(), range(4)))
    assert ledger_counts(config) == _once(4)
    assert clip_counts(config) == Counter(range(4))


def test_another_consumer_on_the_same_tables_does_not_fence(config: CatalogConfig) -> None:
    mine, other = _sink(config, "mine"), _sink(config, "other")
    mine.open()
    other.open()
    mine.commit(batch(Position(), [0]))
    other.commit(batch(Position(), [0, 1]))
    mine.commit(batch(Position(1), [1]))
    assert ledger_counts(config) == Counter({(0, 1): 2, (1, 1): 2})


def test_claim_alone_fences_an_incarnation_that_is_between_its_tables(config: CatalogConfig) -> None:
    older = PaimonSink(config, NAMES, "main", PROFILE, on_step=lambda step: claims.get(step, lambda: None)())
    newer = _sink(config)
    claims = {"after_curated_write": newer.open}
    older.open()
    with pytest.raises(FencedError, match="epoch 2"):
        older.commit(batch(Position(), [0]))
    newer.commit(batch(Position(), [0]))
    assert ledger_counts(config) == _once(1)
    assert clip_counts(config) == Counter([0])


@pytest.mark.parametrize("config", ["disk", "s3"], indirect=True)
def test_markers_that_have_expired_are_reconciled_from_the_rows(config: CatalogConfig) -> None:
    append_raw(config, (f"v{n}" for n in range(8)))
    sink = _sink(config)
    sink.open()
    sink.commit(batch(Position(), [0, 1, 5]))
    sink.commit(CommitBatch((processed(2, 0),), Position(3, (OffsetRange(5, 6),))))
    with pytest.raises(SimulatedCrashError):
        _crash_after_ledger(config, Position(3, (OffsetRange(5, 6),)), [3, 6])
    other = _sink(config, "other")
    other.open()
    other.commit(batch(Position(), [0]))
    for name in (NAMES.ledger, NAMES.curated):
        expire_all_but_newest(config, name)
    successor = _sink(config)
    recovered = successor.open()
    assert recovered.position == Position(3, (OffsetRange(5, 6),))
    assert recovered.ledgered == Position(4, (OffsetRange(5, 7),))
    assert recovered.sequence == 3
    successor.commit(batch(recovered.position, [3, 4, 6, 7]))
    report = audit(config, NAMES, "main")
    assert but_for_what_others_have_too(report).is_clean
    assert report.ledger_rows == 8
    assert report.pending == 0


def _crash_after_ledger(config: CatalogConfig, position: Position, row_ids: list[int]) -> None:
    sink = _sink(config, die_at="after_ledger_publish")
    sink.open()
    sink.commit(batch(position, row_ids))


def test_incarnation_that_slept_through_an_expiry_is_fenced_rather_than_trusted(config: CatalogConfig) -> None:
    sleeper, other = _sink(config), _sink(config, "other")
    sleeper.open()
    other.open()
    for row_id in range(3):
        other.commit(batch(Position(row_id), [row_id]))
    expire_all_but_newest(config, NAMES.ledger)
    with pytest.raises(FencedError, match="expired before they were seen"):
        sleeper.commit(batch(Position(), [0]))


def test_consumer_moved_to_another_raw_table_is_refused(config: CatalogConfig) -> None:
    _sink(config).open()
    moved = replace(NAMES, raw="other_videos")
    create_tables(open_catalog(config), config, moved)
    with pytest.raises(ConfigurationError, match=r"has tailed table db\.raw_videos"):
        PaimonSink(config, moved, "main", PROFILE).open()


def test_batch_that_does_not_cover_its_rows_is_refused(config: CatalogConfig) -> None:
    sink = _sink(config)
    sink.open()
    with pytest.raises(ValueError, match="does not cover"):
        sink.commit(CommitBatch((processed(4),), Position(2)))


def test_clip_bytes_and_lineage_are_in_the_curated_row(config: CatalogConfig) -> None:
    sink = _sink(config)
    sink.open()
    sink.commit(batch(Position(), [0]))
    curated = table(config, NAMES.curated)
    builder = curated.new_read_builder()
    (row,) = builder.new_read().to_arrow(builder.new_scan().plan().splits()).to_pylist()
    assert row["clip"] == b"clip 0/1"
    assert row["ingest_date"] == "2026-03-04"
    assert (row["consumer"], row["commit_sequence"], row["profile_fingerprint"]) == ("main", 1, PROFILE.fingerprint)
    assert (row["source_table"], row["source_row_id"], row["motion_score"]) == ("db.raw_videos", 0, 1.5)


def test_tables_that_are_missing_are_named(tmp_path: Path) -> None:
    config = make_warehouse(tmp_path / "warehouse")
    with pytest.raises(ConfigurationError, match=r"db\.nowhere does not exist"):
        PaimonSink(config, TableNames(ledger="nowhere"), "main", PROFILE)
