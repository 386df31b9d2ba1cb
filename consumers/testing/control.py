"""Wishes and the audit trail in memory."""

from __future__ import annotations

import threading

from consumers.errors import StoreUnavailableError
from schemas.control import AuditEntry, Desired


class FakeControlStore:
    """A control table in memory."""

    def __init__(self) -> None:
        self._desired: dict[str, Desired] = {}
        self._entries: dict[str, AuditEntry] = {}
        self._version = 0
        self._lock = threading.Lock()
        self.num_failures_to_come = 0

    def version(self) -> int:
        """Return how often it was written to."""
        with self._lock:
            self._answer()
            return self._version

    def desired(self, consumer: str) -> Desired:
        """Return what is wanted of ``consumer``; running where nobody has asked for anything."""
        with self._lock:
            self._answer()
            return self._desired.get(consumer, Desired.initial())

    def write(self, entry: AuditEntry, desired: Desired | None = None) -> None:
        """Store ``entry`` and, if given, what is wanted of its consumer."""
        with self._lock:
            self._answer()
            self._version += 1
            self._entries[entry.entry_id] = entry
            if desired is not None:
                self._desired[entry.consumer] = desired

    def audit_trail(self, consumer: str | None = None, limit: int = 100) -> list[AuditEntry]:
        """Return the newest entries, newest first, of ``consumer`` or of all."""
        with self._lock:
            self._answer()
            entries = sorted(self._entries.values(), key=lambda entry: entry.entry_id, reverse=True)
        return [entry for entry in entries if consumer is None or entry.consumer == consumer][:limit]

    def _answer(self) -> None:
        if self.num_failures_to_come > 0:
            self.num_failures_to_come -= 1
            raise StoreUnavailableError("the fake control table does not answer")
