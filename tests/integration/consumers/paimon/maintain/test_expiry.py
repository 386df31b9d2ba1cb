"""Expiry and orphan cleaning on real tables: what must stay stays, what nobody uses goes, whatever dies in between."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pypaimon.consumer.consumer import Consumer

from consumers.errors import StoreUnavailableError
from consumers.paimon.catalog import CatalogConfig
from consumers.paimon.commit.sink import PaimonSink
from consumers.paimon.maintain.expiry import Expiry, Retention
from consumers.paimon.maintain.maintainer import Maintainer
from consumers.paimon.maintain.orphans import Orphans
from consumers.paimon.scan import stream
from consumers.testing.clock import FakeClock
from schemas.positions import Position
from tests.support.warehouse import NAMES, PROFILE, batch, delete_rows, make_warehouse, table

SOON = Retention(timedelta(0), least=5, most=10_000)


def later(days: float = 0) -> datetime:
    return datetime.now(UTC) + timedelta(days=days, seconds=5)


def commit(config: CatalogConfig, rows: range, consumer: str = "films") -> None:
    sink = PaimonSink(config, NAMES, consumer, PROFILE)
    position = sink.open().position
    for row_id in rows:
        made = batch(position, [row_id], num_kept=2)
        sink.commit(made)
        position = made.position
    sink.close()


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty commits of one consumer; clips were deleted by another engine early and late."""
    folder = tmp_path_factory.mktemp("history") / "warehouse"
    made = make_warehouse(folder)
    commit(made, range(15))
    delete_rows(made, NAMES.curated, [4, 7])
    commit(made, range(15, 30))
    delete_rows(made, NAMES.curated, [20])
    commit(made, range(30, 40))
    return folder


@pytest.fixture
def config(history: Path, tmp_path: Path) -> CatalogConfig:
    """A copy of that history."""
    shutil.copytree(history, tmp_path / "warehouse")
    return CatalogConfig({"warehouse": str(tmp_path / "warehouse")}, "db")


def content(found: Any, snapshot: Any | None = None) -> list[Any]:
    """Return every row with its row id, where there is one."""
    head = snapshot or found.snapshot_manager().get_latest_snapshot()
    columns = [field.name for field in found.fields] + (["_ROW_ID"] if found.options.row_tracking_enabled() else [])
    return sorted(repr(row) for rows in stream(found, columns, head) for row in rows.to_pylist())


def ids(found: Any) -> list[int]:
    return [snapshot.id for snapshot in found.snapshot_manager().list_snapshots()]


