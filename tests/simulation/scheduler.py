"""Who takes the next step, and what goes wrong at it: decided by one seed, so that a schedule can be run again.

Actors are greenlets: one runs until it comes to an operation on the store, and there another may be let go first.
Nothing waits for a clock; a sleep is a step that takes no time and moves the clock.
"""

from __future__ import annotations

import random
import uuid
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TypeVar

from greenlet import greenlet

_T = TypeVar("_T")
_MOST_STEPS = 40_000
_START = datetime(2026, 1, 1, tzinfo=UTC)


class CrashError(BaseException):
    """The process of an actor dies. No ``except Exception`` of the code under test may see it."""


class StoreError(OSError):
    """What the store raises; our code has to tell by itself what it means."""


class EndlessError(AssertionError):
    """A schedule did not come to an end."""


class Fault(StrEnum):
    """What goes wrong at an operation."""

    CRASH_BEFORE = "crash_before"
    CRASH_AFTER = "crash_after"
    REFUSED = "refused"
    """Nothing is done, and the actor is told so; the store may stay away for it."""
    ANSWER_LOST = "answer_lost"
    """It is done, and the actor gets an error; the store may stay away for it."""
    ANSWERED_NO = "answered_no"
    """It is done, and the client's own second attempt is answered that somebody has done it. Of a publish only."""
    LATE = "late"
    """It is not done yet: the actor gets an error, and the request arrives later. Of a publish only."""
    PAUSE_BEFORE = "pause_before"
    PAUSE_AFTER = "pause_after"


