"""What replacing rows has changed: the difference between two states of a table with a primary key."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BYTES = 16
_CHUNK_ROWS = 65_536

Row = Mapping[str, Any]
Rows = Callable[[], Iterator[Row]]


def difference(before: Rows, after: Rows, keys: Sequence[str], kind: str) -> Iterator[Row]:
    """Yield the rows of ``after`` that are new or differ, as inserts, then those gone from ``before``, as deletes.

    In the order in which the states are read, so that the same two states always give the same rows in the same order.
    Costs 33 bytes of memory for each row of ``before``, which is read twice.

    Args:
        before: reads the earlier state from its beginning.
        after: reads the later one.
        keys: columns of the primary key.
        kind: name of the column that says what a row is.
    """
    known = _State(before(), keys, kind)
    for row in after():
        if not known.meets(row):
            yield {**row, kind: "+I"}
    if known.num_unmet:
        for row in before():
            if not known.has_met(row):
                yield {**row, kind: "-D"}


class _State:
    """Digests of keys and rows, sorted by key, and which keys were met since."""

    def __init__(self, rows: Iterator[Row], keys: Sequence[str], kind: str) -> None:
        self._key_columns = tuple(keys)
        self._kind = kind
        chunks: list[NDArray[np.void]] = []
        buffer: list[bytes] = []
        for row in rows:
            buffer.append(self._key(row) + self._row(row))
            if len(buffer) == _CHUNK_ROWS:
                chunks.append(_array(buffer))
                buffer = []
        chunks.append(_array(buffer))
        both = np.concatenate(chunks)
        self._keys = np.ascontiguousarray(both["key"])
        order = np.argsort(self._keys, kind="stable")
        self._keys, self._rows = self._keys[order], both["row"][order]
        self._met = np.zeros(len(order), dtype=np.bool_)

    @property
    def num_unmet(self) -> int:
        """How many keys have not been met."""
        return int(len(self._met) - np.count_nonzero(self._met))

    def meets(self, row: Row) -> bool:
        """Note that the key of ``row`` stands; return whether its row is the same."""
        index = self._index(row)
        if index is None:
            return False
        self._met[index] = True
        return bytes(self._rows[index]) == self._row(row)

    def has_met(self, row: Row) -> bool:
        """Return whether the key of ``row`` was met."""
        index = self._index(row)
        return index is not None and bool(self._met[index])

    def _index(self, row: Row) -> int | None:
        key = np.bytes_(self._key(row))
        index = int(np.searchsorted(self._keys, key))
        return index if index < len(self._keys) and self._keys[index] == key else None

    def _key(self, row: Row) -> bytes:
        return _digest([row[name] for name in self._key_columns])

    def _row(self, row: Row) -> bytes:
        return _digest([(name, value) for name, value in row.items() if name != self._kind])


# Zero bytes at the end of a key are left out by numpy, on both sides of every comparison.
_DTYPE = np.dtype([("key", f"S{_BYTES}"), ("row", f"V{_BYTES}")])


def _array(records: list[bytes]) -> NDArray[np.void]:
    return np.frombuffer(b"".join(records), dtype=_DTYPE)


def _digest(values: list[Any]) -> bytes:
    return hashlib.blake2b(repr(values).encode("utf-8", "surrogatepass"), digest_size=_BYTES).digest()