def files(found: Any) -> set[Path]:
    root = Path(str(found.table_path).removeprefix("file:"))
    return {path for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", [NAMES.ledger, NAMES.curated])
def test_old_snapshots_go_and_rows_stay(config: CatalogConfig, name: str) -> None:
    found = table(config, name)
    before, num_files = content(found), len(files(found))
    done = Expiry(found, SOON, most_at_once=7).run(later())
    left = ids(found)
    assert len(left) == SOON.least
    assert content(found) == before
    for snapshot in found.snapshot_manager().list_snapshots():
        content(found, snapshot)
    assert found.snapshot_manager().try_get_earliest_snapshot().id == left[0]
    assert num_files - len(files(found)) == done.num_files + done.num_snapshots - 1  # The hint came.
    assert Orphans(found).run(later(days=2)).num_files == 0


def test_dry_run_says_the_same_and_changes_nothing(config: CatalogConfig) -> None:
    found = table(config, NAMES.curated)
    before = files(found)
    would = Expiry(found, SOON, most_at_once=7).run(later(), dry=True)
    assert files(found) == before
    did = Expiry(found, SOON, most_at_once=1000).run(later())
    assert (did.num_snapshots, did.num_files, did.num_bytes) == (would.num_snapshots, would.num_files, would.num_bytes)


def test_young_snapshots_stay_unless_there_are_too_many(config: CatalogConfig) -> None:
    found = table(config, NAMES.ledger)
    before = len(ids(found))
    assert Expiry(found, Retention(timedelta(days=1), 5, 10_000)).run(later()).num_snapshots == 0
    assert Expiry(found, Retention(timedelta(days=1), 5, 20)).run(later()).num_snapshots == before - 20
    assert len(ids(found)) == 20


def test_a_tag_keeps_all_that_it_needs(config: CatalogConfig) -> None:
    found = table(config, NAMES.curated)
    tagged = found.snapshot_manager().get_snapshot_by_id(12)
    expected = content(found, tagged)
    found.create_tag("release", 12)
    before = content(found)
    Expiry(found, SOON).run(later())
    assert Orphans(found).run(later(days=2)).num_files == 0
    assert ids(found)[0] > 12
    assert content(found) == before
    by_tag = table(config, NAMES.curated).copy({"scan.tag-name": "release"})
    builder = by_tag.new_read_builder().with_projection([field.name for field in found.fields] + ["_ROW_ID"])
    rows = builder.new_read().to_arrow(builder.new_scan().plan().splits())
    assert sorted(repr(row) for row in rows.to_pylist()) == expected


def test_a_consumer_file_and_a_resting_consumer_hold_snapshots(config: CatalogConfig) -> None:
    found = table(config, NAMES.ledger)
    found.consumer_manager().reset_consumer("reader", Consumer(9))
    done = Expiry(found, SOON).run(later())
    assert ids(found)[0] == 9
    assert done.held_by == "consumer file reader at snapshot 9"
    found.consumer_manager().delete_consumer("reader")
    commit(config, range(1), consumer="other")
    resting = ids(found)[-1]
    commit(config, range(40, 60))
    done = Expiry(found, SOON).run(later())
    assert done.held_by is not None
    assert "consumer other, shard 0/1" in done.held_by
    assert ids(found)[0] == resting
    sink = PaimonSink(config, NAMES, "other", PROFILE)
    assert sink.open().position == Position(1)
    sink.close()


def test_the_consumer_goes_on_where_it_was(config: CatalogConfig) -> None:
    Maintainer(config, NAMES, SOON, clock_at(later())).run()
    sink = PaimonSink(config, NAMES, "films", PROFILE)
    assert sink.open().position == Position(40)
    sink.close()


def clock_at(moment: datetime) -> FakeClock:
    clock = FakeClock()
    clock.advance((moment - clock.now()).total_seconds())
    return clock


class Killed(BaseException):
    """The process dies."""


def dying_after(num_calls: int, work: Callable[..., Any]) -> Callable[..., Any]:
    left = num_calls

    def call(*arguments: Any) -> Any:
        nonlocal left
        if left == 0:
            raise Killed
        left -= 1
        return work(*arguments)

    return call


@pytest.mark.parametrize("num_deleted", [0, 1, 20, 36, 60, 100])
def test_a_kill_at_any_file_loses_nothing_and_the_next_round_completes(config: CatalogConfig, num_deleted: int) -> None:
    found = table(config, NAMES.curated)
    before = content(found)
    expiry = Expiry(found, SOON)
    expiry._files.file_io = _FailingDeletes(found.file_io, num_deleted)
    with pytest.raises(Killed):
        expiry.run(later())
    again = table(config, NAMES.curated)
    assert content(again) == before
    for snapshot in again.snapshot_manager().list_snapshots():
        content(again, snapshot)
    Expiry(again, SOON).run(later())
    Orphans(again).run(later(days=2))
    assert content(again) == before
    assert len(ids(again)) == SOON.least
    assert len(files(again)) == _files_without_a_kill(config)


def _files_without_a_kill(config: CatalogConfig) -> int:
    """Two lists and the snapshot of each that is left, their manifests, the schema, two hints, data and index."""
    found = table(config, NAMES.curated)
    used: set[str] = set()
    expiry = Expiry(found, SOON)
    for snapshot in found.snapshot_manager().list_snapshots():
        lists = expiry._files.lists(snapshot)
        used |= {f"snapshot-{snapshot.id}", *lists}
        if snapshot.index_manifest is not None:
            used.add(snapshot.index_manifest)
            used |= {path.rsplit("/", 1)[-1] for path in expiry._files.index_paths(snapshot.index_manifest)}
        for name in lists:
            for manifest in expiry._files.manifests(name):
                used.add(manifest.name)
                for record in expiry._files.records(manifest.name):
                    used |= {path.rsplit("/", 1)[-1] for path in expiry._files.data_paths(record)}
    return len(used | {"schema-0", "LATEST", "EARLIEST"})


class _FailingDeletes:
    def __init__(self, file_io: Any, num_deletes: int) -> None:
        self._file_io = file_io
        self.delete = dying_after(num_deletes, file_io.delete)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file_io, name)


