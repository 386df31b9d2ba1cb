"""A clock that tests own."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

_START = datetime(2026, 1, 1, tzinfo=UTC)


class FakeClock:
    """Time that moves only when told to.

    ``on_advance`` callbacks run after each move: register ``Processor.wake`` there, so that its loop looks again.
    """

    def __init__(self) -> None:
        self._elapsed_s = 0.0
        self.on_advance: list[Callable[[], None]] = []

    def now(self) -> datetime:
        """Return the fake time, timezone-aware UTC."""
        return _START + timedelta(seconds=self._elapsed_s)

    def monotonic_s(self) -> float:
        """Return the fake seconds since the start."""
        return self._elapsed_s

    def advance(self, seconds: float) -> None:
        """Move time on."""
        self._elapsed_s += seconds
        for callback in self.on_advance:
            callback()
