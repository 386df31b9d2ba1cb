"""Clips found in the curated table: by the row that links carry, by their video, and by a bounded search."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from consumers.paimon.commit.sink import PaimonSink
from consumers.ports import CommitBatch
from consumers.testing import FakeClock
from schemas.positions import Position
from service.library import ClipQuery
from service.paimon_library import SEARCH_S, PaimonLibrary
from service.settings import load_settings
from tests.support.warehouse import AT, NAMES, PROFILE, append_raw, make_warehouse, processed


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
    assert library.media(found) == PaimonLibrary(settings).media(oldest)
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
