"""Progress through a source as a set of finished offsets.

An *offset* is one integer per source row. For row-tracked Paimon append tables it is the row id, which grows with
commit order. Videos finish out of order (their lengths differ by a factor of a thousand), so progress is a low
watermark plus the ranges that are finished above it.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, order=True)
class OffsetRange:
    """A half-open range of offsets, ``start <= offset < end``; never empty.

    Raises:
        ValueError: ``start`` is negative or ``end`` is not above ``start``.
    """

    start: int
    end: int

    def __post_init__(self) -> None:
        if self.start < 0 or self.end <= self.start:
            raise ValueError(f"not a range of offsets: [{self.start}, {self.end})")

    def __len__(self) -> int:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Position:
    """The finished offsets: all below ``watermark``, and those in ``done``.

    Invariant, held by construction: the ranges in ``done`` are sorted, do not touch each other, and start above
    ``watermark``. Two positions with the same finished offsets are therefore equal.

    Raises:
        ValueError: the invariant does not hold (build positions with the methods and it always does).
    """

    watermark: int = 0
    done: tuple[OffsetRange, ...] = ()

    def __post_init__(self) -> None:
        if self.watermark < 0:
            raise ValueError(f"a watermark is never negative: {self.watermark}")
        last = self.watermark
        for finished in self.done:
            if finished.start <= last:
                raise ValueError(f"ranges of a position must be sorted, apart and above the watermark: {self}")
            last = finished.end

    @classmethod
    def from_ranges(cls, ranges: Iterable[OffsetRange]) -> Position:
        """Return the position in which exactly the offsets of ``ranges`` (any order, overlaps allowed) are finished."""
        merged: list[OffsetRange] = []
        for item in sorted(ranges):
            if merged and item.start <= merged[-1].end:
                merged[-1] = OffsetRange(merged[-1].start, max(merged[-1].end, item.end))
            else:
                merged.append(item)
        if merged and merged[0].start == 0:
            return cls(merged[0].end, tuple(merged[1:]))
        return cls(0, tuple(merged))

    def ranges(self) -> tuple[OffsetRange, ...]:
        """Return the finished offsets as sorted ranges, the part below the watermark first."""
        return ((OffsetRange(0, self.watermark),) if self.watermark else ()) + self.done

    def with_range(self, finished: OffsetRange) -> Position:
        """Return this position with ``finished`` marked as done as well."""
        return self.union((finished,))

    def with_offset(self, offset: int) -> Position:
        """Return this position with one more finished offset."""
        return self.union((OffsetRange(offset, offset + 1),))

    def union(self, finished: Iterable[OffsetRange]) -> Position:
        """Return this position with all of ``finished`` marked as done as well."""
        return Position.from_ranges((*self.ranges(), *finished))

    def without(self, unfinished: Iterable[OffsetRange]) -> Position:
        """Return this position with none of ``unfinished`` marked as done."""
        left: list[OffsetRange] = []
        kept = Position.from_ranges(unfinished).missing(self.end)
        part = next(kept, None)
        for finished in self.ranges():
            while part is not None and part.end <= finished.start:
                part = next(kept, None)
            while part is not None and part.start < finished.end:
                left.append(OffsetRange(max(part.start, finished.start), min(part.end, finished.end)))
                if part.end > finished.end:
                    break
                part = next(kept, None)
        return Position.from_ranges(left)

    def covers(self, offset: int) -> bool:
        """Return whether ``offset`` is finished."""
        if offset < self.watermark:
            return True
        index = bisect_right(self.done, offset, key=lambda r: r.start) - 1
        return index >= 0 and offset < self.done[index].end

    def includes(self, other: Position) -> bool:
        """Return whether every offset that ``other`` has finished is finished here too."""
        return self.union(other.ranges()) == self

    def missing(self, end: int) -> Iterator[OffsetRange]:
        """Yield, in order, the ranges below ``end`` that are not finished."""
        start = self.watermark
        for finished in self.done:
            if start >= end:
                return
            if finished.start > start:
                yield OffsetRange(start, min(finished.start, end))
            start = finished.end
        if start < end:
            yield OffsetRange(start, end)

    def num_missing(self, end: int) -> int:
        """Return how many offsets below ``end`` are not finished: the lag in records when ``end`` is the head."""
        return sum(len(gap) for gap in self.missing(end))

    @property
    def end(self) -> int:
        """The offset after the highest finished one."""
        return self.done[-1].end if self.done else self.watermark

    def to_json(self) -> str:
        """Return the compact form that is stored in snapshot properties."""
        return json.dumps(
            {"watermark": self.watermark, "done": [[r.start, r.end] for r in self.done]}, separators=(",", ":")
        )

    @classmethod
    def from_json(cls, text: str) -> Position:
        """Read what :meth:`to_json` wrote.

        Raises:
            ValueError: ``text`` is not a position.
        """
        try:
            raw: Any = json.loads(text)
            return cls(int(raw["watermark"]), tuple(OffsetRange(int(a), int(b)) for a, b in raw["done"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not a position: {text!r} ({error})") from error
