"""Who runs a consumer: a lease that its process keeps renewing, so that a second copy is refused at its start.

It spares people two copies that keep each other busy. It is not what keeps rows from being written twice: a process
that was asleep, or a clock that is wrong, may make a lease lie, and then the fence decides
(:mod:`consumers.paimon.commit.fence`).
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from consumers.clock import Clock
from consumers.errors import AlreadyRunningError, SluiceError

_log = logging.getLogger(__name__)

DEFAULT_INTERVAL_S = 5.0
MISSED_RENEWALS = 3
"""So many renewals a holder on another machine must miss before it is taken for dead."""
_LONG_DEAD = 20
"""A renewal that is so many intervals old needs no watching: no two clocks are that far apart."""
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that holds a lease.

    Attributes:
        token: of this holding; another time has another.
        host: name of its machine.
        pid: process id there.
        machine: which boot of which machine, and which namespace of process ids; empty where that cannot be told.
        started: when the process started, in the machine's own ticks: tells it from a later one with the same id.
    """

    token: str
    host: str
    pid: int
    machine: str
    started: int

    @classmethod
    def this_process(cls) -> Holder:
        """Return a new holding by the process that calls."""
        pid = os.getpid()
        return cls(uuid.uuid4().hex, socket.gethostname(), pid, _machine(), _started(pid) or 0)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"

    def is_alive(self) -> bool | None:
        """Return whether the process still runs; None where this machine cannot know."""
        if not self.machine or self.machine != _machine():
            return None
        return _started(self.pid) == self.started


@dataclass(frozen=True, slots=True)
class Lease:
    """What a holder has left for others to see.

    Attributes:
        holder: who.
        since: when it was taken.
        renewed_at: when it was last renewed, by the holder's clock.
        beat: number of renewals; it grows while the holder lives.
        interval_s: time between two renewals.
    """

    holder: Holder
    since: datetime
    renewed_at: datetime
    beat: int
    interval_s: float

    def to_json(self) -> str:
        """Return the stored form."""
        holder = {name: getattr(self.holder, name) for name in Holder.__slots__}
        since, renewed_at = self.since.isoformat(), self.renewed_at.isoformat()
        return json.dumps({**holder, "since": since, "renewed_at": renewed_at, "beat": self.beat, "s": self.interval_s})

    @classmethod
    def from_json(cls, text: str) -> Lease:
        """Read what :meth:`to_json` wrote.

        Raises:
            ValueError: ``text`` is no lease.
        """
        try:
            raw: Any = json.loads(text)
            holder = Holder(
                str(raw["token"]), str(raw["host"]), int(raw["pid"]), str(raw["machine"]), int(raw["started"])
            )
            since, renewed_at = (datetime.fromisoformat(raw[name]).astimezone(UTC) for name in ("since", "renewed_at"))
            return cls(holder, since, renewed_at, int(raw["beat"]), float(raw["s"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not a lease: {text!r} ({error})") from error


class LeaseStore(Protocol):
    """Where one lease lies."""

    def read(self) -> Lease | None:
        """Return it, or None where there is none that can be read.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        ...

    def write(self, lease: Lease) -> None:
        """Put ``lease`` in its place.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        ...

    def delete(self) -> None:
        """Remove it; none is fine.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        ...


class LeaseKeeper:
    """Takes a lease, renews it in a thread of its own, and gives it back.

    Args:
        store: where it lies.
        what: what it is a lease of, for messages: ``consumer films``.
        clock: time.
        interval_s: time between two renewals.
        sleep: waits for so many seconds.
        on_wait: told, with the longest wait in seconds, that another's lease is being watched.
    """

    def __init__(
        self,
        store: LeaseStore,
        what: str,
        clock: Clock,
        *,
        interval_s: float = DEFAULT_INTERVAL_S,
        sleep: Callable[[float], object] = time.sleep,
        on_wait: Callable[[Holder, float], None] = lambda holder, longest_s: None,
    ) -> None:
        self._store = store
        self._what = what
        self._clock = clock
        self._interval_s = interval_s
        self._sleep = sleep
        self._on_wait = on_wait
        self._lease: Lease | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def acquire(self, *, take_over: bool = False) -> None:
        """Take the lease and keep it until :meth:`close`.

        A holder on this machine is asked for by its process id. One elsewhere is watched for three of its intervals:
        if it renews nothing in that time it is dead.

        Args:
            take_over: take it from a holder that lives.

        Raises:
            AlreadyRunningError: another process holds it; nothing was changed.
            StoreUnavailableError: the store did not answer.
        """
        found = self._store.read()
        if found is not None and not take_over:
            self._refuse_if_alive(found)
        now = self._clock.now()
        self._lease = Lease(Holder.this_process(), now, now, 0, self._interval_s)
        self._store.write(self._lease)
        # Of two that start at once the one that wrote last has it.
        winner = self._store.read()
        if winner is not None and winner.holder != self._lease.holder:
            self._lease = None
            raise self._refusal(winner)
        self._thread.start()

    def renew(self) -> bool:
        """Renew it once; return whether it is still ours.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        if self._lease is None:
            return False
        found = self._store.read()
        if found is not None and found.holder != self._lease.holder:
            _log.warning(
                "%s has been taken over by %s; this process stops at its next commit", self._what, found.holder
            )
            self._lease = None
            return False
        self._lease = replace(self._lease, renewed_at=self._clock.now(), beat=self._lease.beat + 1)
        self._store.write(self._lease)
        return True

    def close(self) -> None:
        """Give it back, if it is still ours."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._lease is None:
            return
        try:
            found = self._store.read()
            if found is not None and found.holder == self._lease.holder:
                self._store.delete()
        except SluiceError as error:
            _log.warning("the lease of %s could not be given back, the next start waits for it: %s", self._what, error)
        self._lease = None

    def _refuse_if_alive(self, found: Lease) -> None:
        is_alive = found.holder.is_alive()
        if is_alive:
            raise self._refusal(found)
        age_s = (self._clock.now() - found.renewed_at).total_seconds()
        if is_alive is False or age_s > _LONG_DEAD * found.interval_s:
            return
        self._on_wait(found.holder, MISSED_RENEWALS * found.interval_s)
        for _ in range(MISSED_RENEWALS):
            self._sleep(found.interval_s)
            again = self._store.read()
            if again is None:
                return
            if again != found:
                raise self._refusal(again)

    def _refusal(self, lease: Lease) -> AlreadyRunningError:
        return AlreadyRunningError(
            f"{self._what}: {lease.holder} has been running it since {lease.since:%Y-%m-%d %H:%M:%S} UTC. Stop that "
            "one first, or run this one as a shard, or on another raw table under another id in [consumer]; `sluice "
            "run --take-over` takes over from one that hangs. Nothing was changed"
        )

    def _keep(self) -> None:
        while not self._ended.wait(self._interval_s):
            try:
                if not self.renew():
                    return
            except SluiceError as error:
                _log.warning("the lease of %s could not be renewed: %s", self._what, error)


def _machine() -> str:
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{(_PROC / 'self/ns/pid').readlink()}"
    except OSError:
        return ""


def _started(pid: int) -> int | None:
    """Return when a process started, in ticks since boot; None where it is none, or dead and not yet buried."""
    try:
        # The name in the second field may hold spaces and parentheses.
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])
