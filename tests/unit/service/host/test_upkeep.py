"""Maintenance on a schedule: rounds, sweeps once a day, and faults that end nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from consumers.errors import AlreadyRunningError, StoreUnavailableError
from consumers.paimon.maintain.compaction import Compacted
from consumers.paimon.maintain.expiry import Expired
from consumers.paimon.maintain.maintainer import TableReport
from consumers.paimon.maintain.purge import PurgeReport
from consumers.paimon.maintain.tracked import Purged
from consumers.testing.clock import FakeClock
from service.host.upkeep import Upkeep, must_commit, said


class Rounds:
    """A maintainer that notes what it is asked for."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.fault = fault
        self.sweeps: list[bool] = []
        self.ended: list[Sequence[TableReport]] = []
        self.num_failures = 0

    @contextmanager
    def open(self, is_stopped: Callable[[], bool]) -> Iterator[Any]:
        if self.fault is not None:
            raise self.fault
        yield self

    def run(self, *, sweep: bool) -> list[TableReport]:
        self.sweeps.append(sweep)
        return [TableReport("db.ledger")]

    def failed(self) -> None:
        self.num_failures += 1


def upkeep(rounds: Rounds, clock: FakeClock, **named: Any) -> Upkeep:
    return Upkeep(rounds.open, clock, 3600, on_round=rounds.ended.append, on_failure=rounds.failed, **named)


def test_orphans_are_looked_for_at_first_and_once_a_day() -> None:
    rounds, clock = Rounds(), FakeClock()
    keeper = upkeep(rounds, clock)
    for _ in range(26):
        keeper.round()
        clock.advance(3600)
    assert [hour for hour, is_swept in enumerate(rounds.sweeps) if is_swept] == [0, 24]


def test_a_fault_is_counted_and_the_next_round_tries_again() -> None:
    rounds, clock = Rounds(StoreUnavailableError("the store is away")), FakeClock()
    keeper = upkeep(rounds, clock)
    keeper.round()
    assert (rounds.num_failures, rounds.ended) == (1, [])
    rounds.fault = None
    keeper.round()
    assert len(rounds.ended) == 1


def test_another_process_at_it_is_no_fault() -> None:
    rounds = Rounds(AlreadyRunningError("another"))
    upkeep(rounds, FakeClock()).round()
    assert rounds.num_failures == 0
    assert rounds.ended == [[]]


def test_thread_outlives_a_fault_of_its_own_and_ends_when_told() -> None:
    rounds, clock = Rounds(RuntimeError("a bug")), FakeClock()
    seen = threading.Event()

    def failed() -> None:
        rounds.failed()
        rounds.fault = None

    keeper = Upkeep(rounds.open, clock, 0.01, on_round=lambda reports: seen.set(), on_failure=failed, first_after_s=0.0)
    keeper.start()
    assert seen.wait(20)
    assert keeper.close(20)
    assert rounds.num_failures == 1


def test_last_rounds_are_remembered_the_newest_first_and_no_more_than_a_day_of_them() -> None:
    rounds, clock = Rounds(), FakeClock()
    keeper = upkeep(rounds, clock)
    for _ in range(30):
        keeper.round()
        clock.advance(3600)
    assert len(keeper.rounds) == 24
    assert keeper.rounds[0].at > keeper.rounds[1].at
    assert keeper.rounds[0].reports == (TableReport("db.ledger"),)


def test_what_was_done_and_what_would_be_is_said_in_words() -> None:
    report = TableReport(
        "db.curated_clips",
        Compacted(20, 2, 5000),
        Purged(3, 4000),
        Expired(7, 30, 2048, "consumer file flink at snapshot 9"),
        takedowns=PurgeReport(("one", "two"), ("one",)),
    )
    words = said(report, "{:.0f} bytes".format)
    assert words == (
        "20 data files became 2; 3 deleted rows have lost their bytes in the newest snapshot; 7 snapshots with 30 "
        "files (2048 bytes) gone; 0 files that nothing referred to (0 bytes) gone; later ones stay for the consumer "
        "file flink at snapshot 9; bytes of 2 takedowns are still on the store, 1 of them overdue"
    )
    assert "20 data files would become 2; 3 deleted rows would lose" in said(report, str, dry=True)
    assert said(TableReport("t", left_alone="it has branches"), str) == "left alone: it has branches"


def test_a_consumer_must_commit_only_where_its_marker_keeps_bytes_of_takedowns() -> None:
    held = Expired(held_by="newest marker of consumer films", resting="films")
    waiting = PurgeReport(("one",))
    assert must_commit([TableReport("ledger", expired=held), TableReport("curated", takedowns=waiting)]) == frozenset()
    assert must_commit([TableReport("curated", expired=held, takedowns=waiting)]) == {"films"}
    assert must_commit([TableReport("curated", expired=Expired(held_by="tag"), takedowns=waiting)]) == frozenset()
