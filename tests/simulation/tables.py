"""Paimon tables in memory: what our code uses of pypaimon, with each operation a step of the schedule.

pypaimon's own loop of attempts runs here as it is, with its search for an earlier attempt of its own; what is ours is
where snapshots, manifests and data files lie. ``tests/contract/test_simulated_tables.py`` holds this store and the real
one to the same suite.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any, ClassVar

import pyarrow as pa

from consumers.paimon.commit.publish import NoClobberSnapshotCommit
from consumers.paimon.scan import ROW_ID
from tests.simulation.commits import SimulatedCatalogCommit, SimulatedCommit, SimulatedFolder
from tests.simulation.storage import Add, FileRef, Mark, Rows, Storage

Predicate = Callable[[Rows], list[int]]


class _Snapshots:
    """What our code uses of pypaimon's snapshot manager."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.snapshot_dir = f"{storage.name}/snapshot"

    def get_latest_snapshot(self) -> Any | None:
        return self._storage.operate("latest", self._storage.latest)

    def get_snapshot_by_id(self, snapshot_id: int) -> Any | None:
        return self._storage.operate("snapshot", lambda: self._storage.snapshot(snapshot_id))


class _Predicates:
    """What our code uses of pypaimon's builder of predicates."""

    def equal(self, name: str, value: Any) -> Predicate:
        return lambda rows: [at for at, found in enumerate(rows.column(name)) if found == value]

    def is_in(self, name: str, values: Sequence[Any]) -> Predicate:
        wanted = set(values)
        return lambda rows: [at for at, found in enumerate(rows.column(name)) if found in wanted]

    def between(self, name: str, least: Any, most: Any) -> Predicate:
        return lambda rows: [
            at for at, found in enumerate(rows.column(name)) if found is not None and least <= found <= most
        ]

    def and_predicates(self, parts: Sequence[Predicate]) -> Predicate:
        return lambda rows: sorted(set.intersection(*(set(part(rows)) for part in parts)))

    def or_predicates(self, parts: Sequence[Predicate]) -> Predicate:
        return lambda rows: sorted(set.union(*(set(part(rows)) for part in parts)))


class _ReadBuilder:
    """What our code uses of pypaimon's read builder, its scan, its plan and its read."""

    def __init__(self, table: SimulatedTable) -> None:
        self._table = table
        self._columns: list[str] = []
        self._where: Predicate | None = None

    def new_predicate_builder(self) -> _Predicates:
        return _Predicates()

    def with_projection(self, columns: Sequence[str]) -> _ReadBuilder:
        self._columns = list(columns)
        return self

    def with_filter(self, predicate: Predicate) -> _ReadBuilder:
        self._where = predicate
        return self

    def new_scan(self) -> Any:
        return SimpleNamespace(plan=lambda: SimpleNamespace(splits=self._splits))

    def new_read(self) -> Any:
        return SimpleNamespace(to_arrow_batch_reader=self._batches)

    def _splits(self) -> list[FileRef]:
        storage = self._table.storage

        def plan() -> list[FileRef]:
            snapshot_id = self._table.snapshot_id
            snapshot = storage.latest() if snapshot_id is None else storage.snapshot(snapshot_id)
            if snapshot is None and snapshot_id is not None:
                raise ValueError(f"{storage.name}: there is no snapshot {snapshot_id}")
            return list(storage.tree(snapshot).files.values())

        return list(storage.operate("plan", plan))

    def _batches(self, splits: Sequence[FileRef]) -> Iterator[pa.RecordBatch]:
        parts = self._table.storage.operate("read", lambda: [*self._parts(splits)][::-1])
        tables = [part for part in parts if part.num_rows]
        if tables:
            yield from pa.concat_tables(tables).combine_chunks().to_batches()

    def _parts(self, splits: Sequence[FileRef]) -> Iterator[pa.Table]:
        storage = self._table.storage
        keys: set[tuple[Any, ...]] = set()
        for ref in reversed(splits):
            if ref.name not in storage.files:
                raise FileNotFoundError(f"{storage.name}: {ref.name}")
            hidden = set(ref.deleted)
            if storage.spec.primary_keys:
                # The newest row of a key is the one that is read.
                lists = [storage.files[ref.name].column(name) for name in storage.spec.primary_keys]
                found = list(zip(*lists, strict=True))
                hidden |= {at for at, key in enumerate(found) if key in keys}
                keys.update(found)
            yield self._part(ref, hidden)

    def _part(self, ref: FileRef, hidden: set[int]) -> pa.Table:
        rows = self._table.storage.files[ref.name]
        found = range(ref.num_rows) if self._where is None else self._where(rows)
        at = [place for place in found if place not in hidden]
        names = [name for name in self._columns if name != ROW_ID]
        arrays = [rows.batch.column(name) for name in names]
        if len(at) < ref.num_rows:
            arrays = [array.take(pa.array(at, pa.int64())) for array in arrays]
        if ROW_ID in self._columns:
            names.append(ROW_ID)
            arrays.append(pa.array([(ref.first_row_id or 0) + place for place in at], pa.int64()))
        return pa.table(arrays, names=names)


