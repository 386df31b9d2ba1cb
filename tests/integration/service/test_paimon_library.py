"""Clips found in the curated table: by the row that links carry, by their video, and by a bounded search."""

from __future__ import annotations

import tracemalloc
import uuid
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from consumers.errors import ConfigurationError
from consumers.paimon.commit.sink import PaimonSink
from consumers.paimon.landing.objects import named
from consumers.ports import CommitBatch
from consumers.testing import FakeClock
from schemas.positions import Position
from service.library import ClipQuery
from service.paimon_library import SEARCH_S, PaimonLibrary
from service.settings import load_settings
from tests.support.s3_server import S3Server, catalog_options
from tests.support.warehouse import AT, NAMES, PROFILE, append_raw, delete_rows, make_warehouse, processed


class _Impatient(FakeClock):
    """A clock by which every look at it comes too late for a further one."""

    def monotonic_s(self) -> float:
        self.advance(SEARCH_S)
        return super().monotonic_s()


@pytest.fixture(scope="module")
def settings_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("library")
    config = make_warehouse(folder / "warehouse")
    append_raw(config, "abcd")
    sink = PaimonSink(config, NAMES, "default", PROFILE)
    sink.open()
    for row_id in range(3):
        sink.commit(CommitBatch((processed(row_id, 200),), Position(row_id + 1)))
    sink.close()
    file = folder / "sluice.toml"
    file.write_text(f'[catalog]\nwarehouse = "{folder / "warehouse"}"\n[tables]\ndatabase = "{config.database}"\n')
    return file


@pytest.fixture
def library(settings_file: Path) -> PaimonLibrary:
    return PaimonLibrary(load_settings(settings_file))


def test_old_clip_is_found_by_its_row_where_a_search_would_not_reach_it(settings_file: Path) -> None:
    settings = load_settings(settings_file)
    oldest = PaimonLibrary(settings).clips(ClipQuery(source_row_id=0), 1).records[0]
    clip_id = str(oldest.values["clip_id"])
    library = PaimonLibrary(settings, _Impatient())
    assert library.clip(clip_id) is None
    found = library.clip(clip_id, oldest.row_id)
    assert found == oldest
    media = library.media(found)
    assert media is not None
    assert b"".join(media.chunks(0, media.num_bytes)) == b"clip 0/200"
    assert media.read(5, 8) == b"0/2"
    assert library.thumbnail(found) == b"jpeg"


def test_row_of_another_clip_is_not_believed(library: PaimonLibrary) -> None:
    newest, older = library.clips(ClipQuery(), 2).records
    fresh = PaimonLibrary(library._settings)
    assert fresh.clip(str(newest.values["clip_id"]), older.row_id) == newest
    assert fresh.clip("no-such-clip", older.row_id) is None
    assert fresh.clip("no-such-clip", 10**9) is None


def test_clips_of_a_video_are_found_without_a_search(library: PaimonLibrary) -> None:
    kept = library.clips(ClipQuery(source_row_id=1), 200).records
    clip_ids = [str(record.values["clip_id"]) for record in kept]
    fresh = PaimonLibrary(library._settings, _Impatient())
    places = fresh.clip_places(1, clip_ids, kept[0].values["processed_at"], AT)
    day = kept[0].values["ingest_date"]
    assert f"{kept[0].values['processed_at']:%Y-%m-%d}" == day
    assert places == {str(record.values["clip_id"]): record.place for record in kept}
    assert fresh.clip_places(1, clip_ids, AT + timedelta(days=400), AT) == {}
    assert fresh.clip_places(2, clip_ids, kept[0].values["processed_at"], AT) == {}


def test_search_that_takes_too_long_gives_short_pages_that_hold_everything_together(
    settings_file: Path, library: PaimonLibrary
) -> None:
    impatient = PaimonLibrary(load_settings(settings_file), _Impatient())
    everything = library.clips(ClipQuery(source_row_id=0), 500)
    assert everything.next_before is None
    assert len(everything.records) == 200
    found, before, num_pages = [], None, 0
    while before is not None or num_pages == 0:
        page = impatient.clips(ClipQuery(source_row_id=0, before=before), 500)
        found += page.records
        before, num_pages = page.next_before, num_pages + 1
    assert found == everything.records
    assert num_pages > 1


