from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pypaimon.common.json_util import JSON
from pypaimon.snapshot.snapshot import Snapshot

from consumers.errors import ConfigurationError, StopError
from consumers.paimon.catalog import CatalogConfig
from consumers.paimon.commit.fence import Fence
from consumers.paimon.commit.publish import HardLinkSnapshotCommit, NoClobberSnapshotCommit, snapshot_commit_for
from consumers.paimon.commit.publish_disk import HardLinkFolder
from consumers.paimon.commit.rows import Lineage, ledger_rows
from consumers.paimon.commit.table_committer import TableCommitter
from tests.support.warehouse import NAMES, PROFILE, make_warehouse, processed, rows_of, table


def _unasked(snapshot: Any, following: Any) -> bool:
    raise AssertionError("the names alone tell")


def _snapshot(snapshot_id: int, user: str = "me") -> Snapshot:
    return Snapshot(3, snapshot_id, 0, "base", "delta", 0, 0, user, snapshot_id, "APPEND", 1_700_000_000_000)


def _owner(folder: Path, snapshot_id: int) -> str:
    found: Any = JSON.from_json((folder / f"snapshot-{snapshot_id}").read_text(), Snapshot)
    return str(found.commit_user)


def test_second_writer_of_a_snapshot_is_told_so_and_overwrites_nothing(tmp_path: Path) -> None:
    assert HardLinkSnapshotCommit(tmp_path, _unasked).commit(None, _snapshot(1, "first"), [])
    assert not HardLinkSnapshotCommit(tmp_path, _unasked).commit(None, _snapshot(1, "second"), [])
    assert _owner(tmp_path, 1) == "first"
    assert (tmp_path / "LATEST").read_text() == "1"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["LATEST", "snapshot-1"]