_OF_PUBLISH = (Fault.ANSWERED_NO, Fault.LATE)


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that goes wrong.

    Attributes:
        what: at which operation, as ``ledger.publish``; or by its end, as ``.publish``.
        number: at which of these, from 1 on.
        fault: what happens.
        length: for how many further operations the store stays away, or for how many steps of others it is paused.
        actor: how the name of the actor begins.
    """

    what: str
    number: int
    fault: Fault
    length: int = 0
    actor: str = ""

    def is_at(self, what: str) -> bool:
        """Return whether operation ``what`` is meant."""
        return what.endswith(self.what) if self.what.startswith(".") else what == self.what


@dataclass(slots=True)
class _Actor:
    name: str
    greenlet: greenlet
    wakes_at: int = 0
    num_away: int = 0
    is_dying: bool = False


@dataclass(slots=True)
class World:
    """One schedule under way.

    Attributes:
        seed: what everything is drawn from.
        rules: what goes wrong.
        switching: how likely another actor is let go first, at each operation.
        is_traced: keep every step as a line.
    """

    seed: int
    rules: Sequence[Rule] = ()
    switching: float = 0.3
    is_traced: bool = False
    chance: random.Random = field(init=False)
    trace: list[str] = field(default_factory=list)
    errors: list[tuple[str, BaseException]] = field(default_factory=list)
    hits: Counter[str] = field(default_factory=Counter)
    digest: int = 0
    num_steps: int = 0
    elapsed_s: float = 0.0
    is_calm: bool = False
    _actors: list[_Actor] = field(default_factory=list)
    _current: _Actor | None = None
    _hub: greenlet | None = None
    _ids: random.Random = field(init=False)
    _counts: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.chance, self._ids = random.Random(self.seed), random.Random(~self.seed)
        self._counts = [0] * len(self.rules)

    def uuid4(self) -> uuid.UUID:
        """Return the next id."""
        return uuid.UUID(int=self._ids.getrandbits(128), version=4)

    def time(self) -> float:
        """Return the time, in seconds since 1970."""
        return self.now().timestamp()

    def now(self) -> datetime:
        """Return the time."""
        return _START + timedelta(seconds=self.elapsed_s)

    def spawn(self, name: str, act: Callable[[], None]) -> None:
        """Add an actor. It ends when ``act`` returns or its process dies; any other error is kept."""

        def run() -> None:
            try:
                act()
            except CrashError:
                pass
            except BaseException as error:
                self.errors.append((name, error))

        self._actors.append(_Actor(name, greenlet(run)))

    @property
    def num_actors(self) -> int:
        """How many have not ended."""
        return len(self._actors)

    def run(self) -> None:
        """Let the actors go on until each has ended.

        Raises:
            EndlessError: one of them does not.
        """
        self._hub = greenlet.getcurrent()
        while self._actors:
            ready = [actor for actor in self._actors if actor.wakes_at <= self.num_steps]
            actor = self.chance.choice(ready) if ready else min(self._actors, key=lambda each: each.wakes_at)
            self._current = actor
            actor.greenlet.switch()
            self._current = None
            if actor.greenlet.dead:
                self._actors.remove(actor)

    def rest(self, seconds: float = 1.0) -> None:
        """Let the others go on for a while."""
        self.elapsed_s += seconds
        self._step("rest")
        self._yield()

    def operate(self, what: str, act: Callable[[], _T]) -> _T:
        """Do ``act``, an atomic operation on the store, or what the plan makes of it."""
        actor = self._current
        if actor is None or greenlet.getcurrent() is not actor.greenlet:
            # The judge looks at what there is; or a thread of a library reads for the actor.
            return act()
        if actor.is_dying:
            # Blocks that run as the process dies: there is no process.
            raise CrashError
        if self.chance.random() < self.switching:
            self._yield()
        self._step(what)
        if self.is_calm:
            return act()
        rule = self._rule(actor, what)
        fault = None if rule is None else rule.fault
        if fault is Fault.PAUSE_BEFORE:
            self._pause(actor, rule)
        elif fault is Fault.CRASH_BEFORE:
            self._die(actor)
        elif fault is Fault.REFUSED:
            actor.num_away = rule.length + 1 if rule else 1
        if actor.num_away:
            actor.num_away -= 1
            raise StoreError(f"the store does not answer: {what}")
        if fault is Fault.LATE:
            self._send_late(act, rule)
            raise StoreError(f"no answer yet: {what}")
        result = act()
        if fault is Fault.CRASH_AFTER:
            self._die(actor)
        elif fault is Fault.ANSWER_LOST:
            actor.num_away = rule.length if rule else 0
            raise StoreError(f"the answer is lost: {what}")
        elif fault is Fault.ANSWERED_NO:
            return False  # type: ignore[return-value]
        elif fault is Fault.PAUSE_AFTER:
            self._pause(actor, rule)
        return result

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Let what is done inside be no step of anybody."""
        current, self._current = self._current, None
        try:
            yield
        finally:
            self._current = current

    def reborn(self) -> None:
        """The current actor's process has died, and another takes its place."""
        if self._current is not None:
            self._current.is_dying, self._current.num_away = False, 0

    def _rule(self, actor: _Actor, what: str) -> Rule | None:
        found = None
        for index, rule in enumerate(self.rules):
            if rule.is_at(what) and actor.name.startswith(rule.actor):
                if rule.fault in _OF_PUBLISH and not what.endswith(".publish"):
                    continue
                self._counts[index] += 1
                if self._counts[index] == rule.number:
                    found = rule
                    self.hits[rule.fault] += 1
                    self._note(f"{actor.name}: {rule.fault} at {what}")
        return found

    def _send_late(self, act: Callable[[], object], rule: Rule | None) -> None:
        def arrive() -> None:
            self.note("arrives")
            act()

        self.spawn("network", arrive)
        self._actors[-1].wakes_at = self.num_steps + (rule.length if rule else 0)

    def _die(self, actor: _Actor) -> None:
        actor.is_dying = True
        raise CrashError

    def _pause(self, actor: _Actor, rule: Rule | None) -> None:
        actor.wakes_at = self.num_steps + (rule.length if rule else 0)
        self._yield()

    def _yield(self) -> None:
        if self._current is not None and self._hub is not None:
            self._hub.switch()

    def _step(self, what: str) -> None:
        self.num_steps += 1
        name = self._current.name if self._current is not None else ""
        self._note(f"{name} {what}")
        if self.num_steps > _MOST_STEPS:
            raise EndlessError(f"{_MOST_STEPS} steps, and no end")

    def note(self, line: str) -> None:
        """Keep what an actor did beside its operations."""
        self._note(f"{self._current.name if self._current is not None else ''} {line}")

    def _note(self, line: str) -> None:
        self.digest = zlib.crc32(line.encode(), self.digest)
        if self.is_traced:
            self.trace.append(line)
