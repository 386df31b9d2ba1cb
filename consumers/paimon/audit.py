"""Is every raw row accounted for once, and does every kept clip stand in the curated table once?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from consumers.paimon.catalog import CatalogConfig, load_table, open_catalog, store_errors
from consumers.paimon.fence import newest_marker
from consumers.paimon.ledger_index import LedgerIndex, as_ranges, contained, curated_digests
from consumers.paimon.recovery import MAX_SNAPSHOTS_WALKED
from consumers.paimon.scan import ROW_ID, stream
from consumers.paimon.tables import TableNames
from schemas.positions import OffsetRange, Position

MAX_DETAILS = 20


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What the audit found. All but ``details`` are counts.

    Attributes:
        rows: raw rows when the audit began.
        ledger_rows: the consumer's ledger rows, all runs.
        clips: the consumer's clips in the curated table.
        pending: raw rows that the consumer's position does not cover yet; not an error.
        missing: raw rows that the position covers and the ledger does not hold.
        duplicated: ledger rows beyond one per source row and run.
        unaccounted: clips that no ledger row of a latest run claims.
        clips_missing: clips that the ledger says were kept, and that the curated table lacks.
        clips_duplicated: clips beyond one per clip id.
        details: a bounded list of examples, one sentence each.
    """

    rows: int
    ledger_rows: int
    clips: int
    pending: int
    missing: int
    duplicated: int
    unaccounted: int
    clips_missing: int
    clips_duplicated: int
    details: tuple[str, ...]

    @property
    def is_clean(self) -> bool:
        """Whether nothing is missing, duplicated or unaccounted for."""
        return not (self.missing or self.duplicated or self.unaccounted or self.clips_missing or self.clips_duplicated)


def audit(
    config: CatalogConfig,
    names: TableNames,
    consumer: str,
    on_progress: Callable[[str], None] | None = None,
) -> AuditReport:
    """Compare the raw, ledger and curated tables for ``consumer``, which may be running meanwhile.

    The tables are pinned in the order raw, curated, ledger: against the order in which a commit writes, so that a
    commit in between is never mistaken for a fault. Where the consumer's marker has expired (it has not run for longer
    than snapshots are retained), rows without a ledger row count as pending, and a detail says so.

    Memory is 8 bytes per raw row (while its ranges are found), and what :mod:`consumers.paimon.ledger_index` says.

    Raises:
        ConfigurationError: a table is missing.
        StoreUnavailableError: the store did not answer, or a pinned snapshot expired during the audit.
    """
    catalog = open_catalog(config)
    raw, curated, ledger = (load_table(catalog, config, name) for name in (names.raw, names.curated, names.ledger))
    source = f"{config.database}.{names.raw}"
    tell = on_progress or (lambda step: None)
    with store_errors(f"audit of {source}"):
        raw_head, curated_head, ledger_head = (
            table.snapshot_manager().get_latest_snapshot() for table in (raw, curated, ledger)
        )
        walk = newest_marker(curated.snapshot_manager(), consumer, curated_head, 0, MAX_SNAPSHOTS_WALKED)
        tell(f"reading {names.raw}")
        rows = Position.from_ranges(_existing(raw, raw_head))
        tell(f"reading {names.ledger}")
        index = LedgerIndex.read(ledger, ledger_head, consumer, source)
        tell(f"reading {names.curated}")
        found = curated_digests(curated, curated_head, consumer, source)
    if walk.marker is not None:
        position: Position | None = walk.marker.position
    else:
        position = None if len(index.row_ids) else Position()
    return _compare(rows, index, found, position)


def _existing(raw: Any, head: Any | None) -> Iterator[OffsetRange]:
    for batch in stream(raw, (ROW_ID,), head):
        yield from as_ranges(batch.column(ROW_ID).to_numpy())


def _compare(rows: Position, index: LedgerIndex, found: NDArray[np.bytes_], position: Position | None) -> AuditReport:
    details: list[str] = []
    if position is None:
        details.append("the consumer's marker has expired: rows without a ledger row are counted as pending")
    ledgered = Position.from_ranges(as_ranges(index.row_ids))
    without = list(_minus(rows.ranges(), ledgered.ranges()))
    pending = list(_minus(without, (position or Position()).ranges()))
    missing = list(_minus(without, pending))
    details += [f"row {gap.start} is covered by the position but not in the ledger" for gap in missing[:MAX_DETAILS]]

    pairs = np.stack((index.row_ids, index.runs.astype(np.int64)), axis=1)
    unique, counts = np.unique(pairs, axis=0, return_counts=True)
    repeated = unique[counts > 1][:MAX_DETAILS]
    details += [f"row {row_id} is in the ledger more than once for run {run}" for row_id, run in repeated.tolist()]

    is_latest = index.latest()
    is_current = is_latest[index.clip_owners]
    claimed = np.unique(index.clips[is_current])
    is_lacking = is_current & ~contained(index.clips, found)
    owners = index.row_ids[index.clip_owners]
    # The ledger is ahead of the curated table while a commit is between the two.
    due = np.array([position is None or position.covers(int(owner)) for owner in owners[is_lacking]], dtype=np.bool_)
    lacking = np.unique(index.clips[is_lacking][due]) if len(due) else index.clips[:0]
    details += [f"clip {_shown(digest)} was kept and is not in the curated table" for digest in lacking[:MAX_DETAILS]]

    present, copies = np.unique(found, return_counts=True)
    details += [f"clip {_shown(d)} is in the curated table more than once" for d in present[copies > 1][:MAX_DETAILS]]
    strangers = present[~contained(present, claimed)]
    details += [f"clip {_shown(digest)} is claimed by no ledger row" for digest in strangers[:MAX_DETAILS]]
    return AuditReport(
        rows=sum(map(len, rows.ranges())),
        ledger_rows=len(index.row_ids),
        clips=len(found),
        pending=sum(map(len, pending)),
        missing=sum(map(len, missing)),
        duplicated=int((counts - 1).sum()),
        unaccounted=len(strangers),
        clips_missing=len(lacking),
        clips_duplicated=int((copies - 1).sum()),
        details=tuple(details[:MAX_DETAILS]),
    )


def _minus(left: Sequence[OffsetRange], right: Sequence[OffsetRange]) -> Iterator[OffsetRange]:
    """Yield what is in ``left`` and not in ``right``; both are sorted and without overlaps, and so is the result."""
    index = 0
    for item in left:
        start = item.start
        while index < len(right) and right[index].end <= start:
            index += 1
        following = index
        while following < len(right) and right[following].start < item.end:
            if start < right[following].start:
                yield OffsetRange(start, right[following].start)
            start = max(start, right[following].end)
            following += 1
        if start < item.end:
            yield OffsetRange(start, item.end)


def _shown(digest: bytes) -> str:
    return digest.ljust(16, b"\0").hex()