def test_one_of_many_writers_at_the_same_instant_wins(tmp_path: Path) -> None:
    HardLinkSnapshotCommit(tmp_path, _unasked).commit(None, _snapshot(1), [])
    barrier, won = threading.Barrier(8), []

    def publish(user: str) -> None:
        commit = HardLinkSnapshotCommit(tmp_path, _unasked, before_link=barrier.wait)
        if commit.commit("uuid", _snapshot(2, user), []):
            won.append(user)

    threads = [threading.Thread(target=publish, args=(f"writer-{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won == [_owner(tmp_path, 2)]


def test_snapshot_whose_name_is_free_again_because_it_expired_is_not_published(tmp_path: Path) -> None:
    def the_others_go_on_and_the_old_ones_expire() -> None:
        others = HardLinkSnapshotCommit(tmp_path, _unasked)
        for snapshot_id in (2, 3, 4):
            others.commit("uuid", _snapshot(snapshot_id, "other"), [])
        for snapshot_id in (1, 2, 3):
            (tmp_path / f"snapshot-{snapshot_id}").unlink()

    HardLinkSnapshotCommit(tmp_path, _unasked).commit(None, _snapshot(1), [])
    late = HardLinkSnapshotCommit(tmp_path, _unasked, before_link=the_others_go_on_and_the_old_ones_expire)
    assert not late.commit("uuid", _snapshot(2, "late"), [])
    assert [path.name for path in tmp_path.glob("snapshot-*")] == ["snapshot-4"]
    assert not HardLinkSnapshotCommit(tmp_path, _unasked).commit(None, _snapshot(1, "later still"), [])


class _Paused(HardLinkFolder):
    """Creates, and is then paused."""

    def __init__(self, folder: Path, before: Callable[[], None], after: Callable[[], None]) -> None:
        super().__init__(folder, before)
        self._after = after

    def create(self, name: str, content: bytes, if_: Callable[[], bool]) -> bool:
        is_created = super().create(name, content, if_)
        self._after()
        return is_created


def _append(config: CatalogConfig, row_id: int, user: str = "other") -> None:
    committer = TableCommitter(table(config, NAMES.ledger), user, lambda manager, latest: None)
    rows = ledger_rows([(processed(row_id), 1)], Lineage("c", 1, row_id, PROFILE))
    committer.publish(committer.write(rows, row_id), row_id, {"writer": user})
    committer.close()


def _expire_below(config: CatalogConfig, first_kept: int) -> None:
    manager = table(config, NAMES.ledger).snapshot_manager()
    for path in Path(manager.snapshot_dir).glob("snapshot-*"):
        if int(path.name.removeprefix("snapshot-")) < first_kept:
            path.unlink()


def _publish_paused(
    config: CatalogConfig, before: Callable[[], None], after: Callable[[], None], *, is_empty: bool = False
) -> None:
    """Append row 100, pausing once before its snapshot is linked and once after that."""
    ledger = table(config, NAMES.ledger)
    committer = TableCommitter(ledger, "paused", lambda manager, latest: None)
    folder = _Paused(Path(ledger.snapshot_manager().snapshot_dir), _once(before), _once(after))
    commit = NoClobberSnapshotCommit(folder, snapshot_commit_for(ledger)._follows)
    committer._commit.file_store_commit.snapshot_commit = commit
    rows = ledger_rows([] if is_empty else [(processed(100), 1)], Lineage("c", 1, 1, PROFILE))
    committer.publish(committer.write(rows, 1), 1, {"writer": "paused"})
    committer.close()


def _once(action: Callable[[], None]) -> Callable[[], None]:
    actions = [action]
    return lambda: actions.pop()() if actions else None


@pytest.mark.parametrize("is_empty", [False, True])
@pytest.mark.parametrize("num_since", [1, 12])
def test_publisher_paused_after_its_link_keeps_its_snapshot_though_its_base_has_expired(
    tmp_path: Path, num_since: int, is_empty: bool
) -> None:
    config = make_warehouse(tmp_path / "warehouse")
    _append(config, 1)

    def others_go_on() -> None:
        for number in range(num_since):
            _append(config, 2 + number)
        _expire_below(config, 2)

    _publish_paused(config, lambda: None, others_go_on, is_empty=is_empty)
    manager = table(config, NAMES.ledger).snapshot_manager()
    assert manager.get_snapshot_by_id(2).commit_user == "paused"
    assert manager.get_latest_snapshot().id == 2 + num_since
    found = [row["source_row_id"] for row in rows_of(config, NAMES.ledger, ["source_row_id"])]
    assert sorted(found) == sorted([1, *range(2, 2 + num_since), *([] if is_empty else [100])])


@pytest.mark.parametrize("num_expired", [2, 3, 4])
def test_publisher_that_took_an_expired_name_takes_its_snapshot_back_and_says_that_it_failed(
    tmp_path: Path, num_expired: int
) -> None:
    config = make_warehouse(tmp_path / "warehouse")
    _append(config, 1)
    folder = Path(table(config, NAMES.ledger).snapshot_manager().snapshot_dir)

    def others_go_on_unseen() -> None:
        # The paused writer has looked for its base, and sees none of this.
        for number in range(4):
            _append(config, 2 + number)
        _expire_below(config, num_expired + 1)

    class Late(_Paused):
        def create(self, name: str, content: bytes, if_: Callable[[], bool]) -> bool:
            assert if_() or name != "snapshot-2"
            self._after()
            return super().create(name, content, lambda: True)

    ledger = table(config, NAMES.ledger)
    committer = TableCommitter(ledger, "paused", lambda manager, latest: None)
    late = Late(folder, lambda: None, _once(others_go_on_unseen))
    committer._commit.file_store_commit.snapshot_commit = NoClobberSnapshotCommit(
        late, snapshot_commit_for(ledger)._follows
    )
    rows = ledger_rows([(processed(100), 1)], Lineage("c", 1, 1, PROFILE))
    with pytest.raises(RuntimeError, match="cannot be found"):
        committer.publish(committer.write(rows, 1), 1, {"writer": "paused"})
    committer.close()
    found = [row["source_row_id"] for row in rows_of(config, NAMES.ledger, ["source_row_id"])]
    assert sorted(found) == [1, 2, 3, 4, 5]
    assert not (folder / "snapshot-2").exists()


def test_writer_that_dies_before_the_link_leaves_nothing_that_a_reader_sees(tmp_path: Path) -> None:
    config = make_warehouse(tmp_path / "warehouse")
    manager = table(config, NAMES.ledger).snapshot_manager()
    folder = Path(manager.snapshot_dir)

    def die() -> None:
        (folder / ".snapshot-1.left-behind.tmp").write_text("half a snapsh")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        HardLinkSnapshotCommit(folder, _unasked, before_link=die).commit(None, _snapshot(1), [])
    assert manager.get_latest_snapshot() is None
    assert HardLinkSnapshotCommit(folder, _unasked).commit(None, _snapshot(1), [])
    assert manager.get_latest_snapshot().id == 1


def test_writers_in_many_threads_lose_no_row(tmp_path: Path) -> None:
    config = make_warehouse(tmp_path / "warehouse")
    num_writers, num_commits = 4, 8

    def write(writer: int) -> None:
        committer = TableCommitter(table(config, NAMES.ledger), f"user-{writer}", lambda manager, latest: None)
        for number in range(num_commits):
            rows = ledger_rows([(processed(writer * 100 + number), 1)], Lineage("c", 1, number, PROFILE))
            committer.publish(committer.write(rows, number), number, {"writer": str(writer)})
        committer.close()

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(num_writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    latest = table(config, NAMES.ledger).snapshot_manager().get_latest_snapshot()
    assert (latest.id, latest.total_record_count) == (num_writers * num_commits, num_writers * num_commits)


def test_storage_without_a_safe_publish_is_refused_with_what_to_change(tmp_path: Path) -> None:
    config = make_warehouse(tmp_path / "warehouse")
    ledger = table(config, NAMES.ledger)
    ledger.table_path = "hdfs://host/warehouse/db.db/ledger"
    with pytest.raises(ConfigurationError, match=r"hdfs://host.*use a warehouse on a local disk, S3 or OSS"):
        snapshot_commit_for(ledger)


def test_table_set_back_under_a_consumer_stops_it(tmp_path: Path) -> None:
    config = make_warehouse(tmp_path / "warehouse")
    manager = table(config, NAMES.ledger).snapshot_manager()
    fence = Fence("main", "user", "db.ledger")
    fence.seen(_snapshot(5))
    with pytest.raises(StopError, match="set back from snapshot 5 to 3"):
        fence.check(manager, _snapshot(3))
