"""Where a consumer stands: by its newest marker, or where that has expired by the rows it wrote. Never from hope."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from consumers.errors import ConfigurationError
from consumers.paimon.commit.ledger_index import LedgerIndex, as_ranges, contained, curated_digests, of_consumer
from consumers.paimon.commit.markers import MAX_SNAPSHOTS_WALKED, Marker, newest_marker, read_division
from consumers.paimon.scan import stream
from schemas.positions import OffsetRange, Position
from schemas.shards import EVERYTHING, WHOLE, Base, Shard, Share, owned_part
from schemas.source_mark import is_earlier_generation

_MAX_GAPS_IN_FILTER = 64


@dataclass(frozen=True, slots=True)
class Standing:
    """What one table says of a consumer. ``marker`` is None when the rows had to tell, or there is nothing."""

    position: Position = field(default_factory=Position)
    sequence: int = 0
    epoch: int = 0
    marker: Marker | None = None
    share: Share = EVERYTHING
    replays: Position = field(default_factory=Position)

    def covers(self, offset: int) -> bool:
        """Return whether ``offset`` is finished, by this shard or before the division changed."""
        return self.share.covers(self.position, offset)

    def reopened(self, asked: Position) -> Standing:
        """Return this standing with none of ``asked`` finished: they are to be processed once more."""
        rows = asked.ranges()
        if not rows:
            return self
        position = self.position.without(rows)
        replays = self.replays.union(rows).without(position.ranges())
        return replace(self, position=position, share=self.share.without(rows), replays=replays)


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """What the ledger's latest run says of a source row."""

    run: int
    status: str
    kept: frozenset[str]


