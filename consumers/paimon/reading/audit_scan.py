"""One pass over a table as of one snapshot, past files that are gone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import pyarrow as pa

from consumers.errors import StoreUnavailableError
from consumers.paimon.reading.audit_report import Findings
from consumers.paimon.reading.small_files import SmallFiles
from consumers.paimon.snapshots import read_snapshot

_BLOB = ".blob"


class AuditScan:
    """The files of a table as of ``snapshot``, checked before they are read.

    Costs one plan, one listing of each folder that holds files of the snapshot, and no request for the existence of a
    single file.

    Args:
        table: the pypaimon table.
        snapshot: which state of it; None is an empty table.
        columns: what is read.
        equal: only rows with these values, by column.
        parts: of nested columns, the leaves that are needed, as Parquet names them.
    """

    def __init__(
        self,
        table: Any,
        snapshot: Any | None,
        columns: Sequence[str],
        equal: Mapping[str, str] | None = None,
        parts: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.name = str(table.identifier.get_full_name())
        self._file_io = table.file_io
        self._manager = table.snapshot_manager()
        self._snapshot = snapshot
        self._splits: list[Any] = []
        self._equal = dict(equal or {})
        self._small = SmallFiles(table, columns, self._equal, parts or {})
        if snapshot is None:
            return
        pinned = table.copy({"scan.snapshot-id": str(snapshot.id), "blob-as-descriptor": "true"})
        builder = pinned.new_read_builder()
        predicates = builder.new_predicate_builder()
        builder = builder.with_projection(list(columns))
        if self._equal:
            matches = [predicates.equal(column, value) for column, value in self._equal.items()]
            builder = builder.with_filter(predicates.and_predicates(matches))
        self._reader = builder.new_read()
        self._splits = builder.new_scan().plan().splits()

    def check_files(self, findings: Findings, *, reads_blobs: bool = False) -> None:
        """Find files that are not there or not of the size that the table tells, and leave out the rows they take away.

        Args:
            findings: where they go.
            reads_blobs: rows whose BLOB is gone are to be left out as well.

        Raises:
            StoreUnavailableError: the snapshot has expired, and files with it.
        """
        sizes = self._sizes()
        kept = []
        for split in self._splits:
            gone = [file for file in split.files if sizes.get(file.file_path) != file.file_size]
            for file in gone:
                self._tell(file, sizes.get(file.file_path), findings)
            lost = [file for file in gone if reads_blobs or not file.file_name.endswith(_BLOB)]
            left = split.filter_file(partial(_is_apart, lost)) if lost else split
            if left is not None:
                kept.append(left)
        self._splits = kept

    def _tell(self, file: Any, size_bytes: int | None, findings: Findings) -> None:
        if size_bytes is not None:
            told = f"has {size_bytes} bytes and not the {file.file_size} that the table tells"
            findings.add("files_damaged", [f"table {self.name}: {_what(file)} {told}"], 1)
        elif self._snapshot is not None and read_snapshot(self._manager, int(self._snapshot.id)) is None:
            raise StoreUnavailableError(
                f"table {self.name}: snapshot {self._snapshot.id} expired during the audit; begin it again"
            )
        else:
            findings.add("files_missing", [f"table {self.name}: {_what(file)} is not there"], 1)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows, batch by batch."""
        for split in self._splits:
            small, left = self._small.of(split)
            yield from self._small.read(small)
            if left is not None:
                yield from self._reader.to_arrow_batch_reader([left])

    def batches_and_splits(self) -> Iterator[tuple[pa.RecordBatch, Any]]:
        """Yield the rows, batch by batch, with the split that they are of."""
        for split in self._splits:
            for batch in self._reader.to_arrow_batch_reader([split]):
                yield batch, split

    def _sizes(self) -> dict[str, int]:
        """Return the size of each file in the folders of the snapshot's files, by path."""
        folders: defaultdict[str, set[str]] = defaultdict(set)
        for split in self._splits:
            for file in split.files:
                folder, _, name = file.file_path.rpartition("/")
                folders[folder].add(name)
        sizes = {}
        for folder, wanted in folders.items():
            for status in self._file_io.list_status(folder):
                name = str(status.path).rpartition("/")[2]
                if name in wanted:
                    sizes[f"{folder}/{name}"] = int(status.size)
        return sizes


def _what(file: Any) -> str:
    rows = ""
    if file.first_row_id is not None:
        rows = f" of rows {file.first_row_id} to {file.first_row_id + file.row_count - 1}"
    return f"file {file.file_path}{rows}"


def _is_apart(others: Sequence[Any], file: Any) -> bool:
    return not any(_is_of_same_rows(file, other) for other in others)


def _is_of_same_rows(file: Any, other: Any) -> bool:
    if file.file_name == other.file_name:
        return True
    if file.first_row_id is None or other.first_row_id is None:
        return False
    start, end = other.first_row_id, other.first_row_id + other.row_count
    return bool(file.first_row_id < end and start < file.first_row_id + file.row_count)
