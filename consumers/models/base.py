"""What a model stage is to its caller: frames of clips in, scores or a caption out, and who said it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from consumers.errors import VideoError
from schemas.records import FailureKind, Stage

Frame = NDArray[np.uint8]
"""``(height, width, 3)`` RGB, 0 to 255, as in ``SampledFrame.rgb``."""

Reduction = Literal["avg", "max", "min"]


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Which weights are loaded, and how.

    Attributes:
        model_id: hub id, directory, or the name a server gives the model.
        revision: commit, hash of a directory's contents, or what the settings say of a server's weights.
        device: ``cpu``, ``cuda:0``, or the address of a server.
        dtype: ``float32`` or ``bfloat16``; None where a server knows it alone.
        parameters: number of parameters; None where a server knows it alone.
        memory_bytes: parameters and buffers; activations come on top. None where a server knows it alone.
    """

    model_id: str
    revision: str | None
    device: str
    dtype: str | None
    parameters: int | None
    memory_bytes: int | None


class FrameScorer(Protocol):
    """Scores frames. Not thread-safe: one caller at a time."""

    @property
    def info(self) -> ModelInfo:
        """Which weights answer."""
        ...

    def score(self, clips: Sequence[Sequence[Frame]]) -> list[list[float]]:
        """Return for each clip one score per frame, in order; batches form across clips.

        Raises:
            ValueError: a clip without frames; it has no score and must be rejected before.
            OutOfMemoryError: a single frame does not fit.
        """
        ...


class Captioner(Protocol):
    """Describes clips. Deterministic: the same frames give the same words."""

    @property
    def info(self) -> ModelInfo:
        """Which weights answer."""
        ...

    def caption(self, clips: Sequence[Sequence[Frame]]) -> list[str]:
        """Return one caption per clip; batches form across clips.

        Raises:
            ValueError: a clip without frames; it must be rejected before.
            OutOfMemoryError: a single clip does not fit.
            RetryableError: a model server did not answer.
            VideoError: a model server refuses one of the clips. Call again clip by clip to learn which.
        """
        ...


class OutOfMemoryError(VideoError):
    """The model has no memory for even a single item."""

    kind = FailureKind.TRANSIENT


class BadScoreError(VideoError):
    """The model gave a score that is not a number."""


def reduce_scores(scores: Sequence[float], reduction: Reduction, stage: Stage) -> float:
    """Return the score of a clip from those of its frames.

    Raises:
        ValueError: there are no scores. No frames is a rejection, never a score.
        BadScoreError: a score is infinite or not a number.
    """
    if not scores:
        raise ValueError("a clip without frames has no score")
    if not all(map(math.isfinite, scores)):
        raise BadScoreError(
            f"the model gave {[float(score) for score in scores]}: not a number; if this repeats, set dtype = "
            '"float32" for this model',
            stage=stage,
        )
    if reduction == "avg":
        return math.fsum(scores) / len(scores)
    return max(scores) if reduction == "max" else min(scores)


def require_frames(clips: Sequence[Sequence[Frame]]) -> None:
    """Return if every clip has frames.

    Raises:
        ValueError: one has none.
    """
    for index, frames in enumerate(clips):
        if len(frames) == 0:
            raise ValueError(f"clip {index} of {len(clips)} has no frames; reject it before the model stages")


def spread(frames: Sequence[Frame], limit: int) -> list[Frame]:
    """Return at most ``limit`` frames, evenly spread, both ends included; a single one is the middle frame."""
    count = len(frames)
    if count <= limit:
        return list(frames)
    if limit == 1:
        return [frames[count // 2]]
    return [frames[round(index * (count - 1) / (limit - 1))] for index in range(limit)]
