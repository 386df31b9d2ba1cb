"""The audit trail for reading: what was done many times in a row is one line."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from schemas.control import AuditEntry

_MERGED = "register"


@dataclass(frozen=True, slots=True)
class TrailLine:
    """An entry, the newest of ``times`` like it; ``since`` is when the oldest of them was made."""

    entry: AuditEntry
    times: int
    since: datetime


def trail_lines(entries: Iterable[AuditEntry]) -> list[TrailLine]:
    """Return ``entries``, the newest first, with registrations by the same caller that follow each other as one line.

    A forwarder of events makes one for each object that lands, which would hide what people did.
    """
    lines: list[TrailLine] = []
    for entry in entries:
        last = lines[-1] if lines else None
        if last is not None and _is_alike(last.entry, entry):
            lines[-1] = replace(last, times=last.times + 1, since=entry.at)
        else:
            lines.append(TrailLine(entry, 1, entry.at))
    return lines


def _is_alike(one: AuditEntry, other: AuditEntry) -> bool:
    return one.action == other.action == _MERGED and (one.actor, one.origin) == (other.actor, other.origin)
