"""One consumer in a thread of its own: started as desired, watched, and started again when it fails."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from consumers.clock import Clock
from consumers.errors import ConfigurationError, FencedError, SightLostError, SluiceError, StopError
from consumers.lag import ObservedState
from consumers.loop.replays import ReplayAnswer
from consumers.loop.reports import Phase, ProcessorStatus, RunReport
from schemas.control import DesiredState
from service.host.restarts import RestartState

_log = logging.getLogger(__name__)

_OF_PHASE = {
    Phase.STARTING: ObservedState.STARTING,
    Phase.RUNNING: ObservedState.RUNNING,
    Phase.PAUSING: ObservedState.PAUSING,
    Phase.PAUSED: ObservedState.PAUSED,
    Phase.DRAINING: ObservedState.DRAINING,
    # The run is over, and its workers are being given back.
    Phase.STOPPED: ObservedState.DRAINING,
}


class Loop(Protocol):
    """What is supervised: :class:`~consumers.loop.processor.Processor`."""

    def run(self, until_caught_up: bool = False) -> RunReport:
        """Consume until a stop is requested."""
        ...

    def request_stop(self, drain_timeout_s: float | None = None) -> None:
        """End the run once what was admitted is committed."""
        ...

    def pause(self) -> None:
        """Take in nothing new."""
        ...

    def resume(self) -> None:
        """Take back a pause."""
        ...

    def replay(self, row_ids: Collection[int]) -> Future[ReplayAnswer]:
        """Process finished rows that failed once more."""
        ...

    def snapshot(self) -> ProcessorStatus:
        """Return the latest status."""
        ...


@dataclass(frozen=True, slots=True)
class Incarnation:
    """One life of a consumer: its loop, with ``start`` (the workers, may take long) and ``close`` around it."""

    loop: Loop
    start: Callable[[], None]
    close: Callable[[], None]


@dataclass(frozen=True, slots=True)
class LastError:
    """What ended the last run that failed."""

    at: datetime
    error_class: str
    message: str


@dataclass(frozen=True, slots=True)
class SupervisorStatus:
    """One consumer at one moment.

    Attributes:
        observed: what is true.
        processor: the loop's own status; None while there is no loop.
        num_restarts: restarts after a failure since the process started.
        restart_at: when it is started again, while it waits for that.
        last_error: what ended the last run that failed; kept until the process ends.
        is_superseded: whether a newer copy elsewhere has taken over; only a person starts this one again.
        intake_since_s: monotonic time since when intake has been allowed; None while it is not.
    """

    observed: ObservedState
    processor: ProcessorStatus | None
    num_restarts: int
    restart_at: datetime | None
    last_error: LastError | None
    is_superseded: bool
    intake_since_s: float | None


class Supervisor:
    """Keeps one consumer as it is desired.

    Args:
        consumer: its id, for messages.
        build: makes a new incarnation; may raise as the adapters do.
        clock: time.
        desired: what holds at first.
        generation: restarts asked for so far.
    """

    def __init__(
        self,
        consumer: str,
        build: Callable[[], Incarnation],
        clock: Clock,
        *,
        desired: DesiredState = DesiredState.RUNNING,
        generation: int = 0,
    ) -> None:
        self._consumer = consumer
        self._build = build
        self._clock = clock
        self._changed = threading.Condition()
        self._desired = desired
        self._generation = generation
        self._is_closing = False
        self._drain_timeout_s: float | None = None
        self._held: ObservedState | None = None
        self._loop: Loop | None = None
        self._is_starting = False
        self._restarts = RestartState()
        self._restart_at: datetime | None = None
        self._last_error: LastError | None = None
        self._is_superseded = False
        self._intake_since_s: float | None = None
        self._suspended = 0
        self.last_report: RunReport | None = None
        self._thread = threading.Thread(target=self._supervise, name=f"consumer-{consumer}", daemon=True)

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def apply(self, desired: DesiredState, generation: int) -> None:
        """Obey: pause, resume, stop or start; a higher ``generation`` restarts. Returns at once, idempotent."""
        with self._changed:
            is_restart = generation > self._generation
            is_new = desired is not self._desired
            self._generation = max(generation, self._generation)
            self._desired = desired
            if is_restart or (is_new and desired is DesiredState.RUNNING):
                # A person has looked at it: nothing is held against it any more.
                self._held, self._is_superseded = None, False
                self._restarts.forgive()
                self._restart_at = None
            if is_restart and self._loop is not None:
                self._loop.request_stop()
            elif is_new:
                self._instruct()
            self._changed.notify_all()

    def suspend(self) -> None:
        """Keep the consumer from running until :meth:`unsuspend`: its position is about to be changed."""
        with self._changed:
            self._suspended += 1
            if self._loop is not None:
                self._loop.request_stop()
            self._changed.notify_all()

    def unsuspend(self) -> None:
        """Take back one :meth:`suspend`."""
        with self._changed:
            self._suspended -= 1
            self._changed.notify_all()

    def replay(self, row_ids: Collection[int], timeout_s: float) -> Future[ReplayAnswer] | None:
        """Ask the loop to process rows once more; None where there is none.

        Args:
            row_ids: finished rows that failed.
            timeout_s: longest wait for a loop that is being started.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._is_starting, timeout_s)
            return None if self._loop is None else self._loop.replay(row_ids)

    def wait_until_down(self, timeout_s: float) -> bool:
        """Return whether there is no loop and none is being started, at the latest after ``timeout_s``."""
        with self._changed:
            return self._changed.wait_for(lambda: self._loop is None and not self._is_starting, timeout_s)

    def shutdown(self, drain_timeout_s: float | None = None) -> None:
        """Drain and end; returns at once, :meth:`join` waits for it."""
        with self._changed:
            self._is_closing = True
            self._drain_timeout_s = drain_timeout_s
            if self._loop is not None:
                self._loop.request_stop(drain_timeout_s)
            self._changed.notify_all()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait for the end; return whether it came."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def is_alive(self) -> bool:
        """Whether the supervising thread lives."""
        return self._thread.is_alive()

    def status(self) -> SupervisorStatus:
        """Return what is the case; costs nothing."""
        with self._changed:
            processor = None if self._loop is None else self._loop.snapshot()
            if processor is not None:
                observed = _OF_PHASE[processor.phase]
            elif self._is_starting:
                observed = ObservedState.STARTING
            elif self._held is not None:
                observed = self._held
            elif self._restart_at is not None:
                observed = ObservedState.RESTARTING
            else:
                observed = ObservedState.STOPPED
            return SupervisorStatus(
                observed=observed,
                processor=processor,
                num_restarts=self._restarts.num_restarts,
                restart_at=self._restart_at,
                last_error=self._last_error,
                is_superseded=self._is_superseded,
                intake_since_s=self._intake_since_s,
            )

    # In the supervising thread, or with the lock held.

    def _may_run(self) -> bool:
        return self._desired is not DesiredState.STOPPED and self._held is None and not self._suspended

    def _instruct(self) -> None:
        """Tell the loop, if there is one, what is desired; and note since when intake is allowed."""
        is_running = self._desired is DesiredState.RUNNING and self._loop is not None
        if not is_running:
            self._intake_since_s = None
        elif self._intake_since_s is None:
            self._intake_since_s = self._clock.monotonic_s()
        if self._loop is None:
            return
        if self._is_closing or not self._may_run():
            self._loop.request_stop(self._drain_timeout_s)
        elif self._desired is DesiredState.PAUSED:
            self._loop.pause()
        else:
            self._loop.resume()

    def _supervise(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_closing or self._may_run())
                if self._is_closing:
                    return
                self._is_starting, self._restart_at = True, None
            delay_s = self._live_once()
            if delay_s is not None:
                self._wait(delay_s)

    def _wait(self, delay_s: float) -> None:
        """Wait for the restart, or until a person changes something."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._is_closing or self._restart_at is None or not self._may_run(), timeout=delay_s
            )
            self._restart_at = None

    def _live_once(self) -> float | None:
        """Run one incarnation to its end; return the delay before the next if it failed."""
        started_s = self._clock.monotonic_s()
        incarnation: Incarnation | None = None
        try:
            incarnation = self._build()
            incarnation.start()
            with self._changed:
                self._loop, self._is_starting = incarnation.loop, False
                self._instruct()
                self._changed.notify_all()
            self.last_report = incarnation.loop.run()
        except SightLostError as error:
            # A consumer with nothing to do for longer than snapshots are kept; to start again is all it takes.
            return self._failed(error, self._clock.monotonic_s() - started_s)
        except (ConfigurationError, StopError) as error:
            self._hold(error)
        except Exception as error:
            if not isinstance(error, SluiceError):
                _log.exception("consumer %s ended on an unexpected error", self._consumer)
            return self._failed(error, self._clock.monotonic_s() - started_s)
        finally:
            if incarnation is not None:
                self._close(incarnation)
            with self._changed:
                self._loop, self._is_starting, self._intake_since_s = None, False, None
                self._changed.notify_all()
        return None

    def _close(self, incarnation: Incarnation) -> None:
        """Give back what an incarnation holds; what cannot be is told, and keeps nobody from the next one."""
        try:
            incarnation.close()
        except Exception as error:
            if not isinstance(error, SluiceError):
                _log.exception("consumer %s could not give everything back", self._consumer)
            with self._changed:
                self._note(error)

    def _hold(self, error: SluiceError) -> None:
        with self._changed:
            self._note(error)
            self._is_superseded = isinstance(error, FencedError)
            self._held = ObservedState.STOPPED if self._is_superseded else ObservedState.FAILED

    def _failed(self, error: Exception, ran_for_s: float) -> float:
        with self._changed:
            self._note(error)
            delay_s = self._restarts.failed(ran_for_s)
            self._restart_at = self._clock.now() + timedelta(seconds=delay_s)
        _log.warning("consumer %s is started again in %.0f s", self._consumer, delay_s)
        return delay_s

    def _note(self, error: Exception) -> None:
        _log.warning("consumer %s ended: %s", self._consumer, error)
        self._last_error = LastError(self._clock.now(), type(error).__name__, str(error) or type(error).__name__)
