"""Hosts a consumer in this process: starts its workers, runs its loop, and turns signals into a drain."""

from __future__ import annotations

import signal
from collections.abc import Iterator
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
        with _drain_on_signals(processor):
            return processor.run(until_caught_up)
    finally:
        pool.close()


@contextmanager
def _drain_on_signals(processor: Processor) -> Iterator[None]:
    def drain(number: int, frame: FrameType | None) -> None:
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        processor.request_stop()

    previous = {number: signal.signal(number, drain) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
