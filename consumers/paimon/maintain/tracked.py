"""A row-tracked table kept in order without changing a row id: small files become few, deleted bytes go.

Ordinary columns of neighbouring row ids become one file as the ledger's do, and their small BLOB files with them. A
file with deleted rows is written anew without them (:mod:`consumers.paimon.maintain.rewriting`) where somebody asks
for it, or where they are deleted in the oldest snapshot already; one in which no row is left goes altogether.

Each result is a snapshot of its own, of kind COMPACT, without a marker. A row that is deleted while its file is being
written anew makes that in vain: it is left to the next round.
"""

from __future__ import annotations

import logging
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from consumers.errors import SluiceError
from consumers.paimon.commit.table_committer import TableCommitter
from consumers.paimon.maintain.compaction import PROPERTIES, Compacted, entries_of, exchange
from consumers.paimon.maintain.deletions import Bucket, BucketDeletions, Deletions
from consumers.paimon.maintain.rewriting import Rewriter, Rewritten
from consumers.paimon.maintain.row_groups import MOST_ROWS, RowGroup, neighbours, parts_due, row_groups
from consumers.paimon.scan import ROW_ID
from consumers.paimon.snapshots import earliest_snapshot_id, read_snapshot

logger = logging.getLogger(__name__)

_MOST_TRIES = 20
# Of ordinary columns. Thumbnails are among them, and one of a small file is found faster.
_MOST_BYTES = 16 * 1024**2

IsUrgent = Callable[[Mapping[str, Any]], bool]
"""Asked of a deleted row that still has its bytes, by the columns that were named for it."""


class OvertakenError(SluiceError):
    """A row was deleted from a file while it was written anew; nothing was published."""


class _StaleVectorsError(SluiceError):
    """The deletion vectors of other files of the bucket have been written anew meanwhile."""


@dataclass(frozen=True, slots=True)
class Purged:
    """Deleted rows whose bytes have left the newest snapshot, or would; files of how many bytes that leaves behind."""

    num_rows: int = 0
    num_bytes: int = 0

    def __add__(self, other: Purged) -> Purged:
        return Purged(self.num_rows + other.num_rows, self.num_bytes + other.num_bytes)


@dataclass(frozen=True, slots=True)
class TrackedReport:
    """What was done, or would be: files that became fewer, rows whose bytes went."""

    compacted: Compacted = field(default_factory=Compacted)
    purged: Purged = field(default_factory=Purged)

    def __add__(self, other: TrackedReport) -> TrackedReport:
        return TrackedReport(self.compacted + other.compacted, self.purged + other.purged)


@dataclass(frozen=True, slots=True)
class _Work:
    """Groups of one bucket that are written anew together, or go; and rows in them that lose their bytes by it."""

    bucket: Bucket
    groups: tuple[RowGroup, ...]
    num_purged: int

    @property
    def is_drop(self) -> bool:
        return all(group.is_dead for group in self.groups)