class _WriteBuilder:
    """What our code uses of pypaimon's write builder, its writers and its commit."""

    def __init__(self, table: SimulatedTable) -> None:
        self._table = table
        self._made: list[Add] = []
        self.commit_user = ""

    def new_write(self) -> Any:
        return SimpleNamespace(
            write_arrow=self._write, prepare_commit=lambda identifier: list(self._made), close=lambda: None
        )

    def new_commit(self) -> Any:
        commit = SimulatedCommit(self._table.storage, self._table.snapshot_manager(), self.commit_user)
        return SimpleNamespace(file_store_commit=commit, commit=commit.commit, close=lambda: None)

    def new_update(self) -> Any:
        return SimpleNamespace(delete_by_row_id=self._delete)

    def _write(self, rows: pa.Table) -> None:
        storage = self._table.storage
        ref = FileRef(f"data-{storage.world.uuid4()}", rows.num_rows)
        (batch,) = rows.combine_chunks().to_batches()
        storage.operate("write", lambda: storage.files.update({ref.name: Rows(batch)}))
        self._made.append(Add(ref))

    def _delete(self, row_ids: Sequence[int], identifier: int) -> list[Mark]:
        storage, wanted = self._table.storage, set(row_ids)
        files = storage.operate("delete", lambda: storage.tree(storage.latest()).files)
        marks = []
        for ref in files.values():
            first = ref.first_row_id or 0
            hit = {at for at in range(ref.num_rows) if first + at in wanted}
            wanted -= {first + at for at in hit}
            if hit - ref.deleted:
                marks.append(Mark(ref, ref.deleted | hit))
        if wanted:
            raise ValueError(f"{storage.name}: there are no rows {sorted(wanted)}")
        return marks


class SimulatedTable:
    """What our code uses of a pypaimon table.

    Args:
        storage: its files.
        snapshot_id: what is read, None for the newest.
    """

    options = SimpleNamespace(manifest_compression=lambda: "null")
    partition_keys_fields: ClassVar[list[Any]] = []

    def __init__(self, storage: Storage, snapshot_id: int | None = None) -> None:
        self.storage, self.snapshot_id = storage, snapshot_id
        self.identifier, self.fields, self.table_schema = storage.identifier, storage.fields, storage.table_schema
        self.primary_keys, self.partition_keys = list(storage.spec.primary_keys), list(storage.spec.partition_keys)
        self.file_io = _FileIO(storage)
        self.table_path = f"sim://{storage.name}"

    @property
    def catalog_environment(self) -> Any:
        """A catalog that knows how its tables are published: as files that are created once, or by a server."""
        return SimpleNamespace(supports_version_management=True, snapshot_commit=lambda manager: self._publisher())

    def _publisher(self) -> Any:
        if self.storage.is_catalog:
            return SimulatedCatalogCommit(self.storage)
        return NoClobberSnapshotCommit(SimulatedFolder(self.storage), self._follows)

    def _follows(self, snapshot: Any, following: Any) -> bool:
        trees = self.storage.operate("lists", lambda: (self.storage.tree(snapshot), self.storage.tree(following)))
        return bool(trees[0].added <= set(trees[1].base))

    def snapshot_manager(self) -> _Snapshots:
        return _Snapshots(self.storage)

    def copy(self, options: dict[str, str]) -> SimulatedTable:
        wanted = options.get("scan.snapshot-id")
        return SimulatedTable(self.storage, self.snapshot_id if wanted is None else int(wanted))

    def new_read_builder(self) -> _ReadBuilder:
        return _ReadBuilder(self)

    def new_stream_write_builder(self) -> _WriteBuilder:
        return _WriteBuilder(self)


class _FileIO:
    """What our code uses of pypaimon's file system, for staged clips."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def list_status(self, folder: str) -> list[Any]:
        return list(self._storage.operate("list", lambda: []))


class Catalog:
    """What our code uses of a pypaimon catalog.

    Args:
        table: gives a table by its full name; our code keeps catalogs open for as long as the process runs.
    """

    file_io = None

    def __init__(self, table: Callable[[str], Any]) -> None:
        self.get_table = table
