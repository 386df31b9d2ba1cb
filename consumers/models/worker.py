"""A loaded model and the rules for its batches: what a model replica runs, and the inline pool in its own process."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from consumers.clock import Deadline
from consumers.errors import VideoError
from consumers.models.base import Frame
from consumers.models.calls import MODEL_STAGES, Answer, ClipModels, ModelUnavailableError, NoAnswer, configured
from schemas.models import ModelsParams, NsfwModelParams, OpenAIChatParams
from schemas.records import ModelCall, Stage

logger = logging.getLogger(__name__)

Value = TypeVar("Value")
Run = Callable[[Sequence[Sequence[Frame]]], Sequence[Value]]

_FATAL = ("CUDA error", "CUBLAS_STATUS", "CUDNN_STATUS")
"""What torch says when the process's use of the GPU is over: every later call fails as well."""


class ModelWorker(Generic[Value]):
    """Runs batches of clips through a model; one caller at a time.

    Args:
        run: the model: one value per clip, in order.
        on_gpu: whether it occupies a GPU of this machine.
    """

    def __init__(self, run: Run[Value], *, on_gpu: bool) -> None:
        self._run = run
        self._on_gpu = on_gpu
        self.is_broken = False

    def answer(self, clips: Sequence[Sequence[Frame]], queued_s: Sequence[float]) -> list[Answer[Value] | NoAnswer]:
        """Return an answer for every clip. Where the batch fails its clips are asked one by one: neighbours survive.

        Args:
            clips: frames of each.
            queued_s: how long each has waited.
        """
        try:
            return self._attempt(clips, queued_s)
        except Exception as error:
            if len(clips) == 1:
                return [self._no_answer(error)]
            logger.warning("a batch of %d clips failed, its clips are tried one by one: %s", len(clips), error)
        return [self.answer([clip], [waited_s])[0] for clip, waited_s in zip(clips, queued_s, strict=True)]

    def _attempt(self, clips: Sequence[Sequence[Frame]], queued_s: Sequence[float]) -> list[Answer[Value] | NoAnswer]:
        began_s, cpu_began_s = time.perf_counter(), time.thread_time()
        values = self._run(clips)
        share = 1 / len(clips)
        busy_s, cpu_s = share * (time.perf_counter() - began_s), share * (time.thread_time() - cpu_began_s)
        return [
            Answer(value, ModelCall(waited_s, busy_s, len(clips), self._on_gpu), cpu_s)
            for value, waited_s in zip(values, queued_s, strict=True)
        ]

    def _no_answer(self, error: Exception) -> NoAnswer:
        self.is_broken = self.is_broken or any(sign in str(error) for sign in _FATAL)
        if not isinstance(error, VideoError):
            logger.error("the model has no answer", exc_info=error)
        return NoAnswer.of(error)


class LocalModel(Generic[Value]):
    """A model in this process: one clip at a time, threads wait for each other.

    Args:
        worker: the model.
        stage: that it serves.
    """

    def __init__(self, worker: ModelWorker[Value], stage: Stage) -> None:
        self._worker = worker
        self._stage = stage
        self._lock = threading.Lock()

    def ask(self, frames: Sequence[Frame], deadline: Deadline) -> Answer[Value]:
        """Return the model's answer; see :class:`~consumers.models.calls.ClipModel`."""
        began_s = time.perf_counter()
        if not self._lock.acquire(timeout=deadline.left_s()):
            raise ModelUnavailableError("the model was busy with other clips until the deadline", stage=self._stage)
        try:
            answer = self._worker.answer([frames], [time.perf_counter() - began_s])[0]
        finally:
            self._lock.release()
        if isinstance(answer, NoAnswer):
            raise answer.to_error(self._stage)
        return answer


def load_worker(models: ModelsParams, name: str, num_threads: int) -> ModelWorker[Any]:
    """Load one model of ``models``.

    Args:
        models: which and where.
        name: ``nsfw``, ``aesthetic`` or ``captioner``.
        num_threads: of torch, on a CPU. More than there are cores for make everything slower.

    Raises:
        ConfigurationError: it cannot be had or loaded.
    """
    params = configured(models)[name]
    if not isinstance(params, OpenAIChatParams):
        # Not at the top: a worker that asks a server needs no torch.
        import torch  # noqa: PLC0415

        torch.set_num_threads(num_threads)
    if name == "captioner":
        from consumers.models.captioners import load_captioner  # noqa: PLC0415

        captioner = load_captioner(params, models.directory)  # type: ignore[arg-type]
        return ModelWorker(captioner.caption, on_gpu=captioner.info.device.startswith("cuda"))
    scorer: Any
    if isinstance(params, NsfwModelParams):
        from consumers.models.nsfw import NsfwScorer  # noqa: PLC0415

        scorer = NsfwScorer.load(params, models.directory)
    else:
        from consumers.models.aesthetic import AestheticScorer  # noqa: PLC0415

        scorer = AestheticScorer.load(params, models.directory)  # type: ignore[arg-type]
    return ModelWorker(scorer.score, on_gpu=scorer.info.device.startswith("cuda"))


def load_local(models: ModelsParams) -> ClipModels:
    """Load every configured model into this process.

    Raises:
        ConfigurationError: one cannot be had or loaded.
    """
    local = {name: LocalModel(load_worker(models, name, 1), MODEL_STAGES[name]) for name in configured(models)}
    return ClipModels(**local)
