"""Videos of which no clip was kept, listed from the ledger page by page."""

from __future__ import annotations

from pathlib import Path

import pytest

from consumers.paimon.catalog import CatalogConfig
from consumers.paimon.sink import PaimonSink
from consumers.paimon.story import StoryReader
from consumers.ports import CommitBatch
from schemas.positions import Position
from tests.warehouse import NAMES, PROFILE, append_raw, failed, make_warehouse, processed


@pytest.fixture
def config(tmp_path: Path) -> CatalogConfig:
    made = make_warehouse(tmp_path / "warehouse")
    append_raw(made, "abcdef")
    return made


def _commit(config: CatalogConfig, *videos: tuple[int, int]) -> None:
    """Commit videos by row id and number of kept clips; none kept is a rejected one."""
    sink = PaimonSink(config, NAMES, "main", PROFILE)
    sink.open()
    done = tuple(processed(row_id, num_kept) for row_id, num_kept in videos)
    sink.commit(CommitBatch((*done, failed(4)), Position(max(row_id for row_id, _ in videos) + 1)))
    sink.close()


def _ids(reader: StoryReader, before: int, limit: int) -> tuple[list[int], int | None]:
    rows, next_before = reader.rejected(before, limit)
    return [row["source_row_id"] for row in rows], next_before


def test_pages_hold_only_rejected_videos_newest_first(config: CatalogConfig) -> None:
    _commit(config, (0, 0), (1, 2), (2, 0), (3, 0), (5, 1))
    reader = StoryReader(config, NAMES, "main")
    assert _ids(reader, 6, 2) == ([3, 2], 2)
    assert _ids(reader, 2, 2) == ([0], None)
    (row,), _ = reader.rejected(1, 10)
    assert [(clip["rejected_by"], bool(clip["reason"])) for clip in row["clips"]] == [("motion_filter", True)]


def test_long_stretch_without_one_gives_a_short_page_that_goes_on(config: CatalogConfig) -> None:
    _commit(config, (3, 0), (50_000, 0))
    reader = StoryReader(config, NAMES, "main")
    found, before = [], 50_001
    num_pages = 0
    while before:
        ids, next_before = _ids(reader, before, 10)
        found += ids
        num_pages += 1
        before = next_before or 0
    assert found == [50_000, 3]
    assert num_pages > 1
