"""One replica of a model stage: a process that holds the weights. To be imported once Ray is running."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ray import serve

from consumers.models.base import Frame
from consumers.models.calls import Answer, NoAnswer
from consumers.models.worker import ModelWorker
from consumers.pool.board import BoardLink, ModelState, Teller
from schemas.records import Stage

_Clip = tuple[Sequence[Frame], float]
_Reply = Answer[Any] | NoAnswer


class ModelReplica:
    """Answers calls for one clip each; Serve's batching gathers those that come meanwhile.

    One thread runs the model, so that calls are taken and questions about its health answered while it computes.

    Args:
        load: returns the loaded model.
        stuck_after_s: a batch that takes longer makes the replica unhealthy, and Serve starts another.
        stage: that it serves.
        board: name of the board that is told how many clips are in the running batch.
    """

    def __init__(self, load: Callable[[], ModelWorker[Any]], stuck_after_s: float, stage: Stage, board: str) -> None:
        self._worker = load()
        self._stuck_after_s = stuck_after_s
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._batch_began_s: float | None = None
        self._num_running = 0
        self._stage = stage
        self._name = uuid.uuid4().hex
        self._teller = Teller(self._state, BoardLink(board))

    def reconfigure(self, batching: Mapping[str, float]) -> None:
        """Take new bounds while running: ``max_batch`` clips, gathered for at most ``linger_s`` seconds."""
        # Serve's decorator adds these two, and its types do not say so.
        gather: Any = self._gather
        gather.set_max_batch_size(int(batching["max_batch"]))
        gather.set_batch_wait_timeout_s(float(batching["linger_s"]))

    async def ask(self, frames: Sequence[Frame]) -> _Reply:
        """Return the answer for one clip, as one of a batch."""
        reply: _Reply = await self._gather((frames, time.perf_counter()))
        return reply

    async def ask_alone(self, frames: Sequence[Frame]) -> _Reply:
        """Return the answer for one clip, in a batch of its own: for clips that may have ended a replica."""
        return (await self._run([(frames, time.perf_counter())]))[0]

    async def check_health(self) -> None:
        """Return if the replica is fit to go on.

        Raises:
            RuntimeError: a batch is stuck, or the process has lost its GPU.
        """
        if self._worker.is_broken:
            raise RuntimeError("the process can no longer use its GPU")
        began_s = self._batch_began_s
        if began_s is not None and time.perf_counter() - began_s > self._stuck_after_s:
            raise RuntimeError(f"a batch has been running for more than {self._stuck_after_s:g} s")

    @serve.batch(max_batch_size=1, batch_wait_timeout_s=0.0)
    async def _gather(self, clips: list[_Clip]) -> list[_Reply]:
        return await self._run(clips)

    async def _run(self, clips: list[_Clip]) -> list[_Reply]:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._answer, clips)

    def _answer(self, clips: list[_Clip]) -> list[_Reply]:
        self._batch_began_s = began_s = time.perf_counter()
        self._num_running = len(clips)
        self._teller.changed()
        try:
            return self._worker.answer([frames for frames, _ in clips], [began_s - came_s for _, came_s in clips])
        finally:
            self._batch_began_s = None
            self._num_running = 0
            self._teller.changed()

    def _state(self) -> ModelState:
        return ModelState(self._name, self._stage, self._num_running)
