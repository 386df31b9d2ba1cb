"""Which files a table's snapshots and tags refer to, and which lie in its folders."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import fastavro
import pyarrow.fs as pafs
from pypaimon.manifest.index_manifest_file import IndexManifestFile
from pypaimon.table.row.generic_row import GenericRowDeserializer
from pypaimon.tag.tag_manager import TagManager
from pypaimon.utils.file_store_path_factory import canonical_data_file_path

from consumers.paimon.commit.merging import identity
from consumers.paimon.commit.staging import modified_s

_SNAPSHOT = re.compile(r"^snapshot-(\d+)$")
DELETE = 1


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file in one of the table's folders."""

    path: str
    num_bytes: int
    modified_s: float

    @property
    def name(self) -> str:
        """Its name without the folder; data and metadata files have names of their own in all of a table."""
        return self.path.rsplit("/", 1)[-1]


@dataclass(frozen=True, slots=True)
class ManifestName:
    """A manifest as a list names it."""

    name: str
    num_bytes: int
    num_deleted: int


class TableFiles:
    """Reads what snapshots refer to, at the cost of the names alone.

    Args:
        table: the pypaimon table.
    """

    def __init__(self, table: Any) -> None:
        self._table = table
        self._root = table.table_path.rstrip("/")
        self.file_io = table.file_io
        self.manager = table.snapshot_manager()
        self.manifest_folder = f"{self._root}/manifest"

    def snapshot_ids(self) -> list[int]:
        """Return the ids of all snapshots that there are, oldest first."""
        names = (_SNAPSHOT.match(status.base_name) for status in self._listed(self.manager.snapshot_dir))
        return sorted(int(match.group(1)) for match in names if match)

    def has(self, folder: str) -> bool:
        """Return whether there is anything in one of the folders beside those of data: ``branch`` or ``changelog``."""
        return bool(self._listed(f"{self._root}/{folder}"))

    def tagged(self) -> dict[str, Any]:
        """Return the snapshots that tags hold, by tag."""
        tags = TagManager(self.file_io, self._root)
        prefix = "tag-"
        names = [
            status.base_name.removeprefix(prefix)
            for status in self._listed(tags.tag_directory())
            if status.base_name.startswith(prefix)
        ]
        return {name: tags.get_or_throw(name) for name in names}

    def consumer_needs(self) -> dict[str, int]:
        """Return the next snapshot that each consumer file of Paimon's asks for, by consumer."""
        manager = self._table.consumer_manager()
        prefix = manager.CONSUMER_PREFIX
        needs = {}
        for status in self._listed(f"{self._root}/consumer"):
            if status.base_name.startswith(prefix):
                name = status.base_name.removeprefix(prefix)
                consumer = manager.consumer(name)
                if consumer is not None:
                    needs[name] = int(consumer.next_snapshot)
        return needs

    def lists(self, snapshot: Any) -> dict[str, int]:
        """Return name and size of the manifest lists of ``snapshot``."""
        found = {
            snapshot.base_manifest_list: snapshot.base_manifest_list_size,
            snapshot.delta_manifest_list: snapshot.delta_manifest_list_size,
            snapshot.changelog_manifest_list: snapshot.changelog_manifest_list_size,
        }
        return {name: size or 0 for name, size in found.items() if name}

    def manifests(self, list_name: str) -> list[ManifestName]:
        """Return the manifests that a list names.

        Raises:
            FileNotFoundError: there is no such list.
        """
        return [
            ManifestName(record["_FILE_NAME"], record["_FILE_SIZE"], record["_NUM_DELETED_FILES"])
            for record in self.records(list_name)
        ]

    def records(self, name: str) -> list[dict[str, Any]]:
        """Return what a manifest or a list of manifests holds, as Avro has it.

        Raises:
            FileNotFoundError: there is no such file.
        """
        with self.file_io.new_input_stream(f"{self.manifest_folder}/{name}") as stream:
            reader: Any = fastavro.reader(BytesIO(stream.read()))
        return list(reader)

    def index_paths(self, index_manifest: str | None) -> dict[str, int]:
        """Return path and size of the index files, deletion vectors among them, that an index manifest names."""
        if index_manifest is None:
            return {}
        factory = self._table.path_factory()
        return {
            factory.bucket_index_path(
                tuple(entry.partition.values), entry.bucket, entry.index_file, self.file_io
            ): entry.index_file.file_size
            for entry in IndexManifestFile(self._table).read(index_manifest)
        }

    def live_paths(self, snapshot: Any) -> set[str]:
        """Return the paths of the data files that ``snapshot`` has, and of those beside them.

        Raises:
            FileNotFoundError: a list or a manifest of it is not there.
        """
        added: dict[tuple[Any, ...], dict[str, Any]] = {}
        deleted = set()
        for name in (snapshot.base_manifest_list, snapshot.delta_manifest_list):
            for manifest in self.manifests(name):
                for record in self.records(manifest.name):
                    if record["_KIND"] == DELETE:
                        deleted.add(identity(record))
                    else:
                        added[identity(record)] = record
        live = (record for key, record in added.items() if key not in deleted)
        return {path for record in live for path in self.data_paths(record)}

    def added_paths(self, snapshot: Any) -> set[str]:
        """Return the paths of the data files that ``snapshot`` has and its predecessor had not, and of those beside.

        Raises:
            FileNotFoundError: a list or a manifest of it is not there.
        """
        manifests = self.manifests(snapshot.delta_manifest_list)
        records = (record for manifest in manifests for record in self.records(manifest.name))
        return {path for record in records if record["_KIND"] != DELETE for path in self.data_paths(record)}

    def data_paths(self, record: dict[str, Any]) -> list[str]:
        """Return the path of the data file of a manifest's entry, and of those beside it."""
        file = record["_FILE"]
        partition = GenericRowDeserializer.from_bytes(record["_PARTITION"], self._table.partition_keys_fields)
        path: str = file.get("_EXTERNAL_PATH") or canonical_data_file_path(
            self._table, tuple(partition.values), record["_BUCKET"], file["_FILE_NAME"]
        )
        folder = path.rsplit("/", 1)[0]
        return [path, *(f"{folder}/{name}" for name in file["_EXTRA_FILES"] or ())]

    def metadata_found(self) -> Iterator[FoundFile]:
        """Yield the files in the folders of manifests, index files, and snapshots that were never published."""
        yield from self._files(self.manifest_folder)
        yield from self._files(f"{self._root}/index")
        for file in self._files(self.manager.snapshot_dir):
            if file.name.startswith(".snapshot-") and file.name.endswith(".tmp"):
                yield file

    def data_found(self) -> Iterator[FoundFile]:
        """Yield the files in the folders of data."""
        yield from self._data_found(self._root, list(self._table.partition_keys))

    def _data_found(self, folder: str, partition_keys: Sequence[str]) -> Iterator[FoundFile]:
        prefix = f"{partition_keys[0]}=" if partition_keys else "bucket-"
        for status in self._listed(folder):
            if status.type != pafs.FileType.Directory or not status.base_name.startswith(prefix):
                continue
            below = f"{folder}/{status.base_name}"
            if partition_keys:
                yield from self._data_found(below, partition_keys[1:])
            else:
                yield from self._files(below)

    def _files(self, folder: str) -> Iterator[FoundFile]:
        for status in self._listed(folder):
            if status.type == pafs.FileType.File:
                yield FoundFile(f"{folder}/{status.base_name}", status.size or 0, modified_s(status))

    def _listed(self, folder: str) -> list[Any]:
        if not self.file_io.exists(folder):
            return []
        return list(self.file_io.list_status(folder) or ())
