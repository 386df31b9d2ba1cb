"""The curation profile: every parameter that decides which clips are kept, under one name and one fingerprint."""

from __future__ import annotations

import hashlib
import json
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from schemas.models import ModelsParams
from schemas.records import Span

SEMANTICS_VERSION = 1
"""Raised when the same parameters would give other results than before; part of every fingerprint."""

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Unit = Annotated[float, Field(ge=0, le=1)]


class _Params(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class FilterMode(StrEnum):
    """What a filter does with a clip outside its bounds."""

    FILTER = "filter"
    """Reject it."""
    SCORE_ONLY = "score_only"
    """Record the score and pass it on."""


class SceneParams(_Params):
    """Scene segmentation as PySceneDetect's ContentDetector."""

    threshold: float = Field(27.0, gt=0, le=255, description="Mean absolute HSV difference that is a cut, 0 to 255.")
    min_scene_len_frames: int = Field(15, ge=1, description="Shortest scene, in frames at the average rate.")


class DurationParams(_Params):
    """Duration filter: a closed interval in seconds."""

    mode: FilterMode = FilterMode.FILTER
    min_s: Seconds = Field(0.0, description="Shortest clip kept, in seconds.")
    max_s: Seconds | None = Field(None, description="Longest clip kept, in seconds; none is unbounded.")

    @model_validator(mode="after")
    def _ordered(self) -> DurationParams:
        if self.max_s is not None and self.max_s < self.min_s:
            raise ValueError(f"max_s ({self.max_s}) is below min_s ({self.min_s})")
        return self


class FramesParams(_Params):
    """Frame extraction for the model stages."""

    method: Literal["uniform", "keyframe"] = Field("uniform", description="Which frames stand for a clip.")
    num_frames: int = Field(
        3, ge=1, le=64, description="Uniform: frames per clip. 1 is the middle, 2 the ends, 3 and more include both."
    )
    frames_per_second: float | None = Field(
        None, gt=0, le=2, description="Uniform: frames per second of clip instead of a fixed number, at most 64 a clip."
    )
    size_px: int = Field(224, ge=32, le=1024, description="Short side of an extracted frame, in pixels.")


class NsfwParams(_Params):
    """NSFW filter. Without a model nothing is scored and ``unscored`` says what happens to the clip."""

    mode: FilterMode = FilterMode.FILTER
    max_score: Unit = Field(0.5, description="Highest nsfw probability kept.")
    reduce: Literal["avg", "max", "min"] = Field("avg", description="How the scores of the frames become one.")
    unscored: Literal["hold", "pass"] = Field(
        "hold", description="Without a model: hold rejects every clip as unscored, pass lets it through, unscored."
    )


class MotionParams(_Params):
    """Motion filter: mean Farneback flow magnitude in pixels between samples ``1 / sampling_fps`` seconds apart."""

    mode: FilterMode = FilterMode.FILTER
    sampling_fps: float = Field(2.0, gt=0, le=30, description="Samples per second.")
    min_score: float = Field(0.25, ge=0, description="Least mean magnitude kept, in pixels of the source frame.")
    max_score: float | None = Field(None, ge=0, description="Greatest mean magnitude kept; none is unbounded.")
    resize_long_side_px: int | None = Field(
        256, ge=32, le=4096, description="Flow is computed at this long side; none is full size, exact and slow."
    )
    relative: bool = Field(False, description="Divide the magnitude by the frame's diagonal.")


class AestheticParams(_Params):
    """Aesthetic filter. Without a model, ``technical_quality`` is measured in its place and has its own bound."""

    mode: FilterMode = FilterMode.FILTER
    min_score: Unit = Field(0.4, description="Least aesthetic score kept (a model's logit / 10).")
    max_score: Unit = Field(1.0, description="Greatest aesthetic score kept.")
    reduce: Literal["avg", "max", "min"] = Field("avg", description="How the scores of the frames become one.")
    min_technical_quality: Unit = Field(0.2, description="Without a model: least technical quality kept, 0 to 1.")


class ClipOutputParams(_Params):
    """How kept clips are cut."""

    mode: Literal["auto", "h264", "copy", "none"] = Field(
        "auto",
        description="auto: stream copy where exact, else re-encode; h264: re-encode; copy: edit list from the keyframe "
        "before (hidden frames stay in the bytes); none: only the reference.",
    )
    thumbnail_long_side_px: int = Field(320, ge=16, le=1920, description="Long side of the JPEG thumbnail, in pixels.")


class Profile(_Params):
    """A named set of parameters for all stages."""

    name: str = Field("default", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
    scene: SceneParams = SceneParams()
    duration: DurationParams = DurationParams()
    frames: FramesParams = FramesParams()
    nsfw: NsfwParams = NsfwParams()
    motion: MotionParams = MotionParams()
    aesthetic: AestheticParams = AestheticParams()
    clips: ClipOutputParams = ClipOutputParams()
    models: ModelsParams | None = Field(None, description='Models of stages 4, 6 and 7; "none": the built-ins.')

    @field_validator("models", mode="before")
    @classmethod
    def _none_by_name(cls, value: Any) -> Any:
        return None if value == "none" else value

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change whenever a parameter or the semantics change; the name does not count.

        Raises:
            ValueError: a model is read from a directory whose contents have not been hashed yet.
        """
        params = self.model_dump(mode="json", exclude={"name", "models"})
        if self.models is not None and (models := self.models.identity()):
            params["models"] = models
        text = json.dumps([SEMANTICS_VERSION, params], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def clip_id(source_table: str, row_id: int, span: Span, fingerprint: str) -> str:
    """Return the deterministic id of a clip: 32 hexadecimal digits over source row, span and profile fingerprint."""
    text = "\x1f".join((source_table, str(row_id), str(span.start_pts), str(span.end_pts), fingerprint))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class Limits(_Params):
    """Bounds on one video; beyond them it is dead-lettered with the figure that was too large."""

    max_pixels: int = Field(8192 * 4352, ge=1, description="Largest frame, width times height.")
    max_duration_s: float = Field(4 * 3600.0, gt=0, description="Longest video, in seconds.")
    max_frames: int = Field(2_000_000, ge=1, description="Most frames; 4 hours at 120 a second have 1.7 million.")
    max_bytes: int = Field(64 * 1024**3, ge=1, description="Largest object, in bytes.")
    deadline_s: float = Field(1800.0, gt=0, description="Longest processing of one video, in seconds.")
