"""Exports of clips: complete, each clip once, whenever the run before them ended."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from consumers.clock import SystemClock
from consumers.errors import ConfigurationError
from consumers.paimon.catalog import CatalogConfig
from consumers.paimon.commit.sink import PaimonSink
from consumers.paimon.maintain.expiry import Expiry, Retention
from consumers.paimon.reading.clips import ClipFilter, ClipReader
from consumers.paimon.reading.tags import Tags
from consumers.ports import CommitBatch
from schemas.positions import Position
from service import export_forms
from service.export import ExportReport, IndexForm, export
from tests.support.warehouse import NAMES, PROFILE, append_raw, make_warehouse, processed, table

_NUM_CLIPS = 8
_FORMS = [(form, shards) for form in IndexForm for shards in (False, True)]


def _commit(config: CatalogConfig, first_row: int, *nums_kept: int, consumer: str = "default") -> None:
    sink = PaimonSink(config, NAMES, consumer, PROFILE)
    sink.open()
    for row_id, num_kept in enumerate(nums_kept, first_row):
        sink.commit(CommitBatch((processed(row_id, num_kept),), Position(row_id + 1)))
    sink.close()


@pytest.fixture
def config(tmp_path: Path) -> CatalogConfig:
    made = make_warehouse(tmp_path / "warehouse")
    append_raw(made, "abcd")
    _commit(made, 0, 3, _NUM_CLIPS - 3)
    return made


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_forms, "_CLIPS_A_STEP", 2)
    monkeypatch.setattr(export_forms, "_CLIPS_A_SHARD", 3)


def _export(
    config: CatalogConfig, folder: Path, form: IndexForm = IndexForm.JSONL, shards: bool = False, **more: Any
) -> ExportReport:
    reader = ClipReader(config, NAMES.curated, tag=more.pop("tag", None))
    wanted = more.pop("wanted", None)
    return export(reader, reader.clips(wanted), folder, form=form, shards=shards, **more)


def _described(folder: Path) -> list[dict[str, Any]]:
    if (folder / "clips.jsonl").exists():
        return [json.loads(line) for line in (folder / "clips.jsonl").read_text().splitlines()]
    return [row for path in sorted(folder.glob("clips-*.parquet")) for row in pq.read_table(path).to_pylist()]


def _bytes_of(folder: Path, line: dict[str, Any], key: str) -> bytes:
    if line.get("shard") is None:
        return (folder / line[key]).read_bytes()
    with tarfile.open(folder / line["shard"]) as tar:
        file = tar.extractfile(line[key])
        assert file is not None
        return file.read()


def _members(path: Path) -> list[str]:
    with tarfile.open(path) as tar:
        return tar.getnames()


def _check(config: CatalogConfig, folder: Path, num_clips: int = _NUM_CLIPS) -> None:
    reader = ClipReader(config, NAMES.curated)
    truth = {record.values["clip_id"]: record for record in reader.clips()}
    lines = _described(folder)
    assert len(lines) == num_clips
    assert {line["clip_id"] for line in lines} <= truth.keys()
    assert len({line["clip_id"] for line in lines}) == num_clips
    for line in lines:
        record = truth[line["clip_id"]]
        assert _bytes_of(folder, line, "video_file") == reader.media(record)
        assert _bytes_of(folder, line, "thumbnail_file") == b"jpeg"
        assert line["motion_score"] == record.values["motion_score"]
        assert line["source_row_id"] == record.values["source_row_id"]
    members = [name for path in folder.glob("clips-*.tar") for name in _members(path)]
    assert len(members) == len(set(members))
    assert [path for path in folder.iterdir() if path.name.endswith(".partial")] == []


@pytest.mark.parametrize(("form", "shards"), _FORMS)
def test_a_second_export_adds_what_came_since(
    config: CatalogConfig, tmp_path: Path, form: IndexForm, shards: bool
) -> None:
    folder = tmp_path / "dataset"
    assert _export(config, folder, form, shards) == ExportReport(_NUM_CLIPS, 0, 0)
    _check(config, folder)
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir() if path.name not in ("clips.jsonl", ".lock")}
    assert _export(config, folder, form, shards) == ExportReport(0, _NUM_CLIPS, 0)
    _commit(config, 2, 2)
    assert _export(config, folder, form, shards) == ExportReport(2, _NUM_CLIPS, 0)
    _check(config, folder, _NUM_CLIPS + 2)
    assert before.items() <= {path: path.stat().st_mtime_ns for path in folder.iterdir()}.items()


class _Killed(BaseException):
    """What nothing catches, as a signal."""


@pytest.mark.parametrize(("form", "shards"), _FORMS)
@pytest.mark.parametrize("num_done", [1, 3, 4, _NUM_CLIPS])
def test_an_export_that_was_killed_goes_on(
    config: CatalogConfig, tmp_path: Path, form: IndexForm, shards: bool, num_done: int
) -> None:
    folder = tmp_path / "dataset"

    def die(count: int) -> None:
        if count == num_done:
            raise _Killed

    with pytest.raises(_Killed):
        _export(config, folder, form, shards, on_progress=die)
    if (folder / "clips.jsonl").exists():
        with (folder / "clips.jsonl").open("a") as file:
            file.write('{"clip_id": "half a li')
    report = _export(config, folder, form, shards)
    assert report.num_new + report.num_known == _NUM_CLIPS
    _check(config, folder)


@pytest.mark.parametrize("form", IndexForm)
@pytest.mark.parametrize("num_described", [0, 1])
def test_a_tar_file_that_was_not_described_any_more_is_described_by_the_next_run(
    config: CatalogConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: IndexForm, num_described: int
) -> None:
    folder = tmp_path / "dataset"
    kind = {IndexForm.JSONL: export_forms.JsonLines, IndexForm.PARQUET: export_forms.ParquetFiles}[form]
    append = kind.append

    def die(self: Any, lines: list[dict[str, Any]]) -> None:
        if num_described:
            append(self, lines[:num_described])
        raise _Killed

    monkeypatch.setattr(kind, "append", die)
    with pytest.raises(_Killed):
        _export(config, folder, form, True)
    monkeypatch.setattr(kind, "append", append)
    assert _export(config, folder, form, True) == ExportReport(_NUM_CLIPS - 3, 3, 0)
    _check(config, folder)


def test_samples_of_a_tar_file_follow_each_other_and_share_their_name(config: CatalogConfig, tmp_path: Path) -> None:
    folder = tmp_path / "dataset"
    _export(config, folder, IndexForm.JSONL, True)
    shards = sorted(folder.glob("clips-*.tar"))
    assert [path.name for path in shards] == ["clips-000000.tar", "clips-000001.tar", "clips-000002.tar"]
    with tarfile.open(shards[0]) as tar:
        names = tar.getnames()
        described = tar.extractfile(names[2])
        assert described is not None
        document = json.load(io.TextIOWrapper(described))
    samples = [names[at : at + 3] for at in range(0, len(names), 3)]
    for sample in samples:
        assert [name.partition(".")[2] for name in sample] == ["mp4", "jpg", "json"]
        assert len({name.partition(".")[0] for name in sample}) == 1
    assert document["clip_id"] == names[2].partition(".")[0]
    assert "clip" not in document


@pytest.mark.parametrize(
    ("first", "second", "way_out"),
    [
        ((IndexForm.JSONL, False), (IndexForm.PARQUET, False), "--format jsonl"),
        ((IndexForm.PARQUET, False), (IndexForm.JSONL, False), "--format parquet"),
        ((IndexForm.JSONL, False), (IndexForm.JSONL, True), "no --webdataset"),
        ((IndexForm.JSONL, True), (IndexForm.JSONL, False), "--webdataset"),
    ],
)
def test_another_form_in_the_same_folder_is_refused(
    config: CatalogConfig, tmp_path: Path, first: tuple[IndexForm, bool], second: tuple[IndexForm, bool], way_out: str
) -> None:
    _export(config, tmp_path / "dataset", *first)
    with pytest.raises(ConfigurationError, match=f"from an earlier export; give {way_out}, or another folder"):
        _export(config, tmp_path / "dataset", *second)
    _check(config, tmp_path / "dataset")


def test_clips_of_two_consumers_are_refused_in_one_folder(config: CatalogConfig, tmp_path: Path) -> None:
    _commit(config, 0, 1, consumer="other")
    folder = tmp_path / "dataset"
    with pytest.raises(ConfigurationError, match="consumers default and other would stand in one folder"):
        _export(config, folder)
    assert _export(config, tmp_path / "mine", wanted=ClipFilter(consumer="default")).num_new == _NUM_CLIPS
    with pytest.raises(ConfigurationError, match="consumers default and other"):
        _export(config, tmp_path / "mine", wanted=ClipFilter(consumer="other"))


def test_two_exports_at_once_into_one_folder_are_refused(config: CatalogConfig, tmp_path: Path) -> None:
    folder = tmp_path / "dataset"

    def another(count: int) -> None:
        if count == 1:
            with pytest.raises(ConfigurationError, match="another export writes there"):
                _export(config, folder)

    _export(config, folder, on_progress=another)
    _check(config, folder)


def _expire_all_but_the_newest(config: CatalogConfig) -> None:
    Expiry(table(config, NAMES.curated), Retention(timedelta(0), 1, 1)).run(SystemClock().now(), dry=False)


@pytest.mark.parametrize("then", [lambda config: None, _expire_all_but_the_newest], ids=["retained", "expired"])
def test_a_tag_names_what_there_was(
    config: CatalogConfig, tmp_path: Path, then: Callable[[CatalogConfig], None]
) -> None:
    made = Tags(config, NAMES.curated).create("first-training")
    _commit(config, 2, 2, 2)
    then(config)
    assert _export(config, tmp_path / "tagged", tag="first-training").num_new == _NUM_CLIPS
    assert _export(config, tmp_path / "newest").num_new == _NUM_CLIPS + 4
    assert Tags(config, NAMES.curated).all() == [made]


@pytest.mark.parametrize("name", ["", "12", "a/b", "../up", "a b", ".hidden", "x" * 65, "a\n"])
def test_a_name_that_will_not_do_is_refused(config: CatalogConfig, name: str) -> None:
    with pytest.raises(ConfigurationError, match="a name has up to 64 letters"):
        Tags(config, NAMES.curated).create(name)


def test_a_name_that_is_taken_is_refused_and_goes_on_naming_what_it_named(config: CatalogConfig) -> None:
    tags = Tags(config, NAMES.curated)
    first = tags.create("v1.0")
    _commit(config, 2, 1)
    with pytest.raises(ConfigurationError, match=f"has it already, on snapshot {first.snapshot_id}"):
        tags.create("v1.0")
    assert tags.all() == [first]


def test_a_tag_that_is_not_there_is_told_with_those_that_are(config: CatalogConfig, tmp_path: Path) -> None:
    Tags(config, NAMES.curated).create("v1")
    with pytest.raises(ConfigurationError, match=r"tag v2: table db\.curated_clips has no such tag \(it has v1\)"):
        _export(config, tmp_path / "dataset", tag="v2")


def test_an_empty_table_has_nothing_to_tag(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is empty; there is nothing to tag"):
        Tags(make_warehouse(tmp_path / "empty"), NAMES.curated).create("v1")
