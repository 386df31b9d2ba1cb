"""Registering objects in the raw table: descriptors are appended, nothing is copied, and no object twice."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pypaimon.table.row.blob import BlobDescriptor

from consumers.errors import SluiceError, StoreUnavailableError
from consumers.paimon.catalog import CatalogConfig, load_table, open_catalog, store_errors
from consumers.paimon.committer import TableCommitter
from consumers.paimon.fence import read_snapshot
from consumers.paimon.objects import ObjectInfo
from consumers.paimon.scan import RangeReader
from consumers.paimon.tables import check_table
from schemas.positions import OffsetRange
from schemas.records import WHOLE_OBJECT
from schemas.tables import RAW

_ROWS_PER_READ = 65_536
_Key = tuple[str, str | None]


@dataclass(frozen=True, slots=True)
class RegisterReport:
    """How many objects got a row, and how many had one with the same URI and etag."""

    num_added: int
    num_already_present: int


class _OvertakenError(Exception):
    """Somebody else has committed rows since the table was read."""


def video_id(uri: str, etag: str | None) -> str:
    """Return the deterministic id of one version of an object: 32 hexadecimal digits."""
    return hashlib.sha256("\x1f".join((uri, etag or "")).encode()).hexdigest()[:32]


def register(
    config: CatalogConfig,
    table: str,
    objects: Iterable[ObjectInfo],
    *,
    rows_per_commit: int = 50_000,
    on_progress: Callable[[int], None] | None = None,
) -> RegisterReport:
    """Append a descriptor row for each object that has none yet; memory is bounded by ``objects``.

    Two registrations at the same time add no row twice: a commit is published only on top of the snapshot that was
    searched for its rows.

    Args:
        config: the catalog.
        table: name of a raw table as ``sluice init`` creates it.
        objects: what to register; the same (URI, etag) counts once.
        rows_per_commit: most rows per snapshot.
        on_progress: told how many objects are done after each commit.

    Raises:
        ConfigurationError: the table is missing or of another shape.
        StoreUnavailableError: the store did not answer; registering again is safe.
    """
    wanted: dict[_Key, ObjectInfo] = {(item.uri, item.etag): item for item in objects}
    raw = load_table(open_catalog(config), config, table)
    check_table(raw, RAW)
    writer = _RawWriter(raw)
    num_wanted, num_added = len(wanted), 0
    try:
        while True:
            with store_errors(f"table {config.database}.{table}"):
                writer.drop_present(wanted)
            if on_progress is not None:
                on_progress(num_wanted - len(wanted))
            if not wanted:
                return RegisterReport(num_added, num_wanted - num_added)
            part = [wanted[key] for key in list(wanted)[:rows_per_commit]]
            if writer.append(part):
                num_added += len(part)
                for item in part:
                    del wanted[item.uri, item.etag]
    finally:
        writer.close()


class _RawWriter:
    """Appends on top of the snapshot whose rows are known, or not at all."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self._user = f"sluice-register-{uuid.uuid4()}"
        self._committer = TableCommitter(raw, self._user, self._check)
        self._manager = self._committer.manager
        self._reader = RangeReader(raw, ("uri", "etag"))
        self._known_id = 0
        self._num_known_rows = 0
        self._identifier = 0

    def drop_present(self, wanted: dict[_Key, ObjectInfo]) -> None:
        """Remove from ``wanted`` what the latest snapshot holds; reads only rows that it has not read before."""
        latest = self._manager.get_latest_snapshot()
        if latest is None or latest.id == self._known_id:
            return
        end = latest.next_row_id or 0
        for start in range(self._num_known_rows, end, _ROWS_PER_READ):
            chunk = OffsetRange(start, min(start + _ROWS_PER_READ, end))
            self._reader.pin(latest, OffsetRange(start, max(end, chunk.end)))
            rows = self._reader.read(chunk).rows
            for key in zip(rows["uri"].to_pylist(), rows["etag"].to_pylist(), strict=True) if rows.num_rows else ():
                wanted.pop(key, None)
        self._known_id, self._num_known_rows = latest.id, end

    def append(self, objects: Sequence[ObjectInfo]) -> bool:
        """Publish rows for ``objects`` and return True, or False when the table has changed since it was read.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        self._identifier += 1
        try:
            messages = self._committer.write(_rows(objects), self._identifier)
            self._committer.publish(messages, self._identifier, {"sluice.register": self._user})
        except _OvertakenError:
            if not self._is_published():
                return False
        except SluiceError:
            raise
        except Exception as error:
            if not self._is_published():
                raise StoreUnavailableError(f"the rows could not be appended: {error}") from error
        # Only ours can be the snapshot right after the one that was read.
        self._known_id += 1
        self._num_known_rows += len(objects)
        return True

    def _check(self, manager: Any, latest: Any | None) -> None:
        if (0 if latest is None else latest.id) != self._known_id:
            raise _OvertakenError

    def _is_published(self) -> bool:
        """Whether the commit that was under way is the one right after the snapshot that was read."""
        with store_errors("the raw table"):
            following = read_snapshot(self._manager, self._known_id + 1)
        return following is not None and following.commit_user == self._user

    def close(self) -> None:
        self._committer.close()


def _rows(objects: Sequence[ObjectInfo]) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {
                "video_id": video_id(item.uri, item.etag),
                "uri": item.uri,
                "size_bytes": item.size_bytes,
                "etag": item.etag,
                "landed_at": item.landed_at,
                "video": BlobDescriptor(item.uri, 0, WHOLE_OBJECT).serialize(),
            }
            for item in objects
        ],
        schema=RAW.schema,
    )
