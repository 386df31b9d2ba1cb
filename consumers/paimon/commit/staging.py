"""Large clips on their way from a worker into the curated table.

They wait as objects in a folder inside the table's own, which Paimon's readers, writers and orphan cleaning pass over;
the commit copies them into the table chunk by chunk, and then they are deleted.
"""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Any, BinaryIO

import pyarrow.fs as pafs
from pypaimon.table.row.blob import BlobDescriptor

from consumers.clock import Clock, SystemClock
from consumers.errors import StagingUnavailableError
from consumers.paimon.catalog import WAREHOUSE, CatalogConfig, load_table, open_catalog, store_errors
from schemas.records import BlobReference
from schemas.shards import Shard

logger = logging.getLogger(__name__)

FOLDER = "_sluice_staging"
_CHUNK_BYTES = 2**20
_ABANDONED_AFTER = timedelta(days=1)
_NAME = re.compile(r"^(?P<owner>.+)\.[^.]+\.[0-9a-f]{32}\.mp4$")


class PaimonStaging:
    """Implements :class:`~consumers.ports.ClipStaging`. Connects in the process that uses it, when it first does.

    Args:
        config: the catalog.
        curated: name of the curated table.
        consumer: whose clips these are.
        shard: which part of the consumer's work.
        clock: tells how long objects have been there.
    """

    def __init__(
        self, config: CatalogConfig, curated: str, consumer: str, shard: Shard, clock: Clock | None = None
    ) -> None:
        path = config.local_warehouse
        if path is not None:
            # A worker may have another working directory.
            config = replace(config, options={**config.options, WAREHOUSE: str(path.absolute())})
        self._config = config
        self._curated = curated
        self._owner = f"{consumer}.{shard.index}of{shard.count}"
        self._clock = clock or SystemClock()
        self._loaded: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_loaded": None}

    @property
    def _table(self) -> Any:
        if self._loaded is None:
            self._loaded = load_table(open_catalog(self._config), self._config, self._curated)
        return self._loaded

    @property
    def _folder(self) -> str:
        return f"{self._table.table_path}/{FOLDER}"

    def put(self, clip_id: str, content: BinaryIO) -> BlobReference:
        """Write ``content`` to a new object, 1 MiB at a time.

        Raises:
            StagingUnavailableError: the store did not take it.
        """
        num_bytes = 0
        written: list[BlobReference] = []
        try:
            uri = f"{self._folder}/{self._owner}.{clip_id}.{uuid.uuid4().hex}.mp4"
            written.append(BlobReference(uri, 0, 0))
            with self._table.file_io.new_output_stream(uri) as stream:
                while chunk := content.read(_CHUNK_BYTES):
                    stream.write(chunk)
                    num_bytes += len(chunk)
        except Exception as error:
            self.discard(written)
            message = f"clip {clip_id} could not be written to the store: {type(error).__name__}: {error}"
            raise StagingUnavailableError(message) from error
        return BlobReference(uri, 0, num_bytes)

    def stale(self) -> list[BlobReference]:
        """Return all objects of this owner, and those of others that have been there for more than a day.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        with store_errors(f"staged clips of table {self._curated}"):
            long_ago_s = (self._clock.now() - _ABANDONED_AFTER).timestamp()
            found = []
            for status in self._table.file_io.list_status(self._folder):
                match = _NAME.match(status.base_name)
                if status.type != pafs.FileType.File or match is None:
                    continue
                if match["owner"] == self._owner or modified_s(status) < long_ago_s:
                    found.append(BlobReference(f"{self._folder}/{status.base_name}", 0, status.size))
            return found

    def discard(self, references: Iterable[BlobReference]) -> None:
        """Delete objects; one that is gone already or cannot be deleted is passed over."""
        for reference in references:
            try:
                self._table.file_io.delete(reference.uri)
            except FileNotFoundError:
                continue
            except Exception as error:
                logger.warning("staged clip %s could not be deleted, the next start will: %s", reference.uri, error)


def descriptor_of(reference: BlobReference) -> bytes:
    """Return ``reference`` as a serialized ``BlobDescriptor``; a BLOB column takes in the bytes that it names."""
    return bytes(BlobDescriptor(reference.uri, reference.offset_bytes, reference.length_bytes).serialize())


def modified_s(status: Any) -> float:
    """Return when a file was last written, as Unix time, whatever the storage calls it."""
    # Seconds on disk, a datetime from an object store.
    return float(status.mtime) if isinstance(status.mtime, int | float) else float(status.mtime.timestamp())