def test_two_at_once_do_no_more_than_one(config: CatalogConfig) -> None:
    found = table(config, NAMES.curated)
    before = content(found)
    first, second = Expiry(found, SOON), Expiry(table(config, NAMES.curated), SOON)
    spare = first._spare
    calls = iter(range(10))

    def overtaken(*arguments: Any, **named: Any) -> None:
        if next(calls) == 0:
            second.run(later())
        spare(*arguments, **named)

    first._spare = overtaken  # type: ignore[method-assign]
    first.run(later())
    assert content(found) == before
    assert len(ids(found)) == SOON.least


def test_expired_middle_is_no_trap(config: CatalogConfig) -> None:
    found = table(config, NAMES.curated)
    before = content(found)
    for snapshot_id in range(10, 20):
        found.file_io.delete(found.snapshot_manager().get_snapshot_path(snapshot_id))
    Expiry(found, SOON).run(later())
    Orphans(found).run(later(days=2))
    assert content(found) == before
    assert len(ids(found)) == SOON.least


def test_orphans_go_after_a_day_and_not_before(config: CatalogConfig) -> None:
    found = table(config, NAMES.curated)
    root = Path(str(found.table_path).removeprefix("file:"))
    bucket = next(root.glob("*/bucket-0"))
    strays = [
        root / "manifest" / f"manifest-{uuid.uuid4()}-0",
        root / "index" / f"index-{uuid.uuid4()}-0",
        root / "snapshot" / f".snapshot-9.{uuid.uuid4()}.tmp",
        bucket / f"data-{uuid.uuid4()}-0.parquet",
    ]
    bystanders = [root / "_sluice_staging" / "x.mp4", root / "schema" / "note"]
    for path in [*strays, *bystanders]:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"left over")
    before = files(found)
    assert Orphans(found).run(later(days=0.9)).num_files == 0
    assert files(found) == before
    assert Orphans(found).run(later(days=2), dry=True).num_files == len(strays)
    long_ago = time.time() - 2 * 86400
    for path in strays[:2]:
        os.utime(path, (long_ago, long_ago))
    assert Orphans(found).run(later()).num_files == 2
    assert Orphans(found).run(later(days=2)).num_bytes == 2 * len(b"left over")
    assert files(found) == before - set(strays)


def test_a_snapshot_that_cannot_be_read_stops_the_sweep(config: CatalogConfig) -> None:
    found = table(config, NAMES.ledger)
    root = Path(str(found.table_path).removeprefix("file:"))
    head = found.snapshot_manager().get_latest_snapshot()
    (root / "manifest" / head.base_manifest_list).unlink()
    before = {path for path in files(found) if path.suffix == ".parquet"}
    with pytest.raises(StoreUnavailableError, match="curation_ledger"):
        Maintainer(config, NAMES, SOON, clock_at(later(days=2))).run()
    assert {path for path in files(found) if path.suffix == ".parquet"} == before


def test_a_table_with_branches_is_left_alone(config: CatalogConfig) -> None:
    found = table(config, NAMES.curated)
    root = Path(str(found.table_path).removeprefix("file:"))
    (root / "branch" / "branch-b" / "snapshot").mkdir(parents=True)
    before = files(found)
    reports = {report.table: report for report in Maintainer(config, NAMES, SOON, clock_at(later(days=2))).run()}
    left_alone = reports[f"db.{NAMES.curated}"].left_alone
    assert left_alone is not None
    assert "branches" in left_alone
    assert files(found) == before
