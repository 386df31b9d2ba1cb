"""The changes of a snapshot in an order that holds for keys that move from one partition to another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

Row = Mapping[str, Any]
_DELETE = "-D"


def removals_first(
    splits: Sequence[Any],
    partition: Callable[[Any], str],
    rows: Callable[[Sequence[Any]], Iterator[Row]],
    keys: Sequence[str],
    kind: str,
) -> Iterator[Row]:
    """Yield the rows of keys that a partition loses before all others.

    A key that moves is removed from one partition and inserted into another, in one snapshot. The partitions are read
    one after the other, and the removal must not come last. Costs memory for each key that is removed, and reads the
    changes up to three times.

    Args:
        splits: the changes, sorted by partition.
        partition: names the partition of a split.
        rows: reads splits.
        keys: columns of the primary key.
        kind: name of the column that says what a row is.
    """

    def key(row: Row) -> tuple[Any, ...]:
        return tuple(row[name] for name in keys)

    parts = [list(part) for _, part in groupby(splits, key=partition)]
    lost: list[set[tuple[Any, ...]]] = []
    for part in parts:
        lost.append(set())
        for row in rows(part):
            (lost[-1].add if row[kind] == _DELETE else lost[-1].discard)(key(row))
    for is_lost in (True, False):
        for part, of_part in zip(parts, lost, strict=True):
            if of_part or not is_lost:
                yield from (row for row in rows(part) if (key(row) in of_part) is is_lost)