@dataclass(frozen=True)
class Recovery:
    """Reads back what one shard of a consumer has written.

    Attributes:
        ledger: the pypaimon table.
        curated: the pypaimon table.
        consumer: whose trail.
        source: full name of the raw table that it tails.
        shard: which part of it.
        skipped: what a person has skipped, asked for where the rows have to tell.
    """

    ledger: Any
    curated: Any
    consumer: str
    source: str
    shard: Shard = WHOLE
    skipped: Callable[[], tuple[Base, ...]] = tuple

    def standing(self, ledger_head: Any | None, curated_head: Any | None) -> tuple[Standing, Standing]:
        """Return what ledger and curated table say as of the given snapshots.

        Raises:
            ConfigurationError: the consumer has tailed another source so far, or is divided into other shards; or the
                ledger was set back behind the curated table.
        """
        is_ledger_known, ledger = self._marker(self.ledger, ledger_head)
        is_curated_known, curated = self._marker(self.curated, curated_head)
        if is_ledger_known and curated is not None:
            self._check_order(ledger, curated, ledger_head)
        by_rows = None
        if not (is_ledger_known and is_curated_known):
            by_rows = self.reconcile(ledger_head, curated_head)
        return self._standing(ledger, by_rows and by_rows[0]), self._standing(curated, by_rows and by_rows[1])

    def _check_order(self, ledger: Marker | None, curated: Marker, ledger_head: Any | None) -> None:
        """Check that the ledger has every commit that the curated table has, as it is written first.

        Raises:
            ConfigurationError: it was set back.
        """
        known = 0 if ledger is None else ledger.sequence
        if curated.sequence <= known or curated.is_division or (ledger is not None and ledger.is_division):
            # A division of a table whose markers had expired goes by the rows, which do not tell every number.
            return
        manager = self.curated.snapshot_manager()
        walk = newest_marker(
            manager,
            self.consumer,
            manager.get_latest_snapshot(),
            0,
            MAX_SNAPSHOTS_WALKED,
            lambda marker: marker.concerns(self.shard) and marker.sequence <= known,
            is_each=True,
        )
        names = [table.identifier.get_full_name() for table in (self.ledger, self.curated)]
        if walk.marker is None:
            advice = f"no snapshot of {names[1]} that is left goes with it: restore the ledger from a tag or a backup"
        else:
            advice = (
                f"set {names[1]} back, too, to its snapshot {walk.marker.snapshot_id} (rollback_to): what came after "
                "it is processed again; or restore the ledger from a tag or a backup"
            )
        raise ConfigurationError(
            f"table {names[0]} was set back: its newest snapshot {0 if ledger_head is None else ledger_head.id} knows "
            f"consumer {self.consumer}'s commits up to {known}, but snapshot {curated.snapshot_id} of {names[1]} holds "
            f"commit {curated.sequence}; {advice}"
        )

    def _marker(self, table: Any, head: Any | None) -> tuple[bool, Marker | None]:
        division, is_known = read_division(
            table.snapshot_manager(), self.consumer, head, MAX_SNAPSHOTS_WALKED, self.shard.index
        )
        if division is None:
            return is_known, None
        if is_earlier_generation(division.newest.source, self.source):
            return True, self._begun_anew(division.newest)
        if division.newest.source != self.source:
            raise ConfigurationError(
                f"consumer {self.consumer} has tailed table {division.newest.source} so far; give the one on table "
                f"{self.source} another name"
            )
        if division.count != self.shard.count:
            raise ConfigurationError(
                f"consumer {self.consumer}: {self.shard} is not one of its shards: table "
                f"{table.identifier.get_full_name()} has {division.count}; start it with one of these (0/"
                f"{division.count} and so on), or change their number with `sluice rescale {self.shard.count}`"
            )
        marker = division.markers.get(self.shard.index)
        if marker is not None and is_earlier_generation(marker.source, self.source):
            marker = self._begun_anew(marker)
        return marker is not None or division.is_complete, marker

    def _begun_anew(self, marker: Marker) -> Marker:
        """Return ``marker``, of another table of the source's name, as that of a consumer that has read nothing."""
        return Marker(
            self.consumer,
            self.source,
            marker.epoch,
            marker.sequence,
            Position(),
            marker.commit_user,
            marker.snapshot_id,
            Share(self.shard),
        )

    def _standing(self, marker: Marker | None, by_rows: Standing | None) -> Standing:
        if marker is None:
            return by_rows or Standing(share=Share(self.shard))
        return standing_of(marker, self.shard)

    def reconcile(self, ledger_head: Any | None, curated_head: Any | None) -> tuple[Standing, Standing]:
        """Return what the rows say.

        The ledger covers its rows. The curated table covers those of them whose kept clips it holds all, and no clip of
        an older version; and those that a newer version has superseded. Offsets that hold no row are in no table; they
        are read again and skipped again, or lie below the watermark that the rows of a source with gaps record, or were
        skipped by a person, which no row tells.
        """
        index = LedgerIndex.read(self.ledger, ledger_head, self.consumer, self.source)
        # A consumer that is new, or has kept no clip, has none in the curated table to look for.
        head = curated_head if len(index.clips) else None
        present = contained(index.clips, curated_digests(self.curated, head, self.consumer, self.source))
        is_latest, is_newest = index.latest(), index.newest_versions()
        is_lacking, is_standing = (np.zeros(len(index.row_ids), dtype=np.bool_) for _ in range(2))
        is_lacking[index.clip_owners[~present]] = True
        is_standing[index.clip_owners[present]] = True
        is_untouched = is_newest & np.isin(index.keys, index.keys[is_standing & ~is_newest]) & (index.keys != b"")
        # A superseded run's clips were never meant to stand in the curated table.
        is_covered = is_latest & (~is_newest | ~(is_lacking | is_untouched))
        open_rows = index.row_ids[is_latest & ~is_covered]
        ledgered, curated = (
            Standing(self._filled(rows, index.max_watermark, without), index.max_sequence, index.max_epoch)
            for rows, without in ((index.row_ids, open_rows[:0]), (index.row_ids[is_covered], open_rows))
        )
        return self._with_skipped(ledgered, []), self._with_skipped(curated, as_ranges(np.sort(open_rows)))

    def _with_skipped(self, standing: Standing, open_rows: Iterable[OffsetRange]) -> Standing:
        unfinished = list(open_rows)
        bases = [Base(base.shard, base.position.without(unfinished)) for base in self.skipped()]
        mine = (part for base in bases if base.shard == self.shard for part in base.position.ranges())
        others = tuple(base for base in bases if base.shard != self.shard)
        return replace(standing, position=standing.position.union(mine), share=Share(self.shard, others))

    def _filled(self, row_ids: NDArray[np.int64], watermark: int, without: NDArray[np.int64]) -> Position:
        own = row_ids[row_ids % self.shard.count == self.shard.index]
        position = self.shard.fill(as_ranges(own // self.shard.count))
        if watermark:
            position = position.with_range(OffsetRange(0, watermark)).without(as_ranges(without))
        return position

    def latest_entries(self, head: Any | None, row_ids: Sequence[int]) -> dict[int, LedgerEntry]:
        """Return, by row id, the ledger's latest entry of each of ``row_ids`` that it has."""
        if not row_ids:
            return {}

        def among(builder: Any) -> Any:
            mine = of_consumer(self.consumer, self.source)(builder)
            return builder.and_predicates([mine, builder.is_in("source_row_id", list(row_ids))])

        entries: dict[int, LedgerEntry] = {}
        for batch in stream(self.ledger, ("source_row_id", "run", "status", "clips"), head, among):
            for row in batch.to_pylist():
                if row["run"] > (entries[row["source_row_id"]].run if row["source_row_id"] in entries else 0):
                    entries[row["source_row_id"]] = _entry(row)
        return entries

    def half_committed(self, head: Any | None, curated: Standing, ledgered: Standing) -> dict[int, LedgerEntry]:
        """Return, by row id, the ledger's latest entry of each row that ``ledgered`` covers and ``curated`` does not.

        These are this shard's rows of a commit that a crash cut in two: as many as one batch holds, and those that are
        to be processed once more.
        """
        end = max((ledgered.position.end, *(base.position.end for base in ledgered.share.bases)))
        gaps = list(curated.position.missing(end))
        if not gaps:
            return {}
        if len(gaps) > _MAX_GAPS_IN_FILTER:
            gaps = [OffsetRange(gaps[0].start, gaps[-1].end)]

        def in_gaps(builder: Any) -> Any:
            # A row that is replayed lies far below the others: files between them are passed over.
            parts = [builder.between("source_row_id", gap.start, gap.end - 1) for gap in gaps]
            where = parts[0] if len(parts) == 1 else builder.or_predicates(parts)
            return builder.and_predicates([of_consumer(self.consumer, self.source)(builder), where])

        entries: dict[int, LedgerEntry] = {}
        for batch in stream(self.ledger, ("source_row_id", "run", "status", "clips"), head, in_gaps):
            for row in batch.to_pylist():
                row_id = row["source_row_id"]
                if not self.shard.owns(row_id) or curated.covers(row_id):
                    continue
                if row_id in entries and entries[row_id].run >= row["run"]:
                    continue
                entries[row_id] = _entry(row)
        return entries


def _entry(row: Mapping[str, Any]) -> LedgerEntry:
    kept = frozenset(clip["clip_id"] for clip in row["clips"] or () if clip["kept"])
    return LedgerEntry(row["run"], row["status"], kept)


def standing_of(marker: Marker, shard: Shard) -> Standing:
    """Return what ``marker``, one of ``shard`` or of the division that made it, says of it."""
    replays = Position.from_ranges(
        OffsetRange(row_id, row_id + 1) for row_id in owned_part(shard, marker.replays.ranges())
    )
    share = Share(shard, marker.share.bases)
    return Standing(marker.position, marker.sequence, marker.epoch, marker, share, replays)