def test_pages_of_the_wall_end_with_the_oldest_clip(library: PaimonLibrary) -> None:
    first = library.clips(ClipQuery(), 599)
    assert first.next_before == 1
    last = library.clips(ClipQuery(before=first.next_before), 599)
    assert [record.row_id for record in last.records] == [0]
    assert last.next_before is None


def test_clips_that_were_shown_are_remembered_up_to_a_bound(
    library: PaimonLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.paimon_library._MAX_KNOWN_CLIPS", 50)
    shown = library.clips(ClipQuery(), 599).records
    assert len(library._known) == 50
    assert [library.clip(str(record.values["clip_id"]), record.row_id) for record in shown[:3]] == shown[:3]


def test_clip_that_was_taken_down_is_gone_at_once_though_it_was_shown_before(tmp_path: Path) -> None:
    config = make_warehouse(tmp_path / "warehouse")
    append_raw(config, "a")
    sink = PaimonSink(config, NAMES, "default", PROFILE)
    sink.open()
    sink.commit(CommitBatch((processed(0, 2),), Position(1)))
    sink.close()
    file = tmp_path / "sluice.toml"
    file.write_text(f'[catalog]\nwarehouse = "{tmp_path / "warehouse"}"\n[tables]\ndatabase = "{config.database}"\n')
    library = PaimonLibrary(load_settings(file))
    gone, kept = library.clips(ClipQuery(), 2).records
    assert library.thumbnail(gone) == b"jpeg"
    delete_rows(config, NAMES.curated, [gone.row_id])
    assert library.clip(str(gone.values["clip_id"]), gone.row_id) is None
    assert library.clip(str(gone.values["clip_id"])) is None
    assert library.clip(str(kept.values["clip_id"])) == kept


def test_small_part_of_a_large_clip_costs_that_part(tmp_path: Path) -> None:
    config = make_warehouse(tmp_path / "warehouse")
    append_raw(config, "a")
    content = bytes(range(256)) * 262_144
    video = processed(0, 1)
    clip = next(clip for clip in video.outcome.clips if clip.media is not None)
    assert clip.media is not None
    large = replace(clip, media=replace(clip.media, data=content))
    sink = PaimonSink(config, NAMES, "default", PROFILE)
    sink.open()
    sink.commit(CommitBatch((replace(video, outcome=replace(video.outcome, clips=(large,))),), Position(1)))
    sink.close()
    file = tmp_path / "sluice.toml"
    file.write_text(f'[catalog]\nwarehouse = "{tmp_path / "warehouse"}"\n[tables]\ndatabase = "{config.database}"\n')
    library = PaimonLibrary(load_settings(file))
    record = library.clips(ClipQuery(), 1).records[0]
    tracemalloc.start()
    try:
        for number in range(20):
            media = library.media(record)
            assert media is not None
            assert media.num_bytes == len(content)
            assert b"".join(media.chunks(number, number + 1)) == content[number : number + 1]
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 16 * 1024**2
    assert media is not None
    assert max(map(len, media.chunks(0, media.num_bytes))) <= 1024**2


@pytest.mark.parametrize("name", ["", "*.mp4", "[a].mp4", "deep", "missing.mp4", "**"])
def test_what_is_no_object_is_not_looked_into(tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.mp4").write_bytes(b"x")
    inside = tmp_path / "inside"
    (inside / "deep").mkdir(parents=True)
    (inside / "a.mp4").write_bytes(b"x")
    # A pattern that is filled in would lead through it.
    (inside / "link").symlink_to(outside)
    with pytest.raises(ConfigurationError, match="name objects"):
        list(named([f"{inside}/{name}"], {}))
    assert [item.size_bytes for item in named([f"{inside}/a.mp4", f"{inside}/a.mp4"], {})] == [1]


@pytest.mark.parametrize("key", ["in/", "in", "in/*", "missing.mp4", ""])
def test_what_is_no_object_on_s3_is_not_listed(s3_server: S3Server, key: str) -> None:
    options = catalog_options(s3_server.endpoint)
    bucket = s3_server.make_bucket(f"named-{uuid.uuid4().hex[:8]}")
    s3_server.client().put_object(Bucket=bucket, Key="in/a.mp4", Body=b"video")  # type: ignore[attr-defined]
    with pytest.raises(ConfigurationError, match="name objects"):
        list(named([f"s3://{bucket}/{key}"], options))
    assert [item.size_bytes for item in named([f"s3://{bucket}/in/a.mp4"], options)] == [5]
