"""Following up takedowns until their bytes are off the store: out of the files, then out of the snapshots.

Nothing here deletes: files are written anew (:mod:`consumers.paimon.maintain.tracked`), snapshots expire with what only
they used, leftovers are swept. Here it is found out how far that is, and noted, once for each takedown.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from consumers.paimon.commit.purge_notes import PurgeNote, PurgeNotes
from consumers.paimon.commit.takedown import Obeyed, Takedown, TakedownStore, Tombstones
from consumers.paimon.maintain.orphans import Orphans
from consumers.paimon.maintain.table_files import TableFiles
from consumers.paimon.maintain.tracked import TrackedCompaction
from consumers.paimon.scan import stream
from consumers.paimon.snapshots import earliest_snapshot_id
from schemas.records import BlobReference

logger = logging.getLogger(__name__)

CLIP_KEY = "clip_id"
"""A column of the curated table that is empty in no clip."""
_WHAT = ("video_id", "source_uri", "source_offset_bytes", "source_length_bytes")


@dataclass(frozen=True, slots=True)
class PurgeReport:
    """Takedowns whose bytes are not off the store yet, and those of them that should be, by id."""

    waiting: tuple[str, ...] = ()
    overdue: tuple[str, ...] = ()


@dataclass(frozen=True)
class Purge:
    """The takedowns of which bytes are left, as of the beginning of a round.

    Attributes:
        curated: the pypaimon table.
        notes: where it is noted how far they are.
        takedowns: those that are not done with.
        obeyed: what consumers have done, by takedown.
        known: what is noted of them.
    """

    curated: Any
    notes: PurgeNotes
    takedowns: Sequence[Takedown]
    obeyed: Mapping[str, Sequence[Obeyed]] = field(default_factory=dict)
    known: Mapping[str, PurgeNote] = field(default_factory=dict)

    @classmethod
    def read(cls, curated: Any, store: TakedownStore) -> Purge:
        """Return what is left to do.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        notes = PurgeNotes(store)
        known = notes.read()
        obeyed: dict[str, list[Obeyed]] = {}
        takedowns = store.read()
        for each in store.obeyed() if takedowns else ():
            obeyed.setdefault(each.takedown_id, []).append(each)
        left = [
            takedown
            for takedown in takedowns
            if not _is_done(known.get(takedown.takedown_id), obeyed.get(takedown.takedown_id, ()))
        ]
        return cls(curated, notes, left, obeyed, known)

    @property
    def expire_before(self) -> int:
        """Snapshots before this one hold bytes of takedowns, however few snapshots there are; 0 where none does."""
        return max((note.curated_snapshot_id for note in self._notes().values()), default=0)

    def compaction(self) -> TrackedCompaction:
        """Return what writes the curated table's files anew, those with bytes of takedowns first of all."""
        tombstones = Tombstones.of(self.takedowns)
        return TrackedCompaction(self.curated, CLIP_KEY, _WHAT, lambda row: _covers(tombstones, row))

    def note_rewritten(self, compaction: TrackedCompaction, now: datetime) -> Purge:
        """Note the takedowns of which no file of the newest snapshot has bytes any more; return what is left to do.

        Raises:
            Exception: whatever the store raises.
        """
        open_ = [each for each in self.takedowns if each.takedown_id not in self._notes() and self._is_obeyed(each)]
        head = self.curated.snapshot_manager().get_latest_snapshot()
        if not open_ or head is None:
            return self
        rows = [*compaction.with_bytes(head), *self._standing(head, open_)]
        known = dict(self.known)
        for takedown in open_:
            tombstones = Tombstones.of([takedown])
            if any(_covers(tombstones, row) for row in rows):
                continue
            note = PurgeNote(takedown.takedown_id, int(head.id), now)
            self.notes.write(note, now)
            known[takedown.takedown_id] = note
            logger.info("takedown %s: no file of the newest snapshot has bytes of it", takedown.takedown_id)
        return Purge(self.curated, self.notes, self.takedowns, self.obeyed, known)

    def note_gone(self, now: datetime) -> Purge:
        """Note the takedowns whose bytes are off the store; return what is left to do.

        Raises:
            Exception: whatever the store raises.
        """
        files = TableFiles(self.curated)
        notes = self._notes()
        if not notes:
            return self
        oldest = min([earliest_snapshot_id(files.manager), *(int(each.id) for each in files.tagged().values())])
        gone = set()
        for note in sorted(notes.values(), key=lambda note: note.rewritten_at):
            if note.curated_snapshot_id > oldest:
                continue
            # What an expiry that was cut off has left, a sweep takes when it is a day old.
            if Orphans(self.curated).find_data(note.rewritten_at) != []:
                break
            self.notes.write(note.gone(now), now)
            gone.add(note.takedown_id)
            logger.info("takedown %s: its bytes are off the store", note.takedown_id)
        left = [each for each in self.takedowns if each.takedown_id not in gone]
        return Purge(self.curated, self.notes, left, self.obeyed, self.known)

    def report(self, within: timedelta, now: datetime) -> PurgeReport:
        """Return what is left, and which of it should not be: asked for longer ago than ``within``."""
        overdue = [each.takedown_id for each in self.takedowns if now - each.at > within]
        return PurgeReport(tuple(each.takedown_id for each in self.takedowns), tuple(overdue))

    def _notes(self) -> dict[str, PurgeNote]:
        """Return what holds of the takedowns that are left."""
        return {
            takedown_id: note
            for takedown_id in (each.takedown_id for each in self.takedowns)
            if (note := self.known.get(takedown_id)) is not None and note.holds_for(self.obeyed.get(takedown_id, ()))
        }

    def _is_obeyed(self, takedown: Takedown) -> bool:
        return bool(self.obeyed.get(takedown.takedown_id))

    def _standing(self, head: Any, takedowns: Sequence[Takedown]) -> list[dict[str, Any]]:
        """Return clips that stand, of consumers that have not obeyed yet."""

        def of_any(builder: Any) -> Any:
            predicates = [takedown.predicate(builder) for takedown in takedowns]
            return predicates[0] if len(predicates) == 1 else builder.or_predicates(predicates)

        return [row for batch in stream(self.curated, _WHAT, head, of_any) for row in batch.to_pylist()]


def _is_done(note: PurgeNote | None, obeyed: Collection[Obeyed]) -> bool:
    return note is not None and note.gone_at is not None and note.holds_for(obeyed)


def _covers(tombstones: Tombstones, row: Mapping[str, Any]) -> bool:
    uri = row["source_uri"]
    blob = None if uri is None else BlobReference(uri, row["source_offset_bytes"], row["source_length_bytes"])
    return tombstones.cover(row["video_id"], blob)
