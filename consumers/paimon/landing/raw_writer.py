"""Registering objects in the raw table: descriptors are appended, nothing is copied, and no object twice."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pypaimon.table.row.blob import BlobDescriptor

from consumers.errors import SluiceError, StoreUnavailableError
from consumers.paimon.catalog import CatalogConfig, load_table, open_catalog, store_errors
from consumers.paimon.commit.table_committer import TableCommitter
from consumers.paimon.landing.digest_set import DigestSet
from consumers.paimon.landing.objects import ObjectInfo
from consumers.paimon.scan import RangeReader
from consumers.paimon.snapshots import read_snapshot
from consumers.paimon.tables import check_table
from schemas.positions import OffsetRange
from schemas.records import WHOLE_OBJECT
from schemas.tables import RAW

_ROWS_PER_READ = 65_536
# Deletions commit snapshots of this kind.
_OVERWRITE = "OVERWRITE"
# More snapshots than that are not looked at one by one; the table is read instead.
_MOST_SNAPSHOTS = 5000
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
    writer = _RawWriter(config, table)
    num_wanted, num_added = len(wanted), 0
    try:
        while True:
            for key in writer.unread_keys():
                wanted.pop(key, None)
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


class Registrar:
    """Registers again and again: reads the whole table once, and after that only rows that are new.

    Keeps 16 bytes for each row of the table, in memory up to two million of them and on disk beyond. Where rows were
    taken out, or snapshots in between have expired unseen, the table is read anew. Not thread-safe; several in other
    threads and processes may work on the same table, and together add no row twice.

    Args:
        config: the catalog.
        table: name of a raw table as ``sluice init`` creates it.
        rows_per_commit: most rows per snapshot.

    Raises:
        ConfigurationError: the table is missing or of another shape.
        StoreUnavailableError: the store did not answer.
    """

    def __init__(self, config: CatalogConfig, table: str, *, rows_per_commit: int = 50_000) -> None:
        self._rows_per_commit = rows_per_commit
        self._known = DigestSet()
        self._writer = _RawWriter(config, table)

    def refresh(self) -> None:
        """Learn of the rows that others have added.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        if self._writer.is_rewritten():
            self._known = DigestSet()
            self._writer.forget()
        self._known.add(_text(key) for key in self._writer.unread_keys())

    def knows(self, item: ObjectInfo) -> bool:
        """Return whether there is a row for ``item``, as far as was read."""
        return _text((item.uri, item.etag)) in self._known

    def add(self, objects: Iterable[ObjectInfo]) -> int:
        """Append a row for each object that has none, and return how many; the same (URI, etag) counts once.

        Raises:
            StoreUnavailableError: the store did not answer; adding them again is safe.
        """
        num_added = 0
        wanted = {(item.uri, item.etag): item for item in objects}
        while True:
            self.refresh()
            wanted = {key: item for key, item in wanted.items() if _text(key) not in self._known}
            if not wanted:
                return num_added
            part = list(wanted.values())[: self._rows_per_commit]
            if self._writer.append(part):
                num_added += len(part)
                self._known.add(_text((item.uri, item.etag)) for item in part)

    def close(self) -> None:
        """Release resources."""
        self._writer.close()


def _text(key: _Key) -> str:
    return "\x1f".join((key[0], key[1] or ""))


class _RawWriter:
    """Appends on top of the snapshot whose rows are known, or not at all."""

    def __init__(self, config: CatalogConfig, table: str) -> None:
        raw = load_table(open_catalog(config), config, table)
        check_table(raw, RAW)
        self._name = f"table {config.database}.{table}"
        self._user = f"sluice-register-{uuid.uuid4()}"
        self._committer = TableCommitter(raw, self._user, self._check)
        self._manager = self._committer.manager
        self._reader = RangeReader(raw, ("uri", "etag"))
        self._known_id = 0
        self._num_known_rows = 0
        self._identifier = 0

    def is_rewritten(self) -> bool:
        """Return whether rows that were read may be gone: since then something was overwritten, rolled back or expired.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        with store_errors(self._name):
            latest = self._manager.get_latest_snapshot()
            if latest is None or latest.id < self._known_id:
                return self._known_id > 0
            if self._known_id == 0:
                return False
            if latest.id - self._known_id > _MOST_SNAPSHOTS:
                return True
            between = (read_snapshot(self._manager, each) for each in range(self._known_id + 1, latest.id + 1))
            return any(each is None or each.commit_kind == _OVERWRITE for each in between)

    def forget(self) -> None:
        """Take the whole table as unread."""
        self._known_id = self._num_known_rows = 0

    def unread_keys(self) -> Iterator[_Key]:
        """Yield what the latest snapshot holds beyond what was read or appended before."""
        with store_errors(self._name):
            latest = self._manager.get_latest_snapshot()
        if latest is None or latest.id == self._known_id:
            return
        end = latest.next_row_id or 0
        for start in range(self._num_known_rows, end, _ROWS_PER_READ):
            chunk = OffsetRange(start, min(start + _ROWS_PER_READ, end))
            with store_errors(self._name):
                self._reader.pin(latest, OffsetRange(start, max(end, chunk.end)))
                rows = self._reader.read(chunk).rows
            if rows.num_rows:
                yield from zip(rows["uri"].to_pylist(), rows["etag"].to_pylist(), strict=True)
            self._num_known_rows = chunk.end
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
