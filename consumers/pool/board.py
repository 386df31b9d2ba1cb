"""The board of a pool on Ray: workers write on it where their videos stand, the service reads it.

It is one plain actor of the application, found by name. Nothing waits for it: workers send and forget, at once when
something changes and then at most once a second, so that a short video costs a message at most. What it held when it
died is told again by those who still work.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from consumers.pool_report import Heard, VideoState
from schemas.records import Stage

NAMESPACE = "sluice"

_INTERVAL_S = 1.0
# A batch that runs for long is told of again; a model worker that is silent for longer is gone.
_REPEAT_S = 10.0
_FORGET_AFTER_S = 30.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ModelState:
    """What a model worker says: how many clips are in the batch that it runs, if it runs one."""

    worker: str
    stage: Stage
    num_running: int


Told = VideoState | ModelState


class StageBoard:
    """The actor. Knows nothing of Ray itself.

    Args:
        now_s: monotonic seconds.
    """

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._videos: dict[int, tuple[float, VideoState]] = {}
        self._models: dict[str, tuple[float, ModelState]] = {}

    def tell(self, told: Told) -> None:
        """Take what a worker says in place of what was last said of the same video, or by the same model worker."""
        if isinstance(told, VideoState):
            self._videos[told.row_id] = (self._now_s(), told)
        else:
            self._models[told.worker] = (self._now_s(), told)

    def read(self, open_rows: Iterable[int]) -> Heard:
        """Return what is known of these videos, and forget all others: they have ended. ``at_s`` is for the reader."""
        now_s, wanted = self._now_s(), set(open_rows)
        self._videos = {row_id: entry for row_id, entry in self._videos.items() if row_id in wanted}
        self._models = {name: entry for name, entry in self._models.items() if now_s - entry[0] <= _FORGET_AFTER_S}
        running: dict[Stage, int] = {}
        for _, model in self._models.values():
            running[model.stage] = running.get(model.stage, 0) + model.num_running
        return Heard(
            {
                row_id: replace(state, for_s=state.for_s + now_s - told_s)
                for row_id, (told_s, state) in self._videos.items()
            },
            running,
        )


class Teller:
    """A worker's voice: whenever something has changed, what there is to say goes to the board, at most once a second.

    Args:
        current: returns what there is to say now; None is nothing.
        send: puts it on the board; must not wait for the board.
    """

    def __init__(self, current: Callable[[], Told | None], send: Callable[[Told], None]) -> None:
        self._current = current
        self._send = send
        self._is_changed = threading.Event()
        threading.Thread(target=self._tell, name="stage-teller", daemon=True).start()

    def changed(self) -> None:
        """Have the board told; returns at once."""
        self._is_changed.set()

    def _tell(self) -> None:
        is_lasting = False
        while True:
            self._is_changed.wait(_REPEAT_S if is_lasting else None)
            self._is_changed.clear()
            told = self._current()
            is_lasting = told is not None and not (isinstance(told, ModelState) and told.num_running == 0)
            if told is not None:
                try:
                    self._send(told)
                except Exception as error:
                    _log.debug("the board could not be told: %s", error)
            time.sleep(_INTERVAL_S)


class BoardLink:
    """Sends to the board ``name`` from a worker, wherever it is; finds it anew after a failure."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._board: Any = None

    def __call__(self, told: Told) -> None:
        """Send and forget."""
        import ray  # noqa: PLC0415 - see embedded_ray

        try:
            if self._board is None:
                self._board = ray.get_actor(self._name, namespace=NAMESPACE)
            self._board.tell.remote(told)
        except Exception:
            self._board = None
            raise


def open_board(name: str) -> Any:
    """Return the board ``name``, made now unless an earlier incarnation of the consumer has left one.

    It outlives the process that made it, as the application does; Ray starts it again where it dies.
    """
    import ray  # noqa: PLC0415 - see embedded_ray

    return (
        ray.remote(StageBoard)
        .options(name=name, namespace=NAMESPACE, get_if_exists=True, lifetime="detached", num_cpus=0, max_restarts=-1)
        .remote()
    )
