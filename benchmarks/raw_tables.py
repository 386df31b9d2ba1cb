"""The raw tables of the chaos benchmark, and what their owners do to them while a consumer reads them.

A video never changes under its URI: each version of each video has a URI of its own, so that the truth about what must
come out can be told without row ids, offsets or snapshots.
"""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pypaimon import Schema
from pypaimon.manifest.index_manifest_file import IndexManifestFile
from pypaimon.table.row.blob import BlobDescriptor

from benchmarks.stores import DATABASE, Store, catalog, table

_ROW_ID = "_ROW_ID"
_BATCH = 2**63 - 1
TRACKED, KEYED = "raw_videos", "keyed_videos"

KEYED_SETTINGS = f"""
[tables]
raw = "{KEYED}"

[raw_columns]
video_id = "id"
etag = ""
metadata = []
"""
_KEYED_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("size_bytes", pa.int64()),
        pa.field("video", pa.binary()),
        pa.field("kind", pa.string()),
    ]
)

EVENTS_OF_TRACKED = ("delete", "compaction", "overwrite", "rollback", "recreate")
EVENTS_OF_KEYED = ("overwrite", "rollback", "recreate")
FORGETFUL = frozenset({"rollback", "recreate"})
"""After these, what stood in the table before is not known to have stood there: its clips may stay."""


def make_keyed(store: Store) -> None:
    """Create the raw table with a primary key."""
    options = {"bucket": "1", "changelog-producer": "input", "rowkind.field": "kind"}
    schema = Schema.from_pyarrow_schema(_KEYED_SCHEMA, primary_keys=["id"], options=options)
    made = catalog(store)
    made.create_database(DATABASE, True)
    made.create_table(f"{DATABASE}.{KEYED}", schema, False)


Change = tuple[str, str, str]
"""Kind (``+I``, ``+U`` or ``-D``), key and URI."""


def change_keyed(store: Store, changes: Sequence[Change]) -> None:
    """Commit changes of the keyed table, as two snapshots."""
    middle = len(changes) // 2
    for part in (changes[:middle], changes[middle:]):
        rows = [
            {
                "id": key,
                "size_bytes": None,
                "video": BlobDescriptor(store.uri(uri), 0, -1).serialize(),
                "kind": kind,
            }
            for kind, key, uri in part
        ]
        _write(table(store, KEYED).new_batch_write_builder(), pa.Table.from_pylist(rows, schema=_KEYED_SCHEMA))


class Keys:
    """Which keys stand in the keyed table, and what may happen to them next.

    Attributes:
        standing: URI by key.
    """

    def __init__(self, chance: random.Random) -> None:
        self.standing: dict[str, str] = {}
        self._chance = chance
        self._num_keys = 0

    def changes(self, uris: Sequence[str]) -> list[Change]:
        """Return a change for each of ``uris``: new videos, newer versions of old ones; and deletions between them."""
        found: list[Change] = []
        touched: set[str] = set()
        for uri in uris:
            old = sorted(self.standing.keys() - touched)
            if len(old) > 3 and self._chance.random() < 0.4:
                kind, key = "+U", self._chance.choice(old)
            else:
                kind, key = "+I", f"v{self._num_keys}"
                self._num_keys += 1
            found.append((kind, key, uri))
            touched.add(key)
            self.standing[key] = uri
            old = sorted(self.standing.keys() - touched)
            if len(old) > 3 and self._chance.random() < 0.25:
                key = self._chance.choice(old)
                found.append(("-D", key, self.standing.pop(key)))
                touched.add(key)
        return found


def happen(store: Store, name: str, kind: str, seed: int) -> None:
    """Let an event happen to a raw table, with pypaimon alone."""
    events: dict[str, Callable[[Store, str, random.Random], None]] = {
        "delete": _delete,
        "compaction": _compact,
        "overwrite": _overwrite,
        "rollback": _roll_back,
        "recreate": _drop,
    }
    events[kind](store, name, random.Random(seed))


def print_standing(store: Store, name: str) -> None:
    """Print, as JSON, what stands in a raw table: pairs of key and URI; the URI is the key where there is none."""
    print(json.dumps(list(_standing(store, name))))


def _standing(store: Store, name: str) -> Iterator[tuple[str, str]]:
    for row in _rows(table(store, name)).to_pylist():
        if name == KEYED:
            yield row["id"], BlobDescriptor.deserialize(row["video"]).uri
        else:
            yield row["uri"], row["uri"]


def _rows(found: Any, *system: str) -> pa.Table:
    columns = [field.name for field in found.fields]
    builder = found.copy({"blob-as-descriptor": "true"}).new_read_builder().with_projection([*columns, *system])
    splits = builder.new_scan().plan().splits()
    if not splits:
        return pa.table({name: [] for name in (*columns, *system)})
    return builder.new_read().to_arrow_batch_reader(splits).read_all()


