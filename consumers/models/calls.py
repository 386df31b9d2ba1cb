"""How a stage asks a model about one clip, wherever the model runs, and what can be answered. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from consumers.clock import Deadline
from consumers.errors import ConfigurationError, RetryableError, VideoError
from consumers.models.base import Frame, OutOfMemoryError, spread
from schemas.models import CaptionerParams, CheckpointParams, ModelsParams, OpenAIChatParams
from schemas.records import FailureKind, ModelCall, Stage

Value_co = TypeVar("Value_co", covariant=True)

ModelParams = CheckpointParams | OpenAIChatParams


class ModelUnavailableError(VideoError):
    """A model gave no answer, which says nothing about the video."""

    kind = FailureKind.TRANSIENT


class ClipRefusedError(VideoError):
    """The model refuses this one clip."""


@dataclass(frozen=True, slots=True)
class Answer(Generic[Value_co]):
    """What a model says of one clip: its ``value``, what asking took, and the clip's share of CPU time there."""

    value: Value_co
    call: ModelCall
    cpu_s: float


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """Why a model has no answer for one clip, as a plain value that every process can read.

    ``is_refusal``: the clip is at fault. ``is_out_of_memory``: a single clip does not fit. Else it may pass.
    """

    message: str
    is_refusal: bool = False
    is_out_of_memory: bool = False

    @classmethod
    def of(cls, error: Exception) -> NoAnswer:
        """Return ``error``, raised by a model, as a value."""
        if isinstance(error, OutOfMemoryError):
            return cls(str(error), is_out_of_memory=True)
        if isinstance(error, VideoError):
            return cls(str(error), is_refusal=True)
        known = isinstance(error, RetryableError | ConfigurationError)
        return cls(str(error) if known else f"{type(error).__name__}: {error}")

    def to_error(self, stage: Stage) -> VideoError:
        """Return what a stage raises for it."""
        if self.is_refusal:
            return ClipRefusedError(self.message, stage=stage)
        if self.is_out_of_memory:
            return OutOfMemoryError(self.message, stage=stage)
        return ModelUnavailableError(self.message, stage=stage)


class ClipModel(Protocol[Value_co]):
    """A model that is asked about one clip at a time, by many threads at once; batches form behind it."""

    def ask(self, frames: Sequence[Frame], deadline: Deadline) -> Answer[Value_co]:
        """Return the model's answer.

        Args:
            frames: of the clip, at least one.
            deadline: of the video; there is no waiting beyond it.

        Raises:
            ClipRefusedError: the model gives no answer for this clip.
            OutOfMemoryError: it has no memory for even this one clip.
            ModelUnavailableError: it did not answer in time, or its workers ended again and again.
        """
        ...


@dataclass(frozen=True, slots=True)
class ClipModels:
    """The models of a profile; None where a stage has none. Scorers answer a score per frame."""

    nsfw: ClipModel[list[float]] | None = None
    aesthetic: ClipModel[list[float]] | None = None
    captioner: ClipModel[str] | None = None


MODEL_STAGES = {"nsfw": Stage.NSFW, "aesthetic": Stage.AESTHETIC, "captioner": Stage.CAPTION}
"""The fields of :class:`~schemas.models.ModelsParams` and the stages that they serve, in the order of the pipeline."""


def configured(models: ModelsParams | None) -> dict[str, ModelParams]:
    """Return the parameters of every configured model, by field, in the order of the pipeline."""
    if models is None:
        return {}
    return {name: params for name in MODEL_STAGES if (params := getattr(models, name)) is not None}


def needed_frames(frames: Sequence[Frame], params: CaptionerParams | OpenAIChatParams) -> list[Frame]:
    """Return those of a clip's frames that the captioner looks at, so that no others travel."""
    return spread(frames, 1 if params.kind == "blip2" else params.max_frames)


def identity(params: ModelParams) -> tuple[str, str | None]:
    """Return id and revision of a model, for the record."""
    return (params.model if isinstance(params, OpenAIChatParams) else params.source), params.revision
