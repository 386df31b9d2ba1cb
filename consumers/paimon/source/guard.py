"""Keeping the snapshots that a consumer still needs from expiring, and what to do where they have expired."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pypaimon.consumer.consumer import Consumer

from consumers.clock import Clock
from consumers.paimon.catalog import store_errors
from consumers.paimon.snapshots import earliest_snapshot_id
from consumers.paimon.source.offsets import snapshot_of

_TOUCH_S = 60.0


class OnExpired(StrEnum):
    """What to do about a position whose snapshots are gone."""

    FAIL = "fail"
    EARLIEST = "earliest"
    """Go on with the oldest snapshot that is left as a whole; what was removed in between is never seen."""


class SnapshotGuard:
    """Keeps the snapshots that a consumer still needs from expiring, by a consumer file in the source table.

    Such a file is itself given up when it has not been written for the table's ``consumer.expiration-time``, so it is
    to be written again from time to time, also while a consumer is paused.

    Args:
        table: the pypaimon source table.
        consumer: the consumer's name.
        clock: time; the same need is written once a minute.
    """

    def __init__(self, table: Any, consumer: str, clock: Clock) -> None:
        self._clock = clock
        self._written: tuple[int, float] | None = None
        self._manager = table.consumer_manager()
        self._snapshots = table.snapshot_manager()
        self._name = f"sluice-{consumer}"

    def protect(self, watermark: int) -> None:
        """Keep the snapshot of the first offset that is not finished, the one before it, and all after it.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        with store_errors("consumer file of the raw table"):
            # With the one before it, which tells what an overwrite has replaced, and how changes were told until then.
            needed = snapshot_of(watermark) - 1
            if needed < 1:
                needed = earliest_snapshot_id(self._snapshots)
            now_s = self._clock.monotonic_s()
            if self._written is None or self._written[0] != needed or now_s - self._written[1] >= _TOUCH_S:
                self._manager.reset_consumer(self._name, Consumer(next_snapshot=needed))
                self._written = (needed, now_s)
