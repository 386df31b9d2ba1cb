"""Where the files of a table lie in a simulation: snapshots, manifests and data, each operation a step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
from pypaimon import Schema
from pypaimon.common.json_util import JSON
from pypaimon.snapshot.snapshot import Snapshot

from schemas.tables import TableSpec
from tests.simulation.scheduler import World

SNAPSHOT = "snapshot-"


@dataclass(frozen=True, slots=True)
class FileRef:
    """A data file as a manifest names it; ``deleted`` are positions of rows that a deletion vector takes out."""

    name: str
    num_rows: int
    first_row_id: int | None = None
    deleted: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Add:
    """A manifest's entry: a file that comes."""

    file: FileRef


@dataclass(frozen=True, slots=True)
class Remove:
    """A manifest's entry: a file that goes."""

    file: FileRef


@dataclass(frozen=True, slots=True)
class Mark:
    """An index manifest's entry: a deletion vector that takes the place of the one that ``file`` has."""

    file: FileRef
    deleted: frozenset[int]


@dataclass(frozen=True, slots=True)
class Tree:
    """The files of one snapshot, by name: before it, what it added, and all together."""

    base: dict[str, FileRef]
    added: frozenset[str]
    files: dict[str, FileRef]


@dataclass(slots=True)
class Rows:
    """One data file's rows; columns are kept as lists once they are asked for."""

    batch: pa.RecordBatch
    lists: dict[str, list[Any]] = field(default_factory=dict)

    def column(self, name: str) -> list[Any]:
        found = self.lists.get(name)
        if found is None:
            found = self.lists[name] = self.batch.column(name).to_pylist()
        return found


_fields: dict[str, Any] = {}


def _paimon_fields(spec: TableSpec) -> Any:
    if spec.role not in _fields:
        _fields[spec.role] = Schema.from_pyarrow_schema(spec.schema).fields
    return _fields[spec.role]


class Storage:
    """One table's files.

    Args:
        world: the schedule.
        name: full name of the table.
        role: what it is to Sluice, as operations name it.
        spec: its columns and options.
        is_catalog: whether a catalog's server compares and swaps, in place of files that are created once.

    Attributes:
        folder: the files of its snapshot folder.
        published: every snapshot that ever was, in order.
        on_published: called with each.
    """

    def __init__(self, world: World, name: str, role: str, spec: TableSpec, *, is_catalog: bool = False) -> None:
        self.world, self.name, self.role, self.spec, self.is_catalog = world, name, role, spec, is_catalog
        self.folder: dict[str, bytes] = {}
        self.trees: dict[str, Tree] = {}
        self.files: dict[str, Rows] = {}
        self.published: list[Snapshot] = []
        self._steps: dict[str, int] = {}
        self.on_published: Callable[[Storage, Snapshot], None] = lambda storage, snapshot: None
        self._parsed: dict[bytes, Snapshot] = {}
        self.identifier = SimpleNamespace(get_full_name=lambda: name)
        self.fields = _paimon_fields(spec)
        self.table_schema = SimpleNamespace(id=0, options=dict(spec.options))

    def operate(self, what: str, act: Callable[[], Any]) -> Any:
        """Do ``act`` as one step."""
        return self.world.operate(f"{self.role}.{what}", act)

    def ids(self) -> list[int]:
        """Return the ids of the snapshots that there are, in order."""
        return sorted(int(name.removeprefix(SNAPSHOT)) for name in self.folder if name.startswith(SNAPSHOT))

    def snapshot(self, snapshot_id: int) -> Snapshot | None:
        """Return a snapshot, None where there is none."""
        content = self.folder.get(f"{SNAPSHOT}{snapshot_id}")
        return None if content is None else self.parse(content)

    def latest(self) -> Snapshot | None:
        """Return the newest snapshot."""
        return self.snapshot(max(self.ids(), default=0))

    def step_of(self, snapshot: Snapshot) -> int:
        """Return at which step of the schedule ``snapshot`` was published."""
        return self._steps[str(snapshot.uuid)]

    def parse(self, content: bytes) -> Snapshot:
        """Return the snapshot that ``content`` is."""
        if content not in self._parsed:
            self._parsed[content] = JSON.from_json(content.decode(), Snapshot)
        return self._parsed[content]

    def make(self, snapshot: Snapshot) -> bytes:
        """Return the content of the file that ``snapshot`` is published as."""
        content = JSON.to_json(snapshot, indent=2).encode()
        self._parsed[content] = snapshot
        return content

    def create(self, name: str, content: bytes) -> bool:
        """Create a file of the snapshot folder, unless there is one."""
        if name in self.folder:
            return False
        self.folder[name] = content
        if name.startswith(SNAPSHOT):
            snapshot = self.parse(content)
            self.published.append(snapshot)
            self._steps[str(snapshot.uuid)] = self.world.num_steps
            self.on_published(self, snapshot)
        return True

    def tree(self, snapshot: Any | None) -> Tree:
        """Return the files of ``snapshot``.

        Raises:
            FileNotFoundError: they have expired.
        """
        if snapshot is None:
            return Tree({}, frozenset(), {})
        try:
            return self.trees[snapshot.base_manifest_list]
        except KeyError:
            raise FileNotFoundError(f"{self.name}: {snapshot.base_manifest_list}") from None

    def newest_files(self) -> list[FileRef]:
        """Return the files of the newest snapshot."""
        return list(self.tree(self.latest()).files.values())

    def rows(self, snapshot: Any | None, columns: Sequence[str]) -> list[dict[str, Any]]:
        """Return the rows of ``snapshot`` at a glance; no step of anybody."""
        found = []
        for ref in self.tree(snapshot).files.values():
            lists = [self.files[ref.name].column(name) for name in columns]
            for at in range(ref.num_rows):
                if at not in ref.deleted:
                    found.append({name: values[at] for name, values in zip(columns, lists, strict=True)})
        return found
