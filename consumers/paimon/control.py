"""The control table: what operators want of each consumer, and what they did."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pyarrow as pa

from consumers.errors import ConfigurationError
from consumers.paimon.catalog import CatalogConfig, load_table, open_catalog, store_errors
from consumers.paimon.commit.table_committer import TableCommitter
from consumers.paimon.scan import stream
from consumers.paimon.snapshots import read_snapshot, snapshot_time
from consumers.paimon.tables import check_table
from schemas.control import AuditEntry, Desired
from schemas.tables import CONTROL

_DESIRED = "desired"
_AUDIT = "audit"
_PROPERTY = "sluice.control"
# How far back the trail is read, step by step, until there are enough entries; the last step reads the rest.
_WINDOWS = (timedelta(days=1), timedelta(days=32), None)
_COLUMNS = ("kind", "key", "value", "actor", "reason", "at")


class PaimonControlStore:
    """Implements :class:`~consumers.ports.ControlStore` on a primary-key table. Thread-safe.

    A desired state and the audit entry of the request that set it are one commit. Reading costs a few milliseconds per
    data file, and each request adds one file until the table is compacted; callers poll :meth:`version`, which is one
    metadata read.

    Args:
        config: the catalog.
        table: name of the control table.

    Raises:
        ConfigurationError: the table is missing or does not fit, or its storage has no safe way to publish.
        StoreUnavailableError: the store did not answer.
    """

    def __init__(self, config: CatalogConfig, table: str) -> None:
        self._name = f"{config.database}.{table}"
        self._reload = partial(load_table, open_catalog(config), config, table)
        self._table = self._reload()
        check_table(self._table, CONTROL)
        self._committer = TableCommitter(self._table, f"sluice-control-{uuid.uuid4()}", _no_check)
        self._lock = threading.Lock()
        self._sequence = 0
        self._read_at: int | None = None
        self._newest = (0, "")
        self._desired: dict[str, Desired] = {}

    def version(self) -> int:
        """Return a number that grows with every write, 0 for an empty table: one metadata read.

        Raises:
            ConfigurationError: the table is gone, or is not the one that was read before.
            StoreUnavailableError: the store did not answer.
        """
        with store_errors(f"table {self._name}"):
            latest = self._table.snapshot_manager().get_latest_snapshot()
            if latest is None:
                # Nothing written yet, or no table any more? Without one nobody can tell what is wanted.
                self._reload()
            version = 0 if latest is None else int(latest.id)
            if self._is_another(latest, version):
                raise ConfigurationError(
                    f"table {self._name}: snapshot {self._newest[0]} was read, and is not in it any more: it was "
                    f"rolled back, or dropped and made anew, and its newest is {version} now. What was wanted last "
                    "holds on; restart the service to take what the table says now"
                )
        self._newest = (version, "" if latest is None else str(latest.uuid))
        return version

    def _is_another(self, latest: Any | None, version: int) -> bool:
        newest_id, uuid = self._newest
        if version <= newest_id:
            return version < newest_id or (latest is not None and str(latest.uuid) != uuid)
        known = read_snapshot(self._table.snapshot_manager(), newest_id) if newest_id else None
        return known is not None and str(known.uuid) != uuid

    def desired(self, consumer: str) -> Desired:
        """Return what is wanted of ``consumer``; running where nobody has asked for anything.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        with self._lock:
            self._refresh()
            return self._desired.get(consumer, Desired.initial())

    def write(self, entry: AuditEntry, desired: Desired | None = None) -> None:
        """Store ``entry`` and, if given, what is wanted of its consumer; durable when this returns.

        Raises:
            StoreUnavailableError: the store did not answer; writing the same again is harmless.
        """
        rows = [{"kind": _AUDIT, "key": entry.entry_id, "value": entry.to_json(), **_signature(entry)}]
        if desired is not None:
            rows.append({"kind": _DESIRED, "key": entry.consumer, "value": desired.to_json(), **_signature(desired)})
        with self._lock, store_errors(f"table {self._name}"):
            self._sequence += 1
            messages = self._committer.write(pa.Table.from_pylist(rows, schema=CONTROL.schema), self._sequence)
            self._committer.publish(messages, self._sequence, {_PROPERTY: entry.action})

    def audit_trail(self, consumer: str | None = None, limit: int = 100) -> list[AuditEntry]:
        """Return the newest entries, newest first, of ``consumer`` or of all.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        found: list[AuditEntry] = []
        with self._lock, store_errors(f"table {self._name}"):
            latest = self._table.snapshot_manager().get_latest_snapshot()
            end = None
            for window in _WINDOWS if latest is not None else ():
                # Ids begin with their time.
                start = None if window is None else f"{snapshot_time(latest) - window:%Y%m%dT%H%M%S}"
                entries = [
                    AuditEntry.from_json(row["key"], row["value"], row["actor"], row["reason"], _utc(row["at"]))
                    for row in self._rows(_AUDIT, latest, start, end)
                ]
                entries.sort(key=lambda entry: entry.entry_id, reverse=True)
                found += [entry for entry in entries if consumer is None or entry.consumer == consumer]
                if len(found) >= limit:
                    break
                end = start
        return found[:limit]

    def close(self) -> None:
        """Release resources."""
        self._committer.close()

    def _refresh(self) -> None:
        version = self.version()
        if version != self._read_at:
            with store_errors(f"table {self._name}"):
                latest = self._table.snapshot_manager().get_latest_snapshot()
                self._desired = {
                    row["key"]: Desired.from_json(row["value"], row["actor"], row["reason"], _utc(row["at"]))
                    for row in self._rows(_DESIRED, latest, None, None)
                }
            self._read_at = version

    def _rows(self, kind: str, latest: Any | None, start: str | None, end: str | None) -> Iterator[dict[str, Any]]:
        """Yield the rows of ``kind`` with a key from ``start`` on and before ``end``; None does not restrict."""

        def wanted(builder: Any) -> Any:
            restrictions = [builder.equal("kind", kind)]
            if start is not None:
                restrictions.append(builder.greater_or_equal("key", start))
            if end is not None:
                restrictions.append(builder.less_than("key", end))
            return restrictions[0] if len(restrictions) == 1 else builder.and_predicates(restrictions)

        for batch in stream(self._table, _COLUMNS, latest, wanted):
            yield from batch.to_pylist()


def _no_check(manager: Any, latest: Any | None) -> None:
    """Let every writer commit: the last word on a key counts."""


def _signature(signed: AuditEntry | Desired) -> dict[str, Any]:
    return {"actor": signed.actor, "reason": signed.reason, "at": signed.at}


def _utc(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
