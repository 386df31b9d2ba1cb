"""What a consumer is done with, as its markers tell: what an audit may hold it to, and what is still to come."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from consumers.paimon.commit.markers import Division
from schemas.positions import OffsetRange, Position
from schemas.shards import Base

_Mask = NDArray[np.bool_]


class Done:
    """What the shards of a consumer have finished between them, by their markers in the curated table.

    Args:
        division: the consumer's markers; None where it has none.
        source: the raw table; markers over another count for nothing.
    """

    def __init__(self, division: Division | None, source: str) -> None:
        self._count = 1 if division is None else division.count
        self._shards = () if division is None else division.shards(source)
        found = {} if division is None else division.markers
        self._markers = {index: marker for index, marker in found.items() if marker.source == source}

    @property
    def watermark(self) -> int:
        """The offset below which everything is finished, of a consumer that is not divided."""
        return min((position.watermark for _, position in self._shards), default=0)

    @property
    def swept_id(self) -> int:
        """The newest snapshot of the raw table up to which every shard has looked for rows that are gone."""
        if len(self._markers) < self._count:
            return 0
        marks = [marker.mark for marker in self._markers.values()]
        return min(0 if mark is None else mark.swept_id for mark in marks)

    def missing(self, end: int) -> Iterator[OffsetRange]:
        """Yield what is not finished below ``end``, of a consumer that is not divided."""
        position = self._shards[0][1] if self._shards else Position()
        yield from position.missing(end)

    def covers(self, offsets: NDArray[np.int64]) -> _Mask:
        """Return for each of ``offsets`` whether it is finished, (n,) bool."""
        covered = np.zeros(len(offsets), dtype=np.bool_)
        for share, position in self._shards:
            for part in (Base(share.shard, position), *share.bases):
                is_owned = offsets % part.shard.count == part.shard.index
                covered |= is_owned & _within(offsets, part.position)
        return covered

    def has_commit(self, offsets: NDArray[np.int64], sequences: NDArray[np.int64]) -> _Mask:
        """Return whether the curated table has the commit that wrote each ledger row, (n,) bool.

        Args:
            offsets: of the ledger rows.
            sequences: numbers of the commits that wrote them.
        """
        newest = np.zeros(self._count, dtype=np.int64)
        for index, marker in self._markers.items():
            newest[index] = marker.sequence
        return np.asarray(sequences <= newest[offsets % self._count], dtype=np.bool_)


def _within(offsets: NDArray[np.int64], position: Position) -> _Mask:
    ranges: Sequence[OffsetRange] = position.ranges()
    if not ranges:
        return np.zeros(len(offsets), dtype=np.bool_)
    starts = np.array([part.start for part in ranges], dtype=np.int64)
    ends = np.array([part.end for part in ranges], dtype=np.int64)
    index = np.searchsorted(starts, offsets, side="right") - 1
    return np.asarray((index >= 0) & (offsets < ends[np.maximum(index, 0)]), dtype=np.bool_)
