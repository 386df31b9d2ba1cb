"""Hosts a consumer in this process: starts its workers, runs its loop, and turns signals into a drain."""

from __future__ import annotations

import queue
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from consumers.ports import WorkerPool
from consumers.processor import Processor
from consumers.reports import RunReport

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def run_until_signalled(processor: Processor, pool: WorkerPool, *, until_caught_up: bool) -> RunReport:
    """Run ``processor`` in the main thread until it ends, or until SIGTERM or SIGINT asks it to drain.

    A second signal ends the process at once; nothing is lost by that, only done again.

    Raises:
        ConfigurationError: the workers cannot be started.
        FencedError: a newer copy of the consumer has taken over.
        StoreUnavailableError: a store was away for too long.
    """
    try:
        # Ray replaces the signal handlers when it starts, so ours come after it.
        pool.start()
        with _on_signals(processor.request_stop):
            return processor.run(until_caught_up)
    finally:
        pool.close()


def wait_for_signal() -> None:
    """Return when SIGTERM or SIGINT arrives. A second one ends the process at once."""
    # Not an Event: a handler may interrupt its wait, and would then wait for the lock that the wait holds.
    arrived: queue.SimpleQueue[None] = queue.SimpleQueue()
    with _on_signals(lambda: arrived.put(None)):
        arrived.get()


@contextmanager
def _on_signals(act: Callable[[], None]) -> Iterator[None]:
    def handle(number: int, frame: FrameType | None) -> None:
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        act()

    previous = {number: signal.signal(number, handle) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
