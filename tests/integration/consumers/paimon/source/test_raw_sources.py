from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pypaimon.table.row.blob import BlobDescriptor

from consumers.errors import ConfigurationError, StoreUnavailableError
from consumers.paimon.catalog import CatalogConfig
from consumers.paimon.scan import RangeReader
from consumers.paimon.source.row_source import RowIdSource
from consumers.paimon.stores.blobs import PaimonBlobOpener
from consumers.paimon.tables import RawColumns
from schemas.positions import OffsetRange
from schemas.records import WHOLE_OBJECT, BlobReference, RawVideo, SkippedRange
from tests.support.warehouse import NAMES, append, append_raw, create_raw, expire_all_but_newest, make_warehouse, table

_TRACKED = {"bucket": "-1", "row-tracking.enabled": "true"}
_EVOLVING = {**_TRACKED, "data-evolution.enabled": "true"}
_ONLY_VIDEO = RawColumns(video_id=None, video="clip", size_bytes=None, etag=None, metadata=())
_ALL = [OffsetRange(0, 1000)]


class _Anything:
    def check(self, uri: str) -> None:
        """Every URI is allowed."""

    def check_opened(self, uri: str, path: str) -> None:
        pass


@pytest.fixture
def config(tmp_path: Path) -> CatalogConfig:
    return CatalogConfig({"warehouse": str(tmp_path)}, "db")


def _videos(source: RowIdSource) -> list[RawVideo]:
    items = list(source.read(_ALL))
    assert not any(isinstance(item, SkippedRange) for item in items)
    return [item for item in items if isinstance(item, RawVideo)]


def _raw(config: CatalogConfig, kind: pa.DataType, values: list[Any], options: dict[str, str]) -> RowIdSource:
    schema = pa.schema([("clip", kind), ("note", pa.string())])
    create_raw(config, "raw", schema, options)
    append(config, "raw", [{"clip": value, "note": "n"} for value in values], schema)
    return RowIdSource(config, "raw", _ONLY_VIDEO, chunk_rows=2)


def test_managed_blobs_come_as_references_that_can_be_opened(config: CatalogConfig) -> None:
    source = _raw(config, pa.large_binary(), [b"first video", None, b"third"], _EVOLVING)
    first, second, third = _videos(source)
    assert (second.blob, second.defect) == (None, "column clip is null")
    opener = PaimonBlobOpener(config.options, _Anything())
    for video, expected in ((first, b"first video"), (third, b"third")):
        assert video.blob is not None
        assert video.size_bytes == len(expected)
        with opener.open(video.blob) as stream:
            assert stream.read() == expected
    assert first.blob is not None
    assert first.blob.uri.startswith(source.location)


@pytest.mark.parametrize("options", [_TRACKED, _EVOLVING])
def test_bytes_of_serialized_descriptors_are_decoded_and_garbage_is_a_defect(
    config: CatalogConfig, options: dict[str, str]
) -> None:
    good = BlobDescriptor("s3://bucket/a.mp4", 5, 100).serialize()
    values = [good, b"garbage", None, good[:-1], BlobDescriptor("s3://bucket/b", -3, 1).serialize()]
    videos = _videos(_raw(config, pa.binary(), values, options))
    assert videos[0].blob == BlobReference("s3://bucket/a.mp4", 5, 100)
    assert (videos[0].video_id, videos[0].size_bytes) == ("0", 100)
    assert [video.blob for video in videos[1:]] == [None] * 4
    assert [video.defect for video in videos[1:]] == [
        "column clip holds 7 bytes that are not a serialized BlobDescriptor",
        "column clip is null",
        f"column clip holds {len(good) - 1} bytes that are not a serialized BlobDescriptor",
        "column clip holds a descriptor out of range: URI 's3://bucket/b', offset -3, length 1",
    ]


@pytest.mark.parametrize("options", [_TRACKED, _EVOLVING])
def test_strings_of_uris_are_whole_objects(config: CatalogConfig, options: dict[str, str]) -> None:
    videos = _videos(_raw(config, pa.string(), ["file:///a.mp4", " ", None], options))
    assert videos[0].blob == BlobReference("file:///a.mp4", 0, WHOLE_OBJECT)
    assert videos[0].size_bytes is None
    assert [video.defect for video in videos[1:]] == ["column clip is an empty URI", "column clip is null"]


def test_mapped_columns_fill_the_video(tmp_path: Path) -> None:
    config = make_warehouse(tmp_path / "warehouse")
    append_raw(config, ["one"])
    columns = RawColumns(metadata=("metadata", "landed_at"))
    (video,) = _videos(RowIdSource(config, NAMES.raw, columns))
    assert (video.video_id, video.size_bytes, video.etag) == ("one", 1000, "etag-one")
    assert dict(video.metadata) == {"camera": "left", "landed_at": "2026-03-04 05:06:07+00:00"}
    assert (video.source_table, video.snapshot_id, video.row_id) == ("db.raw_videos", 1, 0)


