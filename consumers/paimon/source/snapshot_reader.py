"""Reads the rows of one snapshot: those that it tells, and those that the table held as of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
from pypaimon.manifest.manifest_file_manager import ManifestFileManager
from pypaimon.manifest.manifest_list_manager import ManifestListManager
from pypaimon.read.streaming_table_scan import AsyncStreamingTableScan

from consumers.errors import ConfigurationError
from consumers.paimon.source.moved_keys import removals_first

KIND = "_row_kind"
"""Name of the column that says what a row is."""

Row = Mapping[str, Any]
IsWanted = Callable[[int], bool]
"""Whether files of a level are wanted."""


class SnapshotReader:
    """Rows come in the same order each time, whoever reads them. Not thread-safe.

    Args:
        raw: the pypaimon table.
        columns: which columns are read, besides the primary key and :data:`KIND`.

    Raises:
        ConfigurationError: pypaimon cannot read it.
    """

    def __init__(self, raw: Any, columns: Sequence[str]) -> None:
        self.keys: tuple[str, ...] = tuple(raw.primary_keys)
        # Else Paimon hands the bytes of the videos themselves where a column holds descriptors.
        self._table = raw.copy({"blob-as-descriptor": "true"})
        names = dict.fromkeys((*columns, *self.keys))
        try:
            builder = self._table.new_stream_read_builder().with_projection(list(names)).with_include_row_kind(True)
            # Whatever it refuses it refuses now, and not only when there are rows.
            builder.new_read()
            self._table.new_read_builder().new_scan()
            # Made here and driven one snapshot at a time: left to itself it merges snapshots, or waits for ever for one
            # that has expired.
            self._scan = AsyncStreamingTableScan(self._table, prefetch_enabled=False)
            self._lists, self._manifests = ManifestListManager(self._table), ManifestFileManager(self._table)
        except (NotImplementedError, ValueError) as error:
            raise ConfigurationError(
                f"table {raw.identifier.get_full_name()}: pypaimon cannot read it: {error}"
            ) from error
        self._builder = builder

    def changelog(self, snapshot: Any) -> Iterator[Row]:
        """Yield the changes that ``snapshot`` tells in files of their own."""
        yield from self._in_order(self._scan._create_changelog_plan(snapshot).splits())

    def delta(self, snapshot: Any) -> Iterator[Row]:
        """Yield the rows that ``snapshot`` adds, as they were written."""
        yield from self._in_order(self._scan._create_delta_plan(snapshot).splits())

    def state(self, snapshot: Any, is_wanted: IsWanted) -> Iterator[Row]:
        """Yield the rows of the table as of ``snapshot``, as far as files of the wanted levels hold them."""
        yield from self._rows(self._plan(snapshot, is_wanted))

    def has_files(self, snapshot: Any, is_wanted: IsWanted) -> bool:
        """Return whether the table has files of the wanted levels as of ``snapshot``."""
        return bool(self._plan(snapshot, is_wanted))

    def levels_of_changed_files(self, snapshot: Any) -> tuple[set[int], set[int]]:
        """Return the levels of the files that ``snapshot`` takes away, and of those that it adds."""
        removed, added = set[int](), set[int]()
        for manifest in self._lists.read_delta(snapshot):
            for entry in self._manifests.read(manifest.file_name):
                (removed if entry.kind else added).add(int(entry.file.level or 0))
        return removed, added

    def _in_order(self, splits: Sequence[Any]) -> Iterator[Row]:
        if self._table.cross_partition_update:
            yield from removals_first(sorted(splits, key=_order), _partition, self._rows, self.keys, KIND)
        else:
            yield from self._rows(splits)

    def _plan(self, snapshot: Any, is_wanted: IsWanted) -> list[Any]:
        scan = self._table.copy({"scan.snapshot-id": str(snapshot.id)}).new_read_builder().new_scan()
        scanner = scan.file_scanner
        # Files of level 0 are the newest, which a batch reader leaves out of some tables.
        scanner.skip_level0 = False
        admits = scanner._filter_manifest_entry
        scanner._filter_manifest_entry = lambda entry: is_wanted(entry.file.level or 0) and admits(entry)
        splits = list(scan.plan().splits())
        for split in splits:
            # pypaimon does not count the removals in what it writes, and would read one that was not merged as a row.
            if self.keys and not split.data_deletion_files and any(not file.level for file in split.files):
                split.raw_convertible = False
        return splits

    def _rows(self, splits: Sequence[Any]) -> Iterator[Row]:
        # Snapshots do not change, but a plan is made by several threads.
        for split in sorted(splits, key=_order):
            for batch in self._builder.new_read().to_arrow_batch_reader([split]):
                yield from pa.Table.from_batches([batch]).to_pylist()


def _order(split: Any) -> tuple[str, int, int, str]:
    # All rows of a key are in one bucket, where sequence numbers tell which came first.
    names = ",".join(sorted(file.file_name for file in split.files))
    return _partition(split), split.bucket, min(f.min_sequence_number for f in split.files), names


def _partition(split: Any) -> str:
    return str(list(split.partition.values))
