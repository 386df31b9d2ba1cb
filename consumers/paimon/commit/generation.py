"""Which table of its name a consumer reads: the first, or one that was accepted in its place.

The generation is part of the source's name in markers and rows (:func:`~schemas.source_mark.generation_of`), so that
recovery, audit and look-ups, which go by that name, never mix rows of two tables whose row ids are the same. A consumer
that begins with the next generation finds no position under its name, and so begins with the first row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow.compute as pc

from consumers.paimon.catalog import CatalogConfig, load_table, open_catalog, store_errors
from consumers.paimon.commit.ledger_index import of_consumer
from consumers.paimon.commit.markers import MAX_SNAPSHOTS_WALKED, newest_marker
from consumers.paimon.scan import stream
from consumers.paimon.tables import TableNames
from schemas.source_mark import UNKNOWN, SourceMark, generation_of, source_of_generation

_ROW_COLUMNS = ("source_row_id", "source_watermark", "source_snapshot_id", "source_committed_at")


def current_source(tables: Sequence[tuple[Any, Any | None]], consumer: str, raw_name: str) -> str:
    """Return the name under which ``consumer`` reads the table ``raw_name`` now.

    Args:
        tables: the ledger and the curated table, each with the snapshot as of which it is asked.
        consumer: the consumer's name.
        raw_name: the raw table's own full name.
    """
    newest = 1
    is_known = True
    for table, head in tables:
        walk = newest_marker(table.snapshot_manager(), consumer, head, 0, MAX_SNAPSHOTS_WALKED)
        is_known = is_known and walk.is_complete
        if walk.marker is not None:
            newest = max(newest, generation_of(walk.marker.source, raw_name) or 1)
    if not is_known:
        newest = max(newest, _by_rows(*tables[0], consumer, raw_name))
    return source_of_generation(raw_name, newest)


def _by_rows(ledger: Any, head: Any | None, consumer: str, raw_name: str) -> int:
    sources: set[str] = set()
    for batch in stream(ledger, ("source_table",), head, lambda builder: builder.equal("consumer", consumer)):
        sources.update(pc.unique(batch.column("source_table")).to_pylist())
    return max((generation_of(source, raw_name) or 1 for source in sources), default=1)


def mark_of_rows(ledger: Any, head: Any | None, consumer: str, source: str) -> SourceMark | None:
    """Return what the ledger's rows tell of the source that they are of, where no marker does; None without rows.

    Of a source with row ids, up to where it has given them; of one that is read change by change, when its newest
    snapshot with rows was committed.
    """
    end = newest_id = committed_at_ms = 0
    for batch in stream(ledger, _ROW_COLUMNS, head, of_consumer(consumer, source)):
        if batch.num_rows == 0:
            continue
        end = max(end, pc.max(batch.column("source_row_id")).as_py() + 1)
        told = batch.filter(pc.is_valid(batch.column("source_watermark"))).to_pylist()
        for row in told:
            if row["source_snapshot_id"] > newest_id:
                newest_id = row["source_snapshot_id"]
                committed_at_ms = round(row["source_committed_at"].timestamp() * 1000)
    if newest_id:
        return SourceMark(UNKNOWN, newest_id, UNKNOWN, 0, committed_at_ms)
    return SourceMark(UNKNOWN, 0, UNKNOWN, end, 0) if end else None


def newest_mark(marks: Sequence[SourceMark | None]) -> SourceMark | None:
    """Return of the marks of several commits over one source the one that was made last; None where there is none.

    Rows that are gone were looked for only up to where every one of them says so.
    """
    newest = max((mark for mark in marks if mark is not None), key=lambda mark: mark.snapshot_id, default=None)
    swept_id = min((0 if mark is None else mark.swept_id for mark in marks), default=0)
    return newest and replace(newest, swept_id=swept_id)


@dataclass(frozen=True)
class SourceName:
    """The name under which a consumer reads its raw table, asked for anew each time.

    Attributes:
        ledger: the pypaimon table.
        curated: the pypaimon table.
        consumer: the consumer's name.
        raw_name: the raw table's own full name.
    """

    ledger: Any
    curated: Any
    consumer: str
    raw_name: str

    def now(self) -> str:
        """Return the name: two metadata reads, where the consumer's newest commit is the tables' newest.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        with store_errors(f"consumer {self.consumer}"):
            tables = [(table, table.snapshot_manager().get_latest_snapshot()) for table in (self.ledger, self.curated)]
            return current_source(tables, self.consumer, self.raw_name)


def remembered(config: CatalogConfig, names: TableNames, consumer: str) -> tuple[str, SourceMark | None]:
    """Return the name under which ``consumer`` reads its raw table, and what it remembers of it.

    Raises:
        ConfigurationError: a table is missing.
        StoreUnavailableError: the store did not answer.
    """
    catalog = open_catalog(config)
    raw_name = f"{config.database}.{names.raw}"
    with store_errors(f"consumer {consumer}"):
        tables = [
            (table, table.snapshot_manager().get_latest_snapshot())
            for table in (load_table(catalog, config, name) for name in (names.ledger, names.curated))
        ]
        source = current_source(tables, consumer, raw_name)
        walks = [
            newest_marker(table.snapshot_manager(), consumer, head, 0, MAX_SNAPSHOTS_WALKED) for table, head in tables
        ]
        markers = [walk.marker for walk in walks if walk.marker is not None and walk.marker.source == source]
        mark = newest_mark([marker.mark for marker in markers])
        if mark is None and (markers or not all(walk.is_complete for walk in walks)):
            mark = mark_of_rows(*tables[0], consumer, source)
        return source, mark
