"""Into how many shards a consumer is divided when that follows the processes that run: pure logic.

Processes are numbered from 0 on, as the pods of a StatefulSet are, and come and go at the top. One that comes is given
a shard soon; one that goes may only be on its way to another node, so its shard waits for it a while.
"""

from __future__ import annotations

from collections.abc import Mapping

from consumers.members.lease import MISSED_RENEWALS, Lease


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
        # The last lease of each member, and when it was first seen so.
        self._sights: dict[int, tuple[Lease, float]] = {}
        self._present = (1, now_s)

    def look(self, leases: Mapping[int, Lease], now_s: float) -> None:
        """Take note of all leases there are, by the number of the member. Clocks of others are not asked."""
        for index, lease in leases.items():
            if index not in self._sights or self._sights[index][0] != lease:
                self._sights[index] = (lease, now_s)
        present = 1 + max(
            (
                index
                for index, (lease, seen_s) in self._sights.items()
                if index in leases and now_s - seen_s < MISSED_RENEWALS * lease.interval_s
            ),
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
        kept = max((i for i, (_, seen_s) in self._sights.items() if now_s - seen_s < self._shrink_after_s), default=0)
        return min(count, kept + 1)
