"""Dead letters that are processed again: by the consumer's loop beside all else, or by a change of position without."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace

from consumers.loop.replays import LoopEndedError, ReplayAnswer
from consumers.paimon.reading.story import LetterFilter
from schemas.shards import Shard
from service.host.hosting import Host, HostedConsumer
from service.host.refusals import WrongStateError
from service.library import Library

_log = logging.getLogger(__name__)

MAX_REPLAYED = 10_000
_ANSWER_WITHIN_S = 2.0
_DOWN_MARGIN_S = 60.0
_CLOSE_S = 5.0


@dataclass(frozen=True, slots=True)
class Replay:
    """Dead letters that are processed again, and those that match as well and are not.

    Attributes:
        num_accepted: those that are.
        num_of_other_shards: other processes' to do.
        num_busy: being processed already.
        num_expired: of a table that is read change by change, whose changes have expired.
    """

    num_accepted: int
    num_of_other_shards: int
    num_busy: int = 0
    num_expired: int = 0


class Replayer:
    """Has dead letters processed again, one request for each consumer at a time. Thread-safe.

    Args:
        host: the consumers.
        libraries: their dead letters and positions, by consumer id.
        drain_timeout_s: how long a consumer takes to drain at most.
        shard: which part of the rows this process does.
    """

    def __init__(self, host: Host, libraries: Mapping[str, Library], *, drain_timeout_s: float, shard: Shard) -> None:
        self._host = host
        self._libraries = libraries
        self._drain_timeout_s = drain_timeout_s
        self._shard = shard
        self._lock = threading.Lock()
        self._threads: dict[str, threading.Thread] = {}

    def choose(
        self, consumer: HostedConsumer, wanted: LetterFilter | None, row_ids: Sequence[int] | None
    ) -> tuple[list[int], int]:
        """Return the dead letters that match and are this shard's, and how many are others'.

        Args:
            consumer: whose.
            wanted: all that match.
            row_ids: or these; those that are no dead letters are left out.

        Raises:
            StoreUnavailableError: the ledger did not answer.
        """
        asked = wanted or LetterFilter()
        if row_ids is not None:
            asked = replace(asked, row_ids=tuple(row_ids))
        letters = self._libraries[consumer.consumer_id].all_dead_letters(asked, MAX_REPLAYED)
        chosen = sorted(int(row["source_row_id"]) for row in letters)
        own = list(filter(self._shard.owns, chosen))
        return own, len(chosen) - len(own)

    def check_free(self, consumer: HostedConsumer) -> None:
        """Check that no other request is under way.

        Raises:
            WrongStateError: one is.
        """
        with self._lock:
            thread = self._threads.get(consumer.consumer_id)
            if thread is not None and thread.is_alive():
                raise WrongStateError("another replay is under way; wait for its event, then try again")

    def begin(self, consumer: HostedConsumer, row_ids: Sequence[int]) -> Future[ReplayAnswer]:
        """Ask for rows of this shard; an event says what became of it, and the future for whoever waits."""
        done: Future[ReplayAnswer] = Future()
        thread = threading.Thread(target=self._replay, args=(consumer, row_ids, done), name="replay", daemon=True)
        with self._lock:
            self._threads[consumer.consumer_id] = thread
        thread.start()
        return done

    def told(self, done: Future[ReplayAnswer], num_asked: int, num_of_others: int) -> Replay:
        """Return what became of it, or after two seconds that it is under way.

        Raises:
            WrongStateError: none of the rows can be replayed now, or the consumer did not drain.
            StoreUnavailableError: a table did not answer.
        """
        try:
            answer = done.result(_ANSWER_WITHIN_S)
        except TimeoutError:
            return Replay(num_asked, num_of_others)
        if not answer.accepted and answer.busy:
            raise WrongStateError(
                f"{_rows(answer.busy)} processed at this moment, or asked for already; wait for the outcome"
            )
        if not answer.accepted and answer.expired:
            raise WrongStateError(
                f"{_rows(answer.expired)} not in the raw table's changes any more, which have expired; register the "
                "video anew"
            )
        return Replay(len(answer.accepted), num_of_others, len(answer.busy), len(answer.expired))

    def close(self) -> None:
        """Wait a little for requests that are under way."""
        with self._lock:
            threads = list(self._threads.values())
        for thread in threads:
            thread.join(_CLOSE_S)

    def _replay(self, consumer: HostedConsumer, row_ids: Sequence[int], done: Future[ReplayAnswer]) -> None:
        events, name = self._host.events, consumer.consumer_id
        try:
            answer = self._by_loop(consumer, row_ids) or self._by_move(consumer, row_ids)
        except Exception as error:
            _log.warning("replay of %d rows of %s: %s", len(row_ids), name, error)
            events.publish("replay_failed", name, {"message": str(error)})
            done.set_exception(error)
            return
        events.publish(
            "replay",
            name,
            {
                "num_rows": len(answer.accepted),
                "num_busy": len(answer.busy),
                "num_expired": len(answer.expired),
            },
        )
        done.set_result(answer)

    def _by_loop(self, consumer: HostedConsumer, row_ids: Sequence[int]) -> ReplayAnswer | None:
        """Ask the loop; None where there is none, or it ends before it comes to that."""
        asked = consumer.supervisor.replay(row_ids, self._drain_timeout_s + _DOWN_MARGIN_S)
        try:
            return None if asked is None else asked.result()
        except LoopEndedError:
            return None

    def _by_move(self, consumer: HostedConsumer, row_ids: Sequence[int]) -> ReplayAnswer:
        """Change the position in the tables, with the consumer kept from running meanwhile."""
        consumer.supervisor.suspend()
        try:
            if not consumer.supervisor.wait_until_down(self._drain_timeout_s + _DOWN_MARGIN_S):
                raise WrongStateError("the consumer did not drain in time; try again")
            library = self._libraries[consumer.consumer_id]
            library.make_move(library.plan_again(row_ids))
        finally:
            consumer.supervisor.unsuspend()
        return ReplayAnswer(frozenset(row_ids))


def _rows(row_ids: frozenset[int]) -> str:
    if len(row_ids) == 1:
        return f"row {next(iter(row_ids))} is"
    return f"{len(row_ids)} rows (the first is {min(row_ids)}) are"
