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

    def ledger(self) -> Counter[int]:
        """Return how often each source row is in the ledger."""
        ...

    def num_clips(self) -> int: ...

    def num_distinct_clips(self) -> int: ...


def batch_of(tables: TablesUnderTest, done: Position, row_ids: Iterable[int], num_clips: int = 2) -> CommitBatch:
    ids = list(row_ids)
    position = done.union(OffsetRange(row_id, row_id + 1) for row_id in ids)
    return CommitBatch(tuple(tables.video(row_id, num_clips) for row_id in ids), position)


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
