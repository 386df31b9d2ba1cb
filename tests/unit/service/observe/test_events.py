"""Events reach those who watch, and cost little for those who do not take them."""

from __future__ import annotations

import asyncio
import gc

import pytest

from consumers.testing import FakeClock
from service.observe.events import Event, EventBus

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_watcher_gets_what_it_missed_and_then_what_happens() -> None:
    events = EventBus(FakeClock())
    for number in range(3):
        events.publish("commit", "films", {"number": number})
    watch = events.watch(1, 60.0)
    seen = [await anext(watch), await anext(watch)]
    events.publish("state", "films", {})
    seen.append(await anext(watch))
    assert [event.event_id for event in seen if event is not None] == [2, 3, 4]
    events.close()
    assert [event async for event in watch] == []


async def test_watcher_that_takes_nothing_is_sent_away_and_holds_a_bounded_number_of_events() -> None:
    gc.collect()
    before = sum(1 for thing in gc.get_objects() if type(thing) is Event)
    events = EventBus(FakeClock())
    watch = events.watch(None, 0.01)
    # It is connected, and then its caller reads no more.
    assert await anext(watch) is None
    for number in range(5000):
        events.publish("commit", "films", {"number": number})
    await asyncio.sleep(0)
    gc.collect()
    standing = sum(1 for thing in gc.get_objects() if type(thing) is Event)
    # Those remembered for all, and those that wait for this one.
    assert standing - before <= 500 + 1000
    taken = [event async for event in watch if event is not None]
    assert len(taken) == 1000
    assert [event.data["number"] for event in taken] == list(range(1000))


async def test_watcher_on_a_loop_that_hangs_is_bounded_as_well() -> None:
    events = EventBus(FakeClock())
    watch = events.watch(None, 0.01)
    assert await anext(watch) is None
    loop = asyncio.get_running_loop()
    before = len(loop._ready)  # type: ignore[attr-defined]
    for number in range(5000):
        # Nothing is awaited in between: the loop is busy all the time.
        events.publish("commit", "films", {"number": number})
    assert len(loop._ready) - before <= 1001  # type: ignore[attr-defined]
    await watch.aclose()  # type: ignore[attr-defined]
