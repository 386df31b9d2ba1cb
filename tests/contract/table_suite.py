"""What a table has to keep for the commit protocol: pypaimon's, and the one that schedules are simulated on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from consumers.errors import ConfigurationError, FencedError
from consumers.paimon.catalog import CatalogConfig, load_table, open_catalog
from consumers.paimon.commit.ledger_index import LedgerIndex, of_consumer
from consumers.paimon.commit.markers import newest_marker
from consumers.paimon.commit.reposition import Repositioner
from consumers.paimon.commit.rescale import Rescaler
from consumers.paimon.commit.rows import Lineage, curated_rows, ledger_rows
from consumers.paimon.commit.sink import PaimonSink
from consumers.paimon.commit.table_committer import TableCommitter
from consumers.paimon.commit.takedown import TakedownStore, new_takedown
from consumers.paimon.commit.versions import clip_row_ids
from consumers.paimon.scan import ROW_ID, stream
from consumers.paimon.snapshots import read_snapshot
from schemas.positions import OffsetRange, Position
from schemas.shards import Shard
from tests.support.warehouse import AT, NAMES, PROFILE, batch, failed, processed

_LINEAGE = Lineage("main", 1, 1, PROFILE)
_SOURCE = "db.raw_videos"


def _table(config: CatalogConfig, name: str) -> Any:
    return load_table(open_catalog(config), config, name)


def _committer(table: Any, user: str, check: Callable[[Any, Any], None] = lambda manager, latest: None) -> Any:
    return TableCommitter(table, user, check)


def _append(table: Any, row_id: int, user: str = "writer", identifier: int = 1) -> None:
    committer = _committer(table, user)
    rows = ledger_rows([(processed(row_id), 1)], _LINEAGE)
    committer.publish(committer.write(rows, identifier), identifier, {"by": user})
    committer.close()


def _row_ids(table: Any, snapshot: Any, where: Any = None) -> list[int]:
    batches = stream(table, ("source_row_id",), snapshot, where)
    return sorted(row_id for part in batches for row_id in part.column("source_row_id").to_pylist())


class TableContract:
    """Subclasses give a fixture ``config``, of new tables."""

    def test_new_table_has_no_snapshot(self, config: CatalogConfig) -> None:
        manager = _table(config, NAMES.ledger).snapshot_manager()
        assert manager.get_latest_snapshot() is None
        assert read_snapshot(manager, 1) is None
        assert _row_ids(_table(config, NAMES.ledger), None) == []

    def test_snapshots_are_numbered_and_keep_what_their_commit_said(self, config: CatalogConfig) -> None:
        table = _table(config, NAMES.ledger)
        for row_id in (0, 1, 2):
            _append(table, row_id, f"writer-{row_id}", 10 + row_id)
        manager = _table(config, NAMES.ledger).snapshot_manager()
        latest = manager.get_latest_snapshot()
        told = (latest.id, latest.commit_user, latest.commit_identifier, latest.commit_kind, latest.properties["by"])
        assert told == (3, "writer-2", 12, "APPEND", "writer-2")
        assert len({manager.get_snapshot_by_id(number).uuid for number in (1, 2, 3)}) == 3
        assert read_snapshot(manager, 4) is None

    def test_each_snapshot_is_read_as_it_was(self, config: CatalogConfig) -> None:
        table = _table(config, NAMES.ledger)
        for row_id in (0, 1, 2):
            _append(table, row_id)
        manager = table.snapshot_manager()
        for number in (1, 2, 3):
            assert _row_ids(table, manager.get_snapshot_by_id(number)) == list(range(number))

    def test_snapshot_that_is_not_there_cannot_be_read(self, config: CatalogConfig) -> None:
        table = _table(config, NAMES.ledger)
        _append(table, 0)
        head = table.snapshot_manager().get_latest_snapshot()
        head.id = 9
        with pytest.raises(Exception, match=r"(?i)snapshot"):
            _row_ids(table, head)

    def test_rows_are_found_by_what_our_code_asks_for(self, config: CatalogConfig) -> None:
        table = _table(config, NAMES.ledger)
        for row_id in range(5):
            _append(table, row_id)
        head = table.snapshot_manager().get_latest_snapshot()

        def both(first: Any, second: Any, how: str = "and_predicates") -> Any:
            return lambda builder: getattr(builder, how)([first(builder), second(builder)])

        def mine(builder: Any) -> Any:
            return of_consumer("main", _SOURCE)(builder)

        assert _row_ids(table, head, mine) == [0, 1, 2, 3, 4]
        assert _row_ids(table, head, of_consumer("other", _SOURCE)) == []
        assert _row_ids(table, head, both(mine, lambda b: b.is_in("source_row_id", [1, 3, 9]))) == [1, 3]
        assert _row_ids(table, head, both(mine, lambda b: b.between("source_row_id", 1, 2))) == [1, 2]
        either = both(lambda b: b.equal("source_row_id", 0), lambda b: b.equal("video_id", "v4"), "or_predicates")
        assert _row_ids(table, head, either) == [0, 4]

    def test_columns_are_read_alike(self, config: CatalogConfig) -> None:
        table = _table(config, NAMES.ledger)
        committer = _committer(table, "writer")
        rows = ledger_rows([(processed(0, 2), 1), (failed(1), 3)], _LINEAGE, 7)
        committer.publish(committer.write(rows, 1), 1, {"by": "writer"})
        index = LedgerIndex.read(table, table.snapshot_manager().get_latest_snapshot(), "main", _SOURCE)
        told = (index.row_ids.tolist(), index.runs.tolist(), index.clip_owners.tolist(), index.max_watermark)
        assert told == ([0, 1], [1, 3], [0, 0], 7)

    def test_commit_without_rows_is_a_snapshot(self, config: CatalogConfig) -> None:
        table = _table(config, NAMES.curated)
        _committer(table, "writer").publish([], 1, {"by": "writer"})
        assert table.snapshot_manager().get_latest_snapshot().id == 1

    def test_what_the_check_raises_ends_the_commit_with_nothing_published(self, config: CatalogConfig) -> None:
        table = _table(config, NAMES.ledger)

        def refuse(manager: Any, latest: Any) -> None:
            raise FencedError("no")

        with pytest.raises(FencedError, match="no"):
            _committer(table, "writer", refuse).publish([], 1, {"by": "writer"})
        assert table.snapshot_manager().get_latest_snapshot() is None

    def test_commit_that_is_overtaken_is_made_on_top_of_the_other(self, config: CatalogConfig) -> None:
        table = _table(config, NAMES.ledger)
        _append(table, 0)
        others = [1]

        def let_others_go_first(manager: Any, latest: Any) -> None:
            while others:
                _append(_table(config, NAMES.ledger), others.pop(), "other")

        committer = _committer(table, "writer", let_others_go_first)
        rows = ledger_rows([(processed(2), 1)], _LINEAGE)
        committer.publish(committer.write(rows, 2), 2, {"by": "writer"})
        head = table.snapshot_manager().get_latest_snapshot()
        assert (head.id, head.commit_user, committer.num_attempts) == (3, "writer", 2)
        assert _row_ids(table, head) == [0, 1, 2]

    def test_rows_of_the_curated_table_have_ids_and_can_be_deleted(self, config: CatalogConfig) -> None:
        table = _table(config, NAMES.curated)
        for row_id in (0, 1):
            committer = _committer(table, "writer")
            rows = curated_rows([processed(row_id, 2)], _LINEAGE)
            committer.publish(committer.write(rows, row_id), row_id, {"by": "writer"})
        head = table.snapshot_manager().get_latest_snapshot()
        assert head.next_row_id == 4
        assert clip_row_ids(table, head, "main", _SOURCE, [1]) == [2, 3]
        committer = _committer(table, "writer")
        committer.publish(committer.delete([1, 2], 3), 3, {"by": "writer"})
        after = table.snapshot_manager().get_latest_snapshot()
        assert (after.commit_kind, after.next_row_id) == ("OVERWRITE", 4)
        left = [row for part in stream(table, (ROW_ID, "source_row_id"), after) for row in part.to_pylist()]
        assert [(row[ROW_ID], row["source_row_id"]) for row in left] == [(0, 0), (3, 1)]
        assert len([1 for part in stream(table, (ROW_ID,), head) for _ in part.to_pylist()]) == 4

    def test_deletion_from_a_file_that_another_has_deleted_from_meanwhile_fails(self, config: CatalogConfig) -> None:
        table = _table(config, NAMES.curated)
        committer = _committer(table, "writer")
        committer.publish(committer.write(curated_rows([processed(0, 3)], _LINEAGE), 1), 1, {"by": "writer"})
        messages = committer.delete([0], 2)
        other = _committer(_table(config, NAMES.curated), "other")
        other.publish(other.delete([1], 1), 1, {"by": "other"})
        with pytest.raises(RuntimeError):
            committer.publish(messages, 2, {"by": "writer"})
        head = table.snapshot_manager().get_latest_snapshot()
        assert (head.id, head.commit_user) == (2, "other")

    def test_takedowns_are_kept_by_key(self, config: CatalogConfig) -> None:
        store = TakedownStore(config, NAMES.control)
        takedown = new_takedown("v1", "ann", "test", AT, None, video_ids=("v1",))
        store.add(takedown)
        store.add(takedown)
        assert TakedownStore(config, NAMES.control).read() == [takedown]

    def test_life_of_a_consumer(self, config: CatalogConfig) -> None:
        """Commits, a copy, a crash's half, a rescale, a replay, a takedown: the same on every store."""
        first = PaimonSink(config, NAMES, "main", PROFILE)
        first.open()
        first.commit(batch(Position(), [0, 1, 4]))
        second = PaimonSink(config, NAMES, "main", PROFILE)
        assert (second.open().position, second.open().epoch) == (Position(2, (OffsetRange(4, 5),)), 3)
        with pytest.raises(FencedError):
            first.commit(batch(Position(2, (OffsetRange(4, 5),)), [2]))
        report = Rescaler(config, NAMES, "main").rescale(2)
        assert (report.before, report.watermark) == (1, 2)
        with pytest.raises(ConfigurationError, match="0/1 is not one of its shards"):
            PaimonSink(config, NAMES, "main", PROFILE).open()
        sinks = [PaimonSink(config, NAMES, "main", PROFILE, shard=Shard(index, 2)) for index in (0, 1)]
        positions = [sink.open().position for sink in sinks]
        sinks[0].commit(batch(positions[0], [2], num_kept=0))
        sinks[1].commit(batch(positions[1], [3]))
        mover = Repositioner(config, NAMES, "main", Shard(0, 2))
        mover.make(mover.again([2]))
        takedown = new_takedown("v3", "ann", "test", AT, None, video_ids=("v3",))
        TakedownStore(config, NAMES.control).add(takedown)
        for index in (0, 1):
            sink = PaimonSink(config, NAMES, "main", PROFILE, shard=Shard(index, 2))
            position = sink.open().position
            if index == 0:
                sink.commit(batch(position, [2]))
        ledger, curated = (_table(config, name) for name in (NAMES.ledger, NAMES.curated))
        heads = [table.snapshot_manager().get_latest_snapshot() for table in (ledger, curated)]
        index = LedgerIndex.read(ledger, heads[0], "main", _SOURCE)
        runs = Counter(zip(index.row_ids.tolist(), index.runs.tolist(), strict=True))
        assert runs == Counter([(0, 1), (1, 1), (4, 1), (2, 1), (2, 2), (3, 1), (3, 2)])
        assert _row_ids(curated, heads[1]) == [0, 1, 2, 4]
        marker = newest_marker(ledger.snapshot_manager(), "main", heads[0], 0, 1000).marker
        assert marker is not None
        assert [head.id for head in heads] == [14, 14]
