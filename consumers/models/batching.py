"""Runs items through a model in batches, and makes the batches smaller where memory is short."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from consumers.models.base import ModelInfo, OutOfMemoryError
from schemas.records import Stage

logger = logging.getLogger(__name__)

_HOST_ALLOCATOR = "DefaultCPUAllocator: "
"""Torch puts a place in its own code, and this, before what it says about the memory of the host."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class BatchRunner:
    """Splits items into batches; a batch that does not fit in memory is halved and run again.

    The size that fitted is kept for later calls: what did not fit once is not tried for every video anew.

    Args:
        batch_size: most items in one call.
        stage: for the failure.
        what: names the model in messages.
    """

    def __init__(self, batch_size: int, stage: Stage, what: str) -> None:
        self._limit = batch_size
        self._stage = stage
        self._what = what

    @property
    def limit(self) -> int:
        """Most items in one call as of now."""
        return self._limit

    def run(self, items: Sequence[Item], call: Callable[[Sequence[Item]], Sequence[Result]]) -> list[Result]:
        """Return ``call``'s results for all items, in order. ``call`` returns one result per item.

        Raises:
            OutOfMemoryError: a single item does not fit.
        """
        results: list[Result] = []
        while len(results) < len(items):
            batch = items[len(results) : len(results) + self._limit]
            answer, reason = self._attempt(batch, call)
            if reason is None:
                results.extend(answer)
                continue
            # Only here, where the failed call's frames are gone, is its memory free to be given back.
            if torch.cuda.is_available():
                gc.collect()
                torch.cuda.empty_cache()
            if len(batch) == 1:
                raise OutOfMemoryError(
                    f"{self._what} ran out of memory on a single item ({reason}); give the worker more memory or a "
                    "larger share of the GPU, or choose a smaller model or dtype",
                    stage=self._stage,
                )
            self._limit = len(batch) // 2
            logger.warning(
                "%s ran out of memory on a batch of %d; going on with %d", self._what, len(batch), self._limit
            )
        return results

    @staticmethod
    def _attempt(
        batch: Sequence[Item], call: Callable[[Sequence[Item]], Sequence[Result]]
    ) -> tuple[Sequence[Result], str | None]:
        try:
            results = call(batch)
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            first_line = (str(error).splitlines() or [type(error).__name__])[0]
            return (), first_line.rpartition(_HOST_ALLOCATOR)[2]
        if len(results) != len(batch):
            raise ValueError(f"{len(results)} results for {len(batch)} items")
        return results, None


class BatchedModel:
    """What every model that runs here is: weights, and batches that fit beside them.

    Args:
        info: what is loaded.
        batch_size: most items in one call of the model: frames for scorers, clips for captioners.
        stage: that it serves.
    """

    def __init__(self, info: ModelInfo, batch_size: int, stage: Stage) -> None:
        self._info = info
        self._runner = BatchRunner(batch_size, stage, f"model {info.model_id}")

    @property
    def info(self) -> ModelInfo:
        """Which weights answer."""
        return self._info

    @property
    def batch_limit(self) -> int:
        """Most items in one call as of now: the batch size, less where memory ran out."""
        return self._runner.limit


def _is_out_of_memory(error: Exception) -> bool:
    # torch raises its own class for a GPU, and a plain RuntimeError for the memory of the host.
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
