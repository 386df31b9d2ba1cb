"""What happens after a call to the pool: done, tried again later, or given up. Pure logic.

Delays follow "exponential backoff with equal jitter": half of ``min(max_s, base_s * 2**(n - 1))`` is fixed and half is
random, so that a burst of failures does not come back as a burst, and no retry is immediate.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from consumers.errors import SluiceError, WorkerDiedError
from schemas.records import Failure, FailureKind, Stage, VideoOutcome

_LARGEST_EXPONENT = 62


def backoff_s(num_failures: int, base_s: float, max_s: float, jitter: Callable[[], float]) -> float:
    """Return the delay after the ``num_failures``-th failure in a row (from 1), in seconds, at most ``max_s``."""
    # Beyond 2**62 every delay is max_s anyway, and a float would overflow.
    full_s = min(max_s, base_s * 2.0 ** min(num_failures - 1, _LARGEST_EXPONENT))
    return full_s / 2 + full_s / 2 * jitter()


@dataclass(frozen=True, slots=True)
class Tally:
    """What a video has been through: pool calls that ended in a transient failure, and those that lost their worker.

    ``num_excused`` calls ended so as well while the breaker was open; they are not held against the video.
    """

    num_transient: int = 0
    num_deaths: int = 0
    num_excused: int = 0

    @property
    def num_calls(self) -> int:
        """How often the pool has been called and the video is still not done."""
        return self.num_transient + self.num_deaths + self.num_excused


@dataclass(frozen=True, slots=True)
class RetryLater:
    """Call the pool again after ``delay_s``; ``reason`` is for a person."""

    tally: Tally
    delay_s: float
    reason: str


@dataclass(frozen=True, slots=True)
class Final:
    """The outcome for the ledger. ``num_attempts`` counts calls to the pool, the last one included."""

    outcome: VideoOutcome
    num_attempts: int


Decision = RetryLater | Final


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How patient the consumer is with one video.

    Attributes:
        max_attempts: calls that may end in a transient failure before it goes to the ledger.
        max_worker_deaths: workers that a video may take with it before it is called a poison video.
        base_s: delay after the first failure, before jitter.
        max_s: longest delay.
        jitter: returns a number in [0, 1).

    Raises:
        ValueError: a count is not positive, or a delay negative.
    """

    max_attempts: int = 4
    max_worker_deaths: int = 3
    base_s: float = 1.0
    max_s: float = 60.0
    jitter: Callable[[], float] = random.random

    def __post_init__(self) -> None:
        if self.max_attempts < 1 or self.max_worker_deaths < 1:
            raise ValueError(
                "retry max_attempts and max_worker_deaths must be 1 or more: "
                f"{self.max_attempts}, {self.max_worker_deaths}"
            )
        if not 0 <= self.base_s <= self.max_s:
            raise ValueError(f"retry delays must satisfy 0 <= base_s <= max_s: {self.base_s}, {self.max_s}")

    def decide(self, tally: Tally, ending: VideoOutcome | BaseException) -> Decision:
        """Return what to do with a video whose call just ended.

        An exception is a death of the worker, whatever its class: a worker that reports a verdict does so with an
        outcome.

        Args:
            tally: the video's earlier calls.
            ending: how the last call ended.
        """
        if isinstance(ending, BaseException):
            return self._after_death(replace(tally, num_deaths=tally.num_deaths + 1), ending)
        if ending.failure is None or ending.failure.kind is not FailureKind.TRANSIENT:
            return Final(ending, tally.num_calls + 1)
        failed = replace(tally, num_transient=tally.num_transient + 1)
        if failed.num_transient >= self.max_attempts:
            message = f"{ending.failure.message} (given up after {failed.num_calls} attempts)"
            return Final(replace(ending, failure=replace(ending.failure, message=message)), failed.num_calls)
        return self._later(failed, ending.failure.message)

    def excuse(self, tally: Tally, ending: VideoOutcome | BaseException) -> RetryLater:
        """Return that a video is tried again whose call failed while the breaker was open."""
        return self._later(replace(tally, num_excused=tally.num_excused + 1), cause_of(ending))

    def _after_death(self, tally: Tally, error: BaseException) -> Decision:
        cause = cause_of(error)
        if tally.num_deaths < self.max_worker_deaths:
            return self._later(tally, cause)
        message = (
            f"{tally.num_deaths} workers ended while they held this video, in {tally.num_calls} attempts; last: {cause}"
        )
        if isinstance(error, WorkerDiedError) and error.log_tail:
            message += f"\nthe end of the worker's log:\n{error.log_tail}"
        return Final(
            VideoOutcome(failure=Failure(FailureKind.PERMANENT, Stage.POOL, "poison_video", message)), tally.num_calls
        )

    def _later(self, tally: Tally, reason: str) -> RetryLater:
        return RetryLater(tally, backoff_s(tally.num_calls, self.base_s, self.max_s, self.jitter), reason)


def cause_of(ending: VideoOutcome | BaseException) -> str:
    """Return in words why a call to the pool had no good end; empty if it had one."""
    if isinstance(ending, VideoOutcome):
        return "" if ending.failure is None else ending.failure.message
    return str(ending) if isinstance(ending, SluiceError) else f"{type(ending).__name__}: {ending}"


class StorePatience:
    """How long a store may stay away: exponential backoff between tries, until a bound on the whole outage.

    Args:
        base_s: delay after the first failure, before jitter.
        max_s: longest delay.
        give_up_after_s: an outage longer than this ends the consumer, which a supervisor may start again.
        jitter: returns a number in [0, 1).
    """

    def __init__(self, base_s: float, max_s: float, give_up_after_s: float, jitter: Callable[[], float]) -> None:
        self._base_s = base_s
        self._max_s = max_s
        self._give_up_after_s = give_up_after_s
        self._jitter = jitter
        self.succeeded()

    def succeeded(self) -> None:
        """Note an answer: the outage, if any, is over."""
        self._num_failures = 0
        self._down_since_s: float | None = None
        self._next_try_s = float("-inf")

    def failed(self, now_s: float) -> bool:
        """Note a failure at ``now_s``; return whether it is worth another try."""
        if self._down_since_s is None:
            self._down_since_s = now_s
        self._num_failures += 1
        self._next_try_s = now_s + backoff_s(self._num_failures, self._base_s, self._max_s, self._jitter)
        return now_s - self._down_since_s < self._give_up_after_s

    @property
    def is_down(self) -> bool:
        """Whether the last try failed."""
        return self._down_since_s is not None

    @property
    def next_try_s(self) -> float:
        """The monotonic time before which there is to be no try; minus infinity when nothing has failed."""
        return self._next_try_s
