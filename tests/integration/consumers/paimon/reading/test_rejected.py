"""Videos of which no clip was kept, listed from the ledger page by page."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.paimon.catalog import CatalogConfig
from consumers.paimon.commit.sink import PaimonSink
from consumers.paimon.reading.ledger_walk import ledger_windows, newest_windows
from consumers.paimon.reading.story import StoryReader
from consumers.ports import CommitBatch
from schemas.positions import Position
from tests.support.warehouse import NAMES, PROFILE, append_raw, failed, make_warehouse, processed, table


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


def _ids(reader: StoryReader, before: int | None, limit: int) -> tuple[list[int], int | None]:
    rows, next_before = reader.rejected(before, limit)
    return [row["source_row_id"] for row in rows], next_before


def test_pages_hold_only_rejected_videos_newest_first(config: CatalogConfig) -> None:
    _commit(config, (0, 0), (1, 2), (2, 0), (3, 0), (5, 1))
    reader = StoryReader(config, NAMES, "main")
    assert _ids(reader, None, 2) == ([3, 2], 1)
    assert _ids(reader, 1, 2) == ([0], None)
    (row,), _ = reader.rejected(1, 10)
    assert [(clip["rejected_by"], bool(clip["reason"])) for clip in row["clips"]] == [("motion_filter", True)]


def test_offsets_of_a_changelog_lie_far_apart_and_are_on_one_page(config: CatalogConfig) -> None:
    _commit(config, (3, 0), (7 << 32, 0))
    assert _ids(StoryReader(config, NAMES, "main"), None, 10) == ([7 << 32, 3], None)


class _Impatient:
    """A clock on which every look takes a second."""

    def __init__(self) -> None:
        self._now_s = 0.0

    def monotonic_s(self) -> float:
        self._now_s += 1.0
        return self._now_s


def test_search_that_takes_too_long_gives_a_short_page_that_goes_on(config: CatalogConfig) -> None:
    sink = PaimonSink(config, NAMES, "main", PROFILE)
    sink.open()
    # More files than are looked at together.
    for row_id in range(10):
        sink.commit(CommitBatch((processed(row_id, 0),), Position(row_id + 1)))
    sink.close()
    reader = StoryReader(config, NAMES, "main", _Impatient())  # type: ignore[arg-type]
    found: list[int] = []
    before: int | None = None
    num_pages = 0
    while before or not num_pages:
        rows, before = reader.rejected(before, 100, within_s=0.5)
        found += [row["source_row_id"] for row in rows]
        num_pages += 1
    assert found == [*reversed(range(10))]
    assert num_pages > 1
    assert _ids(reader, None, 100) == (found, None)


def test_files_that_hold_nothing_of_interest_are_not_read(config: CatalogConfig) -> None:
    _commit(config, (0, 0), (5, 1))
    sink = PaimonSink(config, NAMES, "main", PROFILE)
    sink.open()
    sink.commit(CommitBatch((processed(6, 1),), Position(7)))
    sink.close()
    ledger = table(config, NAMES.ledger)
    head = ledger.snapshot_manager().get_latest_snapshot()
    windows = newest_windows(ledger, head, ("source_row_id", "run"), lambda it: [it.is_not_null("failure_stage")])
    assert [(window.start, [row["source_row_id"] for row in rows]) for window, rows in windows] == [(0, [4])]


_FILES = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 60), st.integers(1, 30_000)), max_size=60)


@given(files=_FILES, before=st.integers(1, 300))
def test_windows_hold_every_row_once_and_whole_files(files: list[tuple[int, int, int]], before: int) -> None:
    spans = [(low, low + length, num_rows) for low, length, num_rows in files]
    windows = list(ledger_windows(spans, before))
    assert all(upper.start >= lower.end for upper, lower in pairwise(windows))
    for low, high, _ in spans:
        # What of the file is asked for lies in one window.
        if low < before:
            (window,) = [each for each in windows if low < each.end and high >= each.start]
            assert window.start <= low
            assert min(high, before - 1) < window.end
