"""Changing the number of shards of a consumer, while they run or not.

The new division is one empty commit to each table, ledger first, that carries what every old shard had finished there
and at once fences all of them. An old shard caught between its two commits leaves rows in the ledger without clips in
the curated table; whichever new shard owns such a row finds it so, as after a crash.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from consumers.errors import ConfigurationError, FencedError, StopError
from consumers.paimon.catalog import CatalogConfig, load_table, open_catalog, store_errors
from consumers.paimon.commit.fence import Fence
from consumers.paimon.commit.generation import SourceName, newest_mark
from consumers.paimon.commit.markers import (
    MAX_SNAPSHOTS_WALKED,
    Division,
    Marker,
    commit_user_of,
    newest_marker,
    read_division,
)
from consumers.paimon.commit.recovery import Recovery, Standing, standing_of
from consumers.paimon.commit.skips import Skips
from consumers.paimon.commit.table_committer import TableCommitter
from consumers.paimon.commit.takedown import TakedownStore
from consumers.paimon.tables import TableNames
from schemas.positions import Position
from schemas.shards import WHOLE, Shard, Share, rebased
from schemas.source_mark import generation_of

_MAX_ROUNDS = 100


@dataclass(frozen=True, slots=True)
class RescaleReport:
    """What a rescale did. ``watermark`` is where every new shard begins to look for rows that are left."""

    before: int
    after: int
    watermark: int
    has_changed: bool


@dataclass(frozen=True, slots=True)
class _Old:
    """Every shard of the division so far, as one table tells."""

    count: int
    standings: tuple[Standing, ...]


class Rescaler:
    """Divides one consumer anew.

    Args:
        config: the catalog.
        names: the tables.
        consumer: the consumer's name.

    Raises:
        ConfigurationError: a table is missing, or its storage has no safe way to publish.
        StoreUnavailableError: the store did not answer.
    """

    def __init__(self, config: CatalogConfig, names: TableNames, consumer: str) -> None:
        self._consumer = consumer
        catalog = open_catalog(config)
        self._ledger = load_table(catalog, config, names.ledger)
        self._curated = load_table(catalog, config, names.curated)
        self._skips = Skips(TakedownStore(config, names.control))
        self._name = SourceName(self._ledger, self._curated, consumer, f"{config.database}.{names.raw}")

    @property
    def _source(self) -> str:
        return self._name.now()

    def counts(self) -> tuple[int | None, int | None]:
        """Return the number of shards by ledger and curated table; None where no marker is left, or never was one.

        They differ where a rescale was cut off in between.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        with store_errors(f"consumer {self._consumer}"):
            return self._count(self._ledger), self._count(self._curated)

    def rescale(self, count: int) -> RescaleReport:
        """Divide the consumer into ``count`` shards. Shards of the old division stop at their next commit.

        Cut off in between it leaves a consumer that no shard can start; the same call again completes it.

        Raises:
            ConfigurationError: the number is out of range, or the consumer has never run or tailed another source.
            StopError: the consumer commits so often that no moment for the change was found.
            StoreUnavailableError: the store did not answer; call again.
        """
        try:
            first = Shard(0, count)
        except ValueError as error:
            raise ConfigurationError(f"rescale: {error}") from error
        with store_errors(f"consumer {self._consumer}"):
            before, curated = (self._division(table, _head(table)) for table in (self._ledger, self._curated))
            known = {division.count for division in (before, curated) if division is not None}
            if not known and self._by_rows(self._ledger, WHOLE).epoch == 0:
                raise ConfigurationError(
                    f"consumer {self._consumer} has never run; start its shards with `sluice run --shard 0/{count}` "
                    "and so on"
                )
            if before is not None and curated is not None and known == {count}:
                # A table without a marker may get one of the old division yet, by a copy that is starting.
                watermark = min(marker.position.watermark for marker in curated.markers.values())
                return RescaleReport(count, count, watermark, has_changed=False)
            self._divide(self._ledger, first)
            old_count, watermark = self._divide(self._curated, first)
        return RescaleReport(old_count, count, watermark, has_changed=True)

    def _count(self, table: Any) -> int | None:
        walk = newest_marker(table.snapshot_manager(), self._consumer, _head(table), 0, MAX_SNAPSHOTS_WALKED)
        return None if walk.marker is None else walk.marker.shard.count

    def _divide(self, table: Any, first: Shard) -> tuple[int, int]:
        """Publish the new division to ``table``; return the old number of shards there and the new watermark."""
        for _ in range(_MAX_ROUNDS):
            head = _head(table)
            old = self._old(table, head)
            floor, bases = rebased((standing.share, standing.position) for standing in old.standings)
            user = commit_user_of(self._consumer)
            marker = Marker(
                self._consumer,
                self._source,
                epoch=max(standing.epoch for standing in old.standings) + 1,
                sequence=max(standing.sequence for standing in old.standings),
                position=floor,
                commit_user=user,
                share=Share(first, bases),
                is_division=True,
                replays=Position.from_ranges(part for each in old.standings for part in each.replays.ranges()),
                mark=newest_mark([each.marker.mark for each in old.standings if each.marker is not None]),
            )
            fence = Fence(self._consumer, user, table.identifier.get_full_name(), None)
            fence.seen(head)
            committer = TableCommitter(table, user, fence.check)
            try:
                committer.publish([], marker.sequence, marker.to_properties())
            except FencedError:
                # A shard has committed since its position was read.
                continue
            finally:
                committer.close()
            return old.count, floor.watermark
        raise StopError(
            f"consumer {self._consumer}: commits so often that no moment to rescale was found in {_MAX_ROUNDS} tries; "
            "pause it, then rescale"
        )

    def _old(self, table: Any, head: Any | None) -> _Old:
        division = self._division(table, head)
        count = 1 if division is None else division.count
        source = self._source
        standings: list[Standing] = []
        for index in range(count):
            shard = Shard(index, count)
            marker = None if division is None else division.markers.get(index)
            if marker is not None and marker.source != source:
                # It has not begun yet with the table that was accepted in the place of its own.
                standings.append(Standing(Position(), marker.sequence, marker.epoch, share=Share(shard)))
            elif marker is not None:
                standings.append(standing_of(marker, shard))
            elif division is not None and division.is_complete:
                standings.append(Standing(share=Share(shard)))
            else:
                standings.append(self._by_rows(table, shard))
        return _Old(count, tuple(standings))

    def _by_rows(self, table: Any, shard: Shard) -> Standing:
        """Return what the rows say of a shard whose marker has expired."""
        source = self._source
        skipped = partial(self._skips.of, self._consumer, source)
        recovery = Recovery(self._ledger, self._curated, self._consumer, source, shard, skipped)
        by_ledger, by_curated = recovery.reconcile(_head(self._ledger), _head(self._curated))
        return by_ledger if table is self._ledger else by_curated

    def _division(self, table: Any, head: Any | None) -> Division | None:
        division, _ = read_division(table.snapshot_manager(), self._consumer, head, MAX_SNAPSHOTS_WALKED)
        if division is not None and generation_of(division.newest.source, self._name.raw_name) is None:
            raise ConfigurationError(
                f"consumer {self._consumer} tails table {division.newest.source}, not {self._name.raw_name}; name the "
                "right table or the right consumer in the settings"
            )
        return division


def _head(table: Any) -> Any | None:
    return table.snapshot_manager().get_latest_snapshot()
