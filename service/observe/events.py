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


@dataclass(slots=True, eq=False)
class _Watcher:
    """Who watches. At most 1000 events wait for it, whether its loop or its caller is slow.

    ``num_handed`` counts what was handed to the loop, ``num_taken`` what came out at the other end; each is changed by
    one thread at a time.
    """

    loop: asyncio.AbstractEventLoop
    queue: asyncio.Queue[Event | None]
    num_handed: int = 0
    num_taken: int = 0

    def hand_over(self, event: Event | None) -> bool:
        """Hand over an event; return whether more may come.

        A watcher that is too slow is sent away, and comes back by its last event's id.
        """
        # A loop that is closed has no watcher left to tell.
        if self.loop.is_closed():
            return False
        is_slow = self.num_handed - self.num_taken >= _NUM_WAITING
        self.num_handed += 1
        self.loop.call_soon_threadsafe(self.queue.put_nowait, None if is_slow else event)
        return event is not None and not is_slow


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
            self._watchers = {watcher for watcher in self._watchers if watcher.hand_over(event)}

    def close(self) -> None:
        """End every watch."""
        with self._lock:
            self._is_closed = True
            for watcher in self._watchers:
                watcher.hand_over(None)

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
                watcher.num_taken += 1
                if event_or_end is None:
                    return
                yield event_or_end
        finally:
            with self._lock:
                self._watchers.discard(watcher)
