"""Tables and a sink in memory, with faults to script."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from consumers.errors import FencedError, StoreUnavailableError
from consumers.ports import CommitBatch, CommitReceipt, Recovered
from schemas.positions import Position
from schemas.records import (
    Failure,
)


class SinkFault(StrEnum):
    """Where a commit of :class:`FakeSink` goes wrong."""

    BEFORE = "before"
    """The store does not answer; nothing is written."""
    BETWEEN = "between"
    """The store goes away after the ledger was written."""
    ANSWER_LOST = "answer_lost"
    """Everything is written, and the answer does not arrive."""
    CRASH_BETWEEN = "crash_between"
    """The process dies after the ledger was written."""


class SimulatedCrashError(BaseException):
    """The end of a process, as far as a test in one process can have it: no ordinary handler catches it."""


@dataclass
class FakeTables:
    """A ledger and a curated table, shared by all the sinks that are opened on them.

    Attributes:
        ledger: row ids, one for each ledger row, in order of commit.
        failures: failure class by row id, for rows whose latest run failed.
        replays: rows that are asked for once more, and not yet processed again.
        clips: clip ids, one for each curated row, in order of commit.
    """

    ledger: list[int] = field(default_factory=list)
    failures: dict[int, Failure] = field(default_factory=dict)
    clips: list[str] = field(default_factory=list)
    replays: Position = field(default_factory=Position)
    num_replayed: Counter[int | str] = field(default_factory=Counter)
    position: Position = field(default_factory=Position)
    ledgered: Position = field(default_factory=Position)
    sequence: int = 0
    epoch: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def duplicates(self) -> list[int | str]:
        """Return every ledger row and clip that stands more than once."""
        counts: Counter[int | str] = Counter(self.ledger)
        counts.update(self.clips)
        # A further run, for which a person has asked, is none.
        counts.subtract(self.num_replayed)
        return [key for key, count in counts.items() if count > 1]


class FakeSink:
    """One consumer's sink on :class:`FakeTables`.

    Args:
        tables: what is written to.
        faults: taken one by one by the next commits; None is a commit without a fault.
    """

    def __init__(self, tables: FakeTables, faults: Sequence[SinkFault | None] = ()) -> None:
        self._tables = tables
        self._faults = deque(faults)
        self._epoch = 0
        self.num_opens_to_fail = 0
        self.batches: list[CommitBatch] = []

    def open(self) -> Recovered:
        """Fence all earlier sinks on these tables.

        Raises:
            StoreUnavailableError: ``num_opens_to_fail`` is not used up.
        """
        if self.num_opens_to_fail > 0:
            self.num_opens_to_fail -= 1
            raise StoreUnavailableError("the fake sink does not answer")
        tables = self._tables
        with tables.lock:
            tables.epoch += 1
            self._epoch = tables.epoch
            # What a crash left asked for in the ledger alone.
            tables.position = tables.position.without(tables.replays.ranges())
            return Recovered(
                tables.position,
                tables.ledgered.union(tables.position.ranges()),
                tables.sequence,
                self._epoch,
                replays=tables.replays,
            )

    def replayable(self, row_ids: Collection[int]) -> frozenset[int]:
        """Return those that failed and are finished."""
        tables = self._tables
        with tables.lock:
            return frozenset(row for row in row_ids if row in tables.failures and tables.position.covers(row))

    def commit(self, batch: CommitBatch) -> CommitReceipt:
        """Write ledger rows, then clips and position; each table only what its own position lacks.

        Raises:
            FencedError: another sink was opened on the tables after this one.
            StoreUnavailableError: a fault was asked for.
        """
        fault = self._faults.popleft() if self._faults else None
        tables = self._tables
        with tables.lock:
            if self._epoch != tables.epoch:
                raise FencedError
            if fault is SinkFault.BEFORE:
                raise StoreUnavailableError("the fake sink does not answer")
            new_rows = [
                done
                for done in batch.videos
                if not tables.ledgered.covers(done.video.row_id) or tables.replays.covers(done.video.row_id)
            ]
            tables.ledger.extend(done.video.row_id for done in new_rows)
            for done in new_rows:
                tables.num_replayed[done.video.row_id] += tables.replays.covers(done.video.row_id)
                tables.failures.pop(done.video.row_id, None)
                if done.outcome.failure is not None:
                    tables.failures[done.video.row_id] = done.outcome.failure
            tables.ledgered = tables.ledgered.union(batch.position.ranges())
            tables.replays = tables.replays.union(batch.replays.ranges()).without(batch.position.ranges())
            if fault is SinkFault.BETWEEN:
                raise StoreUnavailableError("the fake sink went away between its tables")
            if fault is SinkFault.CRASH_BETWEEN:
                raise SimulatedCrashError
            clips = [
                clip.clip_id
                for done in batch.videos
                if not tables.position.covers(done.video.row_id)
                for clip in done.outcome.clips
                if clip.kept
            ]
            if tables.position != batch.position:
                tables.clips.extend(clips)
                tables.position = batch.position
                tables.sequence += 1
            self.batches.append(batch)
            if fault is SinkFault.ANSWER_LOST:
                raise StoreUnavailableError("the answer of the fake sink got lost")
            return CommitReceipt(tables.sequence, len(new_rows), len(clips), num_attempts=2)

    def close(self) -> None:
        """Do nothing: there is nothing to release."""
