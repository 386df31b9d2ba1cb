"""Which run of its row a result is, and whether it says anything that the ledger does not say yet."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from consumers.paimon.catalog import store_errors
from consumers.paimon.commit.recovery import LedgerEntry, Recovery
from consumers.paimon.commit.rows import kept_clip_ids
from consumers.paimon.commit.side import Side
from consumers.paimon.commit.versions import is_removed
from consumers.ports import CommitBatch
from schemas.records import ProcessedVideo, VideoStatus
from schemas.shards import WHOLE, owned_part


class Runs:
    """Knows what the ledger says of rows whose commit was cut in two, or that a person wants to see again.

    Args:
        ledger: as this incarnation sees it.
        curated: the same.
    """

    def __init__(self, ledger: Side, curated: Side) -> None:
        self._ledger = ledger
        self._curated = curated
        self._half_committed: dict[int, LedgerEntry] = {}
        self._replayable: dict[int, LedgerEntry] = {}

    def read(self, recovery: Recovery) -> None:
        """Read anew which rows the ledger has and the curated table does not cover.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        head = self._ledger.head()
        with store_errors("ledger"):
            self._half_committed = recovery.half_committed(head, self._curated.standing, self._ledger.standing)

    def to_write(self, videos: Sequence[ProcessedVideo], recovery: Recovery) -> list[tuple[ProcessedVideo, int]]:
        """Return those of ``videos`` of which the ledger does not say the same already, with the run of each.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        removed = [video.video.row_id for video in videos if is_removed(video)]
        entries = self._latest_entries(removed, recovery) if removed else {}
        return [(video, run) for video in videos if (run := self._run(video, entries)) is not None]

    def wrote(self, rows: Iterable[tuple[ProcessedVideo, int]]) -> None:
        """Note what the ledger says from now on."""
        for video, run in rows:
            entry = LedgerEntry(run, video.outcome.status.value, kept_clip_ids(video))
            self._half_committed[video.video.row_id] = entry

    def finished(self, batch: CommitBatch) -> None:
        """Note what the curated table covers from now on, and what it does no more."""
        for video in batch.videos:
            self._half_committed.pop(video.video.row_id, None)
        for row_id in owned_part(WHOLE, batch.replays.ranges()):
            self._half_committed[row_id] = self._replayable[row_id]

    def replayable(self, row_ids: Collection[int], recovery: Recovery) -> frozenset[int]:
        """Return which of ``row_ids``, of this shard, are finished and failed in the latest run.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        finished = [row_id for row_id in row_ids if self._curated.standing.covers(row_id)]
        entries = self._latest_entries(finished, recovery)
        self._replayable = {row_id: entry for row_id, entry in entries.items() if entry.status == VideoStatus.FAILED}
        return frozenset(self._replayable)

    def may_replay(self, row_ids: Iterable[int]) -> bool:
        """Return whether :meth:`replayable` has told all of ``row_ids`` last."""
        return all(row_id in self._replayable for row_id in row_ids)

    def _latest_entries(self, row_ids: Sequence[int], recovery: Recovery) -> dict[int, LedgerEntry]:
        head = self._ledger.head()
        with store_errors("ledger"):
            return recovery.latest_entries(head, row_ids)

    def _run(self, video: ProcessedVideo, removed: dict[int, LedgerEntry]) -> int | None:
        """Return the run number for a new ledger row, or None when the ledger has said the same already."""
        row_id = video.video.row_id
        if is_removed(video):
            # Taken out: one that was told and not yet committed is told again, perhaps within the same batch.
            known = removed.pop(row_id, None)
            return None if known is None or known.status == VideoStatus.RETIRED else known.run + 1
        if not self._ledger.standing.covers(row_id):
            return 1
        if self._curated.standing.covers(row_id):
            return None
        known = self._half_committed.get(row_id)
        if known is None:
            # The ledger's position covers it, but its row is gone or never was: an offset that held no row then.
            return 1
        if self._ledger.standing.replays.covers(row_id):
            return known.run + 1
        is_same = known.status == video.outcome.status.value and known.kept == kept_clip_ids(video)
        return None if is_same else known.run + 1
