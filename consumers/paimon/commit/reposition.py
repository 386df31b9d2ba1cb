"""Moving a consumer's position by hand: reading rows again, or leaving rows out.

A row is read again by taking it out of the curated table's position; the ledger's position keeps it. The sink takes
such a row for one that a crash left half committed, and by the ledger's marker it knows that a person asked for it: the
outcome becomes a new run in the ledger, even if it is the same again. Rows with clips in the curated table are never
taken out, so no clip can stand there twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from consumers.errors import FencedError
from consumers.paimon.catalog import CatalogConfig, load_table, open_catalog, store_errors
from consumers.paimon.commit.fence import Fence
from consumers.paimon.commit.generation import SourceName, newest_mark
from consumers.paimon.commit.ledger_index import LedgerIndex, as_ranges
from consumers.paimon.commit.markers import Marker, commit_user_of
from consumers.paimon.commit.recovery import Recovery, Standing
from consumers.paimon.commit.skips import Skips
from consumers.paimon.commit.table_committer import TableCommitter
from consumers.paimon.commit.takedown import TakedownStore
from consumers.paimon.tables import TableNames
from schemas.positions import OffsetRange, Position
from schemas.shards import WHOLE, Base, Shard, Share, owned_part


@dataclass(frozen=True, slots=True)
class Move:
    """A change of position, planned and not made.

    Attributes:
        current: what is committed.
        sequence: number of the last commit; with ``epoch`` it says what the plan was made from.
        epoch: of that commit.
        proposed: what is committed after the change.
        share: of which shard, and what it has from earlier divisions after the change.
        read_again: which rows are read again.
        num_read_again: rows that are read again.
        num_left_done: rows that would be read again, and are not because clips of theirs are in the curated table.
        num_skipped: offsets that are never read.
        done_below: everything below it is done by this change; 0 where it moves single rows.
    """

    current: Position
    sequence: int
    epoch: int
    proposed: Position
    share: Share
    read_again: Position
    num_read_again: int
    num_left_done: int
    num_skipped: int
    done_below: int = 0


class Repositioner:
    """Plans and makes changes of the position of one consumer, or of one shard of it, while no copy of it runs.

    A copy that runs nevertheless is fenced by the change.

    Args:
        config: the catalog.
        names: the tables.
        consumer: the consumer's name.
        shard: whose position; rows of other shards are left alone.

    Raises:
        ConfigurationError: a table is missing, or its storage has no safe way to publish.
        StoreUnavailableError: the store did not answer.
    """

    def __init__(self, config: CatalogConfig, names: TableNames, consumer: str, shard: Shard = WHOLE) -> None:
        self._consumer = consumer
        self._shard = shard
        catalog = open_catalog(config)
        self._ledger = load_table(catalog, config, names.ledger)
        self._curated = load_table(catalog, config, names.curated)
        self._skips = Skips(TakedownStore(config, names.control))
        self._name = SourceName(self._ledger, self._curated, consumer, f"{config.database}.{names.raw}")

    @property
    def _source(self) -> str:
        return self._name.now()

    @property
    def _recovery(self) -> Recovery:
        source = self._source
        skipped = partial(self._skips.of, self._consumer, source)
        return Recovery(self._ledger, self._curated, self._consumer, source, self._shard, skipped)

    def to_offset(self, offset: int) -> Move:
        """Plan that everything below ``offset`` is done and everything from there on is not.

        A row of the ledger that changes the curated table, and has not yet because a crash has cut its commit in two,
        is finished and not left out.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        # Where they stand goes first: what comes into the ledger until it is read is then told by its number.
        curated, sequence, epoch = self._standing()
        index = self._index()
        # A row with a key may be what takes older clips out.
        begun = np.union1d(index.row_ids[index.clip_owners], index.row_ids[index.keys != b""])
        begun = begun[begun >= curated.position.watermark]
        # Whether another shard has finished its own is nothing to this one.
        begun = begun[begun % self._shard.count == self._shard.index]
        skipped = Position.from_ranges(curated.position.missing(offset)).without(as_ranges(begun)).ranges()
        move = self._plan(curated, sequence, epoch, skipped, index, index.row_ids[index.row_ids >= offset])
        return replace(move, done_below=offset)

    def again(self, row_ids: Sequence[int]) -> Move:
        """Plan that the rows of ``row_ids`` that are done are read again.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        standing = self._standing()
        index = self._index()
        wanted = index.row_ids[np.isin(index.row_ids, np.asarray(row_ids, dtype=np.int64))]
        return self._plan(*standing, [], index, wanted)

    def current(self) -> tuple[Position, int, int]:
        """Return position, sequence and epoch of the last commit.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        curated, sequence, epoch = self._standing()
        return curated.position, sequence, epoch

    def _standing(self) -> tuple[Standing, int, int]:
        with store_errors(f"position of {self._consumer}"):
            ledger, curated = self._recovery.standing(*self._heads())
        return curated, max(ledger.sequence, curated.sequence), max(ledger.epoch, curated.epoch)

    def _heads(self) -> tuple[Any | None, Any | None]:
        # The ledger is written first and read last: what is committed in between cannot make it look set back.
        curated, ledger = (table.snapshot_manager().get_latest_snapshot() for table in (self._curated, self._ledger))
        return ledger, curated

    def make(self, move: Move) -> None:
        """Make a planned change, unless anything was committed since it was planned.

        A skip is noted in the control table, too, where it outlives the markers. Cut off before that it holds all the
        same, for as long as these are there; planned and made again it is noted, and nothing else is done.

        Raises:
            FencedError: the consumer has committed since; plan again.
            StoreUnavailableError: the store did not answer; look at the position before trying again.
        """
        if move.proposed != move.current or move.num_read_again:
            self._publish(move)
        if move.done_below:
            # Last: what was noted and not made would leave rows out.
            self._skips.note(self._consumer, self._shard, self._source, move.done_below)

    def _publish(self, move: Move) -> None:
        user = commit_user_of(self._consumer)
        with store_errors(f"position of {self._consumer}"):
            heads = self._heads()
            ledger, curated = self._recovery.standing(*heads)
            if (curated.position, max(ledger.sequence, curated.sequence)) != (move.current, move.sequence):
                raise FencedError(f"consumer {self._consumer} has committed since this was planned; plan it again")
            epoch = max(ledger.epoch, curated.epoch) + 1
            source = self._source
            mark = newest_mark([each.marker.mark for each in (ledger, curated) if each.marker is not None])
            skipped = move.proposed.without(move.current.ranges())
            replays = ledger.replays.union(move.read_again.ranges()).without(move.proposed.ranges())
            for table, head, position, share in (
                (self._ledger, heads[0], ledger.position.union(skipped.ranges()), ledger.share),
                (self._curated, heads[1], move.proposed, move.share),
            ):
                fence = Fence(self._consumer, user, table.identifier.get_full_name(), self._shard)
                fence.seen(head)
                committer = TableCommitter(table, user, fence.check)
                marker = Marker(
                    self._consumer,
                    source,
                    epoch,
                    move.sequence,
                    position,
                    user,
                    share=share,
                    replays=replays,
                    mark=mark,
                )
                committer.publish([], move.sequence, marker.to_properties())
                committer.close()

    def _index(self) -> LedgerIndex:
        with store_errors(f"position of {self._consumer}"):
            head = self._ledger.snapshot_manager().get_latest_snapshot()
            return LedgerIndex.read(self._ledger, head, self._consumer, self._source)

    def _plan(
        self,
        curated: Standing,
        sequence: int,
        epoch: int,
        skipped: Iterable[OffsetRange],
        index: LedgerIndex,
        wanted: NDArray[np.int64],
    ) -> Move:
        with_clips = np.unique(index.row_ids[index.clip_owners])
        own = np.unique(wanted[wanted % self._shard.count == self._shard.index])
        done = np.asarray([row_id for row_id in own.tolist() if curated.covers(row_id)], dtype=np.int64)
        again = list(as_ranges(np.setdiff1d(done, with_clips)))
        num_again = sum(map(len, again))
        left_out = list(skipped)
        bases = (Base(base.shard, base.position.without(again)) for base in curated.share.bases)
        return Move(
            current=curated.position,
            sequence=sequence,
            epoch=epoch,
            proposed=curated.position.union(left_out).without(again),
            share=Share(self._shard, tuple(bases)),
            read_again=Position.from_ranges(again),
            num_read_again=num_again,
            num_left_done=len(done) - num_again,
            num_skipped=sum(not curated.covers(row_id) for row_id in owned_part(self._shard, left_out)),
        )
