"""Which rows of the ledger share a key: 24 bytes for each, however long the key is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from consumers.paimon.commit.ledger_index import digests

MOST_RECENT = 16_384
"""Rows that wait to be sorted in."""


class OffsetIndex:
    """The offsets of every key: 24 bytes for each row, beside up to 16,384 recent ones at some 400.

    Args:
        keys: digest of each row's key, (n,) S16; rows without one are left out.
        offsets: offset of each row, (n,) int64.
        most_recent: so many rows at most wait to be sorted in.
    """

    def __init__(self, keys: NDArray[np.bytes_], offsets: NDArray[np.int64], most_recent: int = MOST_RECENT) -> None:
        self._most_recent = most_recent
        has_key = keys != b""
        order = np.argsort(keys[has_key], kind="stable")
        self._keys: NDArray[np.bytes_] = keys[has_key][order]
        self._offsets: NDArray[np.int64] = offsets[has_key][order]
        self._recent: defaultdict[bytes, set[int]] = defaultdict(set)
        self._num_recent = 0

    def __len__(self) -> int:
        return len(self._keys) + self._num_recent

    def add(self, rows: Iterable[tuple[str, int]]) -> None:
        """Note rows, as key and offset, that are in the ledger; again changes nothing."""
        for key, offset in rows:
            if offset in self.offsets(key):
                continue
            self._recent[_digest(key)].add(offset)
            self._num_recent += 1
            if self._num_recent >= self._most_recent:
                self._merge()

    def _merge(self) -> None:
        pairs = sorted((digest, offset) for digest, offsets in self._recent.items() for offset in offsets)
        keys = np.array([digest for digest, _ in pairs], dtype=self._keys.dtype)
        places = np.searchsorted(self._keys, keys)
        self._keys = np.insert(self._keys, places, keys)
        self._offsets = np.insert(self._offsets, places, [offset for _, offset in pairs])
        self._recent.clear()
        self._num_recent = 0

    def offsets(self, key: str) -> set[int]:
        """Return the offsets of every row of ``key``."""
        digest = _digest(key)
        first, last = (int(np.searchsorted(self._keys, np.bytes_(digest), side=side)) for side in ("left", "right"))
        return {*self._offsets[first:last].tolist(), *self._recent.get(digest, ())}


def _digest(key: str) -> bytes:
    return bytes(digests([key])[0])
