"""Raw tables with a primary key, whose changes tests commit one snapshot at a time."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
from pypaimon import Schema
from pypaimon.schema.schema_change import SchemaChange
from pypaimon.table.row.blob import BlobDescriptor

from consumers.paimon.catalog import CatalogConfig, open_catalog
from consumers.paimon.source.changelog_source import ChangelogSource
from consumers.paimon.source.guard import OnExpired
from consumers.paimon.tables import RawColumns
from schemas.positions import OffsetRange
from schemas.records import RawVideo, SkippedRange
from tests.support.warehouse import NAMES, make_warehouse, table

KEYED = replace(NAMES, raw="keyed_videos")
COLUMNS = RawColumns(video_id="id", etag=None, metadata=())
_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("size_bytes", pa.int64()),
        pa.field("video", pa.binary()),
        pa.field("kind", pa.string()),
    ]
)


class KeyedTable:
    """A raw table with a primary key.

    Args:
        where: a folder for a new warehouse, or a warehouse with the other tables.
        producer: Paimon's ``changelog-producer``.
        bucket: how many of them, -1 for as many as it takes.
    """

    def __init__(self, where: Path | CatalogConfig, producer: str = "input", *, bucket: str = "1") -> None:
        self.config = make_warehouse(where) if isinstance(where, Path) else where
        options = {"bucket": bucket, "changelog-producer": producer, "rowkind.field": "kind"}
        schema = Schema.from_pyarrow_schema(_SCHEMA, primary_keys=["id"], options=options)
        open_catalog(self.config).create_table(f"{self.config.database}.{KEYED.raw}", schema, False)

    @property
    def table(self) -> Any:
        return table(self.config, KEYED.raw)

    def change(self, *changes: str, by: Any | None = None) -> int:
        """Commit changes, such as ``+Ia`` or ``-Db``, as one snapshot; return its id.

        What follows a slash is the version: ``+Ia/2`` is of other bytes than ``+Ia``.

        Args:
            changes: in their order.
            by: the table as the writer knows it, if that is not the newest.
        """
        return self._commit((by or self.table).new_batch_write_builder(), changes)

    def overwrite(self, *rows: str) -> int:
        """Put ``rows`` in the place of all that the table holds, as one snapshot; return its id."""
        return self._commit(self.table.new_batch_write_builder().overwrite({}), [f"+I{row}" for row in rows])

    def _commit(self, builder: Any, changes: Sequence[str]) -> int:
        rows = [
            {
                "id": change[2:].partition("/")[0],
                "size_bytes": 100 + int(change.partition("/")[2] or 0),
                "video": BlobDescriptor(f"file:///videos/{change[2:]}.mp4", 0, -1).serialize(),
                "kind": change[:2],
            }
            for change in changes
        ]
        writer, commit = builder.new_write(), builder.new_commit()
        if rows:
            writer.write_arrow(pa.Table.from_pylist(rows, schema=_SCHEMA))
        commit.commit(writer.prepare_commit())
        writer.close()
        commit.close()
        return int(self.table.snapshot_manager().get_latest_snapshot().id)

    def set_options(self, options: Mapping[str, str]) -> None:
        """Change options in the table's schema, as another engine would."""
        schema = Path(self.table.snapshot_manager().snapshot_dir).parent / "schema" / "schema-0"
        told = json.loads(schema.read_text())
        told["options"].update(options)
        schema.write_text(json.dumps(told))

    def alter(self, options: Mapping[str, str]) -> None:
        """Change options from now on, in a new schema."""
        changes = [SchemaChange.set_option(name, value) for name, value in options.items()]
        open_catalog(self.config).alter_table(f"{self.config.database}.{KEYED.raw}", changes, False)

    def rewrite_snapshot(self, snapshot_id: int, **fields: Any) -> None:
        """Change what a snapshot says of itself."""
        path = Path(self.table.snapshot_manager().snapshot_dir) / f"snapshot-{snapshot_id}"
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))

    def move_changelogs_into_compactions(self, producer: str) -> None:
        """Rewrite the table's metadata as Flink writes them: the changes of an append lie in the compaction after it.

        pypaimon writes changelogs for ``input`` alone, so the files are those of such a table.

        Args:
            producer: ``lookup`` or ``full-compaction``, the table's ``changelog-producer`` from now on.
        """
        folder = Path(self.table.snapshot_manager().snapshot_dir)
        self.set_options({"changelog-producer": producer})
        appends = [
            json.loads((folder / f"snapshot-{number}").read_text()) for number in range(1, _num_files(folder) + 1)
        ]
        for number, append in enumerate(appends):
            changelog = {name: append.pop(name) for name in list(append) if name.startswith("changelog")}
            compact = {**append, **changelog, "commitKind": "COMPACT", "uuid": str(uuid.uuid4())}
            for snapshot_id, snapshot in ((2 * number + 1, append), (2 * number + 2, compact)):
                (folder / f"snapshot-{snapshot_id}").write_text(json.dumps({**snapshot, "id": snapshot_id}))
        (folder / "LATEST").write_text(str(2 * len(appends)))

    def source(self, on_expired: OnExpired = OnExpired.FAIL) -> ChangelogSource:
        return ChangelogSource(self.config, KEYED.raw, COLUMNS, on_expired=on_expired)

    def expire_below(self, snapshot_id: int) -> None:
        folder = Path(self.table.snapshot_manager().snapshot_dir)
        for number in range(1, snapshot_id):
            (folder / f"snapshot-{number}").unlink(missing_ok=True)
        (folder / "EARLIEST").write_text(str(snapshot_id))


def _num_files(folder: Path) -> int:
    return len(list(folder.glob("snapshot-*")))


def read_all(source: ChangelogSource, ranges: Sequence[OffsetRange] | None = None) -> list[RawVideo]:
    """Return the rows of ``ranges``, or of everything; fails unless every offset is covered once and in order."""
    end = source.head().next_offset
    wanted = [OffsetRange(0, end)] if ranges is None else ranges
    items = list(source.read(wanted))
    covered = [
        item.range if isinstance(item, SkippedRange) else OffsetRange(item.row_id, item.row_id + 1) for item in items
    ]
    merged: list[OffsetRange] = []
    for part in covered:
        if merged and merged[-1].end == part.start:
            merged[-1] = OffsetRange(merged[-1].start, part.end)
        else:
            assert not merged or merged[-1].end < part.start
            merged.append(part)
    assert merged == [OffsetRange(part.start, min(part.end, end)) for part in wanted if part.start < end]
    return [item for item in items if isinstance(item, RawVideo)]
