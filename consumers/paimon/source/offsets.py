"""Offsets of tables that are read change by change: a snapshot's id, and a number within it, as one integer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from schemas.positions import OffsetRange

BITS = 32


WHOLE_TABLE = 1 << (BITS - 1)


def snapshot_of(offset: int) -> int:
    """Return the id of the snapshot that ``offset`` belongs to."""
    return offset >> BITS


def first_offset(snapshot_id: int) -> int:
    """Return the offset of the first change in a snapshot."""
    return snapshot_id << BITS


@dataclass(frozen=True, slots=True)
class Wanted:
    """The offsets of one snapshot that are asked for, in order."""

    snapshot_id: int
    ranges: tuple[OffsetRange, ...]

    @property
    def is_whole_table(self) -> bool:
        """Whether they begin beyond the changes: then a consumer is on its way through the table as of the snapshot."""
        return self.ranges[0].start >= first_offset(self.snapshot_id) + WHOLE_TABLE


def from_offset(ranges: Sequence[OffsetRange], start: int) -> Iterator[OffsetRange]:
    """Yield what of ``ranges`` lies at ``start`` or above."""
    for part in ranges:
        if part.end > start:
            yield OffsetRange(max(part.start, start), part.end)
