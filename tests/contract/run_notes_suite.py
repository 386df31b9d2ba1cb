"""What every place for the note of a run has to do."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from consumers.ports import RunNote, RunNotes

NOTE = RunNote("run-1", num_unclean=2, alone=7, deaths={7: 2, 2**40: 1})

OpenNotes = Callable[[], RunNotes]


class RunNotesContract:
    """Fixture ``open_notes`` opens the one place, each time as another process would."""

    def test_at_first_there_is_none(self, open_notes: OpenNotes) -> None:
        assert open_notes().read() is None

    def test_what_was_written_last_is_there(self, open_notes: OpenNotes) -> None:
        for note in (RunNote("run-0"), NOTE):
            open_notes().write(note)
            assert open_notes().read() == note

    @pytest.mark.parametrize("note", [RunNote("r"), RunNote("r", is_running=False), NOTE])
    def test_it_comes_back_as_it_was(self, open_notes: OpenNotes, note: RunNote) -> None:
        open_notes().write(note)
        assert open_notes().read() == note
