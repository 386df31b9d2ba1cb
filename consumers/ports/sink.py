"""Where outcomes go, exactly once."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol

from schemas.positions import Position
from schemas.records import BlobReference, ProcessedVideo
from schemas.shards import EVERYTHING, Share
from schemas.source_mark import SourceMark


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a consumer incarnation starts from.

    Attributes:
        position: what the curated table holds: the truth.
        ledgered: what the ledger holds; includes ``position``.
        sequence: sequence number of the last commit of this consumer, 0 when there is none.
        epoch: this incarnation's epoch, above that of every earlier one.
        share: which offsets are this shard's to do.
        source_table: the source's name in this consumer's rows; None where it has the table's own.
        mark: what is remembered of the source.
        replays: rows that ``position`` lacks because a person wants to see them processed once more.
    """

    position: Position
    ledgered: Position
    sequence: int
    epoch: int
    share: Share = EVERYTHING
    source_table: str | None = None
    mark: SourceMark | None = None
    replays: Position = field(default_factory=Position)


@dataclass(frozen=True, slots=True)
class CommitBatch:
    """Outcomes to be committed, with the position that holds once they are. May hold no outcome at all.

    ``mark`` is what the source was when these offsets were read; None keeps what was known.

    ``replays`` are finished rows that are to be processed once more, whatever came out: ``position`` lacks them, and
    each gets a further ledger row when its outcome is committed. They are among those that :meth:`Sink.replayable`
    returned since the commit before.
    """

    videos: tuple[ProcessedVideo, ...]
    position: Position
    mark: SourceMark | None = None
    replays: Position = field(default_factory=Position)


@dataclass(frozen=True, slots=True)
class CommitReceipt:
    """What a commit wrote. ``num_attempts`` counts publish attempts on both tables, 2 when there was no conflict."""

    sequence: int
    num_ledger_rows: int
    num_clips: int
    num_attempts: int


class Sink(Protocol):
    """The ledger and curated tables, written exactly once."""

    def open(self) -> Recovered:
        """Take over as this consumer's newest incarnation: fence the older ones and return where to go on.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        ...

    def commit(self, batch: CommitBatch) -> CommitReceipt:
        """Write ledger rows, then clips and position; returns only when both are durable.

        After a :class:`StoreUnavailableError` the same batch may be committed again: what was written is not written
        twice, whether or not the answer to the first try got lost.

        Raises:
            FencedError: a newer incarnation exists; nothing more may be written.
            StoreUnavailableError: the store did not answer.
        """
        ...

    def replayable(self, row_ids: Collection[int]) -> frozenset[int]:
        """Return which of ``row_ids`` may be processed once more: this shard's, finished, and failed in the latest run.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        ...

    def close(self) -> None:
        """Release resources. Commits nothing."""
        ...


class ClipStaging(Protocol):
    """Keeps finished clips that are too large for memory where both workers and sink reach them, until committed.

    One per consumer and shard, its owner; an owner's objects are told from those of others. Picklable.
    """

    def put(self, clip_id: str, content: BinaryIO) -> BlobReference:
        """Store ``content``, from its position to its end, in bounded memory, as a new object of its own.

        Raises:
            StagingUnavailableError: the store did not take it; nothing of it is left that :meth:`stale` does not find.
        """
        ...

    def stale(self) -> list[BlobReference]:
        """Return all objects of this owner, and those of others that have been there for more than a day.

        An incarnation that asks before it takes over, and discards the answer after, hits no object that anybody can
        still commit: whoever put it is fenced by then.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        ...

    def discard(self, references: Iterable[BlobReference]) -> None:
        """Delete objects that exist; raises nothing: what stays is found by the next :meth:`stale`."""
        ...
