"""Events for those who watch: a short memory, and a queue for each watcher. Thread-safe on the publishing side."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from consumers.clock import Clock

_NUM_REMEMBERED = 500
_NUM_WAITING = 1000


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. ``event_id`` grows by one with each, within a process."""

    event_id: int
    kind: str
    consumer: str
    at: datetime
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class _Watcher:
    loop: asyncio.AbstractEventLoop
    queue: asyncio.Queue[Event | None]

    def put(self, event: Event | None) -> None:
        """Hand over an event; a watcher that is too slow is sent away, and comes back by its last event's id."""
        if self.queue.qsize() >= _NUM_WAITING:
            self.queue.put_nowait(None)
        else:
            self.queue.put_nowait(event)


class EventBus:
    """Takes events from any thread and hands them to every watcher.

    Args:
        clock: for the times of events.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._events: deque[Event] = deque(maxlen=_NUM_REMEMBERED)
        self._watchers: set[_Watcher] = set()
        self._last_id = 0
        self._is_closed = False

    def publish(self, kind: str, consumer: str, data: Mapping[str, Any]) -> None:
        """Tell all watchers; never blocks."""
        with self._lock:
            self._last_id += 1
            event = Event(self._last_id, kind, consumer, self._clock.now(), data)
            self._events.append(event)
            for watcher in self._watchers:
                _hand_over(watcher, event)

    def close(self) -> None:
        """End every watch."""
        with self._lock:
            self._is_closed = True
            for watcher in self._watchers:
                _hand_over(watcher, None)

    async def watch(self, after_id: int | None, heartbeat_s: float) -> AsyncIterator[Event | None]:
        """Yield remembered events above ``after_id`` (none if None), then new ones; None where there was silence."""
        watcher = _Watcher(asyncio.get_running_loop(), asyncio.Queue())
        with self._lock:
            missed = [event for event in self._events if after_id is not None and event.event_id > after_id]
            if self._is_closed:
                watcher.queue.put_nowait(None)
            self._watchers.add(watcher)
        try:
            for event in missed:
                yield event
            while True:
                try:
                    event_or_end = await asyncio.wait_for(watcher.queue.get(), heartbeat_s)
                except TimeoutError:
                    yield None
                    continue
                if event_or_end is None:
                    return
                yield event_or_end
        finally:
            with self._lock:
                self._watchers.discard(watcher)


def _hand_over(watcher: _Watcher, event: Event | None) -> None:
    # A loop that is closed has no watcher left to tell.
    if not watcher.loop.is_closed():
        watcher.loop.call_soon_threadsafe(watcher.put, event)
