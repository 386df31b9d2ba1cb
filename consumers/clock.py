"""Time, injected: the protocol, the system's clock behind it, and a bound on one piece of work."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol

from consumers.errors import DeadlineExceededError
from schemas.records import Stage


class Clock(Protocol):
    """Time, injected so that tests own it."""

    def now(self) -> datetime:
        """Return the current time, timezone-aware UTC."""
        ...

    def monotonic_s(self) -> float:
        """Return seconds on a clock that never goes back."""
        ...


class SystemClock:
    """The real clock."""

    def now(self) -> datetime:
        """Return the current time, timezone-aware UTC."""
        return datetime.now(UTC)

    def monotonic_s(self) -> float:
        """Return seconds on a clock that never goes back."""
        return time.monotonic()


class Deadline:
    """A bound on one piece of work, checked by the work itself.

    Args:
        clock: where the time comes from.
        seconds: from now on.
    """

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self.seconds = seconds
        self._end_s = clock.monotonic_s() + seconds

    def check(self, stage: Stage) -> None:
        """Return while there is time left.

        Raises:
            DeadlineExceededError: there is none.
        """
        if self._clock.monotonic_s() > self._end_s:
            raise DeadlineExceededError(f"processing took longer than {self.seconds:g} s", stage=stage)

    def left_s(self) -> float:
        """Return the seconds that are left, 0 once it has passed."""
        return max(0.0, self._end_s - self._clock.monotonic_s())
