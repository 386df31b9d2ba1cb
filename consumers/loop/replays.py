"""Rows that people want to see processed once more, while everything else goes on."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Collection, Iterable
from concurrent.futures import Future
from dataclasses import dataclass

from consumers.errors import PositionExpiredError, SluiceError, StoreUnavailableError
from consumers.loop.committer import Committer
from consumers.loop.in_flight import InFlight
from consumers.ports import Source
from schemas.positions import OffsetRange, Position


class LoopEndedError(SluiceError):
    """The consumer's loop ended before it came to this; ask again when it runs."""


@dataclass(frozen=True, slots=True)
class ReplayAnswer:
    """What became of a request, by row id.

    Attributes:
        accepted: noted in the tables, so that a crash does not forget them: each gets a further run.
        busy: in flight, not committed yet, or asked for already.
        expired: the source does not have them any more.
        unfit: not this shard's, or not failed.
    """

    accepted: frozenset[int]
    busy: frozenset[int] = frozenset()
    expired: frozenset[int] = frozenset()
    unfit: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """Rows that are asked for, and who waits for the answer."""

    row_ids: frozenset[int]
    answer: Future[ReplayAnswer]


class Replays:
    """Requests of other threads, and the rows of earlier ones that are not finished yet.

    :meth:`ask` may be called from any thread, the rest is the loop's.

    Args:
        source: all rows.
        committer: notes the requests in the tables.
        in_flight: what is being processed.

    Attributes:
        open_rows: asked for and noted, and not finished since.
        is_urgent: whether a request is to be noted, or the last row of all is finished: somebody waits for the commit.
    """

    def __init__(self, source: Source, committer: Committer, in_flight: InFlight) -> None:
        self._source = source
        self._committer = committer
        self._in_flight = in_flight
        self._unread: list[OffsetRange] = []
        self._lock = threading.Lock()
        self._requests: deque[ReplayRequest] = deque()
        self._is_closed = False
        self._noting: tuple[ReplayRequest, ReplayAnswer] | None = None
        self.open_rows: set[int] = set()
        self.is_urgent = False

    def ask(self, row_ids: Collection[int]) -> Future[ReplayAnswer]:
        """Ask for rows; the answer comes from the loop, or is :class:`LoopEndedError`."""
        request = ReplayRequest(frozenset(row_ids), Future())
        with self._lock:
            if not self._is_closed:
                self._requests.append(request)
                return request.answer
        request.answer.set_exception(LoopEndedError())
        return request.answer

    def close(self) -> None:
        """Answer everything that the loop has not come to."""
        with self._lock:
            self._is_closed = True
            left = list(self._requests)
            self._requests.clear()
        if self._noting is not None:
            left.append(self._noting[0])
            self._noting = None
        for request in left:
            request.answer.set_exception(LoopEndedError())

    @property
    def is_asked(self) -> bool:
        """Whether a request waits for the loop."""
        return bool(self._requests)

    def begin(self) -> None:
        """Judge the oldest request, if there is one; what it asks for goes into the next commit. None may be pending.

        Raises:
            FencedError: a newer copy of this consumer has taken over.
        """
        with self._lock:
            request = self._requests.popleft() if self._requests else None
        if request is None:
            return
        try:
            answer = self._judge(request.row_ids)
        except StoreUnavailableError as error:
            request.answer.set_exception(error)
            return
        except BaseException:
            request.answer.set_exception(LoopEndedError())
            raise
        if answer.accepted:
            self._committer.replay(_ranges(answer.accepted))
            self._noting, self.is_urgent = (request, answer), True
        else:
            request.answer.set_result(answer)

    def _judge(self, row_ids: frozenset[int]) -> ReplayAnswer:
        in_flight = {row_id for row_id in row_ids if row_id in self._in_flight}
        busy = self._committer.holds(row_ids) | (row_ids & self.open_rows) | in_flight
        fit = sorted(self._committer.replayable(row_ids - busy))
        # What has expired is below what has not.
        num_expired = bisect_left(fit, True, key=self._is_readable)
        accepted, expired = frozenset(fit[num_expired:]), frozenset(fit[:num_expired])
        return ReplayAnswer(accepted, busy, expired, unfit=row_ids - busy - accepted - expired)

    def _is_readable(self, row_id: int) -> bool:
        try:
            next(iter(self._source.read([OffsetRange(row_id, row_id + 1)])), None)
        except PositionExpiredError:
            return False
        return True

    def committed(self) -> None:
        """Note that what was gathered is in the tables: who has asked is answered."""
        self.is_urgent = False
        if self._noting is not None:
            request, answer = self._noting
            self._noting = None
            self.open_rows |= answer.accepted
            self._unread += _ranges(answer.accepted)
            request.answer.set_result(answer)

    def unread(self) -> list[OffsetRange]:
        """Return what is to be read since the last call."""
        unread, self._unread = self._unread, []
        return unread

    def finished(self, offsets: OffsetRange) -> None:
        """Note that these are finished."""
        if not self.open_rows:
            return
        if len(offsets) == 1:
            done = {offsets.start} & self.open_rows
        else:
            done = {row_id for row_id in self.open_rows if offsets.start <= row_id < offsets.end}
        self.open_rows -= done
        self.is_urgent |= bool(done) and not self.open_rows


def _ranges(row_ids: Iterable[int]) -> list[OffsetRange]:
    """Return ``row_ids`` as sorted ranges that do not touch."""
    return list(Position.from_ranges(OffsetRange(row_id, row_id + 1) for row_id in row_ids).ranges())
