"""The bounds of the loop."""

from __future__ import annotations

from dataclasses import dataclass, field

from consumers.loop.breaker import BreakerPolicy
from consumers.loop.commit_policy import CommitPolicy
from consumers.loop.retry import RetryPolicy


@dataclass(frozen=True, slots=True)
class ProcessorConfig:
    """The bounds of the loop.

    Attributes:
        commit: when a batch is committed.
        retry: how patient it is with one video.
        breaker: when failures are taken for our side's, and intake is held.
        max_in_flight_videos: videos admitted and not finished; None is what keeps the pool busy (its capacity).
        max_in_flight_bytes: their sizes plus the clips of finished, uncommitted videos. A single video above it is
            still admitted, alone.
        deadline_s: time that a worker may spend on one video.
        poll_interval_s: time between two looks at an idle source.
        drain_timeout_s: time that a stop waits for admitted videos, unless the stop names its own.
        store_base_s: delay after a store's first failure.
        store_max_s: longest delay between two tries.
        store_give_up_after_s: an outage longer than this ends the run with :class:`StoreUnavailableError`. A breaker
            open for so long ends a run that was to end when it has caught up; any other waits.

    Raises:
        ValueError: a bound makes no sense.
    """

    commit: CommitPolicy = field(default_factory=CommitPolicy)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    breaker: BreakerPolicy = field(default_factory=BreakerPolicy)
    max_in_flight_videos: int | None = None
    max_in_flight_bytes: int = 8 * 2**30
    deadline_s: float = 3600.0
    poll_interval_s: float = 1.0
    drain_timeout_s: float = 60.0
    store_base_s: float = 0.5
    store_max_s: float = 30.0
    store_give_up_after_s: float = 900.0

    def __post_init__(self) -> None:
        if self.max_in_flight_videos is not None and self.max_in_flight_videos < 1:
            raise ValueError(f"max_in_flight_videos must be 1 or more: {self.max_in_flight_videos}")
        for name in ("max_in_flight_bytes", "deadline_s", "poll_interval_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0: {getattr(self, name)}")
        for name in ("drain_timeout_s", "store_base_s", "store_max_s", "store_give_up_after_s"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative: {getattr(self, name)}")