class TrackedCompaction:
    """Compacts and purges one row-tracked table with data evolution, as the curated table is.

    Args:
        table: the pypaimon table.
        key: a text column that no row leaves empty; in rows without bytes it is.
        columns: what ``is_urgent`` is told of a row.
        is_urgent: whether a deleted row has to lose its bytes now.
        most_rows: a file with so many rows is full.
    """

    def __init__(
        self,
        table: Any,
        key: str,
        columns: Sequence[str] = (),
        is_urgent: IsUrgent = lambda row: False,
        most_rows: int = MOST_ROWS,
    ) -> None:
        self._table = table
        self._key = key
        self._columns = columns
        self._is_urgent = is_urgent
        self._most_rows = most_rows
        self._deletions = Deletions(table)
        self._rewriter = Rewriter(table)

    def run(self, *, dry: bool = False, is_stopped: Callable[[], bool] = lambda: False) -> TrackedReport:
        """Write anew what is due.

        Args:
            dry: change nothing; the report says what would be done.
            is_stopped: asked between any two files.

        Raises:
            UnknownLayoutError: the table holds files of a kind that is not known; it is left as it is.
            Exception: whatever the store raises, or another engine has compacted the same files; nothing is lost.
        """
        total = TrackedReport()
        head = self._table.snapshot_manager().get_latest_snapshot()
        if head is None:
            return total
        deletions = self._deletions.read(head)
        works = self._due(head, deletions)
        if dry:
            return sum((self._foretold(work) for work in works), total)
        for work in works:
            if is_stopped():
                break
            try:
                total += self._carry_out(work, deletions.get(work.bucket, BucketDeletions()))
            except OvertakenError as error:
                logger.debug("table %s: %s", self._table.identifier.get_full_name(), error)
        return total

    def with_bytes(self, snapshot: Any) -> Iterator[dict[str, Any]]:
        """Yield the deleted rows that have their bytes in ``snapshot`` still."""
        deletions = self._deletions.read(snapshot)
        for _, groups in self._groups(snapshot, deletions) if deletions else ():
            for group in groups:
                if group.dead:
                    yield from self._with_bytes(group)

    def _groups(
        self, snapshot: Any, deletions: Mapping[Bucket, BucketDeletions]
    ) -> Iterator[tuple[Bucket, list[RowGroup]]]:
        buckets: defaultdict[Bucket, list[Any]] = defaultdict(list)
        for entry in entries_of(self._table, snapshot):
            buckets[tuple(entry.partition.values), entry.bucket].append(entry)
        for bucket, entries in sorted(buckets.items(), key=lambda item: str(item[0])):
            yield bucket, row_groups(entries, deletions.get(bucket, BucketDeletions()).positions)

    def _due(self, head: Any, deletions: Mapping[Bucket, BucketDeletions]) -> list[_Work]:
        works: list[_Work] = []
        long_dead = self._long_dead(head) if deletions else {}
        for bucket, groups in self._groups(head, deletions):
            merged: set[str] = set()
            # Those in which no row is left, too: without them there would be a gap between the others for good.
            for stretch in neighbours(groups):
                sizes = [(len(group.rows), group.num_bytes) for group in stretch]
                for part in parts_due(sizes, self._most_rows, _MOST_BYTES):
                    chosen = tuple(stretch[at] for at in part)
                    merged |= {group.anchor for group in chosen}
                    num_purged = sum(len(self._with_bytes(group)) for group in chosen if group.dead)
                    works.append(_Work(bucket, chosen, num_purged))
            for group in groups:
                if group.dead and group.anchor not in merged:
                    num_purged = self._num_to_purge(group, long_dead.get(bucket, {}))
                    if num_purged:
                        works.append(_Work(bucket, (group,), num_purged))
        return works

    def _num_to_purge(self, group: RowGroup, long_dead: Mapping[str, frozenset[int]]) -> int:
        """Return how many rows of ``group`` lose their bytes now; none unless one of them is due."""
        rows = self._with_bytes(group)
        old = {group.rows.start + position for position in long_dead.get(group.anchor, ())}
        is_due = any(row[ROW_ID] in old or self._is_urgent(row) for row in rows)
        return len(rows) if is_due else 0

    def _with_bytes(self, group: RowGroup) -> list[dict[str, Any]]:
        """Return the deleted rows of ``group`` that have their bytes."""
        read = self._rewriter.read([group], [self._key, *self._columns])
        dead = [read.slice(position, 1).to_pylist()[0] for position in sorted(group.dead)]
        return [row for row in dead if row[self._key] != ""]

    def _long_dead(self, head: Any) -> dict[Bucket, dict[str, frozenset[int]]]:
        """Return the deleted rows of the oldest snapshot: it is as old as snapshots are kept."""
        manager = self._table.snapshot_manager()
        oldest = read_snapshot(manager, earliest_snapshot_id(manager)) or head
        return {bucket: dict(found.positions) for bucket, found in self._deletions.read(oldest).items()}

    def _foretold(self, work: _Work) -> TrackedReport:
        packs = [] if work.is_drop else self._rewriter.blob_packs(work.groups)
        gone = [entry for group in work.groups for entry in (group.entries if work.is_drop else group.data)]
        gone += [entry for pack in packs for entry in pack]
        return _report(work, gone, 0 if work.is_drop else 1 + len(packs))

    def _carry_out(self, work: _Work, known: BucketDeletions) -> TrackedReport:
        if work.is_drop:
            entries = tuple(entry for group in work.groups for entry in group.entries)
            rewritten = Rewritten(entries, (), {})
        else:
            rewritten = self._rewriter.rewrite(work.groups)
        self._publish(work, rewritten, known)
        return _report(work, rewritten.before, len(rewritten.after))

    def _publish(self, work: _Work, rewritten: Rewritten, known: BucketDeletions) -> None:
        anchors = {group.anchor: len(group.dead) for group in work.groups}
        entries = exchange(rewritten.before, rewritten.after)
        has_vectors = any(anchors.values())
        for identifier in range(1, _MOST_TRIES + 1):
            deletes: list[Any] = []
            adds: list[Any] = []
            if has_vectors:
                deletes, adds = self._deletions.exchange(work.bucket, known, anchors, rewritten.dead)
            expected = {entry.index_file.file_name for entry in deletes}

            def check(manager: Any, latest: Any | None, expected: set[str] = expected) -> None:
                names, counts = self._deletions.noted(latest, work.bucket)
                if any(counts.get(name, 0) != count for name, count in anchors.items()):
                    raise OvertakenError
                if not expected <= names:
                    raise _StaleVectorsError

            committer = TableCommitter(self._table, f"sluice-maintenance-{uuid.uuid4()}", check)
            try:
                committer.replace(entries, identifier, PROPERTIES, index_adds=adds, index_deletes=deletes)
            except _StaleVectorsError:
                head = self._table.snapshot_manager().get_latest_snapshot()
                known = self._deletions.read(head).get(work.bucket, BucketDeletions())
                continue
            finally:
                committer.close()
            return
        raise OvertakenError


def _report(work: _Work, gone: Sequence[Any], num_after: int) -> TrackedReport:
    num_bytes = sum(int(entry.file.file_size) for entry in gone)
    purged = Purged(work.num_purged, num_bytes if work.num_purged else 0)
    return TrackedReport(Compacted(len(gone), num_after, num_bytes), purged)
