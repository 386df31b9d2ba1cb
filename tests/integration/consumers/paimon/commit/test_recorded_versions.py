"""The ledger tells which version of an object was read, where its table has the columns for that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from consumers.paimon.catalog import CatalogConfig, open_catalog
from consumers.paimon.commit.sink import PaimonSink
from consumers.paimon.reading.story import StoryReader
from consumers.paimon.tables import create_tables
from consumers.ports import CommitBatch
from consumers.testing import SimulatedCrashError
from schemas.object_version import ObjectVersion
from schemas.positions import OffsetRange, Position
from schemas.records import ProcessedVideo
from schemas.tables import LEDGER
from tests.support.warehouse import (
    NAMES,
    PROFILE,
    clip_counts,
    create_raw,
    failed,
    make_warehouse,
    processed,
    rows_of,
)

_DIGEST = "d41d8cd98f00b204e9800998ecf8427e"
_COLUMNS = ["source_size_bytes", "source_etag", "source_is_replaced"]


@pytest.fixture
def earlier(tmp_path: Path) -> CatalogConfig:
    """A warehouse whose ledger an earlier version made."""
    config = CatalogConfig({"warehouse": str(tmp_path / "earlier")}, "db")
    schema = pa.schema([field for field in LEDGER.schema if field.name not in LEDGER.later])
    create_raw(config, NAMES.ledger, schema, dict(LEDGER.options))
    create_tables(open_catalog(config), config, NAMES)
    return config


def _commit(config: CatalogConfig) -> None:
    sink = PaimonSink(config, NAMES, "main", PROFILE)
    sink.open()
    video = processed(0)
    outcome = replace(video.outcome, version=ObjectVersion(1234, "an-etag"), is_replaced=True)
    sink.commit(CommitBatch((replace(video, outcome=outcome),), Position().with_range(OffsetRange(0, 1))))
    sink.close()


def test_version_that_was_read_is_in_the_ledger(tmp_path: Path) -> None:
    config = make_warehouse(tmp_path / "warehouse")
    _commit(config)
    [row] = rows_of(config, NAMES.ledger, _COLUMNS)
    assert row == {"source_size_bytes": 1234, "source_etag": "an-etag", "source_is_replaced": True}


def test_ledger_of_an_earlier_version_works_without(earlier: CatalogConfig) -> None:
    _commit(earlier)
    assert clip_counts(earlier) == {0: 1}
    assert len(rows_of(earlier, NAMES.ledger, ["source_row_id"])) == 1
    assert StoryReader(earlier, NAMES, "main").runs(0)[0]["status"] == "curated"


# A second name for the same bytes.


def _read(row_id: int, etag: str, size_bytes: int = 1000) -> ProcessedVideo:
    video = processed(row_id)
    return replace(video, outcome=replace(video.outcome, version=ObjectVersion(size_bytes, etag)))


def _commit_all(config: CatalogConfig, *batches: Sequence[ProcessedVideo], consumer: str = "main") -> None:
    """Commit batch after batch, as one process."""
    sink = PaimonSink(config, NAMES, consumer, PROFILE)
    position = sink.open().position
    for videos in batches:
        position = position.union(OffsetRange(video.video.row_id, video.video.row_id + 1) for video in videos)
        sink.commit(CommitBatch(tuple(videos), position))
    sink.close()


def _same(config: CatalogConfig) -> dict[int, int]:
    rows = rows_of(config, NAMES.ledger, ["source_row_id", "source_same_as_row_id"])
    return {
        row["source_row_id"]: row["source_same_as_row_id"] for row in rows if row["source_same_as_row_id"] is not None
    }


def test_second_name_for_the_same_bytes_is_recorded_and_not_rejected(tmp_path: Path) -> None:
    config = make_warehouse(tmp_path / "warehouse")
    other = _DIGEST.replace("d", "e")
    _commit_all(
        config, [_read(0, _DIGEST), _read(1, other)], [_read(2, f'"{_DIGEST.upper()}"'), _read(3, f"{other}-2")]
    )
    assert _same(config) == {2: 0}
    # By the next process, within one batch, and whichever is done first.
    _commit_all(config, [_read(6, f"{other}-2"), _read(5, _DIGEST)], [_read(7, "0" * 32), _read(4, "0" * 32)])
    assert _same(config) == {2: 0, 5: 0, 6: 3, 7: 4}
    assert clip_counts(config) == dict.fromkeys(range(8), 1)
    assert StoryReader(config, NAMES, "main").runs(6)[0]["source_same_as_row_id"] == 3


def test_what_is_no_digest_of_the_content_tells_nothing_of_the_bytes(tmp_path: Path) -> None:
    config = make_warehouse(tmp_path / "warehouse")
    _commit_all(config, [_read(0, "1000-1795799255618"), _read(1, "1000-1795799255618")])
    _commit_all(config, [_read(2, "an-etag"), _read(3, "an-etag"), processed(4), failed(5)])
    _commit_all(config, [_read(6, _DIGEST), _read(7, _DIGEST, 999)])
    assert _same(config) == {}


def test_row_is_not_its_own_second_name(tmp_path: Path) -> None:
    config = make_warehouse(tmp_path / "warehouse")
    sink = PaimonSink(config, NAMES, "main", PROFILE, on_step=_die_at("after_ledger_publish"))
    position = sink.open().position.with_range(OffsetRange(0, 2))
    with pytest.raises(SimulatedCrashError):
        sink.commit(CommitBatch((_read(0, _DIGEST), _read(1, "0" * 32)), position))
    again = replace(_read(0, _DIGEST), outcome=replace(_read(0, _DIGEST).outcome, clips=()))
    _commit_all(config, [again, _read(1, "0" * 32)])
    assert len(rows_of(config, NAMES.ledger, ["run"])) == 3
    assert _same(config) == {}


def test_other_consumers_and_ledgers_of_earlier_versions_are_left_alone(earlier: CatalogConfig, tmp_path: Path) -> None:
    _commit_all(earlier, [_read(0, _DIGEST), _read(1, _DIGEST)])
    config = make_warehouse(tmp_path / "warehouse")
    for consumer in ("main", "other"):
        _commit_all(config, [_read(0, _DIGEST)], consumer=consumer)
    assert _same(config) == {}


def _die_at(step: str) -> Callable[[str], None]:
    def on_step(reached: str) -> None:
        if reached == step:
            raise SimulatedCrashError

    return on_step
