"""What every commit says of its maker, and how the newest word of a consumer or a shard is found."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from consumers.errors import StopError
from consumers.paimon.commit.newest import NewestMarkers
from consumers.paimon.snapshots import read_snapshot, snapshot_time
from schemas.positions import Position
from schemas.shards import EVERYTHING, Shard, Share, bases_from_json, bases_to_json
from schemas.source_mark import SourceMark
from schemas.tables import (
    PROPERTY_BASES,
    PROPERTY_COMMIT_USER,
    PROPERTY_CONSUMER,
    PROPERTY_EPOCH,
    PROPERTY_POSITION,
    PROPERTY_REPLAYS,
    PROPERTY_SEQUENCE,
    PROPERTY_SHARD,
    PROPERTY_SOURCE,
    PROPERTY_SOURCE_MARK,
)

MAX_SNAPSHOTS_WALKED = 1000
"""Snapshot files read in search of a marker, before the rows are read instead."""

_ALL = "*/"
"""How the shard of a marker begins that divides the consumer anew: it stands for every shard."""


@dataclass(frozen=True, slots=True)
class Marker:
    """What a commit says of its maker: one incarnation, by its commit user. ``snapshot_id`` is 0 before publication.

    Attributes:
        share: of which shard it is, and what was finished under earlier divisions.
        is_division: it divides the consumer anew and is where every one of ``share.shard.count`` shards begins.
        replays: rows that a person wants to see processed once more: the ledger's position holds them still, the
            curated table's does not.
        mark: what the source was when it was last read; None where an earlier version wrote the marker.
        committed_at: when the snapshot was made.
    """

    consumer: str
    source: str
    epoch: int
    sequence: int
    position: Position
    commit_user: str
    snapshot_id: int = 0
    share: Share = EVERYTHING
    is_division: bool = False
    replays: Position = field(default_factory=Position)
    mark: SourceMark | None = None
    committed_at: datetime | None = field(default=None, compare=False)

    @property
    def shard(self) -> Shard:
        """The shard that made the commit; of a division, the first."""
        return self.share.shard

    def concerns(self, shard: Shard) -> bool:
        """Return whether it is of this very shard, or of a division without it."""
        return self.is_division or self.shard.count != shard.count or self.shard == shard

    def to_properties(self) -> dict[str, str]:
        """Return the snapshot properties that carry this marker."""
        properties = {
            PROPERTY_CONSUMER: self.consumer,
            PROPERTY_COMMIT_USER: self.commit_user,
            PROPERTY_SOURCE: self.source,
            PROPERTY_EPOCH: str(self.epoch),
            PROPERTY_SEQUENCE: str(self.sequence),
            PROPERTY_POSITION: self.position.to_json(),
            PROPERTY_SHARD: f"{_ALL}{self.shard.count}" if self.is_division else str(self.shard),
        }
        if self.share.bases:
            properties[PROPERTY_BASES] = bases_to_json(self.share.bases)
        if self.replays != Position():
            properties[PROPERTY_REPLAYS] = self.replays.to_json()
        if self.mark is not None:
            properties[PROPERTY_SOURCE_MARK] = self.mark.to_json()
        return properties

    @classmethod
    def of_snapshot(cls, snapshot: Any, consumer: str) -> Marker | None:
        """Return the marker of ``consumer`` in ``snapshot``, or None where it is somebody else's commit.

        So is a snapshot that another engine made and copied our properties into, as Java's ``compact_manifest`` does.

        Raises:
            StopError: the marker is there and cannot be read; going on could write rows twice.
        """
        properties = snapshot.properties or {}
        if properties.get(PROPERTY_CONSUMER) != consumer or not _is_by_its_writer(snapshot, properties):
            return None
        try:
            shard = properties.get(PROPERTY_SHARD, str(Shard()))
            return cls(
                consumer,
                properties[PROPERTY_SOURCE],
                int(properties[PROPERTY_EPOCH]),
                int(properties[PROPERTY_SEQUENCE]),
                Position.from_json(properties[PROPERTY_POSITION]),
                snapshot.commit_user,
                snapshot.id,
                Share(
                    Shard.parse(f"0/{shard.removeprefix(_ALL)}" if shard.startswith(_ALL) else shard),
                    bases_from_json(properties.get(PROPERTY_BASES, "[]")),
                ),
                shard.startswith(_ALL),
                Position.from_json(properties[PROPERTY_REPLAYS]) if PROPERTY_REPLAYS in properties else Position(),
                SourceMark.from_json(properties[PROPERTY_SOURCE_MARK]) if PROPERTY_SOURCE_MARK in properties else None,
                snapshot_time(snapshot),
            )
        except (KeyError, ValueError) as error:
            raise StopError(f"snapshot {snapshot.id}: the marker of consumer {consumer} is damaged: {error}") from error


def commit_user_of(consumer: str) -> str:
    """Return a new commit user for one incarnation of ``consumer``, or for one change made by a person."""
    return f"{_user_prefix(consumer)}{uuid.uuid4()}"


def _user_prefix(consumer: str) -> str:
    return f"sluice-{consumer}-"


def _is_by_its_writer(snapshot: Any, properties: Mapping[str, str]) -> bool:
    """Return whether the commit user that the marker in ``properties`` names made ``snapshot``, in that very commit."""
    user = properties.get(PROPERTY_COMMIT_USER)
    if user is None:
        # Earlier versions named none, but gave all of theirs one prefix.
        is_ours = str(snapshot.commit_user).startswith(_user_prefix(properties[PROPERTY_CONSUMER]))
        return is_ours and snapshot.commit_kind != "COMPACT"
    return bool(user == snapshot.commit_user and properties.get(PROPERTY_SEQUENCE) == str(snapshot.commit_identifier))


@dataclass(frozen=True, slots=True)
class Walk:
    """What a walk back through the snapshots found.

    Attributes:
        marker: the newest marker of the consumer, or None.
        is_complete: whether ``marker`` None means that there is none; False where snapshots have expired or the walk
            was cut short, so that one may have existed.
    """

    marker: Marker | None
    is_complete: bool


def newest_marker(
    manager: Any,
    consumer: str,
    latest: Any | None,
    stop_id: int,
    max_snapshots: int,
    is_wanted: Callable[[Marker], bool] = lambda marker: True,
    *,
    is_each: bool = False,
) -> Walk:
    """Go from ``latest`` back to ``stop_id`` (exclusive) and return the consumer's newest marker that is wanted.

    Reads at most ``max_snapshots`` snapshot files and stops at the first that has expired. A commit of ours says where
    the newest markers stand, so that mostly it takes two reads.

    Args:
        manager: the table's snapshot manager.
        consumer: whose marker.
        latest: the snapshot to begin with.
        stop_id: where to end.
        max_snapshots: so many are looked at.
        is_wanted: which marker; it has to want the newest of a shard if it wants an older one of it.
        is_each: look at each snapshot, whatever the commits say: for what must not depend on another writer's word, or
            wants an older marker than the newest.
    """
    for snapshot in _back(manager, consumer, latest, stop_id, max_snapshots, is_each=is_each):
        if snapshot is None:
            return Walk(None, is_complete=False)
        marker = Marker.of_snapshot(snapshot, consumer)
        if marker is not None and is_wanted(marker):
            return Walk(marker, is_complete=True)
    return Walk(None, is_complete=True)


def _back(
    manager: Any, consumer: str, latest: Any | None, stop_id: int, max_snapshots: int, *, is_each: bool = False
) -> Iterator[Any | None]:
    """Yield the snapshots that may hold a newest marker of ``consumer``, newest first; None where one may be missed."""
    newest = 0 if latest is None else latest.id
    for snapshot_id in range(newest, max(stop_id, newest - max_snapshots), -1):
        snapshot = latest if snapshot_id == newest else read_snapshot(manager, snapshot_id)
        yield snapshot
        if snapshot is None:
            return
        told = None if is_each else newest_told_by(snapshot)
        if told is None or not told.is_complete:
            continue
        for at in told.of(consumer):
            if at <= stop_id:
                break
            if at < snapshot_id:
                yield read_snapshot(manager, at)
        return
    if newest - max_snapshots > stop_id:
        yield None


def newest_told_by(snapshot: Any) -> NewestMarkers | None:
    """Return where the newest markers stand by what ``snapshot`` says; None where it is not ours, or old."""
    properties = snapshot.properties or {}
    if PROPERTY_CONSUMER not in properties or not _is_by_its_writer(snapshot, properties):
        return None
    return NewestMarkers.told_by(snapshot)


def newest_as_of(manager: Any, latest: Any | None, max_snapshots: int = MAX_SNAPSHOTS_WALKED) -> NewestMarkers:
    """Return where the newest markers stand as of ``latest``, for the commit that is made on top of it.

    Reads nothing where ``latest`` is a commit of ours; else back to the newest that is, which earlier versions may have
    made without a word of it: then at most ``max_snapshots``, once in a table's life.
    """
    newest = 0 if latest is None else latest.id
    made_before: list[Any] = []
    known = NewestMarkers(is_complete=newest <= max_snapshots)
    for snapshot_id in range(newest, max(0, newest - max_snapshots), -1):
        snapshot = latest if snapshot_id == newest else read_snapshot(manager, snapshot_id)
        if snapshot is None:
            known = NewestMarkers(is_complete=False)
            break
        told = newest_told_by(snapshot)
        if told is not None:
            known = told
            break
        properties = snapshot.properties or {}
        if PROPERTY_CONSUMER in properties and _is_by_its_writer(snapshot, properties):
            made_before.append(snapshot)
    for snapshot in reversed(made_before):
        known = known.after(snapshot)
    return known


@dataclass(frozen=True, slots=True)
class Division:
    """How a consumer is divided, by the snapshots of one table.

    Attributes:
        count: into how many shards.
        markers: for each shard its newest marker, by index; the division's own for one that has not committed since.
        newest: the newest marker of all.
        is_complete: whether a shard that is not in ``markers`` has never committed; False where that may have expired.
    """

    count: int
    markers: Mapping[int, Marker]
    newest: Marker
    is_complete: bool

    def shards(self, source: str | None = None) -> tuple[tuple[Share, Position], ...]:
        """Return share and position of each shard that has a marker, by index; of markers over ``source`` alone."""
        return tuple(
            (Share(Shard(index, self.count), marker.share.bases), marker.position)
            for index, marker in sorted(self.markers.items())
            if source in (None, marker.source)
        )


def newer_division(manager: Any, consumer: str, latest: Any, known: Division, seen_id: int) -> Division | None:
    """Return ``known``, which was read at snapshot ``seen_id``, as of ``latest``; None where it has to be read anew.

    Reads what was committed since, and of that mostly the newest marker of each shard alone.
    """
    markers: dict[int, Marker] = {}
    newest: Marker | None = None
    for snapshot in _back(manager, consumer, latest, seen_id, MAX_SNAPSHOTS_WALKED):
        if snapshot is None:
            return None
        marker = Marker.of_snapshot(snapshot, consumer)
        if marker is None:
            continue
        if marker.is_division or marker.shard.count != known.count or marker.source != known.newest.source:
            return None
        newest = newest or marker
        markers.setdefault(marker.shard.index, marker)
    return replace(known, markers={**known.markers, **markers}, newest=newest or known.newest)


def read_division(
    manager: Any, consumer: str, latest: Any | None, max_snapshots: int, wanted: int | None = None
) -> tuple[Division | None, bool]:
    """Go back from ``latest`` until every shard's newest marker is found, or that of shard number ``wanted``.

    Returns:
        The division, or None where there is no marker; and then whether there never was one.
    """
    markers: dict[int, Marker] = {}
    newest: Marker | None = None
    is_complete = True
    for snapshot in _back(manager, consumer, latest, 0, max_snapshots):
        if snapshot is None:
            is_complete = False
            break
        marker = Marker.of_snapshot(snapshot, consumer)
        if marker is None:
            continue
        newest = newest or marker
        if marker.shard.count != newest.shard.count:
            is_complete = True
            break
        if marker.is_division:
            markers = {**dict.fromkeys(range(marker.shard.count), marker), **markers}
        else:
            markers.setdefault(marker.shard.index, marker)
        if len(markers) == marker.shard.count or (wanted is not None and wanted in markers):
            break
    if newest is None:
        return None, is_complete
    return Division(newest.shard.count, markers, newest, is_complete), True
