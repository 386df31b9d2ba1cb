"""Takedowns by a person: which videos may have no clip, now and from now on.

A takedown is a row of the control table, written once and never changed. Each consumer, or each shard of one, obeys it
when it next opens its tables: rows of the video that the ledger has get a further run, ``retired``, without clips, and
then the clips go. A second row says that this shard has done so. Whatever instant it dies at, it finds the first row
without the second, and does again what is not done yet: both are derived from the ledger and the curated table.

From then on every result is held against the tombstones, which are in memory, some 60 bytes each: a late one, a
replayed one, or one of another row of the same object is written down as retired.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from consumers.errors import ConfigurationError
from consumers.media.allow_list import file_uri, local_path
from consumers.paimon.catalog import CatalogConfig, load_table, open_catalog, store_errors
from consumers.paimon.commit.ledger_index import digests, of_consumer
from consumers.paimon.commit.table_committer import TableCommitter
from consumers.paimon.scan import stream
from consumers.paimon.tables import check_table
from schemas.records import BlobReference, ProcessedVideo, RawVideo, RowKind, VideoOutcome, VideoStatus
from schemas.shards import Shard
from schemas.tables import CONTROL

_TAKEDOWN, _DONE = "takedown", "takedown_done"
_PROPERTY = "sluice.control"
_MATCH_COLUMNS = (
    "source_row_id",
    "source_snapshot_id",
    "source_committed_at",
    "source_key",
    "row_kind",
    "run",
    "status",
    "video_id",
    "source_uri",
    "source_offset_bytes",
    "source_length_bytes",
)


@dataclass(frozen=True, slots=True)
class Takedown:
    """What a person took down: every row of one of these ids, objects or parts of objects, in every consumer.

    Attributes:
        takedown_id: unique, and sorted by time.
        target: what was asked for, as it was typed.
        actor: who asked.
        origin: from where.
        at: when.
        reason: why, in the actor's words.
        video_ids: ids of videos.
        uris: objects, with every part of them.
        parts: parts of objects.
    """

    takedown_id: str
    target: str
    actor: str
    origin: str
    at: datetime
    reason: str | None = None
    video_ids: tuple[str, ...] = ()
    uris: tuple[str, ...] = ()
    parts: tuple[BlobReference, ...] = ()

    def to_json(self) -> str:
        """Return the form stored beside actor, reason and time."""
        parts = [[part.uri, part.offset_bytes, part.length_bytes] for part in self.parts]
        return json.dumps(
            {
                "target": self.target,
                "origin": self.origin,
                "video_ids": self.video_ids,
                "uris": self.uris,
                "parts": parts,
            }
        )

    @classmethod
    def from_json(cls, takedown_id: str, text: str, actor: str, reason: str | None, at: datetime) -> Takedown:
        """Read what :meth:`to_json` wrote.

        Raises:
            ConfigurationError: ``text`` is something else.
        """
        try:
            raw: Any = json.loads(text)
            parts = tuple(BlobReference(str(uri), int(offset), int(length)) for uri, offset, length in raw["parts"])
            return cls(
                takedown_id,
                str(raw["target"]),
                actor,
                str(raw["origin"]),
                at,
                reason,
                tuple(map(str, raw["video_ids"])),
                tuple(map(str, raw["uris"])),
                parts,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigurationError(f"takedown {takedown_id} of the control table is damaged: {error}") from error

    def names(self) -> Iterator[str]:
        """Yield what it is found by."""
        yield from (f"video:{video_id}" for video_id in self.video_ids)
        yield from (f"uri:{_canonical(uri)}" for uri in self.uris)
        yield from map(_part_key, self.parts)

    def predicate(self, builder: Any) -> Any:
        """Return the filter for rows of ledger or curated table that it may mean; :class:`Tombstones` say which."""
        uris = sorted({spelt for uri in (*self.uris, *(p.uri for p in self.parts)) for spelt in spellings_of(uri)})
        either = [builder.is_in("video_id", list(self.video_ids))] if self.video_ids else []
        either += [builder.is_in("source_uri", uris)] if uris else []
        return either[0] if len(either) == 1 else builder.or_predicates(either)


def new_takedown(target: str, actor: str, origin: str, at: datetime, reason: str | None, **what: Any) -> Takedown:
    """Return a takedown with an id of its own; ``what`` are its ids, objects and parts."""
    takedown_id = f"{at:%Y%m%dT%H%M%S.%f}Z-{uuid.uuid4().hex[:8]}"
    return Takedown(takedown_id, target, actor, origin, at, reason, **what)


@dataclass(frozen=True, slots=True)
class Obeyed:
    """What one shard of one consumer did for a takedown.

    ``ledger_snapshot_id`` and ``curated_snapshot_id`` are those in which nothing of the video stood any more.
    """

    takedown_id: str
    consumer: str
    shard: str
    num_rows: int
    num_clips: int
    ledger_snapshot_id: int
    curated_snapshot_id: int
    at: datetime

    def to_json(self) -> str:
        """Return the form stored beside the time."""
        return json.dumps(
            {
                "num_rows": self.num_rows,
                "num_clips": self.num_clips,
                "ledger_snapshot_id": self.ledger_snapshot_id,
                "curated_snapshot_id": self.curated_snapshot_id,
            }
        )


class TakedownStore:
    """The takedowns of one control table.

    Args:
        config: the catalog.
        table: name of the control table.

    Raises:
        ConfigurationError: the table is missing or does not fit.
        StoreUnavailableError: the store did not answer.
    """

    def __init__(self, config: CatalogConfig, table: str) -> None:
        self._name = f"table {config.database}.{table}"
        self._table = load_table(open_catalog(config), config, table)
        check_table(self._table, CONTROL)

    def read(self) -> list[Takedown]:
        """Return all takedowns, the oldest first.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        found = (
            Takedown.from_json(row["key"], row["value"], row["actor"], row["reason"], row["at"])
            for row in self.rows(_TAKEDOWN)
        )
        return sorted(found, key=lambda takedown: takedown.takedown_id)

    def obeyed(self) -> list[Obeyed]:
        """Return what was done for them, by whom.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        found = []
        for row in self.rows(_DONE):
            takedown_id, consumer, shard = row["key"].split(" ")
            found.append(Obeyed(takedown_id, consumer, shard, at=row["at"], **json.loads(row["value"])))
        return found

    def of_shard(self, consumer: str, shard: str) -> tuple[Tombstones, list[Takedown]]:
        """Return the tombstones of all takedowns, and the takedowns that this shard has not obeyed yet.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        takedowns = self.read()
        if not takedowns:
            return Tombstones(), []
        done = {each.takedown_id for each in self.obeyed() if (each.consumer, each.shard) == (consumer, shard)}
        return Tombstones.of(takedowns), [each for each in takedowns if each.takedown_id not in done]

    def add(self, takedown: Takedown) -> None:
        """Store a takedown; durable when this returns, and harmless to repeat.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        self.write(_TAKEDOWN, takedown.takedown_id, takedown.to_json(), takedown.actor, takedown.reason, takedown.at)

    def note(self, obeyed: Obeyed) -> None:
        """Store that a shard has done it; harmless to repeat.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        key = f"{obeyed.takedown_id} {obeyed.consumer} {obeyed.shard}"
        self.write(_DONE, key, obeyed.to_json(), obeyed.consumer, None, obeyed.at)

    def write(self, kind: str, key: str, value: str, actor: str, reason: str | None, at: datetime) -> None:
        """Store a row; durable when this returns, and harmless to repeat.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        row = {"kind": kind, "key": key, "value": value, "actor": actor, "reason": reason, "at": at}
        # Every writer may commit: a row is written by one process, and again only with more in it.
        committer = TableCommitter(self._table, f"sluice-takedown-{uuid.uuid4()}", lambda manager, latest: None)
        try:
            with store_errors(self._name):
                messages = committer.write(pa.Table.from_pylist([row], schema=CONTROL.schema), 1)
                committer.publish(messages, 1, {_PROPERTY: kind})
        finally:
            committer.close()

    def rows(self, kind: str) -> list[dict[str, Any]]:
        """Return the rows of one kind, times with their zone.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        with store_errors(self._name):
            latest = self._table.snapshot_manager().get_latest_snapshot()
            columns = ("kind", "key", "value", "actor", "reason", "at")
            batches = stream(self._table, columns, latest, lambda builder: builder.equal("kind", kind))
            return [{**row, "at": _utc(row["at"])} for batch in batches for row in batch.to_pylist()]


