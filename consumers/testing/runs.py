"""The note of a run in memory."""

from __future__ import annotations

from consumers.errors import StoreUnavailableError
from consumers.ports import RunNote


class FakeRunNotes:
    """Implements :class:`~consumers.ports.RunNotes` in memory.

    Attributes:
        note: what lies there.
        num_writes: how often it was written.
        is_away: whether the store does not answer.
    """

    def __init__(self, note: RunNote | None = None) -> None:
        self.note = note
        self.num_writes = 0
        self.is_away = False

    def read(self) -> RunNote | None:
        """Return the note."""
        self._answer()
        return self.note

    def write(self, note: RunNote) -> None:
        """Put ``note`` in its place."""
        self._answer()
        self.note = note
        self.num_writes += 1

    def _answer(self) -> None:
        if self.is_away:
            raise StoreUnavailableError("the store of the test is away")