def test_commit_time_is_the_snapshots_and_stays_near_it_after_expiry(tmp_path: Path) -> None:
    config = make_warehouse(tmp_path / "warehouse")
    for name in "abc":
        append_raw(config, [name])
    before = _videos(RowIdSource(config, NAMES.raw))
    manager = table(config, NAMES.raw).snapshot_manager()
    times = [manager.get_snapshot_by_id(snapshot_id).time_millis for snapshot_id in (1, 2, 3)]
    assert [round(video.committed_at.timestamp() * 1000) for video in before] == times
    expire_all_but_newest(config, NAMES.raw)
    after = _videos(RowIdSource(config, NAMES.raw))
    assert [video.snapshot_id for video in after] == [1, 2, 3]
    for earlier, later in zip(before, after, strict=True):
        assert abs((earlier.committed_at - later.committed_at).total_seconds()) < 5


def test_small_range_of_a_table_with_many_files_touches_few_of_them(tmp_path: Path) -> None:
    config = make_warehouse(tmp_path / "warehouse")
    for number in range(30):
        append_raw(config, [f"{number}-{n}" for n in range(3)])
    raw = table(config, NAMES.raw)
    reader = RangeReader(raw, ["video_id"])
    reader.pin(raw.snapshot_manager().get_latest_snapshot(), OffsetRange(40, 50))
    found = reader.read(OffsetRange(44, 47))
    assert found.rows["video_id"].to_pylist() == ["14-2", "15-0", "15-1"]
    assert {file.rows for file in found.files} == {OffsetRange(42, 45), OffsetRange(45, 48)}
    assert reader.end_of(OffsetRange(38, 41)) is None


def test_large_file_is_read_ahead_and_every_row_comes_once(tmp_path: Path) -> None:
    config = make_warehouse(tmp_path / "warehouse")
    append_raw(config, (str(number) for number in range(2000)))
    raw = table(config, NAMES.raw)
    reader = RangeReader(raw, ["video_id"])
    reader.pin(raw.snapshot_manager().get_latest_snapshot(), OffsetRange(0, 2000))
    assert reader.read(OffsetRange(10, 20), most_rows=1000).read == OffsetRange(10, 10 + 2000 // 16)
    assert reader.read(OffsetRange(10, 20), most_rows=50).read == OffsetRange(10, 60)
    assert reader.read(OffsetRange(10, 20)).read == OffsetRange(10, 20)
    items = RowIdSource(config, NAMES.raw, chunk_rows=7).read([OffsetRange(3, 5), OffsetRange(40, 5000)])
    assert [item.row_id for item in items if isinstance(item, RawVideo)] == [3, 4, *range(40, 2000)]


def test_rows_are_read_on_after_the_snapshot_being_read_has_expired(tmp_path: Path) -> None:
    config = make_warehouse(tmp_path / "warehouse")
    append_raw(config, "ab")
    reading = RowIdSource(config, NAMES.raw, chunk_rows=1).read(_ALL)
    first = next(reading)
    append_raw(config, "cd")
    expire_all_but_newest(config, NAMES.raw)
    rest = list(reading)
    assert [item.row_id for item in (first, *rest) if isinstance(item, RawVideo)] == [0, 1, 2, 3]


def test_data_files_that_vanish_are_a_passing_fault_of_the_store(tmp_path: Path) -> None:
    config = make_warehouse(tmp_path / "warehouse")
    append_raw(config, "ab")
    source = RowIdSource(config, NAMES.raw)
    for file in (Path(source.location) / "bucket-0").iterdir():
        file.unlink()
    with pytest.raises(StoreUnavailableError, match=r"table db\.raw_videos, rows 0 to 1"):
        list(source.read(_ALL))


def test_table_without_row_ids_is_refused_with_what_to_do(config: CatalogConfig) -> None:
    create_raw(config, "raw", pa.schema([("clip", pa.string())]), {"bucket": "-1"})
    with pytest.raises(ConfigurationError, match=r"table db\.raw: has no row ids.*row-tracking\.enabled"):
        RowIdSource(config, "raw", _ONLY_VIDEO)


def test_video_column_of_another_type_is_refused(config: CatalogConfig) -> None:
    create_raw(config, "raw", pa.schema([("clip", pa.float64())]), _TRACKED)
    with pytest.raises(ConfigurationError, match=r"table db\.raw: clip: found DOUBLE, needed BLOB, BYTES.*STRING"):
        RowIdSource(config, "raw", _ONLY_VIDEO)


def test_mapped_column_that_is_missing_is_named(config: CatalogConfig) -> None:
    create_raw(config, "raw", pa.schema([("clip", pa.string()), ("note", pa.string())]), _TRACKED)
    with pytest.raises(ConfigurationError, match="column video is mapped in the settings, but the table has clip, not"):
        RowIdSource(config, "raw", RawColumns(video_id=None, size_bytes=None, etag=None, metadata=()))


def test_missing_raw_table_is_named(config: CatalogConfig) -> None:
    with pytest.raises(ConfigurationError, match=r"table db\.nothing does not exist"):
        RowIdSource(config, "nothing")