def _write(builder: Any, rows: pa.Table, index_deletes: Sequence[Any] = ()) -> None:
    writer, commit = builder.new_write(), builder.new_commit()
    writer.write_arrow(rows)
    messages = writer.prepare_commit()
    for message in messages[:1]:
        message.index_deletes = [*message.index_deletes, *index_deletes]
    commit.commit(messages)
    writer.close()
    commit.close()


def _delete(store: Store, name: str, chance: random.Random) -> None:
    found = table(store, name)
    row_ids = _rows(found, _ROW_ID).column(_ROW_ID).to_pylist()
    builder = found.new_batch_write_builder()
    commit = builder.new_commit()
    commit.commit(builder.new_update().delete_by_row_id(chance.sample(row_ids, min(2, len(row_ids)))))
    commit.close()


def _overwrite(store: Store, name: str, chance: random.Random) -> None:
    """Replace the whole table by some of its own rows."""
    found = table(store, name)
    rows = _rows(found)
    kept = sorted(chance.sample(range(rows.num_rows), rows.num_rows // 2))
    # Deletion vectors go with the files that they are of; pypaimon leaves them, and refuses the next deletion then.
    index = found.snapshot_manager().get_latest_snapshot().index_manifest
    outdated = [replace(entry, kind=1) for entry in (IndexManifestFile(found).read(index) if index else [])]
    _write(found.new_batch_write_builder().overwrite(), rows.take(kept), outdated)


def _roll_back(store: Store, name: str, chance: random.Random) -> None:
    found = table(store, name)
    manager = found.snapshot_manager()
    newest = manager.get_latest_snapshot().id
    earliest = manager.try_get_earliest_snapshot().id
    found.rollback_to(max(earliest, newest - chance.randint(1, 2)))


def _drop(store: Store, name: str, chance: random.Random) -> None:
    """Drop the table, and create it again as it was."""
    found = table(store, name)
    options = {key: value for key, value in found.table_schema.options.items() if key != "path"}
    fields = found.table_schema.fields
    schema = Schema(fields=fields, primary_keys=list(found.primary_keys), options=options)
    made = catalog(store)
    made.drop_table(f"{DATABASE}.{name}", False)
    made.create_table(f"{DATABASE}.{name}", schema, False)


def _compact(store: Store, name: str, chance: random.Random) -> None:
    """Rewrite files whose rows follow on each other into one file with the same row ids, as a COMPACT snapshot."""
    found = table(store, name)
    columns = [field.name for field in found.fields]
    scan = found.new_read_builder().new_scan()
    with_deletions = {
        file.file_name
        for split in scan.plan().splits()
        for file, deletion in zip(split.files, split.data_deletion_files or [], strict=False)
        if deletion is not None
    }
    entries = found.new_read_builder().new_scan().file_scanner.plan_files()
    whole = sorted(
        (entry for entry in entries if entry.file.file_name not in with_deletions),
        key=lambda entry: entry.file.first_row_id,
    )
    rows = _rows(found, _ROW_ID).sort_by(_ROW_ID)
    changes = []
    for run in _runs(whole):
        first = run[0].file.first_row_id
        end = run[-1].file.first_row_id + run[-1].file.row_count
        row_ids = rows.column(_ROW_ID).to_numpy()
        data = rows.filter(pa.array((row_ids >= first) & (row_ids < end))).select(columns)
        changes += [replace(entry, kind=1) for entry in run]
        changes.append(_rewritten(found, run, data))
    if not changes:
        return
    commit = found.new_batch_write_builder().new_commit()
    commit.file_store_commit._try_commit("COMPACT", _BATCH, lambda latest: changes)
    commit.close()


def _runs(entries: Sequence[Any]) -> Iterator[list[Any]]:
    """Yield runs of at least two files whose row ids follow on each other."""
    ends = [0, *(entry.file.first_row_id + entry.file.row_count for entry in entries)]
    number, numbered = 0, []
    for entry, end_before in zip(entries, ends, strict=False):
        number += entry.file.first_row_id != end_before
        numbered.append((number, entry))
    for _, run in groupby(numbered, key=lambda pair: pair[0]):
        members = [entry for _, entry in run]
        if len(members) > 1:
            yield members


def _rewritten(found: Any, run: Sequence[Any], data: pa.Table) -> Any:
    file_name = f"data-{uuid.uuid4()}-0.parquet"
    path = f"{found.table_path}/bucket-0/{file_name}"
    with found.file_io.new_output_stream(path) as stream:
        pq.write_table(data, stream)
    file = replace(
        run[0].file,
        file_name=file_name,
        file_size=found.file_io.get_file_size(path),
        row_count=data.num_rows,
        file_source=1,
        value_stats_cols=[],
        file_path=path,
        extra_files=[],
        min_sequence_number=min(entry.file.min_sequence_number for entry in run),
        max_sequence_number=max(entry.file.max_sequence_number for entry in run),
    )
    return replace(run[0], kind=0, file=file)
