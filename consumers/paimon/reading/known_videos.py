"""Which videos a consumer knows, by the row that each was first, and which of them stand in the raw table."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

FIRST_ROW = "row:"
"""How the key of a row begins that was there under another id: the first one follows."""


@dataclass
class KnownVideos:
    """The ledger's rows of one consumer, and what stands in the raw table.

    Attributes:
        row_ids: of the rows that were the first of their video, sorted by ``contents``, int64.
        contents: digest of each one's video, S16.
        current: the newest id of each row that got another.
        retired: rows whose latest run says that they are gone.
        unfinished: rows whose commit was cut in two, so that their clips were never written; those are to be had from
            wherever the row is now.
        standing: ids in the raw table, sorted, int64.
        ledgered: ids in the ledger, sorted, int64.
    """

    row_ids: NDArray[np.int64]
    contents: NDArray[np.bytes_]
    standing: NDArray[np.int64]
    ledgered: NDArray[np.int64]
    current: dict[int, int] = field(default_factory=dict)
    retired: set[int] = field(default_factory=set)
    unfinished: set[int] = field(default_factory=set)

    def stands(self, row_id: int) -> bool:
        """Return whether the raw table holds the row."""
        return has_id(self.standing, row_id)

    def first_id(self, content: bytes, row_id: int) -> int | None:
        """Return which row of the ledger ``row_id`` was before, and take it as that from now on; None for a new one."""
        wanted = np.bytes_(content)
        first, last = (int(np.searchsorted(self.contents, wanted, side=side)) for side in ("left", "right"))
        for known in sorted(set(self.row_ids[first:last].tolist()) - self.unfinished):
            current = self.current.get(known, known)
            if current == row_id and known != row_id:
                return int(known)
            if known not in self.retired and current != row_id and not self.stands(current):
                self.current[known] = row_id
                return int(known)
        return None

    def gone(self) -> list[int]:
        """Return the rows whose newest id the raw table does not hold, retired or not."""
        current = self.row_ids.copy()
        if self.current:
            moved = np.isin(self.row_ids, np.fromiter(self.current, dtype=np.int64))
            current[moved] = [self.current[row_id] for row_id in self.row_ids[moved].tolist()]
        return [int(row_id) for row_id in np.sort(self.row_ids[~np.isin(current, self.standing)])]


def has_id(ordered: NDArray[np.int64], row_id: int) -> bool:
    """Return whether ``ordered``, sorted, has ``row_id``."""
    place = int(np.searchsorted(ordered, row_id))
    return place < len(ordered) and int(ordered[place]) == row_id