@dataclass(frozen=True)
class Tombstones:
    """What no clip may be of: some 60 bytes of memory for each id, object or part that was taken down."""

    digests: frozenset[bytes] = field(default_factory=frozenset)

    @classmethod
    def of(cls, takedowns: Iterable[Takedown]) -> Tombstones:
        """Return those of all ``takedowns``."""
        return cls(frozenset(_digest(key) for takedown in takedowns for key in takedown.names()))

    def cover(self, video_id: str, blob: BlobReference | None) -> bool:
        """Return whether a video of this id, or of these bytes, was taken down."""
        if not self.digests:
            return False
        keys = [f"video:{video_id}"]
        if blob is not None:
            keys += [f"uri:{_canonical(blob.uri)}", _part_key(blob)]
        return any(_digest(key) in self.digests for key in keys)

    def respected(self, processed: ProcessedVideo) -> ProcessedVideo:
        """Return ``processed`` as it is, or as a retirement where it was taken down."""
        if not self.cover(processed.video.video_id, processed.video.blob):
            return processed
        return replace(processed, outcome=VideoOutcome(is_takedown=True))


@dataclass(frozen=True, slots=True)
class Match:
    """A source row of a video that was taken down, as the ledger's latest run tells it."""

    video: RawVideo
    run: int
    status: str


