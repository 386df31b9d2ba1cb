from __future__ import annotations

import os
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from consumers.errors import ConfigurationError
from consumers.paimon.catalog import CatalogConfig
from consumers.paimon.landing.objects import ObjectInfo, expand
from consumers.paimon.landing.raw_writer import RegisterReport, Registrar, register, video_id
from consumers.paimon.scan import RangeReader, RangeRows
from consumers.paimon.source.row_source import RowIdSource
from schemas.positions import OffsetRange
from schemas.records import RawVideo
from tests.support.warehouse import (
    NAMES,
    append_raw,
    delete_rows,
    expire_all_but_newest,
    make_warehouse,
    rows_of,
    table,
)

_AT = datetime(2026, 5, 6, tzinfo=UTC)


@pytest.fixture
def config(tmp_path: Path) -> CatalogConfig:
    return make_warehouse(tmp_path / "warehouse")


def _objects(*names: str, etag: str = "1") -> list[ObjectInfo]:
    return [ObjectInfo(f"file:///{name}.mp4", 10, etag, _AT) for name in names]


def _uris(config: CatalogConfig) -> list[str]:
    return sorted(row["uri"] for row in rows_of(config, NAMES.raw, ["uri"]))


def test_registered_objects_are_read_by_the_source(config: CatalogConfig) -> None:
    assert register(config, NAMES.raw, _objects("a", "b")) == RegisterReport(2, 0)
    videos = [v for v in RowIdSource(config, NAMES.raw).read([OffsetRange(0, 9)]) if isinstance(v, RawVideo)]
    assert [v.blob.uri for v in videos if v.blob] == ["file:///a.mp4", "file:///b.mp4"]
    assert videos[0].video_id == video_id("file:///a.mp4", "1")
    assert (videos[0].size_bytes, videos[0].etag) == (10, "1")


def test_same_objects_again_add_no_row_and_no_snapshot(config: CatalogConfig) -> None:
    register(config, NAMES.raw, _objects("a", "b"))
    assert register(config, NAMES.raw, _objects("b", "a", "a")) == RegisterReport(0, 2)
    assert table(config, NAMES.raw).snapshot_manager().get_latest_snapshot().id == 1


def test_changed_object_gets_a_row_of_its_own(config: CatalogConfig) -> None:
    register(config, NAMES.raw, _objects("a"))
    assert register(config, NAMES.raw, _objects("a", etag="2")) == RegisterReport(1, 0)
    assert len({row["video_id"] for row in rows_of(config, NAMES.raw, ["video_id"])}) == 2


def test_many_objects_are_committed_in_parts(config: CatalogConfig) -> None:
    progress: list[int] = []
    names = [str(number) for number in range(10)]
    report = register(config, NAMES.raw, _objects(*names), rows_per_commit=4, on_progress=progress.append)
    assert report == RegisterReport(10, 0)
    assert progress == [0, 4, 8, 10]
    assert table(config, NAMES.raw).snapshot_manager().get_latest_snapshot().id == 3


def test_rows_that_others_add_meanwhile_are_not_added_again(config: CatalogConfig) -> None:
    calls: list[int] = []

    def on_progress(num_done: int) -> None:
        calls.append(num_done)
        if len(calls) == 1:
            append_raw(config, ["foreign"])
            register(config, NAMES.raw, _objects("b"))

    report = register(config, NAMES.raw, _objects("a", "b", "c"), on_progress=on_progress)
    assert report == RegisterReport(2, 1)
    assert _uris(config) == ["file:///a.mp4", "file:///b.mp4", "file:///c.mp4", "file:///videos/foreign.mp4"]


def test_registrations_at_the_same_time_add_each_object_once(config: CatalogConfig) -> None:
    reports: list[RegisterReport] = []
    barrier = threading.Barrier(4)

    def work() -> None:
        barrier.wait()
        reports.append(register(config, NAMES.raw, _objects(*"abcdefgh"), rows_per_commit=2))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(report.num_added for report in reports) == 8
    assert sum(report.num_already_present for report in reports) == 24
    assert _uris(config) == [f"file:///{name}.mp4" for name in "abcdefgh"]


def test_folder_is_searched_for_media_in_natural_order(tmp_path: Path) -> None:
    for name in ("clip10.mp4", "clip2.MP4", "notes.txt", "deep/er/a b%.mkv"):
        path = tmp_path / "videos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"12345")
    found = list(expand([str(tmp_path / "videos")]))
    assert [info.path and info.path.name for info in found] == ["clip2.MP4", "clip10.mp4", "a b%.mkv"]
    assert found[2].uri.endswith("/deep/er/a%20b%25.mkv")
    stat = found[0].path.stat() if found[0].path else None
    assert stat is not None
    assert (found[0].size_bytes, found[0].etag) == (5, f"5-{stat.st_mtime_ns}")


def test_file_glob_and_repeats_give_each_object_once(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4", "c.txt"):
        (tmp_path / name).write_bytes(b"x")
    places = [str(tmp_path / "*"), str(tmp_path / "a.mp4"), (tmp_path / "c.txt").as_uri()]
    found = list(expand(places, any_name=True))
    assert [info.path and info.path.name for info in found] == ["a.mp4", "b.mp4", "c.txt"]
    with pytest.raises(ConfigurationError, match=r"c\.txt: is no video by its name .*--any takes it all the same"):
        list(expand(places))


def test_etag_changes_when_the_file_does(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"x")
    (before,) = expand([str(path)])
    os.utime(path, ns=(1, 1))
    (after,) = expand([str(path)])
    assert before.etag != after.etag


@pytest.mark.parametrize("name", ["nowhere", "*.mp4", "empty"])
def test_path_that_leads_to_no_video_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigurationError, match="^" + str(tmp_path)):
        list(expand([str(tmp_path / name)]))


def test_a_registrar_reads_only_rows_that_are_new(config: CatalogConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    register(config, NAMES.raw, _objects(*map(str, range(40))))
    registrar = Registrar(config, NAMES.raw)
    assert registrar.add(_objects("0", "a")) == 1
    ranges: list[OffsetRange] = []
    read = RangeReader.read

    def noting(self: RangeReader, wanted: OffsetRange, most_rows: int | None = None) -> RangeRows:
        ranges.append(wanted)
        return read(self, wanted, most_rows)

    monkeypatch.setattr(RangeReader, "read", noting)
    assert registrar.add(_objects("1", "b")) == 1
    assert ranges == []
    register(config, NAMES.raw, _objects("c"))
    ranges.clear()
    assert registrar.add(_objects("a", "c", "d")) == 1
    assert ranges == [OffsetRange(42, 43)]
    registrar.close()


def test_a_registrar_lands_anew_what_was_taken_out(config: CatalogConfig) -> None:
    registrar = Registrar(config, NAMES.raw)
    assert registrar.add(_objects("a", "b")) == 2
    delete_rows(config, NAMES.raw, [0])
    assert registrar.add(_objects("a", "b")) == 1
    assert _uris(config) == ["file:///a.mp4", "file:///b.mp4"]
    registrar.close()


def test_a_registrar_outlives_snapshots_that_expire_unseen(config: CatalogConfig) -> None:
    registrar = Registrar(config, NAMES.raw)
    assert registrar.add(_objects("a")) == 1
    for name in ("b", "c", "d"):
        register(config, NAMES.raw, _objects(name))
    expire_all_but_newest(config, NAMES.raw)
    assert registrar.add(_objects("a", "b", "c", "e")) == 1
    assert _uris(config) == [f"file:///{name}.mp4" for name in "abcde"]
    registrar.close()
