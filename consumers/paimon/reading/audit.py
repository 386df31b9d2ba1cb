"""Is every raw row accounted for once, does every kept clip stand in the curated table once, and is it there at all?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from consumers.paimon.catalog import CatalogConfig, load_table, open_catalog, store_errors
from consumers.paimon.commit.generation import current_source
from consumers.paimon.commit.ledger_index import as_ranges, contained
from consumers.paimon.commit.markers import MAX_SNAPSHOTS_WALKED, read_division
from consumers.paimon.reading.audit_clips import AuditedClips, DeepCheck
from consumers.paimon.reading.audit_done import Done
from consumers.paimon.reading.audit_keys import comparable, compare_keys
from consumers.paimon.reading.audit_ledger import AuditedLedger, RawReader, compare_rows
from consumers.paimon.reading.audit_report import AuditReport, Findings
from consumers.paimon.source.changelog_source import ChangelogSource
from consumers.paimon.source.guard import OnExpired
from consumers.paimon.tables import RawColumns, TableNames, has_row_ids
from schemas.positions import OffsetRange

_MARKER_EXPIRED = "the consumer's marker has expired: rows without a ledger row are counted as pending"


def audit(
    config: CatalogConfig,
    names: TableNames,
    consumer: str,
    on_progress: Callable[[str], None] | None = None,
    *,
    columns: RawColumns | None = None,
    deep: DeepCheck | None = None,
) -> AuditReport:
    """Compare the raw, ledger and curated tables for ``consumer``, which may be running meanwhile.

    The tables are pinned in the order raw, curated, ledger: against the order in which a commit writes, so that a
    commit in between is never mistaken for a fault. Where the consumer's marker has expired (it has not run for longer
    than snapshots are retained), rows without a ledger row count as pending, and a detail says so. A source that is
    read change by change is compared by what stands in it as of the last snapshot that the consumer is done with.

    Each table is read once, in a stream. Memory is about 100 bytes per ledger row, 16 per raw row, 48 per kept clip in
    the ledger and 32 per clip in the curated table, and with ``deep`` one clip's bytes.

    Args:
        config: the catalog.
        names: the tables.
        consumer: whose rows and clips.
        on_progress: told what is read next.
        columns: how the raw table's columns are mapped.
        deep: look at the bytes of clips, too.

    Raises:
        ConfigurationError: a table is missing.
        StoreUnavailableError: the store did not answer, or a pinned snapshot expired during the audit.
    """
    catalog = open_catalog(config)
    raw, curated, ledger = (load_table(catalog, config, name) for name in (names.raw, names.curated, names.ledger))
    tell = on_progress or (lambda step: None)
    findings = Findings()
    raw_name = f"{config.database}.{names.raw}"
    with store_errors(f"audit of {raw_name}"):
        raw_head, curated_head, ledger_head = (
            table.snapshot_manager().get_latest_snapshot() for table in (raw, curated, ledger)
        )
        division, _ = read_division(curated.snapshot_manager(), consumer, curated_head, MAX_SNAPSHOTS_WALKED)
        reader = RawReader(raw, columns or RawColumns())
        source = current_source([(ledger, ledger_head), (curated, curated_head)], consumer, raw_name)
        tell(f"reading {names.ledger}")
        told = AuditedLedger.read(ledger, ledger_head, consumer, source, reader.own_files, findings)
        done = Done(division, source) if division is not None or len(told.index.row_ids) == 0 else None
        if done is None:
            findings.note(_MARKER_EXPIRED)
        tell(f"reading {names.raw}")
        is_gone = np.zeros(len(told.index.row_ids), dtype=np.bool_)
        if has_row_ids(raw):
            existing, num_pending = _by_row_ids(reader, raw_head, told, done, findings)
            num_rows, is_gone = len(existing), _gone(told, existing, raw_head)
        else:
            at = comparable(raw, raw_head, None if done is None else done.watermark)
            compared = compare_keys(reader, raw, at, told, findings)
            num_rows, num_pending = compared.num_standing, compared.num_open
            if done is not None:
                changes = ChangelogSource(config, names.raw, columns, on_expired=OnExpired.EARLIEST)
                num_pending = changes.num_rows(list(done.missing(changes.head().next_offset)))
        tell(f"reading {names.curated}")
        clips = AuditedClips.read(curated, curated_head, consumer, source, findings, deep)
    is_swept = done is not None and raw_head is not None and done.swept_id >= int(raw_head.id)
    on_clips = _compare_clips(told, clips, done, _Gone(is_gone, is_swept), findings)
    _count_repeated(told, findings)
    return AuditReport(
        rows=num_rows,
        ledger_rows=len(told.index.row_ids),
        clips=len(clips.own),
        pending=num_pending + on_clips.num_pending_rows,
        missing=findings.counts["missing"],
        mismatched=findings.counts["mismatched"],
        duplicated=findings.counts["duplicated"],
        unaccounted=findings.counts["unaccounted"],
        clips_missing=findings.counts["clips_missing"],
        clips_duplicated=findings.counts["clips_duplicated"],
        clips_retired=on_clips.num_retired,
        files_missing=findings.counts["files_missing"],
        files_damaged=findings.counts["files_damaged"],
        clips_checked=clips.num_checked,
        clips_broken=findings.counts["clips_broken"],
        details=findings.details(),
    )


def _by_row_ids(
    reader: RawReader, snapshot: Any | None, ledger: AuditedLedger, done: Done | None, findings: Findings
) -> tuple[NDArray[np.int64], int]:
    """Compare row by row and return the row ids that there are, and how many of them are pending."""
    existing, without = compare_rows(reader, snapshot, ledger, findings)
    if done is None:
        return existing, len(without)
    if num_moved := len(ledger.moved_to):
        first_ids = np.fromiter(ledger.moved_to, dtype=np.int64, count=num_moved)
        lost = first_ids[~np.isin(first_ids, ledger.index.row_ids)]
        without_first = (
            f"table {ledger.name}: has row {ledger.moved_to[row_id]} of {ledger.source} as moved from row {row_id}, "
            "which it lacks"
            for row_id in lost.tolist()
        )
        findings.add("missing", without_first, len(lost))
    missing = without[done.covers(without)]
    lacks = (
        f"table {ledger.name}: lacks {_rows_text(part)} of {ledger.source}, which the position covers"
        for part in as_ranges(missing)
    )
    findings.add("missing", lacks, len(missing))
    return existing, int((~done.covers(existing)).sum())


def _gone(ledger: AuditedLedger, existing: NDArray[np.int64], snapshot: Any | None) -> NDArray[np.bool_]:
    """Return for each ledger row whether the raw table has deleted its row, at whatever id that had last, (n,) bool."""
    current = ledger.index.row_ids.copy()
    if ledger.moved_to:
        moved = np.isin(current, np.fromiter(ledger.moved_to, dtype=np.int64))
        current[moved] = [ledger.moved_to[row_id] for row_id in current[moved].tolist()]
    # What came into the raw table after this look at it, the ledger may have already.
    end = 0 if snapshot is None else int(snapshot.next_row_id or 0)
    return np.asarray((current < end) & ~np.isin(current, existing), dtype=np.bool_)


def _count_repeated(ledger: AuditedLedger, findings: Findings) -> None:
    index = ledger.index
    pairs = np.stack((index.row_ids, index.runs.astype(np.int64)), axis=1)
    unique, counts = np.unique(pairs, axis=0, return_counts=True)
    repeated = (
        f"table {ledger.name}: has row {row_id} of {ledger.source} more than once for run {run}"
        for row_id, run in unique[counts > 1].tolist()
    )
    findings.add("duplicated", repeated, int((counts - 1).sum()))


@dataclass(frozen=True)
class _Gone:
    """Which ledger rows are of deleted rows, (n,) bool, and whether the consumer has looked for those already."""

    rows: NDArray[np.bool_]
    is_swept: bool


@dataclass(frozen=True)
class _ClipsCompared:
    """How many clips are retired, and how many rows have clips that the consumer is about to take out."""

    num_retired: int
    num_pending_rows: int


def _compare_clips(
    ledger: AuditedLedger, clips: AuditedClips, done: Done | None, gone: _Gone, findings: Findings
) -> _ClipsCompared:
    """Hold the ledger's kept clips against the curated table, both ways."""
    index, found = ledger.index, clips.own
    # The ledger is ahead of the curated table while a commit is between the two.
    is_done = np.ones(len(index.row_ids), dtype=np.bool_) if done is None else done.covers(index.row_ids)
    is_latest = index.latest()
    # A newer version of a video retires the clips of the older ones, at the latest when it is committed itself.
    is_newest = index.newest_versions()
    may_stand = is_latest & (index.newest_versions(is_done) | ~is_done)
    must_stand = is_latest & is_newest & is_done
    # Between the two publishes of a commit that takes clips out the ledger says so, and they still stand.
    is_written = np.zeros(len(index.row_ids), dtype=np.bool_)
    if done is not None:
        is_written = done.has_commit(index.row_ids, ledger.sequences)
    is_left = ~is_latest & np.isin(index.row_ids, index.row_ids[is_latest & ~is_written])
    is_standing = contained(index.clips, found)
    owners_standing = index.clip_owners[is_standing]
    claimed = np.unique(index.clips[(may_stand | is_left)[index.clip_owners]])
    is_lacking = must_stand[index.clip_owners] & ~is_standing
    lacking, places = np.unique(index.clips[is_lacking], return_index=True)
    owners = index.row_ids[index.clip_owners[is_lacking][places]].tolist()
    lacks = (
        f"table {clips.name}: lacks clip {_shown(digest)}, which {ledger.name} keeps of row {row_id} of {ledger.source}"
        for digest, row_id in zip(lacking, owners, strict=True)
    )
    findings.add("clips_missing", lacks, len(lacking))

    present, copies = np.unique(found, return_counts=True)
    twice = (f"table {clips.name}: has clip {_shown(digest)} more than once" for digest in present[copies > 1])
    findings.add("clips_duplicated", twice, int((copies - 1).sum()))
    shared = np.unique(clips.others[contained(clips.others, present)])
    also = (f"table {clips.name}: has clip {_shown(digest)} of another consumer, too" for digest in shared)
    findings.add("clips_duplicated", also, len(shared))
    strangers = present[~contained(present, claimed)]
    unclaimed = (f"table {clips.name}: has clip {_shown(d)}, which no row of {ledger.name} claims" for d in strangers)
    findings.add("unaccounted", unclaimed, len(strangers))
    is_of_gone = is_latest & gone.rows
    kept_of_gone = np.unique(index.row_ids[owners_standing[is_of_gone[owners_standing]]])
    left = np.unique(index.row_ids[owners_standing[is_left[owners_standing]]])
    if gone.is_swept:
        stands = (
            f"table {clips.name}: has clips of row {row_id} of {ledger.source}, which was deleted"
            for row_id in kept_of_gone.tolist()
        )
        findings.add("unaccounted", stands, int(is_of_gone[owners_standing].sum()))
    num_pending_rows = len(left) + (0 if gone.is_swept else len(kept_of_gone))
    return _ClipsCompared(int((is_latest & ~is_newest)[index.clip_owners].sum()), num_pending_rows)


def _rows_text(part: OffsetRange) -> str:
    return f"row {part.start}" if len(part) == 1 else f"rows {part.start} to {part.end - 1}"


def _shown(digest: bytes) -> str:
    return digest.ljust(16, b"\0").hex()
