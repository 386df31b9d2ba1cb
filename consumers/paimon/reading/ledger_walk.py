"""Through the ledger from the highest source row id down, at the cost of the files that are looked at.

The ledger's files are in the order of commits, which is about that of source rows, and carry the lowest and highest
value of each column. So a page of the newest dead letters reads the newest files that have any, however long the ledger
is. Files without such statistics are read as a whole, all at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from consumers.paimon.catalog import store_errors
from schemas.positions import OffsetRange

_KEY = "source_row_id"
_END = 2**63 - 1
# A window is made of whole files, of at least so many of them or so many rows.
_FILES, _ROWS = 8, 20_000

Condition = Callable[[Any], list[Any]]
"""Makes predicates from a predicate builder; all of them have to hold."""


def newest_windows(
    ledger: Any, snapshot: Any | None, columns: Sequence[str], where: Condition, before: int = _END
) -> Iterator[tuple[OffsetRange, list[dict[str, Any]]]]:
    """Yield windows of source row ids, the highest first, each with the latest run of its source rows.

    Args:
        ledger: the pypaimon table.
        snapshot: which state of it; None is an empty one.
        columns: what is read; ``source_row_id`` and ``run`` among them.
        where: which rows. It must let through every run that may supersede one that is asked for.
        before: only source rows below this one.

    Yields:
        The window and its rows, the highest row id first. Nothing that is asked for lies between windows.

    Raises:
        StoreUnavailableError: the store did not answer.
    """
    if snapshot is None:
        return
    pinned = ledger.copy({"scan.snapshot-id": str(snapshot.id)})

    def plan(window: OffsetRange) -> tuple[Any, Any]:
        builder = pinned.new_read_builder()
        predicates = builder.new_predicate_builder()
        bounds = [predicates.greater_or_equal(_KEY, window.start), predicates.less_than(_KEY, window.end)]
        builder = builder.with_projection(list(columns))
        builder = builder.with_filter(predicates.and_predicates([*where(predicates), *bounds]))
        return builder, builder.new_scan()

    with store_errors("ledger"):
        _, scan = plan(OffsetRange(0, max(before, 1)))
        files = [(*_span(scan.file_scanner, entry), entry) for entry in _entries(scan.file_scanner)]
    for window in ledger_windows([(low, high, entry.file.row_count) for low, high, entry in files], before):
        with store_errors("ledger"):
            builder, scan = plan(window)
            held = [entry for low, high, entry in files if low < window.end and high >= window.start]
            scan.file_scanner.plan_files = lambda held=held: held
            splits = scan.plan().splits()
            batches = builder.new_read().to_arrow_batch_reader(splits) if splits else ()
            rows = _latest(row for batch in batches for row in batch.to_pylist())
        yield window, rows


def ledger_windows(files: Sequence[tuple[int, int, int]], before: int) -> Iterator[OffsetRange]:
    """Yield ranges of source rows, the highest first, that together hold every file's; no file reaches out of its own.

    Args:
        files: lowest and highest source row of each file, and its number of rows.
        before: only source rows below this one.
    """
    waiting = sorted(files, key=lambda file: file[1])
    while waiting and before > 0:
        low, _, num_rows = waiting.pop()
        num_files = 1
        # Files that overlap the window belong to it, and further ones until it is worth a read.
        while waiting and (waiting[-1][1] >= low or (num_files < _FILES and num_rows < _ROWS)):
            next_low, _, more = waiting.pop()
            low, num_rows, num_files = min(low, next_low), num_rows + more, num_files + 1
        if low < before:
            yield OffsetRange(low, before)
            before = low


def _entries(scanner: Any) -> list[Any]:
    manifests, scanner._scanned_snapshot = scanner.manifest_scanner()
    return list(scanner.read_manifest_entries(manifests, keep_stats=True)) if manifests else []


def _span(scanner: Any, entry: Any) -> tuple[int, int]:
    """Return the lowest and highest source row of a file; everything where it does not tell."""
    file = entry.file
    columns = file.write_cols if file.value_stats_cols is None else file.value_stats_cols
    if columns is not None and _KEY not in columns:
        return 0, _END
    found = scanner.simple_stats_evolutions.get_or_create(file.schema_id).evolution(
        file.value_stats, file.row_count, columns
    )
    index = [field.name for field in scanner.table.fields].index(_KEY)
    low, high = found.min_values.get_field(index), found.max_values.get_field(index)
    return (0, _END) if low is None or high is None else (int(low), int(high))


def _latest(rows: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    newest: dict[int, Mapping[str, Any]] = {}
    for row in rows:
        known = newest.get(row[_KEY])
        if known is None or known["run"] < row["run"]:
            newest[row[_KEY]] = row
    return [dict(newest[row_id]) for row_id in sorted(newest, reverse=True)]
