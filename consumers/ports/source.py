"""Where rows come from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from schemas.positions import OffsetRange, Position
from schemas.records import RawVideo, SkippedRange
from schemas.shards import Share
from schemas.source_mark import SourceMark


@dataclass(frozen=True, slots=True)
class SourceHead:
    """The end of the source as of its latest snapshot.

    ``next_offset`` is the offset that the next row will get: every existing row is below it. ``snapshot_id`` is None
    for a table without snapshots, and ``next_offset`` then 0.

    ``mark`` is what is to be remembered of the source with a position in it.

    Where offsets have gaps, ``count`` returns how many rows ranges of them hold, and ``num_rows`` is how many the
    source has had since some fixed moment; None where every offset below the head is, or was, a row.
    """

    snapshot_id: int | None
    next_offset: int
    committed_at: datetime | None
    num_rows: int | None = None
    mark: SourceMark | None = None
    count: Callable[[Sequence[OffsetRange]], int] | None = field(default=None, compare=False, repr=False)

    def num_missing(self, position: Position, share: Share) -> int:
        """Return how many rows below the head ``share`` has to do still, where ``position`` is finished."""
        if self.count is None:
            return share.num_missing(position, self.next_offset)
        return self.count(list(position.missing(self.next_offset)))


class Source(Protocol):
    """The rows of the raw table, addressed by offset."""

    def head(self) -> SourceHead:
        """Return the current end: one metadata read, whatever the backlog.

        Raises:
            ConfigurationError: the source is not there any more, or cannot be read as it is now.
            SourceChangedError: it is not the one that :meth:`resume` told of, or that was there before.
            StoreUnavailableError: the store did not answer.
        """
        ...

    def resume(self, source_table: str, mark: SourceMark | None) -> None:
        """Go on where a consumer was: its rows are of ``source_table`` from now on, and the source is held to ``mark``.

        Args:
            source_table: the name that rows carry; the table's own, unless it is not the first of that name.
            mark: what is remembered of the source; None where nothing is.
        """
        ...

    def removed(self) -> Iterator[RawVideo]:
        """Yield rows that were read before and are gone, as deletes at the offsets that they had, as they are found.

        Asked after :meth:`head`, once everything below it was read. What is yielded and not committed comes again.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        ...

    def read(self, ranges: Sequence[OffsetRange]) -> Iterator[RawVideo | SkippedRange]:
        """Yield, in order of offset, an item for every offset in ``ranges``: a row, or the range that holds none.

        Reads in bounded chunks, and no further than it is pulled. Every offset of ``ranges`` below the head is covered
        by exactly one item.

        Raises:
            StoreUnavailableError: the store did not answer; what was yielded stays valid.
        """
        ...
