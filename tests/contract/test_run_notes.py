from __future__ import annotations

from pathlib import Path

import pytest

from consumers.paimon.commit.run_notes import FOLDER, PaimonRunNotes
from consumers.ports import RunNote
from consumers.testing import FakeRunNotes
from tests.contract.run_notes_suite import NOTE, OpenNotes, RunNotesContract
from tests.support.stores import warehouse_of
from tests.support.warehouse import NAMES, make_warehouse, table


class TestFakeRunNotes(RunNotesContract):
    @pytest.fixture
    def open_notes(self) -> OpenNotes:
        notes = FakeRunNotes()
        return lambda: notes


class TestPaimonRunNotes(RunNotesContract):
    @pytest.fixture(params=["disk", "s3"])
    def open_notes(self, request: pytest.FixtureRequest, tmp_path: Path) -> OpenNotes:
        config = warehouse_of(request, tmp_path)
        return lambda: PaimonRunNotes(config, NAMES.control, "films.0of1")


@pytest.mark.parametrize("text", ["", "{", "null", "[]", '{"run": 1}', NOTE.to_json()[:-5]])
def test_a_note_that_was_left_half_written_is_none(tmp_path: Path, text: str) -> None:
    config = make_warehouse(tmp_path / "warehouse")
    folder = Path(table(config, NAMES.control).table_path.removeprefix("file:")) / FOLDER
    folder.mkdir()
    (folder / "films.0of1.json").write_text(text)
    assert PaimonRunNotes(config, NAMES.control, "films.0of1").read() is None


def test_shards_have_notes_of_their_own(tmp_path: Path) -> None:
    config = make_warehouse(tmp_path / "warehouse")
    for index in range(2):
        PaimonRunNotes(config, NAMES.control, f"films.{index}of2").write(RunNote(f"run-{index}"))
    notes = [PaimonRunNotes(config, NAMES.control, f"films.{index}of2").read() for index in range(2)]
    assert notes == [RunNote("run-0"), RunNote("run-1")]
