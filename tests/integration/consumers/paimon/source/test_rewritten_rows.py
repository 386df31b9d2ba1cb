"""Row-tracked tables whose files another engine has rewritten."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from consumers.errors import ConfigurationError, SourceChangedError
from consumers.paimon import physical_row_ids
from consumers.paimon.catalog import CatalogConfig
from consumers.paimon.scan import ROW_ID, RangeReader, stream
from consumers.paimon.source.row_source import RowIdSource
from consumers.paimon.tables import RawColumns
from schemas.positions import OffsetRange
from schemas.records import RawVideo, SkippedRange
from tests.support.interop import BY_URI, JavaTable, requires_interop
from tests.support.rewrites import RowIds, rewrite
from tests.support.warehouse import append, create_raw, table

_TRACKED = {"bucket": "-1", "row-tracking.enabled": "true"}
_SCHEMA = pa.schema([("video_id", pa.string()), ("uri", pa.string())])
_COLUMNS = RawColumns(video="uri", size_bytes=None, etag=None, metadata=())
_ALL = [OffsetRange(0, 1000)]


@pytest.fixture
def config(tmp_path: Path) -> CatalogConfig:
    config = CatalogConfig({"warehouse": str(tmp_path)}, "db")
    create_raw(config, "raw", _SCHEMA, _TRACKED)
    for names in ("ab", "c", "de"):
        _add(config, names)
    return config


def _add(config: CatalogConfig, names: str) -> None:
    append(config, "raw", [{"video_id": name, "uri": f"file:///videos/{name}.mp4"} for name in names], _SCHEMA)


def _read(source: RowIdSource, ranges: list[OffsetRange] = _ALL) -> dict[int, str]:
    return {item.row_id: item.video_id for item in source.read(ranges) if isinstance(item, RawVideo)}


@pytest.mark.parametrize("order", [1, -1])
def test_ids_that_stand_in_a_column_of_the_file_are_read_whatever_their_order(
    config: CatalogConfig, order: int
) -> None:
    rewrite(config, "raw", "COMPACT", RowIds.PHYSICAL, without=[2], order=order)
    _add(config, "f")
    source = RowIdSource(config, "raw", _COLUMNS, chunk_rows=2)
    assert _read(source) == {0: "a", 1: "b", 3: "d", 4: "e", 5: "f"}
    assert _read(source, [OffsetRange(1, 2), OffsetRange(4, 6)]) == {1: "b", 4: "e", 5: "f"}
    skipped = [item for item in source.read(_ALL) if isinstance(item, SkippedRange)]
    assert skipped == [SkippedRange(OffsetRange(2, 3))]


def test_rows_without_an_id_are_an_error_that_names_the_file_and_never_skipped(config: CatalogConfig) -> None:
    rewrite(config, "raw", "COMPACT", RowIds.LOST)
    source = RowIdSource(config, "raw", _COLUMNS)
    with pytest.raises(SourceChangedError, match=r"table db\.raw: 5 of 5 rows of file data-.*\.parquet have no row id"):
        _read(source)


def test_files_of_a_table_without_data_evolution_are_left_alone_outside_of_the_range(config: CatalogConfig) -> None:
    rewrite(config, "raw", "COMPACT", RowIds.PHYSICAL)
    for name in "fghi":
        _add(config, name)
    raw = table(config, "raw")
    reader = RangeReader(raw, ["video_id"])
    reader.pin(raw.snapshot_manager().get_latest_snapshot(), OffsetRange(0, 10))
    found = reader.read(OffsetRange(6, 8))
    assert found.rows["video_id"].to_pylist() == ["g", "h"]
    assert [file.rows for file in found.files] == [OffsetRange(6, 7), OffsetRange(7, 8)]
    found = reader.read(OffsetRange(1, 2))
    assert (found.rows["video_id"].to_pylist(), [file.rows for file in found.files]) == (["b"], [OffsetRange(0, 5)])


def test_another_version_of_pypaimon_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"pypaimon 2\.2\.0 is installed.*install pypaimon==2\.1\.0"):
        physical_row_ids.install("2.2.0")


@requires_interop
@pytest.mark.parametrize(
    ("name", "by_snapshot"),
    [
        ("row_tracked_updated", {4: "0 1 2 3", 5: "0 1 2 3", 6: "0 1 2 3 4"}),
        ("row_tracked_deleted", {4: "0 1 2 3", 5: "0 2 3", 6: "0 2 3 4"}),
        ("row_tracked_compacted", {4: "0 1 2 3", 5: "0 1 2 3", 6: "0 1 2 3 4"}),
    ],
)
def test_rows_that_java_has_rewritten_keep_their_ids(tmp_path: Path, name: str, by_snapshot: dict[int, str]) -> None:
    java = JavaTable(name, tmp_path)
    for snapshot_id, ids in by_snapshot.items():
        java.show(snapshot_id)
        source = RowIdSource(java.config, "raw_videos", BY_URI)
        assert _read(source) == {int(row_id): f"v{row_id}" for row_id in ids.split()}
        raw = table(java.config, "raw_videos")
        head = raw.snapshot_manager().get_latest_snapshot()
        streamed = [row_id for batch in stream(raw, (ROW_ID,), head) for row_id in batch.column(ROW_ID).to_pylist()]
        assert sorted(streamed) == [int(row_id) for row_id in ids.split()]


@requires_interop
def test_what_an_update_by_java_has_written_is_read(tmp_path: Path) -> None:
    java = JavaTable("row_tracked_updated", tmp_path)
    first, *_ = RowIdSource(java.config, "raw_videos", BY_URI).read(_ALL)
    assert isinstance(first, RawVideo)
    assert (first.row_id, first.video_id, first.snapshot_id, first.size_bytes) == (0, "v0", 5, 5)
