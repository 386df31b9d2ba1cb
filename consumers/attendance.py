"""Into how many shards a consumer is divided when that follows the processes that run: pure logic.

Processes are numbered from 0 on, as the pods of a StatefulSet are, and come and go at the top. One that comes is given
a shard soon; one that goes may only be on its way to another node, so its shard waits for it a while.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from consumers.lease import MISSED_RENEWALS, Lease


@dataclass(frozen=True, slots=True)
class _Sight:
    """When a member was last seen to renew, and how long its lease says anything."""

    token: str
    beat: int
    at_s: float
    valid_s: float


class Attendance:
    """Watches the members' leases, and says how many shards there should be.

    Args:
        now_s: monotonic time.
        grow_after_s: a new number of members must hold for so long before there are more shards; longer than a lease
            that nobody renews counts.
        shrink_after_s: a member must be gone for so long before its shard goes to the others.
    """

    def __init__(self, now_s: float, *, grow_after_s: float = 20.0, shrink_after_s: float = 300.0) -> None:
        self._began_s = now_s
        self._grow_after_s = grow_after_s
        self._shrink_after_s = shrink_after_s
        self._sights: dict[int, _Sight] = {}
        self._present = (1, now_s)

    def look(self, leases: Mapping[int, Lease], now_s: float) -> None:
        """Take note of all leases there are, by the number of the member. Clocks of others are not asked."""
        for index, lease in leases.items():
            before = self._sights.get(index)
            if before is None or (before.token, before.beat) != (lease.holder.token, lease.beat):
                valid_s = MISSED_RENEWALS * lease.interval_s
                self._sights[index] = _Sight(lease.holder.token, lease.beat, now_s, valid_s)
        present = 1 + max(
            (index for index, sight in self._sights.items() if index in leases and now_s - sight.at_s < sight.valid_s),
            default=0,
        )
        if present != self._present[0]:
            self._present = (present, now_s)

    def wanted(self, count: int, now_s: float) -> int:
        """Return how many shards there should be, where there are ``count`` now."""
        present, since_s = self._present
        if present > count:
            return present if now_s - since_s >= self._grow_after_s else count
        if now_s - self._began_s < self._shrink_after_s:
            return count
        kept = max((i for i, sight in self._sights.items() if now_s - sight.at_s < self._shrink_after_s), default=0)
        return min(count, kept + 1)
