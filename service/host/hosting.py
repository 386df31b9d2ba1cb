"""Hosts consumers: desired state from the control table, observed state from the supervisors, lag from the probers."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from consumers.clock import Clock
from consumers.errors import SluiceError
from consumers.lag import LagPolicy, ObservedState, Situation, Throughput, Verdict, judge
from consumers.ports import ControlStore
from schemas.control import Desired
from service.host.supervisor import Supervisor, SupervisorStatus
from service.observe.activity import ConsumerActivity
from service.observe.events import EventBus
from service.observe.prober import Prober

_log = logging.getLogger(__name__)

_MAX_BEAT_AGE_S = 30.0
_CLOSE_GRACE_S = 30.0
_MAX_STORE_WAIT_S = 900.0
"""A store that hangs for longer may be the fault of a connection of this process: a restart is worth a try."""


@dataclass(frozen=True, slots=True)
class ConsumerView:
    """What there is to say of a consumer at one moment."""

    desired: Desired
    status: SupervisorStatus
    verdict: Verdict | None


@dataclass(frozen=True, slots=True)
class HostedConsumer:
    """One consumer of this process and everything that knows about it.

    ``on_view`` is told once a second what there is to say, and whether the observed state has changed.
    """

    consumer_id: str
    supervisor: Supervisor
    activity: ConsumerActivity
    prober: Prober
    on_view: Callable[[ConsumerView, bool], None] = lambda view, is_new_state: None


class Host:
    """Keeps every consumer of this process as the control table desires.

    Args:
        consumers: by id.
        control: the control table.
        clock: time.
        events: told of changes of state.
        policy: the bounds of the verdicts.
        poll_interval_s: time between two looks at the control table.
    """

    def __init__(
        self,
        consumers: Mapping[str, HostedConsumer],
        control: ControlStore,
        clock: Clock,
        events: EventBus,
        *,
        policy: LagPolicy | None = None,
        poll_interval_s: float = 1.0,
    ) -> None:
        self.consumers = dict(consumers)
        self.control = control
        self.events = events
        self.clock = clock
        self._policy = policy or LagPolicy()
        self._poll_interval_s = poll_interval_s
        self._version: int | None = None
        self._num_reads = self._newest_read = 0
        self._desired = {consumer_id: Desired.initial() for consumer_id in consumers}
        self._seen: dict[str, ObservedState] = {}
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._lock = threading.RLock()
        self._beat_s = time.monotonic()
        self._is_asking_store = False
        self.control_error: str | None = None
        self._thread = threading.Thread(target=self._run, name="host", daemon=True)
        self._is_started = False

    def start(self) -> None:
        """Read what is desired, then start consumers, probers and the loop that keeps looking.

        Raises:
            StoreUnavailableError: the control table did not answer; a consumer that may be paused is not started.
        """
        self._read_desired()
        with self._lock:
            self._obey()
        for consumer in self.consumers.values():
            consumer.prober.start()
            consumer.supervisor.start()
        self._thread.start()
        self._is_started = True

    def close(self, drain_timeout_s: float | None = None) -> None:
        """Drain every consumer and end.

        A store that hangs keeps nobody: what has not ended half a minute after the draining is left behind, and the
        next start goes on from the last commit.

        Args:
            drain_timeout_s: longest wait for videos in flight; None is each consumer's own, and then there is no end
                to the waiting.
        """
        end_s = None if drain_timeout_s is None else time.monotonic() + drain_timeout_s + _CLOSE_GRACE_S
        self._stop.set()
        self._wake.set()
        for consumer in self.consumers.values():
            consumer.supervisor.shutdown(drain_timeout_s)
        for consumer_id, consumer in self.consumers.items():
            if not consumer.supervisor.join(_left_s(end_s)):
                _log.warning("consumer %s does not end; it is left behind, and nothing is lost by that", consumer_id)
            if not consumer.prober.close(_left_s(end_s)):
                _log.warning("consumer %s: the store does not answer the last measurement of the lag", consumer_id)
        self._thread.join(_left_s(end_s))
        self.events.close()

    def refresh(self) -> None:
        """Obey what has just been written to the control table."""
        self._read_desired()
        with self._lock:
            self._obey()

    def desired(self, consumer_id: str) -> Desired:
        """Return what was last read of the consumer's desired state."""
        with self._lock:
            return self._desired[consumer_id]

    def view(self, consumer_id: str) -> ConsumerView:
        """Return what there is to say of a consumer."""
        consumer = self.consumers[consumer_id]
        desired, status = self.desired(consumer_id), consumer.supervisor.status()
        probe = consumer.prober.last
        if probe is None:
            return ConsumerView(desired, status, None)
        now, now_s = self.clock.now(), self.clock.monotonic_s()
        started_s = status.intake_since_s
        situation = Situation(
            desired=desired.effective(now),
            observed=status.observed,
            lag=probe.lag,
            throughput=_judged(probe.throughput),
            since_commit_s=None if probe.committed_at is None else (now - probe.committed_at).total_seconds(),
            # Where no intake is allowed although it should be, nothing excuses the silence.
            since_started_s=float("inf") if started_s is None else now_s - started_s,
            since_arrival_s=None if probe.arrived_at is None else (now - probe.arrived_at).total_seconds(),
        )
        return ConsumerView(desired, status, judge(situation, self._policy))

    @property
    def is_alive(self) -> bool:
        """Whether the host's loop beats and every thread of it lives."""
        longest_s = _MAX_STORE_WAIT_S if self._is_asking_store else max(_MAX_BEAT_AGE_S, 3 * self._poll_interval_s)
        is_beating = time.monotonic() - self._beat_s < longest_s
        return is_beating and all(
            consumer.supervisor.is_alive and consumer.prober.is_alive for consumer in self.consumers.values()
        )

    @property
    def is_started(self) -> bool:
        """Whether :meth:`start` has returned."""
        return self._is_started

    def _run(self) -> None:
        while not self._stop.is_set():
            self._beat_s = time.monotonic()
            try:
                self._is_asking_store = True
                self._read_desired()
                self.control_error = None
            except SluiceError as error:
                # What was desired last holds on.
                self.control_error = str(error)
            except Exception as error:
                _log.exception("the control table could not be read")
                self.control_error = f"{type(error).__name__}: {error}"
            finally:
                self._beat_s = time.monotonic()
                self._is_asking_store = False
            with self._lock:
                self._obey()
            self._tell_changes()
            self._wake.wait(self._poll_interval_s)

    def _read_desired(self) -> None:
        # The store is asked without the lock: while it hangs, whoever asks this host for what it knows is answered.
        with self._lock:
            self._num_reads += 1
            number = self._num_reads
        version = self.control.version()
        if version == self._version:
            return
        desired = {consumer_id: self.control.desired(consumer_id) for consumer_id in self.consumers}
        with self._lock:
            # Another thread may have begun later and been faster.
            if number > self._newest_read:
                self._desired, self._version, self._newest_read = desired, version, number

    def _obey(self) -> None:
        now = self.clock.now()
        for consumer_id, consumer in self.consumers.items():
            desired = self._desired[consumer_id]
            consumer.supervisor.apply(desired.effective(now), desired.generation)

    def _tell_changes(self) -> None:
        for consumer_id, consumer in self.consumers.items():
            view = self.view(consumer_id)
            observed = view.status.observed
            before = self._seen.get(consumer_id)
            consumer.on_view(view, observed is not before)
            if observed is not before:
                self._seen[consumer_id] = observed
                self.events.publish(
                    "state", consumer_id, {"from": None if before is None else before.value, "to": observed.value}
                )


def _left_s(end_s: float | None) -> float | None:
    return None if end_s is None else max(0.0, end_s - time.monotonic())


def _judged(throughput: tuple[Throughput, ...]) -> Throughput:
    """Return the rates that the verdict is made from: those over five minutes."""
    return throughput[min(1, len(throughput) - 1)]
