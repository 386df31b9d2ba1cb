"""What a takedown means, before it is made, and what has become of it after: its certificate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from consumers.paimon.catalog import CatalogConfig, load_table, open_catalog, store_errors
from consumers.paimon.commit.purge_notes import PurgeNote, PurgeNotes
from consumers.paimon.commit.takedown import Obeyed, Takedown, TakedownStore, Tombstones, spellings_of
from consumers.paimon.scan import stream
from consumers.paimon.snapshots import read_snapshot
from consumers.paimon.tables import TableNames
from schemas.records import WHOLE_OBJECT, BlobReference

_WHAT = ("video_id", "source_uri", "source_offset_bytes", "source_length_bytes")


class TargetKind(StrEnum):
    """How a person names a video."""

    VIDEO_ID = "video_id"
    URI = "uri"
    ROW = "row"


@dataclass(frozen=True, slots=True)
class Meaning:
    """Which videos are meant; ``num_known`` rows of the ledger are of them, of all consumers."""

    video_ids: tuple[str, ...]
    uris: tuple[str, ...]
    parts: tuple[BlobReference, ...]
    num_known: int


@dataclass(frozen=True, slots=True)
class Certificate:
    """What was taken down, by whom, and how far that is done.

    Attributes:
        takedown: what was asked for.
        obeyed: what each consumer, or shard of one, has done.
        clips_standing: clips of it in the curated table now, of all consumers.
        has_old_snapshots: whether a snapshot is retained from before its clips went, through which they can be read.
        due_at: when their bytes are to be off the store; None where another engine maintains the tables.
        rewritten_at: since when no file of the newest snapshot holds them; None while one does, or may.
        gone_at: since when no file of the store holds them, those of older snapshots included; None while one may.
    """

    takedown: Takedown
    obeyed: tuple[Obeyed, ...]
    clips_standing: int
    has_old_snapshots: bool
    due_at: datetime | None = None
    rewritten_at: datetime | None = None
    gone_at: datetime | None = None

    def is_overdue(self, now: datetime) -> bool:
        """Return whether its bytes should be off the store, and are not known to be."""
        return self.due_at is not None and self.gone_at is None and now > self.due_at


class TakedownReader:
    """Looks takedowns up in the tables of one database.

    Args:
        config: the catalog.
        names: the tables.
        purge_within: how long after a takedown its bytes may be on the store; None where nobody here sees to it.

    Raises:
        ConfigurationError: a table is missing.
        StoreUnavailableError: the store did not answer.
    """

    def __init__(self, config: CatalogConfig, names: TableNames, purge_within: timedelta | None = None) -> None:
        catalog = open_catalog(config)
        self._ledger = load_table(catalog, config, names.ledger)
        self._curated = load_table(catalog, config, names.curated)
        self._store = TakedownStore(config, names.control)
        self._notes = PurgeNotes(self._store)
        self._purge_within = purge_within

    def meaning(self, kind: TargetKind, value: str, row: tuple[str, BlobReference | None] | None = None) -> Meaning:
        """Return which videos are meant: those named, and every row of the same object.

        Args:
            kind: how they are named.
            value: the name.
            row: id and reference of a row that the ledger does not have yet.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        column, wanted = {
            TargetKind.VIDEO_ID: ("video_id", [value]),
            TargetKind.URI: ("source_uri", sorted(spellings_of(value))),
            TargetKind.ROW: ("source_row_id", [int(value)] if kind is TargetKind.ROW else []),
        }[kind]
        found = self._rows(self._ledger, _WHAT, lambda builder: builder.is_in(column, wanted))
        ids = {str(each["video_id"]) for each in found} if kind is not TargetKind.URI else set()
        blobs = {_blob(each) for each in found} | ({row[1]} if row is not None else set())
        if row is not None:
            ids.add(row[0])
        if kind is TargetKind.VIDEO_ID:
            ids.add(value)
        uris = {blob.uri for blob in blobs if blob is not None and _is_whole(blob)}
        parts = {blob for blob in blobs if blob is not None and not _is_whole(blob)}
        if kind is TargetKind.URI:
            uris, parts = {value}, set()
        in_order = sorted(parts, key=lambda part: (part.uri, part.offset_bytes, part.length_bytes))
        return Meaning(tuple(sorted(ids)), tuple(sorted(uris)), tuple(in_order), len(found))

    def certificates(self, takedown_id: str | None = None) -> list[Certificate]:
        """Return the certificate of one takedown, or of all, the newest first.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        obeyed, notes = self._store.obeyed(), self._notes.read()
        return [
            self._certificate(
                takedown,
                tuple(each for each in obeyed if each.takedown_id == takedown.takedown_id),
                notes.get(takedown.takedown_id),
            )
            for takedown in reversed(self._store.read())
            if takedown_id in (None, takedown.takedown_id)
        ]

    def _certificate(self, takedown: Takedown, obeyed: tuple[Obeyed, ...], note: PurgeNote | None) -> Certificate:
        tombstones = Tombstones.of([takedown])
        rows = self._rows(self._curated, _WHAT, takedown.predicate)
        standing = sum(tombstones.cover(row["video_id"], _blob(row)) for row in rows)
        manager = self._curated.snapshot_manager()
        with store_errors("curated table"):
            # Snapshots expire from the oldest on.
            has_old = any(
                each.num_clips > 0 and read_snapshot(manager, each.curated_snapshot_id - 1) is not None
                for each in obeyed
            )
        due_at = None if self._purge_within is None else takedown.at + self._purge_within
        if note is None or standing or not note.holds_for(obeyed):
            return Certificate(takedown, obeyed, standing, has_old, due_at)
        return Certificate(takedown, obeyed, standing, has_old, due_at, note.rewritten_at, note.gone_at)

    def _rows(self, table: Any, columns: tuple[str, ...], predicate: Callable[[Any], Any]) -> list[dict[str, Any]]:
        with store_errors("ledger and curated tables"):
            head = table.snapshot_manager().get_latest_snapshot()
            return [row for batch in stream(table, columns, head, predicate) for row in batch.to_pylist()]


def _blob(row: dict[str, Any]) -> BlobReference | None:
    uri = row["source_uri"]
    return None if uri is None else BlobReference(uri, row["source_offset_bytes"], row["source_length_bytes"])


def _is_whole(blob: BlobReference) -> bool:
    return blob.offset_bytes == 0 and blob.length_bytes == WHOLE_OBJECT
