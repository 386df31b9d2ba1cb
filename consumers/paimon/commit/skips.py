"""What a person has skipped, kept where it outlives the snapshots that say so.

A position moved by hand is in the consumer's newest marker, and each of its commits carries it on. But the snapshot
with that marker can expire while others commit and this consumer does not, and the rows, by which a position is then
rebuilt, tell nothing of what was never processed. So a row of the control table says it, too, which is read only then.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime

from consumers.paimon.commit.takedown import TakedownStore
from schemas.positions import Position
from schemas.shards import Base, Shard

_SKIP = "skip"
_ACTOR = "sluice position"


class Skips:
    """Up to which offset rows are done by a person's word, for each consumer, shard and source.

    Args:
        store: where rows of the control table are kept.
    """

    def __init__(self, store: TakedownStore) -> None:
        self._store = store

    def note(self, consumer: str, shard: Shard, source: str, offset: int) -> None:
        """Store that everything below ``offset`` is done; harmless to repeat.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        value = {"consumer": consumer, "shard": str(shard), "source": source, "offset": offset}
        # One row for each: what was skipped stays so when a position goes back.
        key = f"{consumer} {shard} {source} {offset}"
        self._store.write(_SKIP, key, json.dumps(value), _ACTOR, None, datetime.now(UTC))

    def of(self, consumer: str, source: str) -> tuple[Base, ...]:
        """Return what is done of ``source``, by the shards that it was said for; the furthest of each.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        furthest: dict[Shard, int] = {}
        for told in (json.loads(row["value"]) for row in self._store.rows(_SKIP)):
            if (told["consumer"], told["source"]) == (consumer, source):
                shard = Shard.parse(told["shard"])
                furthest[shard] = max(int(told["offset"]), furthest.get(shard, 0))
        return tuple(Base(shard, Position(offset)) for shard, offset in sorted(furthest.items()))
