"""Where the newest marker of every consumer and shard stands: each of our commits carries it on from the one before.

Without it a consumer that has finished, or a shard that found nothing, would have to be looked for in every snapshot
that others have made since. With it a look goes back to the newest commit of anybody, and from there in one step.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas.shards import Shard
from schemas.tables import PROPERTY_CONSUMER, PROPERTY_NEWEST, PROPERTY_SHARD

_MOST = 4096
"""Consumers times shards; beyond that those whose newest marker is the oldest are left out."""


@dataclass(frozen=True)
class NewestMarkers:
    """The snapshots of the newest markers.

    Attributes:
        ids: by consumer and shard, as the markers name it.
        is_complete: whether a consumer or shard that is not in ``ids`` has none.
    """

    ids: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    is_complete: bool = True

    def of(self, consumer: str) -> list[int]:
        """Return the ids of the snapshots that hold the newest markers of ``consumer``, newest first."""
        return sorted(set(self.ids.get(consumer, {}).values()), reverse=True)

    def after(self, snapshot: Any) -> NewestMarkers:
        """Return what holds from ``snapshot``, a commit of ours, on."""
        consumer = snapshot.properties[PROPERTY_CONSUMER]
        shard = snapshot.properties.get(PROPERTY_SHARD, str(Shard()))
        count = shard.rpartition("/")[2]
        # A new division is where each of its shards begins.
        is_kept = {} if shard.startswith("*") else self.ids.get(consumer, {})
        mine = {name: at for name, at in is_kept.items() if name.rpartition("/")[2] == count}
        ids = {**self.ids, consumer: {**mine, shard: int(snapshot.id)}}
        return NewestMarkers(ids, self.is_complete)._bounded()

    def _bounded(self) -> NewestMarkers:
        known = sorted(
            ((at, consumer, shard) for consumer, shards in self.ids.items() for shard, at in shards.items()),
            reverse=True,
        )
        if len(known) <= _MOST:
            return self
        ids: dict[str, dict[str, int]] = {}
        for at, consumer, shard in known[:_MOST]:
            ids.setdefault(consumer, {})[shard] = at
        return NewestMarkers(ids, is_complete=False)

    def to_json(self) -> str:
        """Return the compact form that is stored in snapshot properties."""
        return json.dumps([self.is_complete, self.ids], separators=(",", ":"), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> NewestMarkers:
        """Read what :meth:`to_json` wrote.

        Raises:
            ValueError: ``text`` is none.
        """
        try:
            is_complete, found = json.loads(text)
            ids = {str(name): {str(shard): int(at) for shard, at in each.items()} for name, each in found.items()}
        except (TypeError, AttributeError) as error:
            raise ValueError(f"not a list of newest markers: {text!r}") from error
        return cls(ids, bool(is_complete))

    @classmethod
    def told_by(cls, snapshot: Any) -> NewestMarkers | None:
        """Return what ``snapshot``, a commit of ours, tells, itself included; None where an earlier version made it."""
        told = snapshot.properties.get(PROPERTY_NEWEST)
        return None if told is None else cls.from_json(told).after(snapshot)
