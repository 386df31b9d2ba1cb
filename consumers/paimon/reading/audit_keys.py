"""A raw table that is read change by change, held against the ledger by what stands in it.

What stands is read by a plain batch read, as any other user of the table would, and not by way of its changes: what the
consumer could not see there, an audit that reads the same way could not see either.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from consumers.paimon.reading.audit_ledger import AuditedLedger, RawReader
from consumers.paimon.reading.audit_report import Findings
from consumers.paimon.snapshots import read_snapshot
from consumers.paimon.source.offsets import first_offset, snapshot_of

_Digests = NDArray[np.bytes_]
_Mask = NDArray[np.bool_]

_MAX_WALKED = 1000
_COMPACT = "COMPACT"
_LOOKUP, _FULL = "lookup", "full-compaction"


@dataclass(frozen=True)
class Comparable:
    """As of which snapshot table and ledger can be held against each other.

    Attributes:
        snapshot: of the raw table.
        is_done: whether the consumer is done with everything up to it; where not, what differs is still to come.
    """

    snapshot: Any | None
    is_done: bool


def comparable(table: Any, head: Any | None, watermark: int | None) -> Comparable:
    """Return the newest snapshot whose changes the consumer has finished and that is still there.

    Args:
        table: the raw table.
        head: its newest snapshot when the audit began.
        watermark: the offset below which the consumer is done; None where that is not known.
    """
    if head is None or watermark is None:
        return Comparable(head, is_done=False)
    manager = table.snapshot_manager()
    newest = min(snapshot_of(watermark) - 1, int(head.id))
    # Where a compaction tells the changes, what came after it is not told yet.
    is_told_by_compactions = _producer(table) in {_LOOKUP, _FULL}
    for snapshot_id in range(newest, max(0, newest - _MAX_WALKED), -1):
        found = head if snapshot_id == head.id else read_snapshot(manager, snapshot_id)
        if found is None:
            break
        if not is_told_by_compactions or found.commit_kind == _COMPACT:
            return Comparable(found, is_done=True)
    return Comparable(head, is_done=False)


@dataclass(frozen=True)
class KeysCompared:
    """What stands in the raw table.

    Attributes:
        num_standing: rows of it.
        num_open: of those that the ledger does not tell of as they are, the ones that are still to come.
    """

    num_standing: int
    num_open: int


def compare_keys(
    reader: RawReader, table: Any, at: Comparable, ledger: AuditedLedger, findings: Findings
) -> KeysCompared:
    """Hold what stands in the raw table against the newest ledger row of each key, both ways.

    Of a table without keys, a row counts by what it tells, and what the ledger tells beyond it is left alone.
    """
    newest, has_keys = _newest(table, at, ledger)
    known = ledger.index.keys[newest] if has_keys else ledger.contents[newest]
    order = np.argsort(known, kind="stable")
    newest, known = newest[order], known[order]
    contents, is_delete, row_ids = ledger.contents[newest], ledger.is_delete[newest], ledger.index.row_ids[newest]
    is_standing: _Mask = np.zeros(len(known), dtype=np.bool_)
    num_standing = num_open = 0
    is_all_told = at.is_done
    for keys, told, split in reader.standing(at.snapshot, findings):
        num_standing += len(keys)
        is_told = at.is_done and _is_told(table, split)
        is_all_told = is_all_told and is_told
        places, is_known = _places(known, keys)
        is_standing[places[is_known]] = True
        is_same = is_known.copy()
        is_same[is_known] = (contents[places[is_known]] == told[is_known]) & ~is_delete[places[is_known]]
        if not is_told:
            num_open += int((~is_same).sum())
            continue
        num_lacking = int((~is_known).sum())
        lacks = f"table {ledger.name}: lacks {num_lacking} rows that stand in {ledger.source} as of {_as_of(at)}"
        findings.add("missing", [lacks] if num_lacking else [], num_lacking)
        others = row_ids[places[is_known & ~is_same]].tolist()
        findings.add("mismatched", (_other(ledger, row_id) for row_id in others), len(others))
    gone = row_ids[~is_standing & ~is_delete].tolist() if has_keys else []
    if is_all_told:
        findings.add("mismatched", (_gone(ledger, row_id) for row_id in gone), len(gone))
    else:
        num_open += len(gone)
    return KeysCompared(num_standing, num_open)


def _newest(table: Any, at: Comparable, ledger: AuditedLedger) -> tuple[NDArray[np.int64], bool]:
    """Return the indices of the ledger rows that hold as of the snapshot, and whether they have keys."""
    index = ledger.index
    counts = index.latest()
    if at.is_done and at.snapshot is not None:
        counts &= index.row_ids < first_offset(int(at.snapshot.id) + 1)
    has_keys = bool(table.primary_keys)
    if has_keys:
        counts &= index.newest_versions(counts)
    return np.flatnonzero(counts), has_keys


def _places(known: _Digests, wanted: _Digests) -> tuple[NDArray[np.int64], _Mask]:
    if len(known) == 0:
        return np.zeros(len(wanted), dtype=np.int64), np.zeros(len(wanted), dtype=np.bool_)
    places = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return places, np.asarray(known[places] == wanted, dtype=np.bool_)


def _is_told(table: Any, split: Any) -> bool:
    """Return whether the changelog has told all rows of a split."""
    levels = {file.level for file in split.files}
    if _producer(table) == _LOOKUP:
        return 0 not in levels
    return _producer(table) != _FULL or (len(levels) == 1 and 0 not in levels)


def _producer(table: Any) -> str:
    return str(table.table_schema.options.get("changelog-producer", "none"))


def _as_of(at: Comparable) -> str:
    return "now" if at.snapshot is None else f"snapshot {at.snapshot.id}"


def _other(ledger: AuditedLedger, row_id: int) -> str:
    return f"table {ledger.name}: its row for offset {row_id} tells of another version than stands in {ledger.source}"


def _gone(ledger: AuditedLedger, row_id: int) -> str:
    return f"table {ledger.name}: its row for offset {row_id} tells of a video that stands no more in {ledger.source}"
