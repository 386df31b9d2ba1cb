"""Is every raw row accounted for once, and does every kept clip stand in the curated table once?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from consumers.paimon.catalog import CatalogConfig, load_table, open_catalog, store_errors
from consumers.paimon.commit.generation import current_source
from consumers.paimon.commit.ledger_index import LedgerIndex, as_ranges, contained, curated_digests
from consumers.paimon.commit.markers import MAX_SNAPSHOTS_WALKED, read_division
from consumers.paimon.scan import ROW_ID, stream
from consumers.paimon.source.changelog_source import ChangelogSource, OnExpired
from consumers.paimon.tables import RawColumns, TableNames, has_row_ids
from schemas.positions import OffsetRange, Position
from schemas.shards import Base, Share

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
        unaccounted: clips that no ledger row of a latest run and a newest version claims.
        clips_missing: clips that the ledger says were kept, and that the curated table lacks.
        clips_duplicated: clips beyond one per clip id.
        clips_retired: kept clips that a newer version or the deletion of their video took out again; not an error.
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
    clips_retired: int
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
    *,
    columns: RawColumns | None = None,
) -> AuditReport:
    """Compare the raw, ledger and curated tables for ``consumer``, which may be running meanwhile.

    The tables are pinned in the order raw, curated, ledger: against the order in which a commit writes, so that a
    commit in between is never mistaken for a fault. Where the consumer's marker has expired (it has not run for longer
    than snapshots are retained), rows without a ledger row count as pending, and a detail says so. Of a source that is
    read change by change only those changes are compared that have not expired, and none of before the consumer began.

    Memory is 8 bytes per raw row (while its ranges are found), and what
    :mod:`consumers.paimon.commit.ledger_index` says.

    Raises:
        ConfigurationError: a table is missing.
        StoreUnavailableError: the store did not answer, or a pinned snapshot expired during the audit.
    """
    catalog = open_catalog(config)
    raw, curated, ledger = (load_table(catalog, config, name) for name in (names.raw, names.curated, names.ledger))
    tell = on_progress or (lambda step: None)
    raw_name = f"{config.database}.{names.raw}"
    with store_errors(f"audit of {raw_name}"):
        raw_head, curated_head, ledger_head = (
            table.snapshot_manager().get_latest_snapshot() for table in (raw, curated, ledger)
        )
        division, _ = read_division(curated.snapshot_manager(), consumer, curated_head, MAX_SNAPSHOTS_WALKED)
        source = current_source([(ledger, ledger_head), (curated, curated_head)], consumer, raw_name)
        tell(f"reading {names.ledger}")
        index = LedgerIndex.read(ledger, ledger_head, consumer, source)
        tell(f"reading {names.raw}")
        if has_row_ids(raw):
            rows = Position.from_ranges(_existing(raw, raw_head))
        else:
            changelog = ChangelogSource(config, names.raw, columns, on_expired=OnExpired.EARLIEST)
            rows = Position.from_ranges(changelog.existing(index.row_ids.tolist(), raw_head))
        tell(f"reading {names.curated}")
        found = curated_digests(curated, curated_head, consumer, source)
    if division is None and len(index.row_ids):
        return _compare(rows, index, found, None)
    return _compare(rows, index, found, _Done(() if division is None else division.shards(source)))


class _Done:
    """What the shards of a consumer have finished between them."""

    def __init__(self, shards: tuple[tuple[Share, Position], ...]) -> None:
        self._shards = shards

    def covers(self, offsets: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return for each of ``offsets`` whether it is finished, (n,) bool."""
        covered = np.zeros(len(offsets), dtype=np.bool_)
        for share, position in self._shards:
            for part in (Base(share.shard, position), *share.bases):
                is_owned = offsets % part.shard.count == part.shard.index
                covered |= is_owned & _within(offsets, part.position)
        return covered


def _within(offsets: NDArray[np.int64], position: Position) -> NDArray[np.bool_]:
    ranges = position.ranges()
    if not ranges:
        return np.zeros(len(offsets), dtype=np.bool_)
    starts = np.array([part.start for part in ranges], dtype=np.int64)
    ends = np.array([part.end for part in ranges], dtype=np.int64)
    index = np.searchsorted(starts, offsets, side="right") - 1
    return np.asarray((index >= 0) & (offsets < ends[np.maximum(index, 0)]), dtype=np.bool_)


def _existing(raw: Any, head: Any | None) -> Iterator[OffsetRange]:
    for batch in stream(raw, (ROW_ID,), head):
        yield from as_ranges(batch.column(ROW_ID).to_numpy())


def _compare(rows: Position, index: LedgerIndex, found: NDArray[np.bytes_], done: _Done | None) -> AuditReport:
    details: list[str] = []
    if done is None:
        details.append("the consumer's marker has expired: rows without a ledger row are counted as pending")
    ledgered = Position.from_ranges(as_ranges(index.row_ids))
    without = _offsets(_minus(rows.ranges(), ledgered.ranges()))
    is_missing = np.zeros(len(without), dtype=np.bool_) if done is None else done.covers(without)
    missing = without[is_missing]
    gaps = list(as_ranges(missing))[:MAX_DETAILS]
    details += [f"row {gap.start} is covered by the position but not in the ledger" for gap in gaps]

    pairs = np.stack((index.row_ids, index.runs.astype(np.int64)), axis=1)
    unique, counts = np.unique(pairs, axis=0, return_counts=True)
    repeated = unique[counts > 1][:MAX_DETAILS]
    details += [f"row {row_id} is in the ledger more than once for run {run}" for row_id, run in repeated.tolist()]

    # The ledger is ahead of the curated table while a commit is between the two.
    is_done = np.ones(len(index.row_ids), dtype=np.bool_) if done is None else done.covers(index.row_ids)
    is_latest = index.latest()
    # A newer version of a video retires the clips of the older ones, at the latest when it is committed itself.
    is_newest = index.newest_versions()
    may_stand = is_latest & (index.newest_versions(is_done) | ~is_done)
    must_stand = is_latest & is_newest & is_done
    claimed = np.unique(index.clips[may_stand[index.clip_owners]])
    lacking = np.unique(index.clips[must_stand[index.clip_owners] & ~contained(index.clips, found)])
    details += [f"clip {_shown(digest)} was kept and is not in the curated table" for digest in lacking[:MAX_DETAILS]]

    present, copies = np.unique(found, return_counts=True)
    details += [f"clip {_shown(d)} is in the curated table more than once" for d in present[copies > 1][:MAX_DETAILS]]
    strangers = present[~contained(present, claimed)]
    details += [f"clip {_shown(digest)} is claimed by no ledger row" for digest in strangers[:MAX_DETAILS]]
    return AuditReport(
        rows=sum(map(len, rows.ranges())),
        ledger_rows=len(index.row_ids),
        clips=len(found),
        pending=len(without) - len(missing),
        missing=len(missing),
        duplicated=int((counts - 1).sum()),
        unaccounted=len(strangers),
        clips_missing=len(lacking),
        clips_duplicated=int((copies - 1).sum()),
        clips_retired=int((is_latest & ~is_newest)[index.clip_owners].sum()),
        details=tuple(details[:MAX_DETAILS]),
    )


def _offsets(ranges: Iterable[OffsetRange]) -> NDArray[np.int64]:
    parts = [np.arange(part.start, part.end, dtype=np.int64) for part in ranges]
    return np.concatenate([np.empty(0, dtype=np.int64), *parts])


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