def matching(
    ledger: Any, head: Any | None, takedown: Takedown, consumer: str, source: str, shard: Shard
) -> list[Match]:
    """Return the source rows of a shard that ``takedown`` means, each with its latest run, by the ledger at ``head``.

    Files without any of them are passed over by their statistics.
    """
    tombstones = Tombstones.of([takedown])

    def of_video(builder: Any) -> Any:
        return builder.and_predicates([of_consumer(consumer, source)(builder), takedown.predicate(builder)])

    latest: dict[int, Match] = {}
    for batch in stream(ledger, _MATCH_COLUMNS, head, of_video):
        for row in batch.to_pylist():
            video = _video(row, source)
            known = latest.get(video.row_id)
            if not shard.owns(video.row_id) or not tombstones.cover(video.video_id, video.blob):
                continue
            if known is None or known.run < row["run"]:
                latest[video.row_id] = Match(video, row["run"], row["status"])
    return [latest[row_id] for row_id in sorted(latest)]


def retirements(matches: Sequence[Match], at: datetime) -> list[tuple[ProcessedVideo, int]]:
    """Return a further run, without clips, for each of ``matches`` that does not say so yet."""
    return [
        (ProcessedVideo(match.video, VideoOutcome(is_takedown=True), 0, at), match.run + 1)
        for match in matches
        if match.status != VideoStatus.RETIRED
    ]


def _video(row: Mapping[str, Any], source: str) -> RawVideo:
    uri = row["source_uri"]
    blob = None if uri is None else BlobReference(uri, row["source_offset_bytes"], row["source_length_bytes"])
    return RawVideo(
        row_id=row["source_row_id"],
        snapshot_id=row["source_snapshot_id"],
        committed_at=_utc(row["source_committed_at"]),
        source_table=source,
        video_id=row["video_id"],
        blob=blob,
        row_kind=RowKind(row["row_kind"]),
        key=row["source_key"],
    )


def _canonical(uri: str) -> str:
    path = local_path(uri)
    if path is not None:
        return file_uri(path)
    scheme, _, rest = uri.partition("://")
    return f"{'s3' if scheme in {'s3a', 's3n'} else scheme}://{rest}"


def spellings_of(uri: str) -> set[str]:
    """Return how the ledger may spell what ``uri`` names."""
    path, canonical = local_path(uri), _canonical(uri)
    others = {str(path), f"file:{path}"} if path is not None else set()
    if canonical.startswith("s3://"):
        others = {f"{scheme}{canonical.removeprefix('s3')}" for scheme in ("s3a", "s3n")}
    return {uri, canonical, *others}


def _part_key(part: BlobReference) -> str:
    return f"part:{_canonical(part.uri)}\x1f{part.offset_bytes}\x1f{part.length_bytes}"


def _digest(key: str) -> bytes:
    return bytes(digests([key])[0])


def _utc(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
