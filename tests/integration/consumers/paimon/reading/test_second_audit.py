"""The tests' own auditor: silent on whole tables, and not blind to any kind of damage."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from consumers.paimon.catalog import CatalogConfig
from consumers.paimon.commit.rows import Lineage, curated_rows, ledger_rows
from consumers.paimon.commit.sink import PaimonSink
from consumers.paimon.commit.table_committer import TableCommitter
from consumers.ports import CommitBatch
from schemas.positions import Position
from schemas.records import ProcessedVideo, RowKind, VideoOutcome
from tests.support.consuming import consume
from tests.support.rewrites import RowIds, rewrite
from tests.support.second_audit import Tables, Tally, tally
from tests.support.warehouse import (
    AT,
    NAMES,
    PROFILE,
    append_raw,
    delete_rows,
    failed,
    make_warehouse,
    processed,
    table,
)

_LINEAGE = Lineage("main", 1, 1, PROFILE)
_WHOLE = {"missing": 0, "duplicated": 0, "stray": 0, "clips_missing": 0, "clips_duplicated": 0, "clips_stray": 0}


@pytest.fixture
def config(tmp_path: Path) -> CatalogConfig:
    made = make_warehouse(tmp_path / "warehouse")
    append_raw(made, ["v0", "v1", "v2"])
    sink = PaimonSink(made, NAMES, "main", PROFILE)
    sink.open()
    sink.commit(CommitBatch((processed(0, 2), processed(1, 1), failed(2)), Position(3)))
    sink.close()
    return made


def _tally(config: CatalogConfig) -> Tally:
    names = (f"db.{name}" for name in (NAMES.raw, NAMES.ledger, NAMES.curated))
    return tally(Tables(config.options, *names, "main"))


def _counts(config: CatalogConfig) -> dict[str, int]:
    found = _tally(config)
    return {name: getattr(found, name) for name in _WHOLE}


def test_whole_tables_have_nothing_missing_doubled_or_stray(config: CatalogConfig) -> None:
    found = _tally(config)
    assert found == Tally(3, 3, 0, 0, 0, 0, 0, 0)
    assert found.is_clean


def test_rows_that_move_and_go_have_nothing_missing_doubled_or_stray(tmp_path: Path) -> None:
    config = make_warehouse(tmp_path / "warehouse")
    append_raw(config, ["a", "b", "c"])
    consume(config)
    rewrite(config, NAMES.raw, "OVERWRITE", RowIds.NEW, without=[2])
    consume(config)
    # a and b have ids 3 and 4 now.
    delete_rows(config, NAMES.raw, [3])
    assert _counts(config) == {**_WHOLE, "stray": 1, "clips_stray": 2}
    consume(config)
    assert _tally(config) == Tally(1, 2, 0, 0, 0, 0, 0, 0)


def _append(config: CatalogConfig, name: str, rows: object) -> None:
    committer = TableCommitter(table(config, name), "vandal", lambda manager, latest: None)
    committer.publish(committer.write(rows, 1), 1, {"by": "vandal"})


def _add_unread_row(config: CatalogConfig) -> None:
    append_raw(config, ["v3"])


def _repeat_ledger_row(config: CatalogConfig) -> None:
    _append(config, NAMES.ledger, ledger_rows([(processed(1, 1), 1)], _LINEAGE))


def _invent_ledger_row(config: CatalogConfig) -> None:
    _append(config, NAMES.ledger, ledger_rows([(processed(7, 0), 1)], _LINEAGE))


def _invent_a_move(config: CatalogConfig) -> None:
    video = replace(processed(2, 0).video, row_id=3, row_kind=RowKind.MOVE, key="row:9")
    moved = ProcessedVideo(video, VideoOutcome(is_move=True), 0, AT)
    _append(config, NAMES.ledger, ledger_rows([(moved, 1)], _LINEAGE))


def _delete_clip(config: CatalogConfig) -> None:
    delete_rows(config, NAMES.curated, [0])


def _repeat_clip(config: CatalogConfig) -> None:
    _append(config, NAMES.curated, curated_rows([processed(1, 1)], _LINEAGE))


def _invent_clip(config: CatalogConfig) -> None:
    _append(config, NAMES.curated, curated_rows([processed(7, 1)], _LINEAGE))


def _leave_clip_of_an_older_run(config: CatalogConfig) -> None:
    _append(config, NAMES.ledger, ledger_rows([(processed(1, 0), 2)], _LINEAGE))


def _empty_a_clip(config: CatalogConfig) -> None:
    delete_rows(config, NAMES.curated, [2])
    rows = curated_rows([processed(1, 1)], _LINEAGE)
    place = rows.schema.get_field_index("clip")
    empty = rows.set_column(place, rows.schema.field("clip"), pa.array([b""], pa.large_binary()))
    _append(config, NAMES.curated, empty)


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (_add_unread_row, "missing"),
        (_repeat_ledger_row, "duplicated"),
        (_invent_ledger_row, "stray"),
        (_invent_a_move, "stray"),
        (_delete_clip, "clips_missing"),
        (_repeat_clip, "clips_duplicated"),
        (_invent_clip, "clips_stray"),
        (_leave_clip_of_an_older_run, "clips_stray"),
        (_empty_a_clip, "clips_missing"),
    ],
)
def test_each_kind_of_damage_is_counted(config: CatalogConfig, damage: object, kind: str) -> None:
    damage(config)  # type: ignore[operator]
    assert _counts(config) == {**_WHOLE, kind: 1}
