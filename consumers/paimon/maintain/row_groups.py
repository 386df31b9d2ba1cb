"""The files of a row-tracked table by the row ids that they hold, and which of them become one."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pypaimon.manifest.schema.data_file_meta import DataFileMeta
from pypaimon.utils.data_evolution_utils import retrieve_anchor_file

from consumers.errors import SluiceError
from consumers.paimon.commit.merging import merge_from
from schemas.positions import OffsetRange

MOST_ROWS = 50_000
MOST_BYTES = 64 * 1024**2
"""A data file of so many rows or bytes is full."""
BLOB_BYTES = 64 * 1024**2
_FULL_BLOB_BYTES = 16 * 1024**2


class UnknownLayoutError(SluiceError):
    """A table holds files of a kind that Sluice does not write; they are left as they are."""


@dataclass(frozen=True, slots=True)
class RowGroup:
    """The files that hold one range of row ids between them.

    Attributes:
        rows: the range.
        data: manifest entries of the files of ordinary columns; more than one where columns were written anew.
        blobs: those of the BLOB columns, each inside of ``rows``.
        dead: positions of deleted rows, from the range's start on.
    """

    rows: OffsetRange
    data: tuple[Any, ...]
    blobs: tuple[Any, ...] = ()
    dead: frozenset[int] = field(default_factory=frozenset)

    @property
    def anchor(self) -> str:
        """Name of the file that deletion vectors go by."""
        return str(retrieve_anchor_file(self.data, lambda entry: entry.file).file.file_name)

    @property
    def entries(self) -> tuple[Any, ...]:
        """All of its files."""
        return self.data + self.blobs

    @property
    def num_bytes(self) -> int:
        """Bytes of ordinary columns."""
        return sum(int(entry.file.file_size) for entry in self.data)

    @property
    def is_dead(self) -> bool:
        """Whether no row of it is left."""
        return len(self.dead) == len(self.rows)


def row_groups(entries: Iterable[Any], dead: Mapping[str, frozenset[int]]) -> list[RowGroup]:
    """Return the files of one bucket by the row ids that they hold, in order.

    Args:
        entries: manifest entries of the bucket.
        dead: positions of deleted rows, by the name of the file that they are noted for.

    Raises:
        UnknownLayoutError: a file is of another kind than the tables that Sluice creates have.
    """
    data: dict[tuple[int, int], list[Any]] = {}
    blobs: list[Any] = []
    for entry in entries:
        file = entry.file
        if file.first_row_id is None or DataFileMeta.is_vector_file(file.file_name):
            raise UnknownLayoutError(f"file {file.file_name} has no row ids, or is of a kind that is not known")
        if DataFileMeta.is_blob_file(file.file_name):
            blobs.append(entry)
        else:
            data.setdefault((file.first_row_id, file.row_count), []).append(entry)
    places = sorted(data)
    beside: dict[tuple[int, int], list[Any]] = {place: [] for place in places}
    for entry in sorted(blobs, key=lambda entry: (entry.file.first_row_id, -entry.file.max_sequence_number)):
        at = bisect_right(places, entry.file.first_row_id, key=lambda place: place[0]) - 1
        if at < 0 or entry.file.first_row_id + entry.file.row_count > sum(places[at]):
            raise UnknownLayoutError(f"file {entry.file.file_name} holds row ids that no file of other columns holds")
        beside[places[at]].append(entry)
    groups = []
    for start, num_rows in places:
        group = RowGroup(
            OffsetRange(start, start + num_rows), tuple(data[start, num_rows]), tuple(beside[start, num_rows])
        )
        gone = dead.get(group.anchor)
        groups.append(group if gone is None else RowGroup(group.rows, group.data, group.blobs, gone))
    return groups


def parts_due(
    sizes: Sequence[tuple[int, int]], most_rows: int = MOST_ROWS, most_bytes: int = MOST_BYTES
) -> Iterator[range]:
    """Yield which neighbours are to become one file, ten of a size into one of the next.

    Args:
        sizes: rows and bytes of each file, oldest first.
        most_rows: a file of so many rows is full.
        most_bytes: a file of so many bytes is full.
    """
    start = merge_from([most_rows if each[1] >= most_bytes else each[0] for each in sizes], most=most_rows)
    if start is None:
        return
    first = start
    num_rows = num_bytes = 0
    for at in range(start, len(sizes)):
        num_rows, num_bytes = num_rows + sizes[at][0], num_bytes + sizes[at][1]
        if num_rows >= most_rows or num_bytes >= most_bytes or at == len(sizes) - 1:
            if at > first:
                yield range(first, at + 1)
            first, num_rows, num_bytes = at + 1, 0, 0


def neighbours(groups: Sequence[RowGroup]) -> Iterator[list[RowGroup]]:
    """Yield stretches of groups without a gap between their row ids: only these can become one file."""
    stretch: list[RowGroup] = []
    for group in groups:
        if stretch and stretch[-1].rows.end != group.rows.start:
            yield stretch
            stretch = []
        stretch.append(group)
    if stretch:
        yield stretch


def packs(part: Sequence[RowGroup], column: str) -> Iterator[list[Any]]:
    """Yield the BLOB files of one column that become one; a single one stays what it is unless rows of it are deleted.

    Files that lie over each other, of rows written anew, stay apart.
    """
    files = [entry for group in part for entry in group.blobs if entry.file.write_cols == [column]]
    pack: list[Any] = []
    num_bytes, end = 0, -1
    is_layered = any(a.file.first_row_id + a.file.row_count > b.file.first_row_id for a, b in itertools.pairwise(files))
    for entry in files:
        file = entry.file
        is_apart = is_layered or file.first_row_id != end or file.file_size >= _FULL_BLOB_BYTES
        if pack and (is_apart or num_bytes + file.file_size > BLOB_BYTES):
            yield pack
            pack, num_bytes = [], 0
        pack.append(entry)
        num_bytes, end = num_bytes + file.file_size, file.first_row_id + file.row_count
        if file.file_size >= _FULL_BLOB_BYTES:
            yield pack
            pack, num_bytes, end = [], 0, -1
    if pack:
        yield pack
