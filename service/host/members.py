"""One process of several that share a consumer's rows, where the number of shards follows the number of processes.

A process is member i by its number, as the pod of a StatefulSet has one, and does shard i of as many as there are. It
holds a lease, by which the others know of it. Member 0 watches the leases, and divides the consumer anew as members
come and go (:mod:`consumers.members.attendance`); every member sees that in the tables and starts again as its new
shard. A member without a shard rests.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Mapping

from consumers.clock import Clock
from consumers.errors import SluiceError
from consumers.members.attendance import Attendance
from consumers.members.lease import Lease
from consumers.paimon.commit.lease import PaimonLeases
from consumers.paimon.commit.rescale import Rescaler
from schemas.shards import Shard

_log = logging.getLogger(__name__)

_NAME = re.compile(r"\.member(\d{1,4})$")


def lease_name(consumer: str, index: int) -> str:
    """Return the name of a member's lease."""
    return f"{consumer}.member{index}"


class Member:
    """Follows the division of the consumer, and if it is number 0, makes it.

    Args:
        consumer: the consumer's id.
        index: number of this member, from 0.
        rescaler: divides the consumer.
        leases: of the warehouse.
        clock: time.
        attendance: how the members are judged; used by number 0.
        interval_s: time between two looks.
    """

    def __init__(
        self,
        consumer: str,
        index: int,
        rescaler: Rescaler,
        leases: PaimonLeases,
        clock: Clock,
        *,
        attendance: Attendance | None = None,
        interval_s: float = 3.0,
    ) -> None:
        self._consumer = consumer
        self._index = index
        self._rescaler = rescaler
        self._leases = leases
        self._clock = clock
        self._attendance = attendance or Attendance(clock.monotonic_s())
        self._interval_s = interval_s
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._shard: Shard | None = None
        self._thread = threading.Thread(target=self._run, name="member", daemon=True)

    def shard(self) -> Shard | None:
        """Return this member's shard by the last look; None while there are fewer shards than that."""
        with self._lock:
            return self._shard

    def look(self) -> None:
        """Read the division, and as number 0 also the leases, and divide anew where they ask for it.

        Raises:
            SluiceError: the store did not answer, or no moment for the change was found; look again.
        """
        by_ledger, by_curated = self._rescaler.counts()
        count = by_curated or by_ledger
        if self._index == 0:
            # Where nothing is committed yet, or all markers have expired, there is nothing that could be divided.
            count = 1 if by_curated is None else self._divided(by_ledger or by_curated, by_curated)
        with self._lock:
            if by_curated is None and self._shard is not None:
                # All markers have expired under an idle consumer: nothing says that anything has changed.
                return
            self._shard = Shard(self._index, count) if count is not None and self._index < count else None

    def _divided(self, by_ledger: int, by_curated: int) -> int:
        if by_ledger != by_curated:
            _log.warning("consumer %s: completes a change to %d shards that was cut off", self._consumer, by_ledger)
            self._rescaler.rescale(by_ledger)
            return by_ledger
        now_s = self._clock.monotonic_s()
        self._attendance.look(self._members(), now_s)
        wanted = self._attendance.wanted(by_curated, now_s)
        if wanted != by_curated:
            self._rescaler.rescale(wanted)
            _log.warning("consumer %s: divided anew, %d -> %d shards", self._consumer, by_curated, wanted)
        return wanted

    def _members(self) -> Mapping[int, Lease]:
        found = self._leases.all(lease_name(self._consumer, 0).removesuffix("0"))
        return {int(match[1]): lease for name, lease in found.items() if (match := _NAME.search(name))}

    def wait_for_shard(self, is_over: Callable[[float], bool], on_rest: Callable[[], None]) -> Shard | None:
        """Look until there is a shard for this member; return it, or None once it is over.

        Args:
            is_over: waits for so many seconds, and returns whether it is.
            on_rest: called once if there is none at first.
        """
        is_told = False
        while True:
            try:
                self.look()
            except SluiceError as error:
                _log.warning("consumer %s: the division is looked at again later: %s", self._consumer, error)
            if (shard := self.shard()) is not None:
                return shard
            if not is_told:
                on_rest()
                is_told = True
            if is_over(self._interval_s):
                return None

    def start(self) -> None:
        """Go on looking, in a thread."""
        self._thread.start()

    def close(self) -> None:
        """End."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self._interval_s):
            try:
                self.look()
            except SluiceError as error:
                _log.warning("consumer %s: the division is looked at again later: %s", self._consumer, error)
