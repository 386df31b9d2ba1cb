"""Merging manifests as commits go, so that a commit costs the same however many came before it.

Every commit adds a manifest, and the list of them is read and written anew by the next commit. pypaimon leaves merging
to other engines, so that the list grows without end. Here ten manifests of one size become one of the next, as in a
log-structured merge tree: each entry is rewritten four times in its life, and the list holds some forty names and one
more for each ten thousand data files.

What is merged is contiguous, newest last, and takes the place of what it replaces: engines that read entries in order
meet an addition before its deletion.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import fastavro
from fastavro.write import Writer
from pypaimon.manifest import avro_codec
from pypaimon.manifest.manifest_list_manager import ManifestListManager
from pypaimon.manifest.schema.manifest_entry import MANIFEST_ENTRY_SCHEMA
from pypaimon.manifest.schema.manifest_file_meta import ManifestFileMeta
from pypaimon.manifest.schema.simple_stats import SimpleStats
from pypaimon.table.row.generic_row import GenericRow, GenericRowDeserializer

logger = logging.getLogger(__name__)

FAN_IN = 10
MOST_ENTRIES = 10_000
"""A manifest with so many entries stays as it is, so that no commit ever rewrites more than a few times that."""

_ADD, _DELETE = 0, 1
# Avro's block size in Java and in pypaimon.
_BLOCK_BYTES = 16_000

_Record = dict[str, Any]


class MergingManifestLists:
    """pypaimon's manager of manifest lists, whose list for the next commit is a merged one.

    Args:
        table: the pypaimon table.
    """

    def __init__(self, table: Any) -> None:
        self._lists = ManifestListManager(table)
        self._manifests = Manifests(table)
        self._last: tuple[list[str], list[Any]] | None = None

    def begin(self) -> None:
        """Forget what an earlier commit merged: a file that no snapshot refers to may be cleaned away."""
        self._last = None

    def read_all(self, snapshot: Any | None) -> list[Any]:
        """Return the manifests of ``snapshot``, merged where there are many; new ones are written by then.

        Another attempt at the same commit takes what an earlier one has merged, as long as it fits.
        """
        listed: list[Any] = self._lists.read_all(snapshot)
        start = merge_from([_num_entries(meta) for meta in listed])
        if self._last is not None:
            names, merged = self._last
            found = [meta.file_name for meta in listed]
            at = found.index(names[0]) if names[0] in found else len(found)
            if found[at : at + len(names)] == names:
                return [*listed[:at], *merged, *listed[at + len(names) :]]
        if start is None:
            return listed
        try:
            merged = self._manifests.merge(listed[start:])
        except UnknownFormatError as error:
            logger.debug("manifests are left as they are: %s", error)
            return listed
        self._last = [meta.file_name for meta in listed[start:]], merged
        return [*listed[:start], *merged]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lists, name)


def merge_from(num_entries: Sequence[int], fan_in: int = FAN_IN, most: int = MOST_ENTRIES) -> int | None:
    """Return from which manifest on all are to become one, or None where there is nothing to do.

    Beside those left alone, no more than ``fan_in - 1`` for each tier stay.

    Args:
        num_entries: of each manifest, oldest first.
        fan_in: so many of one tier are merged; a tier holds ``fan_in`` times the entries of the one below.
        most: manifests with so many entries are left alone.
    """
    tiers = [_tier(count, fan_in) for count in num_entries]
    end_of_full = max((at + 1 for at, count in enumerate(num_entries) if count >= most), default=0)
    start: int | None = None
    for tier in range(_tier(most, fan_in) + 1):
        # What the tiers below make one counts as one of this tier.
        first = len(tiers) if start is None else start
        num_below_and_of, num_of = (0, 0) if start is None else (1, 1)
        while first > end_of_full and tiers[first - 1] <= tier:
            first -= 1
            num_below_and_of += 1
            num_of += tiers[first] == tier
        # Large and small commits in turn would otherwise keep each other from ever filling a tier.
        if num_of >= fan_in or num_below_and_of > (fan_in - 1) * (tier + 1):
            start = first
    return start


class UnknownFormatError(Exception):
    """A manifest holds fields that this version does not know and would lose by rewriting it."""


class Manifests:
    """Reads and writes the manifests of one table as Avro records, without decoding the statistics in them.

    Args:
        table: the pypaimon table.
    """

    def __init__(self, table: Any) -> None:
        self._folder = f"{table.table_path.rstrip('/')}/manifest"
        self._file_io = table.file_io
        self._codec = avro_codec(table.options.manifest_compression())
        self._partition_fields = table.partition_keys_fields
        self._schema_id = int(table.table_schema.id)

    def merge(self, metas: Sequence[Any]) -> list[Any]:
        """Write the entries of ``metas`` into one manifest and return what stands for them, at most one.

        An addition and its deletion cancel each other; a deletion of something older is kept.

        Raises:
            UnknownFormatError: one of them is of another format; nothing is written.
        """
        entries: dict[tuple[Any, ...], _Record] = {}
        for meta in metas:
            for record in self.read(meta):
                key = identity(record)
                if record["_KIND"] == _DELETE and key in entries:
                    del entries[key]
                else:
                    entries[key] = record
        return self.write(list(entries.values())) if entries else []

    def read(self, meta: Any) -> list[_Record]:
        """Return the entries of one manifest, in order.

        Raises:
            UnknownFormatError: it is of another format.
        """
        with self._file_io.new_input_stream(f"{self._folder}/{meta.file_name}") as stream:
            reader: Any = fastavro.reader(BytesIO(stream.read()))
        _check_known(reader.writer_schema, meta.file_name)
        return list(reader)

    def write(self, entries: Sequence[_Record]) -> list[Any]:
        """Write ``entries`` to a new manifest and return its description, as a list of one."""
        buffer = BytesIO()
        writer = Writer(buffer, MANIFEST_ENTRY_SCHEMA, sync_interval=_BLOCK_BYTES, codec=self._codec)
        for entry in entries:
            writer.write(entry)
        writer.flush()
        name = f"manifest-{uuid.uuid4()}-0"
        with self._file_io.new_output_stream(f"{self._folder}/{name}") as stream:
            stream.write(buffer.getvalue())
        return [self._describe(name, len(buffer.getvalue()), entries)]

    def _describe(self, name: str, num_bytes: int, entries: Sequence[_Record]) -> Any:
        files = [entry["_FILE"] for entry in entries]
        num_added = sum(entry["_KIND"] == _ADD for entry in entries)
        totals = {entry["_TOTAL_BUCKETS"] for entry in entries}
        total_buckets = totals.pop() if len(totals) == 1 else 0
        firsts = [file.get("_FIRST_ROW_ID") for file in files]
        has_row_ids = None not in firsts
        return ManifestFileMeta(
            file_name=name,
            file_size=num_bytes,
            num_added_files=num_added,
            num_deleted_files=len(entries) - num_added,
            partition_stats=self._partition_stats([entry["_PARTITION"] for entry in entries]),
            schema_id=max((file["_SCHEMA_ID"] for file in files), default=self._schema_id),
            min_bucket=min(entry["_BUCKET"] for entry in entries),
            max_bucket=max(entry["_BUCKET"] for entry in entries),
            min_level=min(file["_LEVEL"] for file in files),
            max_level=max(file["_LEVEL"] for file in files),
            min_row_id=min(firsts) if has_row_ids else None,
            max_row_id=max(file["_FIRST_ROW_ID"] + file["_ROW_COUNT"] - 1 for file in files) if has_row_ids else None,
            # Files of several numbers of buckets may not be told apart by any one of them.
            total_buckets=total_buckets if total_buckets > 0 else None,
        )

    def _partition_stats(self, partitions: Sequence[bytes]) -> Any:
        fields = self._partition_fields
        counts: dict[bytes, int] = {}
        for partition in partitions:
            counts[partition] = counts.get(partition, 0) + 1
        rows = [(GenericRowDeserializer.from_bytes(each, fields).values, count) for each, count in counts.items()]
        least, greatest, nulls = [], [], []
        for column in range(len(fields)):
            known = [values[column] for values, _ in rows if values[column] is not None]
            least.append(min(known, default=None))
            greatest.append(max(known, default=None))
            nulls.append(sum(count for values, count in rows if values[column] is None))
        return SimpleStats(GenericRow(least, fields), GenericRow(greatest, fields), nulls)


def identity(record: _Record) -> tuple[Any, ...]:
    """Return what makes two entries speak of the same file: Paimon's own identifier."""
    file = record["_FILE"]
    return (
        record["_PARTITION"],
        record["_BUCKET"],
        file["_LEVEL"],
        file["_FILE_NAME"],
        tuple(file["_EXTRA_FILES"] or ()),
        file.get("_EMBEDDED_FILE_INDEX"),
        file.get("_EXTERNAL_PATH"),
    )


def _num_entries(meta: Any) -> int:
    return int(meta.num_added_files + meta.num_deleted_files)


def _tier(num_entries: int, fan_in: int) -> int:
    tier, size = 0, fan_in
    while num_entries >= size:
        tier, size = tier + 1, size * fan_in
    return tier


def _check_known(schema: Any, name: str) -> None:
    found, known = _field_names(schema), _field_names(MANIFEST_ENTRY_SCHEMA)
    if ("_FILE", "_WRITE_COLS") not in found:
        # Its absence means other columns than a null does.
        raise UnknownFormatError(f"{name} is of an older format")
    if not found <= known:
        raise UnknownFormatError(f"{name} holds {', '.join(sorted('.'.join(path) for path in found - known))}")


def _field_names(schema: Any, above: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    """Return the path of every field of a record and of the records in it."""
    if isinstance(schema, list):
        return set().union(*(_field_names(part, above) for part in schema))
    if not isinstance(schema, dict):
        return set()
    if schema.get("type") == "record":
        names: set[tuple[str, ...]] = set()
        for field in schema["fields"]:
            path = (*above, field["name"])
            names |= {path} | _field_names(field["type"], path)
        return names
    return _field_names(schema.get("items") or schema.get("type"), above)
