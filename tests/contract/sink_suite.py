"""What every sink keeps, the fake one and the real one. A test module subclasses it and gives a ``tables`` fixture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Protocol

import pytest

from consumers.errors import FencedError, StoreUnavailableError
from consumers.ports import CommitBatch, CommitReceipt, Sink
from consumers.testing import SimulatedCrashError, SinkFault
from schemas.positions import OffsetRange, Position
from schemas.records import ProcessedVideo


class TablesUnderTest(Protocol):
    """A ledger and a curated table, and sinks of one consumer on them."""

    def sink(self, *faults: SinkFault | None) -> Sink:
        """Return a sink, not yet opened, whose next commits meet ``faults`` one by one."""
        ...

    def video(self, row_id: int, num_clips: int) -> ProcessedVideo: ...

    def failed_video(self, row_id: int) -> ProcessedVideo: ...

    def ledger(self) -> Counter[int]:
        """Return how often each source row is in the ledger."""
        ...

    def num_clips(self) -> int: ...

    def num_distinct_clips(self) -> int: ...


def batch_of(tables: TablesUnderTest, done: Position, row_ids: Iterable[int], num_clips: int = 2) -> CommitBatch:
    ids = list(row_ids)
    position = done.union(OffsetRange(row_id, row_id + 1) for row_id in ids)
    return CommitBatch(tuple(tables.video(row_id, num_clips) for row_id in ids), position)


def failed_batch(tables: TablesUnderTest, row_ids: Iterable[int], position: Position) -> CommitBatch:
    """Return a batch in which the rows of ``row_ids`` failed, and the others up to ``position`` kept two clips."""
    failed = set(row_ids)
    rows = range(position.watermark)
    return CommitBatch(
        tuple(tables.failed_video(row) if row in failed else tables.video(row, 2) for row in rows), position
    )


def replay(sink: Sink, row_ids: Iterable[int], position: Position) -> Position:
    """Ask for ``row_ids`` once more, and return the position without them."""
    asked = sorted(sink.replayable(list(row_ids)))
    rows = [OffsetRange(row_id, row_id + 1) for row_id in asked]
    without = position.without(rows)
    commit_until_answered(sink, CommitBatch((), without, replays=Position.from_ranges(rows)))
    return without


def commit_until_answered(sink: Sink, batch: CommitBatch) -> CommitReceipt:
    while True:
        try:
            return sink.commit(batch)
        except StoreUnavailableError:
            continue


class SinkContract:
    def test_new_tables_start_from_nothing(self, tables: TablesUnderTest) -> None:
        recovered = tables.sink().open()
        assert recovered.position == Position() == recovered.ledgered
        assert recovered.sequence == 0
        assert recovered.epoch >= 1

    def test_commit_is_found_by_the_next_incarnation(self, tables: TablesUnderTest) -> None:
        sink = tables.sink()
        first = sink.open()
        receipt = sink.commit(batch_of(tables, Position(), [0, 1, 4]))
        assert (receipt.sequence, receipt.num_ledger_rows, receipt.num_clips) == (1, 3, 6)
        recovered = tables.sink().open()
        assert recovered.position == Position(2, (OffsetRange(4, 5),))
        assert recovered.ledgered == recovered.position
        assert recovered.sequence == 1
        assert recovered.epoch > first.epoch

    def test_position_without_outcomes_is_kept(self, tables: TablesUnderTest) -> None:
        sink = tables.sink()
        sink.open()
        receipt = sink.commit(CommitBatch((), Position(7)))
        assert (receipt.num_ledger_rows, receipt.num_clips) == (0, 0)
        assert tables.sink().open().position == Position(7)

    def test_rejected_videos_get_a_ledger_row_and_no_clip(self, tables: TablesUnderTest) -> None:
        sink = tables.sink()
        sink.open()
        sink.commit(batch_of(tables, Position(), [0], num_clips=0))
        assert tables.ledger() == {0: 1}
        assert tables.num_clips() == 0

    def test_sequence_grows_by_one_with_each_commit(self, tables: TablesUnderTest) -> None:
        sink = tables.sink()
        sink.open()
        done, sequences = Position(), []
        for row_id in range(3):
            batch = batch_of(tables, done, [row_id])
            sequences.append(sink.commit(batch).sequence)
            done = batch.position
        assert sequences == [1, 2, 3]

    def test_older_incarnation_is_fenced_once_a_newer_one_is_open(self, tables: TablesUnderTest) -> None:
        older, newer = tables.sink(), tables.sink()
        older.open()
        older.commit(batch_of(tables, Position(), [0]))
        recovered = newer.open()
        with pytest.raises(FencedError):
            older.commit(batch_of(tables, recovered.position, [1]))
        newer.commit(batch_of(tables, recovered.position, [1]))
        assert tables.ledger() == {0: 1, 1: 1}
        assert tables.num_clips() == tables.num_distinct_clips() == 4

    @pytest.mark.parametrize("fault", [SinkFault.BEFORE, SinkFault.BETWEEN, SinkFault.ANSWER_LOST])
    def test_batch_committed_again_after_a_fault_is_written_once(
        self, tables: TablesUnderTest, fault: SinkFault
    ) -> None:
        sink = tables.sink(fault)
        sink.open()
        batch = batch_of(tables, Position(), [0, 1, 2])
        commit_until_answered(sink, batch)
        sink.commit(batch_of(tables, batch.position, [3]))
        assert tables.ledger() == {0: 1, 1: 1, 2: 1, 3: 1}
        assert tables.num_clips() == tables.num_distinct_clips() == 8
        assert tables.sink().open().position == Position(4)

    def test_crash_between_the_tables_leaves_the_clips_to_the_successor(self, tables: TablesUnderTest) -> None:
        sink = tables.sink(SinkFault.CRASH_BETWEEN)
        sink.open()
        with pytest.raises(SimulatedCrashError):
            sink.commit(batch_of(tables, Position(), [0, 1]))
        successor = tables.sink()
        recovered = successor.open()
        assert recovered.position == Position()
        assert recovered.ledgered == Position(2)
        successor.commit(batch_of(tables, recovered.position, [1, 2]))
        successor.commit(batch_of(tables, Position(0, (OffsetRange(1, 3),)), [0]))
        assert tables.ledger() == {0: 1, 1: 1, 2: 1}
        assert tables.num_clips() == tables.num_distinct_clips() == 6
        assert tables.sink().open().position == Position(3)

    def test_only_finished_rows_that_failed_can_be_replayed(self, tables: TablesUnderTest) -> None:
        sink = tables.sink()
        sink.open()
        sink.commit(failed_batch(tables, [1, 3], Position(4)))
        assert sink.replayable([0, 1, 2, 3, 4, 99]) == {1, 3}
        assert sink.replayable([]) == frozenset()
        left = replay(sink, [1], Position(4))
        assert sink.replayable([1, 3]) == {3}
        assert tables.sink().open().position == left

    def test_replayed_row_gets_a_further_run_whatever_comes_out(self, tables: TablesUnderTest) -> None:
        sink = tables.sink()
        sink.open()
        sink.commit(failed_batch(tables, [1, 2], Position(4)))
        left = replay(sink, [1, 2], Position(4))
        sink.commit(CommitBatch((tables.failed_video(1), tables.video(2, 2)), left.union([OffsetRange(1, 3)])))
        assert tables.ledger() == {0: 1, 1: 2, 2: 2, 3: 1}
        assert tables.num_clips() == tables.num_distinct_clips() == 6
        # The one that failed again may be asked for again, the other one may not.
        assert sink.replayable([1, 2]) == {1}
        assert tables.sink().open().replays == Position()

    def test_replay_and_new_rows_go_together(self, tables: TablesUnderTest) -> None:
        sink = tables.sink()
        sink.open()
        sink.commit(failed_batch(tables, [0], Position(2)))
        assert sink.replayable([0]) == {0}
        again = Position(1)
        sink.commit(CommitBatch((tables.video(2, 1),), Position(3).without(again.ranges()), replays=again))
        assert tables.ledger() == {0: 1, 1: 1, 2: 1}
        recovered = tables.sink().open()
        assert (recovered.position, recovered.replays) == (Position(0, (OffsetRange(1, 3),)), again)

    @pytest.mark.parametrize("fault", [SinkFault.BEFORE, SinkFault.BETWEEN, SinkFault.ANSWER_LOST])
    @pytest.mark.parametrize("when", ["asked", "answered"])
    def test_replay_that_meets_a_fault_is_one_further_run(
        self, tables: TablesUnderTest, fault: SinkFault, when: str
    ) -> None:
        sink = tables.sink(None, *([fault] if when == "asked" else [None, fault]))
        sink.open()
        sink.commit(failed_batch(tables, [0], Position(2)))
        left = replay(sink, [0], Position(2))
        commit_until_answered(sink, CommitBatch((tables.failed_video(0),), left.with_offset(0)))
        assert tables.ledger() == {0: 2, 1: 1}
        assert tables.sink().open().position == Position(2)

    def test_crash_while_a_replay_is_asked_for_leaves_it_asked_for(self, tables: TablesUnderTest) -> None:
        sink = tables.sink(None, SinkFault.CRASH_BETWEEN)
        sink.open()
        sink.commit(failed_batch(tables, [0], Position(2)))
        with pytest.raises(SimulatedCrashError):
            replay(sink, [0], Position(2))
        successor = tables.sink()
        recovered = successor.open()
        assert (recovered.position, recovered.replays) == (Position(0, (OffsetRange(1, 2),)), Position(1))
        successor.commit(CommitBatch((tables.failed_video(0),), Position(2)))
        assert tables.ledger() == {0: 2, 1: 1}

    def test_crash_while_a_replayed_row_is_committed_leaves_one_further_run(self, tables: TablesUnderTest) -> None:
        sink = tables.sink(None, None, SinkFault.CRASH_BETWEEN)
        sink.open()
        sink.commit(failed_batch(tables, [0], Position(2)))
        left = replay(sink, [0], Position(2))
        with pytest.raises(SimulatedCrashError):
            sink.commit(CommitBatch((tables.video(0, 2),), left.with_offset(0)))
        successor = tables.sink()
        assert successor.open().position == left
        successor.commit(CommitBatch((tables.video(0, 2),), left.with_offset(0)))
        assert tables.ledger() == {0: 2, 1: 1}
        assert tables.num_clips() == tables.num_distinct_clips() == 4
        assert successor.replayable([0]) == frozenset()

    def test_replay_by_an_older_incarnation_is_fenced(self, tables: TablesUnderTest) -> None:
        older, newer = tables.sink(), tables.sink()
        older.open()
        older.commit(failed_batch(tables, [0], Position(2)))
        assert older.replayable([0]) == {0}
        newer.open()
        with pytest.raises(FencedError):
            older.commit(CommitBatch((), Position(2).without([OffsetRange(0, 1)]), replays=Position(1)))
        assert tables.sink().open().position == Position(2)
