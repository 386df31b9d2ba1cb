"""Processed videos, found by name and by what became of them, in the ledger."""

from __future__ import annotations

from pathlib import Path

import pytest

from consumers.paimon.commit.sink import PaimonSink
from consumers.paimon.reading.story import StoryReader, VideoFilter
from consumers.ports import CommitBatch
from schemas.positions import Position
from schemas.records import VideoStatus
from tests.support.warehouse import NAMES, PROFILE, append_raw, failed, make_warehouse, processed


@pytest.fixture
def reader(tmp_path: Path) -> StoryReader:
    config = make_warehouse(tmp_path / "warehouse")
    append_raw(config, "abcdef")
    for run, batch in enumerate(
        ([processed(0, 1), processed(1, 0), failed(2)], [processed(3, 2), failed(4), processed(5, 0)]), 1
    ):
        sink = PaimonSink(config, NAMES, "main", PROFILE)
        sink.open()
        sink.commit(CommitBatch(tuple(batch), Position(3 * run)))
        sink.close()
    return StoryReader(config, NAMES, "main")


def found(reader: StoryReader, wanted: VideoFilter, limit: int = 10) -> list[int]:
    rows, _ = reader.videos(wanted, limit)
    return [int(row["source_row_id"]) for row in rows]


def test_all_are_listed_newest_row_first_and_in_pages(reader: StoryReader) -> None:
    assert found(reader, VideoFilter()) == [5, 4, 3, 2, 1, 0]
    rows, next_before = reader.videos(VideoFilter(), 4)
    assert [row["source_row_id"] for row in rows] == [5, 4, 3, 2]
    assert found(reader, VideoFilter(before_row_id=next_before)) == [1, 0]


@pytest.mark.parametrize(
    ("status", "rows"),
    [(VideoStatus.CURATED, [3, 0]), (VideoStatus.REJECTED, [5, 1]), (VideoStatus.FAILED, [4, 2])],
)
def test_only_those_that_ended_so(reader: StoryReader, status: VideoStatus, rows: list[int]) -> None:
    assert found(reader, VideoFilter(status)) == rows


def test_they_are_found_by_uri_by_id_and_by_part_of_a_name(reader: StoryReader) -> None:
    [row] = reader.videos(VideoFilter(before_row_id=4), 1)[0]
    assert row["source_row_id"] == 3
    assert found(reader, VideoFilter(video_id=row["video_id"])) == [3]
    assert found(reader, VideoFilter(uri=row["source_uri"])) == [3]
    assert found(reader, VideoFilter(uri=row["source_uri"] + "x")) == []
    name = row["source_uri"].rsplit("/", 1)[-1]
    assert 3 in found(reader, VideoFilter(text=name.upper()))


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        ("file:///videos/a%20B%5B1%5D.mp4", "a b[1]"),
        ("file:///videos/%E8%A7%86%E9%A2%91.mp4", "视频"),
        ("s3://b/A%20b.mp4", "a%20b"),
    ],
)
def test_name_is_looked_for_as_a_person_knows_it(uri: str, text: str) -> None:
    row = {"status": VideoStatus.CURATED, "source_uri": uri, "video_id": "v"}
    assert VideoFilter(text=text).admits(row)
    assert not VideoFilter(text=text + "?").admits(row)
