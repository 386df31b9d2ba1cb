"""Holds intake when failures look like our side's fault. A pure state machine; the time is passed in.

One call of the pool says one of three things of a video. A verdict on its content says that the store gave the bytes
and the worker lived: all is well on our side. A passing failure or the death of a worker is *suspect*: perhaps the
video's fault, perhaps ours. Everything else (a reference that is not allowed, an object that is not there) says
nothing. One suspect video proves nothing either; many different ones in a short time, and hardly a verdict among
them, do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from consumers.errors import ObjectChangedError
from consumers.loop.retry import backoff_s
from consumers.ports import BreakerState
from schemas.records import FailureKind, VideoOutcome


class Evidence(StrEnum):
    """What the end of one call says about our side."""

    HEALTHY = "healthy"
    """Store and worker did their part."""
    SUSPECT = "suspect"
    """It failed as it would if a store, a model or the workers were at fault."""
    NONE = "none"
    """It ended before our side was put to the test."""


def evidence_of(ending: VideoOutcome | BaseException) -> Evidence:
    """Return what ``ending``, the end of a call to the pool, says about our side."""
    if isinstance(ending, BaseException):
        return Evidence.SUSPECT
    if ending.failure is None:
        return Evidence.HEALTHY
    if ending.failure.error_class == ObjectChangedError.error_class():
        # Somebody replaces objects under us; the store told, and no waiting would help.
        return Evidence.HEALTHY
    if ending.failure.kind is FailureKind.TRANSIENT:
        return Evidence.SUSPECT
    return Evidence.HEALTHY if ending.bytes_read > 0 else Evidence.NONE


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When it opens, and how often it probes.

    Attributes:
        min_videos: so many different videos must have failed, each with its latest call. Where fewer are in flight at
            once, waiting for that many means waiting for dead letters.
        min_share: of the videos whose latest call ended in the window with evidence, in (0, 1].
        window_s: how far back it looks.
        probe_base_s: delay before the first probe; later ones wait longer.
        probe_max_s: longest delay between two probes.

    Raises:
        ValueError: a bound makes no sense.
    """

    min_videos: int = 5
    min_share: float = 0.6
    window_s: float = 120.0
    probe_base_s: float = 5.0
    probe_max_s: float = 300.0

    def __post_init__(self) -> None:
        if self.min_videos < 2:
            raise ValueError(f"breaker min_videos must be 2 or more: {self.min_videos}")
        if not 0 < self.min_share <= 1:
            raise ValueError(f"breaker min_share must be above 0 and at most 1: {self.min_share}")
        if self.window_s <= 0:
            raise ValueError(f"breaker window_s must be above 0: {self.window_s}")
        if not 0 <= self.probe_base_s <= self.probe_max_s:
            raise ValueError(
                f"breaker probe delays must satisfy 0 <= base <= max: {self.probe_base_s}, {self.probe_max_s}"
            )


class Breaker:
    """The state of one consumer's breaker. Not thread-safe; times are monotonic seconds, never going back.

    Args:
        policy: its bounds.
        jitter: returns a number in [0, 1), for the delays between probes.
    """

    def __init__(self, policy: BreakerPolicy, jitter: Callable[[], float]) -> None:
        self._policy = policy
        self._jitter = jitter
        self._endings: deque[tuple[float, int, Evidence]] = deque()
        self._probed: int | None = None
        self._next_probe_s = 0.0
        self.state = BreakerState.CLOSED
        self.reason: str | None = None
        self.opened_at_s: float | None = None
        self.num_probes = 0

    @property
    def is_closed(self) -> bool:
        """Whether videos flow."""
        return self.state is BreakerState.CLOSED

    @property
    def next_probe_s(self) -> float | None:
        """The time of the next probe; None unless it waits for one."""
        return self._next_probe_s if self.state is BreakerState.OPEN else None

    def may_probe(self, now_s: float) -> bool:
        """Return whether a probe is due."""
        return self.state is BreakerState.OPEN and now_s >= self._next_probe_s

    def probe_started(self, video: int) -> None:
        """Note that ``video`` was handed to the pool as the probe.

        Raises:
            RuntimeError: no probe is awaited.
        """
        if self.state is not BreakerState.OPEN:
            raise RuntimeError(f"no probe is awaited while the breaker is {self.state}")
        self.state = BreakerState.PROBING
        self._probed = video
        self.num_probes += 1

    def ended(self, video: int, evidence: Evidence, cause: str, now_s: float) -> None:
        """Note the end of a call to the pool.

        Args:
            video: its offset.
            evidence: what it says.
            cause: of a suspect end, for a person.
            now_s: when.
        """
        if self.state is BreakerState.CLOSED:
            self._note(video, evidence, now_s)
            if evidence is Evidence.SUSPECT:
                self._open_if_burst(cause, now_s)
        elif self.state is BreakerState.PROBING and video == self._probed:
            self._probe_ended(evidence, cause, now_s)

    def _note(self, video: int, evidence: Evidence, now_s: float) -> None:
        if evidence is not Evidence.NONE:
            self._endings.append((now_s, video, evidence))
        while self._endings and self._endings[0][0] < now_s - self._policy.window_s:
            self._endings.popleft()

    def _open_if_burst(self, cause: str, now_s: float) -> None:
        latest = {video: evidence for _, video, evidence in self._endings}
        num_suspect = sum(evidence is Evidence.SUSPECT for evidence in latest.values())
        if num_suspect < self._policy.min_videos or num_suspect < self._policy.min_share * len(latest):
            return
        since_s = now_s - self._endings[0][0]
        self.state = BreakerState.OPEN
        self.reason = f"{num_suspect} of {len(latest)} videos failed within {since_s:.0f} s, the last: {cause}"
        self.opened_at_s = now_s
        self.num_probes = 0
        self._endings.clear()
        self._schedule(now_s)

    def _probe_ended(self, evidence: Evidence, cause: str, now_s: float) -> None:
        self._probed = None
        if evidence is Evidence.HEALTHY:
            self.state, self.reason, self.opened_at_s = BreakerState.CLOSED, None, None
            return
        self.state = BreakerState.OPEN
        if evidence is Evidence.SUSPECT:
            self.reason = f"probe {self.num_probes} failed: {cause}"
            self._schedule(now_s)

    def _schedule(self, now_s: float) -> None:
        policy = self._policy
        self._next_probe_s = now_s + backoff_s(
            self.num_probes + 1, policy.probe_base_s, policy.probe_max_s, self._jitter
        )
