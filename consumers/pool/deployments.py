"""The classes that Ray Serve runs. They know nothing of Ray themselves."""

from __future__ import annotations

import faulthandler
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from consumers import heap
from consumers.clock import SystemClock
from consumers.pool.board import BoardLink, Teller
from consumers.pool.call_log import captured
from consumers.pool.cluster import worker_memory_bytes
from consumers.pool.limits import explain_crashes, limit_cpu, limit_memory, unlimit_cpu
from consumers.pool.remote_models import remote_models
from consumers.pool.worker import process_guarded
from consumers.pool_report import VideoProgress, VideoState
from consumers.ports import VideoProcessor
from schemas.records import VideoOutcome, VideoTask

_STDERR = 2


class VideoCurator:
    """One replica: a process of its own that decodes and curates one video at a time.

    A video that exceeds its deadline by ``deadline_grace_s`` ends the whole process, because nothing else ends a
    decoder that hangs in native code; a cooperative processor has given up by itself before that. Serve then starts
    another.

    Args:
        make_processor: called once in the replica; with the models as its one argument where there are any.
        deadline_grace_s: time above the task's deadline after which the process is ended; so long it may also have the
            CPU.
        memory_bytes: private memory that the process may have; None is no bound.
        models: handles of the model stages, by field of :class:`~schemas.models.ModelsParams`.
        cpus: that a cluster reserves for the process, where others share its node: it then has no more memory than the
            node, and its share of that where nothing was said. None where it has what was said.
        board: name of the board that is told where the video stands; None tells nobody.
    """

    def __init__(
        self,
        make_processor: Callable[..., VideoProcessor],
        deadline_grace_s: float,
        memory_bytes: int | None = None,
        models: Mapping[str, Any] | None = None,
        board: str | None = None,
        cpus: float | None = None,
    ) -> None:
        self._processor = make_processor(remote_models(models)) if models else make_processor()
        self._deadline_grace_s = deadline_grace_s
        self._clock = SystemClock()
        self._held: VideoProgress | None = None
        self._teller = None if board is None else Teller(self._state, BoardLink(board))
        heap.keep_small()
        explain_crashes()
        limit_memory(memory_bytes if cpus is None else worker_memory_bytes(memory_bytes, cpus))

    def process(self, task: VideoTask, log_path: str) -> VideoOutcome:
        """Return what became of the video; does not return if it hangs.

        Args:
            task: the video.
            log_path: where standard error goes meanwhile. It stays only if this process dies.
        """
        limit_s = task.deadline_s + self._deadline_grace_s
        self._held = progress = VideoProgress(self._clock, task.video.row_id, self._changed)
        self._changed()
        with captured(Path(log_path)):
            faulthandler.dump_traceback_later(limit_s, exit=True, file=_STDERR)
            limit_cpu(limit_s)
            try:
                return process_guarded(self._processor, task, progress)
            finally:
                self._held = None
                # Frames of some MB each, freed on one thread, are of no use to the next video on another.
                heap.give_back()
                unlimit_cpu()
                faulthandler.cancel_dump_traceback_later()

    def _state(self) -> VideoState | None:
        held = self._held
        return None if held is None else held.state()

    def _changed(self) -> None:
        if self._teller is not None:
            self._teller.changed()
