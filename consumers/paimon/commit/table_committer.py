"""Writing to one table as one incarnation: data files first, then one checked, no-clobber commit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
from pypaimon.schema.data_types import PyarrowFieldParser

from consumers.paimon.commit.fence import CheckedSnapshots
from consumers.paimon.commit.markers import newest_as_of
from consumers.paimon.commit.merging import MergingManifestLists
from consumers.paimon.commit.publish import snapshot_commit_for
from schemas.tables import PROPERTY_CONSUMER, PROPERTY_NEWEST

_OPTIONS = {
    # pypaimon would otherwise try for a quarter of an hour, deaf to a stop, before it says that the store is down.
    "commit.timeout": "30 s",
    "commit.max-retry-wait": "1 s",
    # Staged clips are copied in pieces of this size; the default of 4 KB makes a request for each on an object store.
    "blob.copy-buffer-size": "1 mb",
}


class TableCommitter:
    """Appends to one table under one commit user.

    Args:
        table: the pypaimon table.
        commit_user: unique to this incarnation: pypaimon takes any commit of the same user and identifier for an
            earlier attempt of its own.
        check: called before every attempt with the snapshot manager and the latest snapshot; what it raises ends the
            commit with nothing published.

    Raises:
        ConfigurationError: no safe way to publish on the table's storage.
    """

    def __init__(self, table: Any, commit_user: str, check: Callable[[Any, Any | None], None]) -> None:
        self.manager = table.snapshot_manager()
        self._schema: pa.Schema = PyarrowFieldParser.from_paimon_schema(table.fields)
        self._table = table.copy(_OPTIONS)
        self._commit_user = commit_user
        self._check = check
        self._properties: dict[str, str] = {}
        self._snapshots = CheckedSnapshots(self.manager, self._before_attempt)
        self._commit = self._builder().new_commit()
        self._commit.file_store_commit.snapshot_manager = self._snapshots
        self._manifests = MergingManifestLists(table)
        self._commit.file_store_commit.manifest_list_manager = self._manifests
        self._commit.file_store_commit.snapshot_commit = snapshot_commit_for(table)
        # pypaimon would roll another writer's compaction back to get a conflicting deletion through.
        self._commit.file_store_commit.rollback = None

    @property
    def num_attempts(self) -> int:
        """Attempts to publish so far, over all commits."""
        return self._snapshots.num_attempts

    def write(self, rows: pa.Table, identifier: int) -> list[Any]:
        """Write ``rows`` to data files, not yet visible, and return the messages for :meth:`publish`.

        Columns of the table that ``rows`` lacks become null.
        """
        if rows.num_rows == 0:
            return []
        writer = self._builder().new_write()
        try:
            writer.write_arrow(_aligned(rows, self._schema))
            return list(writer.prepare_commit(identifier))
        finally:
            writer.close()

    def delete(self, row_ids: Sequence[int], identifier: int) -> list[Any]:
        """Mark rows as deleted in new deletion vectors, not yet visible, and return the messages for :meth:`publish`.

        Another writer that deletes from the same files before they are published makes that fail; the messages have to
        be made anew then.
        """
        if not row_ids:
            return []
        return list(self._builder().new_update().delete_by_row_id(row_ids, identifier))

    def publish(self, messages: list[Any], identifier: int, properties: Mapping[str, str]) -> None:
        """Make ``messages`` and ``properties`` one snapshot, even where there are no messages.

        The properties are never empty, which also keeps pypaimon from handing the commit to its native runtime, past
        our check and our publisher.

        Raises:
            Exception: whatever the check raised (nothing is published), or a fault of the store, after which the
                outcome has to be read from the table.
        """
        self._manifests.begin()
        self._properties = dict(properties)
        self._commit.commit(messages, identifier, snapshot_properties=self._properties)

    def replace(
        self,
        entries: Sequence[Any],
        identifier: int,
        properties: Mapping[str, str],
        *,
        index_adds: Sequence[Any] = (),
        index_deletes: Sequence[Any] = (),
    ) -> None:
        """Make one COMPACT snapshot of manifest entries that take data files out and add others with the same rows.

        Another writer's commit in between costs a further attempt on top of it. Whether that deleted rows from these
        files is for the check to find out; pypaimon does not.

        Args:
            entries: of data files.
            identifier: number of the commit.
            properties: of the snapshot.
            index_adds: entries of deletion vectors that come with it.
            index_deletes: those that they replace.

        Raises:
            Exception: one of the files is no longer there (nothing is published), whatever the check raised, or a fault
                of the store, after which the outcome has to be read from the table.
        """
        self._manifests.begin()
        self._properties = dict(properties)
        commit = self._commit.file_store_commit
        commit.conflict_detection.fixed_bucket_commit_check = None
        commit.conflict_detection._row_id_check_from_snapshot = None
        commit._try_commit(
            commit_kind="COMPACT",
            commit_identifier=identifier,
            commit_entries_plan=lambda latest: list(entries),
            detect_conflicts=True,
            index_adds=list(index_adds),
            index_deletes=list(index_deletes),
            snapshot_properties=self._properties,
        )

    def _before_attempt(self, manager: Any, latest: Any | None) -> None:
        self._check(manager, latest)
        if PROPERTY_CONSUMER in self._properties:
            # pypaimon copies the properties at each attempt, so each says what holds as of what it is made on.
            self._properties[PROPERTY_NEWEST] = newest_as_of(manager, latest).to_json()

    def close(self) -> None:
        """Release resources; commits nothing."""
        self._commit.close()

    def _builder(self) -> Any:
        builder = self._table.new_stream_write_builder()
        builder.commit_user = self._commit_user
        return builder


def _aligned(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    given = dict(zip(rows.column_names, rows.columns, strict=True))
    columns = [given[field.name] if field.name in given else pa.nulls(rows.num_rows, field.type) for field in schema]
    return pa.table(columns, schema=pa.schema([field.with_nullable(True) for field in schema]))
