"""Our own tables are rolled back, and grow again: snapshot numbers are given twice, and nothing may be lost by that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from consumers.errors import ConfigurationError, StopError
from consumers.paimon.catalog import CatalogConfig
from consumers.paimon.commit.reposition import Repositioner
from consumers.paimon.commit.sink import PaimonSink
from consumers.paimon.commit.table_committer import TableCommitter
from consumers.paimon.reading.audit import audit
from consumers.paimon.reading.progress import PaimonProgress
from schemas.positions import Position
from tests.support.warehouse import NAMES, PROFILE, append_raw, batch, clip_counts, ledger_counts, make_warehouse, table

_NUM_ROWS = 4


@pytest.fixture
def config(tmp_path: Path) -> CatalogConfig:
    config = make_warehouse(tmp_path / "warehouse")
    append_raw(config, ["v0", "v1", "v2", "v3"])
    return config


def _latest_id(config: CatalogConfig, name: str) -> int:
    return int(table(config, name).snapshot_manager().get_latest_snapshot().id)


def _set_back(config: CatalogConfig, name: str, num_snapshots: int, num_since: int) -> None:
    """Roll a table back by some snapshots; another writer then commits some."""
    found = table(config, name)
    found.rollback_to(found.snapshot_manager().get_latest_snapshot().id - num_snapshots)
    other = TableCommitter(table(config, name), "another-writer", lambda manager, latest: None)
    for number in range(num_since):
        other.publish([], number, {"written": "by another"})
    other.close()


def _left(position: Position) -> list[int]:
    return [row for gap in position.missing(_NUM_ROWS) for row in range(gap.start, gap.end)]


def _finish(config: CatalogConfig) -> None:
    sink = PaimonSink(config, NAMES, "main", PROFILE)
    position = sink.open().position
    sink.commit(batch(position, _left(position)))
    assert ledger_counts(config) == Counter({(row_id, 1): 1 for row_id in range(_NUM_ROWS)})
    assert clip_counts(config) == Counter(range(_NUM_ROWS))
    report = audit(config, NAMES, "main")
    assert report.is_clean, report.details


@pytest.mark.parametrize("num_since", [0, 1, 2, 5])
@pytest.mark.parametrize("names", [(NAMES.curated,), (NAMES.ledger, NAMES.curated)])
def test_running_consumer_stops_and_the_next_processes_again_what_is_gone(
    config: CatalogConfig, names: tuple[str, ...], num_since: int
) -> None:
    sink = PaimonSink(config, NAMES, "main", PROFILE)
    sink.open()
    for row_id in range(3):
        sink.commit(batch(Position(row_id), [row_id]))
    progress = PaimonProgress(config, NAMES, "main")
    before = progress.last_commit()
    assert before is not None
    assert before.position == Position(3)
    for name in names:
        _set_back(config, name, 2, num_since)
    after = progress.last_commit()
    assert after is not None
    assert after.position == Position(1)
    with pytest.raises(StopError, match=r"was set back .*start consumer main again|was set back under consumer main"):
        sink.commit(batch(Position(3), [3]))
    _finish(config)


@pytest.mark.parametrize("num_since", [0, 1, 3])
@pytest.mark.parametrize("name", [NAMES.ledger, NAMES.curated])
def test_last_commit_alone_that_is_taken_away_is_missed(config: CatalogConfig, name: str, num_since: int) -> None:
    sink = PaimonSink(config, NAMES, "main", PROFILE)
    sink.open()
    sink.commit(batch(Position(), [0]))
    sink.commit(batch(Position(1), [1]))
    _set_back(config, name, 1, num_since)
    with pytest.raises(StopError, match=f"db.{name} was set back under consumer main: commit 2, which was published"):
        sink.commit(batch(Position(2), [2]))


@pytest.mark.parametrize("num_since", [0, 3])
def test_ledger_set_back_alone_is_refused_at_the_start_with_what_to_do_and_that_helps(
    config: CatalogConfig, num_since: int
) -> None:
    sink = PaimonSink(config, NAMES, "main", PROFILE)
    sink.open()
    for row_id in range(3):
        sink.commit(batch(Position(row_id), [row_id]))
    _set_back(config, NAMES.ledger, 2, num_since)
    heads = [_latest_id(config, name) for name in (NAMES.ledger, NAMES.curated)]
    with pytest.raises(ConfigurationError) as refused:
        PaimonSink(config, NAMES, "main", PROFILE).open()
    assert str(refused.value) == (
        f"table db.curation_ledger was set back: its newest snapshot {heads[0]} knows consumer main's commits up to 1, "
        "but snapshot 4 of db.curated_clips holds commit 3; set db.curated_clips back, too, to its snapshot 2 "
        "(rollback_to): what came after it is processed again; or restore the ledger from a tag or a backup"
    )
    assert [_latest_id(config, name) for name in (NAMES.ledger, NAMES.curated)] == heads
    table(config, NAMES.curated).rollback_to(2)
    _finish(config)


@pytest.mark.parametrize("role", ["ledger", "curated"])
def test_commit_of_the_copy_before_while_tables_are_looked_at_is_no_setting_back(
    config: CatalogConfig, role: str
) -> None:
    older = PaimonSink(config, NAMES, "main", PROFILE)
    older.open()
    successor = PaimonSink(config, NAMES, "main", PROFILE)
    manager = getattr(successor, f"_{role}").committer.manager
    _commit_once_after(manager, lambda: older.commit(batch(Position(), [0, 1])))
    assert successor.open().position == Position(2)
    mover = Repositioner(config, NAMES, "main")
    table_of_mover = getattr(mover, f"_{role}")
    manager = table_of_mover.snapshot_manager()
    table_of_mover.snapshot_manager = lambda: manager
    _commit_once_after(manager, lambda: successor.commit(batch(Position(2), [2])))
    assert mover.current()[0] in {Position(2), Position(3)}
    _finish(config)


def _commit_once_after(manager: Any, commit: Callable[[], object]) -> None:
    """Commit when the newest snapshot has been read for the first time."""
    read, commits = manager.get_latest_snapshot, [commit]

    def read_and_commit() -> Any:
        head = read()
        while commits:
            commits.pop()()
        return head

    manager.get_latest_snapshot = read_and_commit


def test_commits_of_others_in_between_are_no_other_history(config: CatalogConfig) -> None:
    sink = PaimonSink(config, NAMES, "main", PROFILE)
    sink.open()
    for row_id in range(_NUM_ROWS):
        sink.commit(batch(Position(row_id), [row_id]))
        for name in (NAMES.ledger, NAMES.curated):
            _set_back(config, name, 0, row_id)
    _finish(config)
