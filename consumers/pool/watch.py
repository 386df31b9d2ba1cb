"""What a pool on Ray finds out beside its calls: where the videos stand, how many replicas run, whether Ray lives.

Two threads, because Ray's calls may wait for ever on a cluster that has died: one asks Ray, the other only looks at
processes and sockets.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from consumers.pool_report import Heard, StageReplicas
from schemas.records import Stage

_READ_EVERY_S = 1.0
_LOOK_EVERY_S = 2.0
# Serve's status costs this process 24 ms of CPU, a look at the board 1.
_COUNT_EVERY_S = 20.0
_ANSWER_WITHIN_S = 5.0
_END_WITHIN_S = 10.0
# A head that is started anew within this time is taken for the same; Ray itself ends this process after 60 s.
_HEAD_MAY_BE_AWAY_S = 20.0

_log = logging.getLogger(__name__)


class Reader:
    """Asks Ray in a thread of its own; what it knows is read without waiting.

    Args:
        board: the actor.
        open_rows: returns the row ids of the videos that a worker may hold; with none, the board is not asked.
        count_replicas: returns those that run.
        is_node_alive: returns whether the cluster knows this process's node as alive.
        is_well: returns whether Ray will answer, without asking it.
    """

    def __init__(
        self,
        board: Any,
        open_rows: Callable[[], list[int]],
        count_replicas: Callable[[], Mapping[Stage, StageReplicas]],
        is_node_alive: Callable[[], bool],
        is_well: Callable[[], bool],
    ) -> None:
        self._board = board
        self._open_rows = open_rows
        self._count_replicas = count_replicas
        self._is_node_alive = is_node_alive
        self._is_well = is_well
        self._stop = threading.Event()
        self.heard = Heard()
        self.replicas: Mapping[Stage, StageReplicas] = {}
        self.is_node_dead = False
        self._thread = threading.Thread(target=self._run, name="sluice-ray-reader", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and wait for it: a Ray that was shut down ends the process that asks it anything."""
        self._stop.set()
        self._thread.join(_END_WITHIN_S)

    def _run(self) -> None:
        count_at_s = 0.0
        while not self._stop.wait(_READ_EVERY_S):
            self._read()
            if time.monotonic() >= count_at_s and not self._stop.is_set():
                self._count()
                count_at_s = time.monotonic() + _COUNT_EVERY_S

    def _read(self) -> None:
        import ray  # noqa: PLC0415 - see embedded_ray

        rows, asked_at_s = self._open_rows(), time.monotonic()
        if not rows:
            return
        try:
            heard: Heard = ray.get(self._board.read.remote(rows), timeout=_ANSWER_WITHIN_S)
            self.heard = replace(heard, at_s=asked_at_s)
        except Exception as error:
            # The report says less until the board is back.
            self.heard = Heard()
            _log.debug("the board could not be read: %s", error)

    def _count(self) -> None:
        try:
            # Otherwise Ray would wait for ever, and this thread could not be ended.
            if self._is_well():
                self.replicas = self._count_replicas()
            if self._is_well():
                self.is_node_dead = not self._is_node_alive()
        except Exception as error:
            _log.debug("the replicas could not be counted: %s", error)


class Liveness:
    """Looks every other second whether Ray is still there, without asking it anything.

    Args:
        is_alive: returns whether the processes that this one depends on are.
        answers: returns whether the cluster's head does.
        on_lost: called once, from the watching thread, with what was found.
    """

    def __init__(
        self, is_alive: Callable[[], bool], answers: Callable[[], bool], on_lost: Callable[[str], None]
    ) -> None:
        self._is_alive = is_alive
        self._answers = answers
        self._on_lost = on_lost
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sluice-ray-liveness", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; returns at once."""
        self._stop.set()

    def _run(self) -> None:
        away_since_s: float | None = None
        what: str | None = None
        while what is None and not self._stop.wait(_LOOK_EVERY_S):
            now_s = time.monotonic()
            if self._answers():
                away_since_s = None
            elif away_since_s is None:
                away_since_s = now_s
            if not self._is_alive():
                what = "the Ray node of this machine has ended"
            elif away_since_s is not None and now_s - away_since_s >= _HEAD_MAY_BE_AWAY_S:
                what = "the head of the Ray cluster does not answer any more"
        if what is not None and not self._stop.is_set():
            self._on_lost(what)
