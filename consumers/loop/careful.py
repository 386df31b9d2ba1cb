"""Attempts that survive the end of the process: who kills everything is found, however often everything dies.

What a worker's death means for its video the retries know; but they live in memory, and a video that takes the whole
process with it is tried again by the next start, and the next. So a run says when it begins and when it ends. After two
runs in a row that ended without a word, the next is *careful*: the first videos that it takes, as many as may have been
in flight, are tried one at a time, each noted in the store before it is tried. A note that a start finds counts as a
death of that one video, and at the limit it is given up as poison. When those first videos are through, everything goes
on as usual.

A run costs two writes, a careful one two more for each of those first videos.
"""

from __future__ import annotations

import contextlib
import logging
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from consumers.errors import FencedError, PoolLostError, StoreUnavailableError
from consumers.loop.retry import Tally
from consumers.ports import RunNote, RunNotes
from schemas.records import Failure, FailureKind, Stage, VideoOutcome

UNCLEAN_BEFORE_CARE = 2
"""So many runs in a row that ended without a word make the next one careful."""

_log = logging.getLogger(__name__)


def _new_id() -> str:
    return uuid.uuid4().hex


class CarefulStart:
    """The rule for one run. Not thread-safe.

    Args:
        notes: where the note of this shard lies; None keeps none, and no run is careful.
        max_deaths: runs that may end while a video is tried alone before it is given up.
        make_id: returns the id of this run.
    """

    def __init__(self, notes: RunNotes | None, max_deaths: int, make_id: Callable[[], str] = _new_id) -> None:
        self._notes = notes
        self._max_deaths = max_deaths
        self._note = RunNote(make_id())
        self._is_begun = False
        self._num_suspects = 0
        self._num_admitted = 0
        self._open: set[int] = set()

    @property
    def is_careful(self) -> bool:
        """Whether videos are tried one at a time."""
        return self._note.num_unclean >= UNCLEAN_BEFORE_CARE

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """Note the end of the run inside the block, unless the process or its workers end as a whole."""
        try:
            yield
        except (FencedError, PoolLostError):
            # The note is another run's by now; or a video may have taken all workers with it.
            raise
        except Exception:
            self.ended()
            raise
        self.ended()

    def begin(self, num_in_flight: int) -> None:
        """Note that this run begins, and learn from the last one's note.

        Args:
            num_in_flight: how many videos may be in flight at once.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        self._is_begun, self._num_suspects = True, num_in_flight
        if self._notes is None:
            return
        last = self._notes.read()
        if last is not None:
            deaths = dict(last.deaths)
            if last.is_running and last.alone is not None:
                deaths[last.alone] = deaths.get(last.alone, 0) + 1
            self._note = replace(self._note, num_unclean=last.num_unclean + last.is_running, deaths=deaths)
        self._notes.write(self._note)
        if self.is_careful:
            _log.warning(
                "%d runs in a row ended without a word: the first %d videos are tried one at a time",
                self._note.num_unclean,
                num_in_flight,
            )

    def given_up(self, row_id: int) -> tuple[VideoOutcome | None, int]:
        """Return the outcome of a video that has killed too many runs, None for any other, and how many it has."""
        num_deaths = self._note.deaths.get(row_id, 0)
        if num_deaths < self._max_deaths:
            return None, num_deaths
        message = (
            f"the service itself ended {num_deaths} times without a word while it tried this video with nothing beside "
            "it (killed, out of memory, or crashed in native code)"
        )
        return VideoOutcome(failure=Failure(FailureKind.PERMANENT, Stage.POOL, "poison_video", message)), num_deaths

    def bound(self, num_in_flight: int) -> int:
        """Return how many videos may be in flight where otherwise ``num_in_flight`` may."""
        return 1 if self.is_careful else num_in_flight

    def admit(self, row_id: int) -> Tally:
        """Note that a video is about to be tried; return what it has been through.

        Raises:
            StoreUnavailableError: the store did not answer; the video must not be tried.
        """
        tally = Tally(num_deaths=self._note.deaths.get(row_id, 0))
        if self._note.num_unclean and self._num_admitted < self._num_suspects:
            self._num_admitted += 1
            self._open.add(row_id)
        if self.is_careful:
            self._write(replace(self._note, alone=row_id))
        return tally

    def finished(self, row_id: int) -> None:
        """Note that a video has its outcome.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        if self._note.alone == row_id:
            self._write(replace(self._note, alone=None))

    def committed(self, row_ids: Iterable[int]) -> None:
        """Note that outcomes are durable."""
        if self._note.num_unclean:
            self._open.difference_update(row_ids)

    def passed(self, *, is_idle: bool) -> None:
        """Note, where it is so, that the first videos are through, and nothing is suspect any more.

        Args:
            is_idle: there is nothing else to do, so that those that were there are all.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        if not self._note.num_unclean:
            return
        if not self._open and (is_idle or self._num_admitted >= self._num_suspects):
            if self.is_careful:
                _log.warning("the videos that may have ended the last runs are through; all goes on as usual")
            self._write(RunNote(self._note.run_id))

    def ended(self) -> None:
        """Note that this run has ended as it should; what is suspect stays so. Raises nothing."""
        if self._notes is None or not self._is_begun:
            return
        try:
            self._write(replace(self._note, is_running=False, alone=None))
        except StoreUnavailableError as error:
            _log.warning("the end of this run could not be noted, the next one takes it for a crash: %s", error)

    def _write(self, note: RunNote) -> None:
        if self._notes is None:
            self._note = note
            return
        last = self._notes.read()
        if last is not None and last.run_id != note.run_id:
            # Which of the two goes on is for the tables to say: the other one stops at its next commit.
            _log.warning("another run of this consumer has begun: this one notes nothing any more")
            self._notes = None
        else:
            self._notes.write(note)
        self._note = note
