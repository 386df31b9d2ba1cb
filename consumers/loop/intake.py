"""Reads the source lazily, gap by gap, and survives a store that comes and goes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from consumers.clock import Clock
from consumers.errors import StoreUnavailableError
from consumers.loop.retry import StorePatience
from consumers.members.sharding import share_of
from consumers.ports import Source, SourceHead
from schemas.positions import OffsetRange, Position
from schemas.records import RawVideo, SkippedRange
from schemas.shards import Share
from schemas.source_mark import SourceMark


def offsets_of(item: RawVideo | SkippedRange) -> OffsetRange:
    """Return the offsets of ``item``."""
    return item.range if isinstance(item, SkippedRange) else OffsetRange(item.row_id, item.row_id + 1)


class Intake:
    """Every offset of a share that a position lacks, once, in order, up to a head that moves on.

    Offsets that are asked for once more come before all others. One item at most is read ahead of what is taken. Not
    thread-safe.

    Args:
        source: where the rows are, of all shares.
        share: whose are to be read.
        start: offsets that are finished already.
        clock: for the polls of the head.
        poll_interval_s: least time between two looks at the head.
        patience: how long the source may stay away.
    """

    def __init__(
        self,
        source: Source,
        share: Share,
        start: Position,
        clock: Clock,
        poll_interval_s: float,
        patience: StorePatience,
    ) -> None:
        self._whole = source
        self._source = share_of(source, share)
        self._start = start
        self._clock = clock
        self._poll_interval_s = poll_interval_s
        self._patience = patience
        self._head: SourceHead | None = None
        self._next_poll_s = float("-inf")
        self._next_offset = 0
        self._items: Iterator[RawVideo | SkippedRange] | None = None
        self._removed: Iterator[RawVideo] = iter(())
        self._again = Position()
        self._again_items: Iterator[RawVideo | SkippedRange] | None = None
        self._held: RawVideo | SkippedRange | None = None
        self._is_held_again = False
        self.last_error: str | None = None

    @property
    def head_offset(self) -> int | None:
        """The end of the source when it was last read; None before that."""
        return None if self._head is None else self._head.next_offset

    @property
    def mark(self) -> SourceMark | None:
        """What the source was when its end was last read; None before that, and where it tells nothing."""
        return None if self._head is None else self._head.mark

    @property
    def is_at_head(self) -> bool:
        """Whether everything below the last known head has been taken."""
        return self._head is not None and self._held is None and self._again == Position() and not self._gaps()

    @property
    def held(self) -> RawVideo | SkippedRange | None:
        """The item that was read ahead and not taken, if any."""
        return self._held

    def wake_at_s(self) -> float:
        """Return the monotonic time at which :meth:`peek` may have something new."""
        if self._patience.is_down:
            return self._patience.next_try_s
        return self._next_poll_s if self.is_at_head else float("-inf")

    def poll_now(self) -> None:
        """Look at the head at the next :meth:`peek`, whenever the last look was."""
        self._next_poll_s = float("-inf")

    def peek(self) -> RawVideo | SkippedRange | None:
        """Return the next item without taking it, or None when there is none now.

        Raises:
            StoreUnavailableError: the source has been away for longer than the patience with it.
        """
        if self._held is None and self._clock.monotonic_s() >= self._patience.next_try_s:
            try:
                self._held = self._pull_again()
                self._is_held_again = self._held is not None
                if self._held is None:
                    self._held = self._pull()
            except StoreUnavailableError as error:
                self._items = self._again_items = None
                self.last_error = str(error)
                if not self._patience.failed(self._clock.monotonic_s()):
                    raise
            else:
                self._patience.succeeded()
                self.last_error = None
        return self._held

    def take(self) -> None:
        """Take the item that :meth:`peek` returned."""
        if self._held is None:
            raise ValueError("take() without an item from peek()")
        held = offsets_of(self._held)
        self._held = None
        if self._is_held_again:
            self._again = self._again.without([held])
            return
        # A row that is gone is told at an offset that was taken long ago.
        self._next_offset = max(self._next_offset, held.end)

    def again(self, offsets: Sequence[OffsetRange]) -> None:
        """Read ``offsets`` once more, which are finished or were taken long ago."""
        self._again = self._again.union(offsets)
        self._again_items = None

    def _gaps(self) -> list[OffsetRange]:
        """Return the ranges below the head that are neither finished at the start nor taken."""
        if self._head is None or self._next_offset >= self._head.next_offset:
            return []
        taken = self._start.with_range(OffsetRange(0, self._next_offset)) if self._next_offset else self._start
        return list(taken.missing(self._head.next_offset))

    def _pull_again(self) -> RawVideo | SkippedRange | None:
        if self._again_items is None:
            if self._again == Position():
                return None
            # Of the whole source: a share leaves out what was finished before the shards changed.
            self._again_items = self._whole.read(self._again.ranges())
            # One read at a time: the other begins anew where it was.
            self._items = None
        item = next(self._again_items, None)
        if item is None:
            self._again, self._again_items = Position(), None
        return item

    def _pull(self) -> RawVideo | SkippedRange | None:
        for _ in range(2):
            if self._items is not None:
                item = next(self._items, None)
                if item is not None:
                    return item
                self._items = None
                # The read covered every gap below the head it was made for.
                self._next_offset = max(self._next_offset, self._head.next_offset if self._head else 0)
            if not self._gaps():
                gone = next(self._removed, None)
                if gone is not None:
                    return gone
                if self._clock.monotonic_s() < self._next_poll_s:
                    return None
                self._head = self._source.head()
                self._next_poll_s = self._clock.monotonic_s() + self._poll_interval_s
                self._removed = self._source.removed()
            gaps = self._gaps()
            if not gaps:
                return next(self._removed, None)
            self._items = self._source.read(gaps)
        return None
