"""Hosts a consumer in this process: starts its workers, runs its loop, and turns signals into a drain."""

from __future__ import annotations

import queue
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from consumers.loop.processor import Processor
from consumers.loop.reports import RunReport
from consumers.ports import WorkerPool

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_REARM_S = 1.0


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


def wait_for_signal(is_over: Callable[[], bool] = lambda: False) -> bool:
    """Return True when SIGTERM or SIGINT arrives, or False once ``is_over``. A second signal ends the process at once.

    Args:
        is_over: asked once a second.
    """
    # Not an Event: a handler may interrupt its wait, and would then wait for the lock that the wait holds.
    arrived: queue.SimpleQueue[None] = queue.SimpleQueue()
    with _on_signals(lambda: arrived.put(None)) as listen:
        while True:
            try:
                arrived.get(timeout=_REARM_S)
                return True
            except queue.Empty:
                # Ray replaces the handlers whenever it starts, which a supervisor has it do in another thread.
                listen()
            if is_over():
                return False


@contextmanager
def until_signal() -> Iterator[Callable[[float], bool]]:
    """Yield a function that waits so many seconds and returns whether SIGTERM or SIGINT has arrived.

    A second signal ends the process at once.
    """
    arrived: queue.SimpleQueue[None] = queue.SimpleQueue()
    is_over = False

    def wait(timeout_s: float) -> bool:
        nonlocal is_over
        if not is_over:
            try:
                arrived.get(timeout=max(timeout_s, 0.001))
                is_over = True
            except queue.Empty:
                pass
        return is_over

    with _on_signals(lambda: arrived.put(None)):
        yield wait


@contextmanager
def _on_signals(act: Callable[[], None]) -> Iterator[Callable[[], None]]:
    """Have the first signal call ``act``; yields what installs the handlers again."""

    def handle(number: int, frame: FrameType | None) -> None:
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        act()

    def listen() -> None:
        for number in _SIGNALS:
            signal.signal(number, handle)

    previous = {number: signal.getsignal(number) for number in _SIGNALS}
    listen()
    try:
        yield listen
    finally:
        for number, handler in previous.items():
            # None stands for a handler that was not installed by Python, and cannot be put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
