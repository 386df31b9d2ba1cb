"""What every source keeps, the fake one and the real ones. A test module subclasses it and gives a ``rows`` fixture."""

from __future__ import annotations

from typing import Protocol

from consumers.ports import Source
from schemas.positions import OffsetRange
from schemas.records import RawVideo, SkippedRange


class RowsUnderTest(Protocol):
    """A raw table that the test can change, and a source on it."""

    @property
    def source(self) -> Source: ...

    def append(self, num_rows: int) -> None:
        """Commit rows; the first row ever has offset 0."""
        ...

    def delete(self, *offsets: int) -> None: ...


def offsets(items: list[RawVideo | SkippedRange]) -> list[int]:
    found: list[int] = []
    for item in items:
        found += [item.row_id] if isinstance(item, RawVideo) else range(item.range.start, item.range.end)
    return found


class SourceContract:
    def test_empty_table_has_head_zero_and_no_snapshot(self, rows: RowsUnderTest) -> None:
        head = rows.source.head()
        assert (head.snapshot_id, head.next_offset, head.committed_at) == (None, 0, None)
        assert list(rows.source.read([OffsetRange(0, 100)])) == []

    def test_head_follows_each_commit(self, rows: RowsUnderTest) -> None:
        rows.append(3)
        first = rows.source.head()
        rows.append(2)
        second = rows.source.head()
        assert (first.next_offset, second.next_offset) == (3, 5)
        assert first.snapshot_id is not None
        assert second.snapshot_id is not None
        assert first.snapshot_id < second.snapshot_id
        assert second.committed_at is not None
        assert second.committed_at.tzinfo is not None

    def test_ranges_are_read_in_order_and_stop_at_the_head(self, rows: RowsUnderTest) -> None:
        rows.append(4)
        rows.append(4)
        items = list(rows.source.read([OffsetRange(1, 3), OffsetRange(5, 100)]))
        assert [item.row_id for item in items if isinstance(item, RawVideo)] == [1, 2, 5, 6, 7]
        assert len(items) == 5

    def test_rows_that_arrive_after_the_source_was_made_are_read(self, rows: RowsUnderTest) -> None:
        source = rows.source
        rows.append(1)
        assert offsets(list(source.read([OffsetRange(0, 10)]))) == [0]
        rows.append(1)
        assert offsets(list(source.read([OffsetRange(1, 10)]))) == [1]

    def test_deleted_rows_are_skipped_and_every_offset_is_covered_once(self, rows: RowsUnderTest) -> None:
        rows.append(6)
        rows.delete(0, 2, 3)
        items = list(rows.source.read([OffsetRange(0, 6)]))
        assert offsets(items) == list(range(6))
        assert [item.range for item in items if isinstance(item, SkippedRange)] == [
            OffsetRange(0, 1),
            OffsetRange(2, 4),
        ]

    def test_a_table_whose_rows_are_all_deleted_yields_one_skip(self, rows: RowsUnderTest) -> None:
        rows.append(3)
        rows.delete(0, 1, 2)
        assert list(rows.source.read([OffsetRange(0, 3)])) == [SkippedRange(OffsetRange(0, 3))]
        assert rows.source.head().next_offset == 3

    def test_nothing_is_read_before_it_is_pulled(self, rows: RowsUnderTest) -> None:
        rows.append(3)
        reading = rows.source.read([OffsetRange(0, 3)])
        first = next(reading)
        assert isinstance(first, RawVideo)
        assert first.row_id == 0
        assert offsets(list(reading)) == [1, 2]

    def test_every_row_says_where_it_came_from(self, rows: RowsUnderTest) -> None:
        rows.append(2)
        videos = [item for item in rows.source.read([OffsetRange(0, 2)]) if isinstance(item, RawVideo)]
        assert all(video.blob is not None and video.blob.uri for video in videos)
        assert all(video.committed_at.tzinfo is not None and "." in video.source_table for video in videos)
        assert len({video.video_id for video in videos}) == 2
