"""A set of many texts in little memory, and where it is large on disk."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

_BYTES = 16
_MOST_RECENT = 65_536


class DigestSet:
    """Remembers texts by 128 bits of their hash: 16 bytes each, beside up to 65,536 recent ones at 100 bytes each.

    More than ``most_in_memory`` go to a temporary file, which a look-up touches a few pages of. That two of a thousand
    million texts are taken for one has a probability of 10^-21.

    Args:
        most_in_memory: digests that are held in memory; each further so many are one more piece of the file.
    """

    def __init__(self, most_in_memory: int = 2**21) -> None:
        self._most_in_memory = most_in_memory
        self._pieces: list[NDArray[np.bytes_]] = []
        self._sorted: NDArray[np.bytes_] = np.empty(0, dtype=f"S{_BYTES}")
        self._recent: set[bytes] = set()

    def add(self, texts: Iterable[str]) -> None:
        """Remember ``texts``.

        Raises:
            OSError: the temporary file cannot be written.
        """
        for text in texts:
            self._recent.add(_digest(text))
            if len(self._recent) >= min(_MOST_RECENT, self._most_in_memory):
                self._merge()

    def __contains__(self, text: str) -> bool:
        digest = _digest(text)
        return digest in self._recent or any(_holds(piece, digest) for piece in (self._sorted, *self._pieces))

    def _merge(self) -> None:
        recent = np.array(list(self._recent), dtype=self._sorted.dtype)
        self._sorted = np.union1d(self._sorted, recent)
        self._recent.clear()
        if len(self._sorted) >= self._most_in_memory:
            # Has no name, so that it is gone with the process.
            with tempfile.TemporaryFile(prefix="sluice-digests-") as file:
                self._sorted.tofile(file)
                file.flush()
                self._pieces.append(np.memmap(file, dtype=self._sorted.dtype, mode="r"))
            self._sorted = np.empty(0, dtype=self._sorted.dtype)


def _holds(ordered: NDArray[np.bytes_], digest: bytes) -> bool:
    index = int(np.searchsorted(ordered, np.bytes_(digest)))
    # numpy leaves out zero bytes at the end.
    return index < len(ordered) and bytes(ordered[index]) == digest.rstrip(b"\0")


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_BYTES).digest()
