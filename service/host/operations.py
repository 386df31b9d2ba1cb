"""What operators can do to a consumer, each with its entry in the audit trail."""

from __future__ import annotations

import itertools
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from consumers.lag import ObservedState
from consumers.paimon.commit.reposition import Move
from consumers.paimon.reading.story import LetterFilter
from consumers.paimon.reading.takedowns import TargetKind
from schemas.control import AuditEntry, Desired, DesiredState
from schemas.shards import WHOLE, Shard
from service.host.hosting import Host, HostedConsumer
from service.host.refusals import StalePlanError, WrongStateError
from service.host.replaying import Replay, Replayer
from service.library import Library


@dataclass(frozen=True, slots=True)
class Operator:
    """Who asks, and from where."""

    actor: str
    origin: str


class Operations:
    """Changes what is desired of consumers, and their positions. Thread-safe.

    Args:
        host: the consumers.
        libraries: their positions and dead letters, by consumer id.
        drain_timeout_s: how long a consumer takes to drain at most.
        shard: which part of the rows this process does.
    """

    def __init__(
        self, host: Host, libraries: Mapping[str, Library], *, drain_timeout_s: float, shard: Shard = WHOLE
    ) -> None:
        self._host = host
        self._libraries = libraries
        self._replayer = Replayer(host, libraries, drain_timeout_s=drain_timeout_s, shard=shard)
        self._lock = threading.Lock()
        self._numbers = itertools.count()

    def wish(
        self,
        consumer: HostedConsumer,
        state: DesiredState,
        operator: Operator,
        *,
        reason: str | None = None,
        ttl_s: float | None = None,
    ) -> Desired:
        """Store what is desired, and obey; the same wish again changes nothing.

        Raises:
            StoreUnavailableError: the control table did not answer; nothing has changed.
        """
        with self._lock:
            now = self._host.clock.now()
            before = self._host.control.desired(consumer.consumer_id)
            status = consumer.supervisor.status()
            is_down = status.is_superseded or status.observed in (ObservedState.FAILED, ObservedState.RESTARTING)
            needs_start = is_down and state is DesiredState.RUNNING
            is_same = (before.state, before.until, before.reason) == (state, None, reason) and ttl_s is None
            if is_same and not needs_start:
                return before
            until = None if ttl_s is None else now + timedelta(seconds=ttl_s)
            desired = Desired(state, operator.actor, now, reason, until, before.generation + needs_start)
            action = {"running": "resume", "paused": "pause", "stopped": "stop"}[state.value]
            detail = {"before": before.effective(now).value} | ({} if until is None else {"until": until.isoformat()})
            self._host.control.write(self._entry(consumer, action, operator, reason, detail), desired)
        self._host.refresh()
        return desired

    def restart(self, consumer: HostedConsumer, operator: Operator, reason: str | None) -> Desired:
        """Ask for a restart.

        Raises:
            WrongStateError: it is stopped.
            StoreUnavailableError: the control table did not answer.
        """
        with self._lock:
            before = self._host.control.desired(consumer.consumer_id)
            if before.effective(self._host.clock.now()) is DesiredState.STOPPED:
                raise WrongStateError(f"consumer {consumer.consumer_id} is stopped; resume it instead")
            desired = before.restarted()
            self._host.control.write(self._entry(consumer, "restart", operator, reason, {}), desired)
        self._host.refresh()
        return desired

    def move(
        self,
        consumer: HostedConsumer,
        offset: int,
        operator: Operator,
        *,
        reason: str | None,
        expected: tuple[int, int] | None,
        dry_run: bool,
    ) -> Move:
        """Change the position of a stopped consumer, or say what that would do.

        Args:
            consumer: whose.
            offset: the first that is not done.
            operator: who asks.
            reason: why.
            expected: epoch and sequence that the caller has seen; None does not check.
            dry_run: only say it.

        Raises:
            WrongStateError: it is not stopped.
            StalePlanError: ``expected`` is not what holds.
            FencedError: somebody has committed meanwhile.
            StoreUnavailableError: a table did not answer.
        """
        with self._lock:
            if not dry_run:
                self._check_stopped(consumer)
            library = self._libraries[consumer.consumer_id]
            move = library.plan_move(offset)
            if expected is not None and expected != (move.epoch, move.sequence):
                raise StalePlanError(
                    f"the position has moved on to sequence {move.sequence} of epoch {move.epoch}; get it again, and "
                    "decide again"
                )
            if dry_run:
                return move
            if move.proposed == move.current:
                # Nothing changes; a skip that was cut off before it was noted is noted now.
                library.make_move(move)
                return move
            detail = {
                "offset": str(offset),
                "before": str(move.current.watermark),
                "read_again": str(move.num_read_again),
                "skipped": str(move.num_skipped),
            }
            # The trail first: a change without an entry would be worse than an entry without a change.
            self._host.control.write(self._entry(consumer, "position", operator, reason, detail))
            library.make_move(move)
        self._host.events.publish("position", consumer.consumer_id, {"offset": offset})
        return move

    def replay(
        self,
        consumer: HostedConsumer,
        wanted: LetterFilter | None,
        row_ids: list[int] | None,
        operator: Operator,
        reason: str | None,
    ) -> Replay:
        """Have dead letters processed again, beside all that is being processed.

        Args:
            consumer: whose.
            wanted: all that match.
            row_ids: or these; those that are no dead letters are left out.
            operator: who asks.
            reason: why.

        Returns:
            How many there are. An event tells when the tables hold the request, which a crash does not undo; this
            waits two seconds for that.

        Raises:
            WrongStateError: another request is under way, or all are being processed already.
            StoreUnavailableError: a table did not answer.
        """
        own, num_of_others = self._replayer.choose(consumer, wanted, row_ids)
        if not own:
            return Replay(0, num_of_others)
        with self._lock:
            self._replayer.check_free(consumer)
            detail = {"num_rows": str(len(own)), "rows": ",".join(map(str, own[:50]))}
            self._host.control.write(self._entry(consumer, "replay", operator, reason, detail))
            done = self._replayer.begin(consumer, own)
        return self._replayer.told(done, len(own), num_of_others)

    def take_down(
        self, consumer: HostedConsumer, kind: TargetKind, value: str, operator: Operator, *, reason: str | None
    ) -> str:
        """Take a video down, and have every process that runs the consumer obey: by a restart, as it sinks in then.

        Args:
            consumer: whose ledger tells what is meant; all consumers of the tables obey.
            kind: how the video is named.
            value: its name.
            operator: who asks.
            reason: why.

        Returns:
            The takedown's id; it is durable, and a consumer that is stopped has obeyed already.

        Raises:
            ConfigurationError: there is no such row; nothing has changed.
            StoreUnavailableError: a table did not answer; asking again is harmless.
        """
        library = self._libraries[consumer.consumer_id]
        now = self._host.clock.now()
        takedown = library.plan_takedown(kind, value, operator.actor, operator.origin, now, reason)
        with self._lock:
            detail = {"takedown": takedown.takedown_id, "target": takedown.target}
            entry = self._entry(consumer, "takedown", operator, reason, detail)
            # The trail first: a change without an entry would be worse than an entry without a change.
            self._host.control.write(entry)
            library.take_down(takedown)
            for each in self._host.consumers.values():
                mine = entry if each is consumer else self._entry(each, "takedown", operator, reason, detail)
                self._obey(each, mine)
        self._host.refresh()
        self._host.events.publish("takedown", consumer.consumer_id, {"takedown_id": takedown.takedown_id})
        return takedown.takedown_id

    def _obey(self, consumer: HostedConsumer, entry: AuditEntry) -> None:
        desired = self._host.control.desired(consumer.consumer_id)
        is_stopped = desired.effective(self._host.clock.now()) is DesiredState.STOPPED
        if is_stopped and consumer.supervisor.status().observed is ObservedState.STOPPED:
            self._libraries[consumer.consumer_id].obey_takedowns()
        else:
            self._host.control.write(entry, desired.restarted())

    def close(self) -> None:
        """Wait a little for replays that are under way."""
        self._replayer.close()

    def record(self, consumer_id: str, action: str, operator: Operator, detail: Mapping[str, str]) -> None:
        """Write down something that changes no desired state.

        Raises:
            StoreUnavailableError: the control table did not answer.
        """
        self._host.control.write(self._make_entry(consumer_id, action, operator, None, detail))

    def _check_stopped(self, consumer: HostedConsumer) -> None:
        desired = self._host.control.desired(consumer.consumer_id).effective(self._host.clock.now())
        observed = consumer.supervisor.status().observed
        if desired is not DesiredState.STOPPED or observed is not ObservedState.STOPPED:
            raise WrongStateError(
                f"consumer {consumer.consumer_id} is {observed.value} and meant to be {desired.value}; stop it first, "
                "and wait until it is observed as stopped"
            )

    def _entry(
        self,
        consumer: HostedConsumer,
        action: str,
        operator: Operator,
        reason: str | None,
        detail: Mapping[str, str],
    ) -> AuditEntry:
        return self._make_entry(consumer.consumer_id, action, operator, reason, detail)

    def _make_entry(
        self, consumer_id: str, action: str, operator: Operator, reason: str | None, detail: Mapping[str, str]
    ) -> AuditEntry:
        now = self._host.clock.now()
        # As text sorted by time, then as they were made; and unique.
        entry_id = f"{now:%Y%m%dT%H%M%S.%f}Z-{next(self._numbers):06}-{uuid.uuid4().hex[:8]}"
        return AuditEntry(entry_id, action, consumer_id, operator.actor, operator.origin, now, reason, detail)
