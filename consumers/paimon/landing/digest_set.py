"""A set of many texts in little memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

_BYTES = 16
_MOST_RECENT = 65_536


class DigestSet:
    """Remembers texts by 128 bits of their hash: 16 bytes each, beside up to 65,536 recent ones at 100 bytes each.

    That two of a thousand million texts are taken for one has a probability of 10^-21.
    """

    def __init__(self) -> None:
        self._sorted = np.empty(0, dtype=f"S{_BYTES}")
        self._recent: set[bytes] = set()

    def add(self, texts: Iterable[str]) -> None:
        """Remember ``texts``."""
        for text in texts:
            self._recent.add(_digest(text))
            if len(self._recent) >= _MOST_RECENT:
                self._merge()

    def __contains__(self, text: str) -> bool:
        digest = _digest(text)
        if digest in self._recent:
            return True
        index = int(np.searchsorted(self._sorted, np.bytes_(digest)))
        # numpy leaves out zero bytes at the end.
        return index < len(self._sorted) and bytes(self._sorted[index]) == digest.rstrip(b"\0")

    def _merge(self) -> None:
        recent = np.array(list(self._recent), dtype=self._sorted.dtype)
        self._sorted = np.union1d(self._sorted, recent)
        self._recent.clear()


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_BYTES).digest()
