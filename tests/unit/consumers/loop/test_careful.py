"""The rule by which a video that takes the whole process with it is found: over many lives, on a store in memory."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.errors import StoreUnavailableError
from consumers.loop.careful import CarefulStart
from consumers.loop.processor import Processor
from consumers.ports import RunNote
from consumers.testing import (
    FakeClock,
    FakePool,
    FakeRunNotes,
    FakeSink,
    FakeSource,
    FakeTables,
    SimulatedCrashError,
    kept_outcome,
)
from tests.support.loop_rig import CONFIG

MAX_DEATHS = 3
NUM_LIVES = 200


class World:
    """What outlives a process: the note, and which rows are committed."""

    def __init__(self, num_rows, bombs, in_flight, commit_every, kills):
        self.notes = FakeRunNotes()
        self.rows = range(num_rows)
        self.bombs = bombs
        self.in_flight = in_flight
        self.commit_every = commit_every
        self.kills = iter(kills)
        self.done = {}
        self.tried_alone = []

    def live(self):
        """One life: rows in order, as many at once as may be; returns whether it came to its end."""
        careful = CarefulStart(self.notes, MAX_DEATHS)
        careful.begin(self.in_flight)
        todo = [row for row in self.rows if row not in self.done]
        waiting, gathered = [], {}
        while todo or waiting or gathered:
            while todo and len(waiting) < careful.bound(self.in_flight):
                row = todo.pop(0)
                given_up, _ = careful.given_up(row)
                if given_up is not None:
                    gathered[row] = given_up.failure.error_class
                    continue
                careful.admit(row)
                waiting.append(row)
            if next(self.kills, False) or any(row in self.bombs for row in waiting):
                return False
            if waiting:
                row = waiting.pop(0)
                gathered[row] = "good"
                careful.finished(row)
            if len(gathered) >= self.commit_every or not (todo or waiting):
                self.done |= gathered
                careful.committed(gathered)
                careful.passed(is_idle=not (todo or waiting))
                gathered = {}
        careful.ended()
        return True


@settings(max_examples=300, deadline=None)
@given(
    num_rows=st.integers(1, 12),
    bombs=st.sets(st.integers(0, 11), max_size=3),
    in_flight=st.integers(1, 5),
    commit_every=st.integers(1, 4),
)
def test_every_bomb_is_given_up_and_every_neighbour_is_curated(num_rows, bombs, in_flight, commit_every):
    world = World(num_rows, bombs, in_flight, commit_every, [])
    lives = next(number for number in range(NUM_LIVES) if world.live())
    assert {row for row, end in world.done.items() if end == "poison_video"} == bombs & set(world.rows)
    assert set(world.done) == set(world.rows)
    assert lives <= 2 + (MAX_DEATHS + 2) * len(bombs)


@settings(max_examples=300, deadline=None)
@given(
    num_rows=st.integers(1, 12),
    in_flight=st.integers(1, 5),
    commit_every=st.integers(1, 4),
    kills=st.lists(st.booleans(), max_size=60).filter(lambda kills: sum(kills) < 2 + MAX_DEATHS),
)
def test_kills_from_outside_are_held_against_nobody(num_rows, in_flight, commit_every, kills):
    world = World(num_rows, set(), in_flight, commit_every, kills)
    assert any(world.live() for _ in range(NUM_LIVES))
    assert world.done == dict.fromkeys(world.rows, "good")


def test_a_run_without_mishap_writes_twice_however_many_videos_it_does():
    world = World(50, set(), 4, 1, [])
    assert world.live()
    assert world.notes.num_writes == 2
    assert world.notes.note == RunNote(world.notes.note.run_id, is_running=False)


def test_a_run_that_ends_as_it_should_is_no_mishap_and_what_is_suspect_stays_so():
    notes = FakeRunNotes(RunNote("a", num_unclean=2, alone=7))
    first = CarefulStart(notes, MAX_DEATHS)
    first.begin(2)
    first.admit(7)
    first.ended()
    second = CarefulStart(notes, MAX_DEATHS)
    second.begin(2)
    assert second.is_careful
    assert second.admit(7).num_deaths == 1


def test_a_stale_run_notes_nothing_and_leaves_the_rest_to_the_fence():
    notes = FakeRunNotes(RunNote("a", num_unclean=3))
    stale, newer = CarefulStart(notes, MAX_DEATHS), CarefulStart(notes, MAX_DEATHS)
    stale.begin(2)
    newer.begin(2)
    note = notes.note
    stale.admit(1)
    stale.finished(1)
    stale.committed([1])
    stale.passed(is_idle=True)
    stale.ended()
    assert notes.note is note
    assert not stale.is_careful


def test_a_video_is_not_tried_where_the_note_cannot_be_written():
    notes = FakeRunNotes(RunNote("a", num_unclean=3))
    careful = CarefulStart(notes, MAX_DEATHS)
    careful.begin(2)
    notes.is_away = True
    with pytest.raises(StoreUnavailableError):
        careful.admit(1)


def live(notes, tables, bombs, source):
    """One life of a real loop on fakes; returns its report, or None where it was killed."""

    def script(task):
        if task.video.row_id in bombs:
            raise SimulatedCrashError
        return kept_outcome(task.video)

    pool = FakePool(script=script)
    processor = Processor(source, FakeSink(tables), pool, FakeClock(), config=CONFIG, run_notes=notes)
    try:
        return processor.run(until_caught_up=True)
    except SimulatedCrashError:
        return None


def test_the_loop_gives_a_bomb_up_and_curates_its_neighbours():
    notes, tables = FakeRunNotes(), FakeTables()
    source = FakeSource(10)
    lives = list(itertools.takewhile(lambda _: live(notes, tables, {4}, source) is None, range(20)))
    assert len(lives) == 2 + MAX_DEATHS
    assert sorted(tables.ledger) == list(range(10))
    assert len(tables.clips) == 9
    assert [(row_id, failure.error_class) for row_id, failure in tables.failures.items()] == [(4, "poison_video")]
    assert "ended 3 times without a word" in tables.failures[4].message
    assert notes.note.deaths == {}
    assert not notes.note.is_running
