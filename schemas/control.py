"""What operators want of a consumer, and the trail of what they did: the values kept in the control table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any


class DesiredState(StrEnum):
    """What a consumer is meant to do."""

    RUNNING = "running"
    PAUSED = "paused"
    """Keeps its workers and its place, and takes in nothing new."""
    STOPPED = "stopped"
    """Gives its workers back."""


@dataclass(frozen=True, slots=True)
class Desired:
    """The desired state of one consumer, and who asked for it.

    Attributes:
        state: what was asked for.
        actor: who asked.
        at: when.
        reason: why, in the actor's words.
        until: when it turns back into running by itself; None is never.
        generation: counts requested restarts; a host restarts its consumer when it sees a higher one.
    """

    state: DesiredState
    actor: str
    at: datetime
    reason: str | None = None
    until: datetime | None = None
    generation: int = 0

    @classmethod
    def initial(cls) -> Desired:
        """Return what holds where nobody has asked for anything."""
        return cls(DesiredState.RUNNING, "nobody", datetime.fromtimestamp(0, UTC))

    def effective(self, now: datetime) -> DesiredState:
        """Return what holds at ``now``: running once ``until`` has passed."""
        if self.until is not None and now >= self.until:
            return DesiredState.RUNNING
        return self.state

    def restarted(self) -> Desired:
        """Return the same wish with a restart asked for."""
        return replace(self, generation=self.generation + 1)

    def to_json(self) -> str:
        """Return the form stored beside actor, reason and time."""
        until = None if self.until is None else self.until.isoformat()
        return json.dumps({"state": self.state.value, "until": until, "generation": self.generation})

    @classmethod
    def from_json(cls, text: str, actor: str, reason: str | None, at: datetime) -> Desired:
        """Read what :meth:`to_json` wrote.

        Raises:
            ValueError: ``text`` is not a desired state.
        """
        try:
            raw: Any = json.loads(text)
            until = None if raw["until"] is None else datetime.fromisoformat(raw["until"])
            return cls(DesiredState(raw["state"]), actor, at, reason, until, int(raw["generation"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not a desired state: {text!r} ({error})") from error


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One thing an operator did: who, what, when, from where.

    Attributes:
        entry_id: unique, and sorted by time.
        action: a bounded word, such as ``pause``.
        consumer: whom it concerned.
        actor: who, as the token is named.
        origin: the caller's network address.
        at: when.
        reason: why, in the actor's words.
        detail: what else there is to say, as text.
    """

    entry_id: str
    action: str
    consumer: str
    actor: str
    origin: str
    at: datetime
    reason: str | None = None
    detail: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the form stored beside actor, reason and time."""
        return json.dumps(
            {
                "action": self.action,
                "consumer": self.consumer,
                "origin": self.origin,
                "detail": dict(self.detail),
            }
        )

    @classmethod
    def from_json(cls, entry_id: str, text: str, actor: str, reason: str | None, at: datetime) -> AuditEntry:
        """Read what :meth:`to_json` wrote.

        Raises:
            ValueError: ``text`` is not an entry.
        """
        try:
            raw: Any = json.loads(text)
            return cls(entry_id, raw["action"], raw["consumer"], actor, raw["origin"], at, reason, dict(raw["detail"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not an audit entry: {text!r} ({error})") from error
