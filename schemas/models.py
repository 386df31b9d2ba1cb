"""Which models score and describe clips: source, pinned revision, and how they run.

A source is a hub id (``owner/name``, with the 40-digit commit it is pinned to) or a directory (a path that begins with
``/``, ``./``, ``../`` or ``~``, pinned to the hash of its contents once it is resolved).
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

HUB_ID = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$")
COMMIT = re.compile(r"^[0-9a-f]{40}$")
CONTENT_HASH = re.compile(r"^[0-9a-f]{64}$")

KNOWN_REVISIONS = {"kpyu/video-blip-opt-2.7b-ego4d": "1967888d11f09526c8f809fc50fab3931f565be3"}
"""Revisions that were examined: safetensors, no custom code. Other hub ids have to be pinned in the settings."""

_DEPLOYMENT_FIELDS = frozenset({"device", "batch_size", "base_url", "api_key_env", "concurrency", "timeout_s"})
"""Where and how fast a model runs, not what it says: no part of the profile's fingerprint."""


class _Params(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    def identity(self) -> dict[str, Any]:
        """Return what decides the results: everything but where, and in how large batches, the model runs."""
        return self.model_dump(mode="json", exclude=set(_DEPLOYMENT_FIELDS))


class CheckpointParams(_Params):
    """A checkpoint that transformers loads in a worker."""

    source: str = Field(min_length=1, description="Hub id, or a directory beginning with /, ./, ../ or ~.")
    revision: str | None = Field(
        None,
        description="Hub id: the 40-digit commit, required. Directory: the hash of its contents, checked if given.",
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto: bfloat16 on a GPU that has it, else float32."
    )
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto: the first GPU, else the CPU.")
    batch_size: int = Field(32, ge=1, le=4096, description="Most items in one forward pass.")

    @property
    def is_local(self) -> bool:
        """Whether the source is a directory rather than a hub id."""
        return self.source.startswith(("/", "./", "../", "~")) or self.source in {".", ".."}

    @model_validator(mode="before")
    @classmethod
    def _known_revision(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("revision") is None:
            field = cls.model_fields["source"]
            source = values.get("source", None if field.is_required() else field.default)
            if source in KNOWN_REVISIONS:
                return {**values, "revision": KNOWN_REVISIONS[source]}
        return values

    @model_validator(mode="after")
    def _pinned(self) -> CheckpointParams:
        if self.is_local:
            if self.revision is not None and not CONTENT_HASH.match(self.revision):
                raise ValueError(
                    f"the revision of a directory ({self.source}) is 64 hexadecimal digits over its contents; "
                    "leave it out, or take it from `sluice models check`"
                )
            return self
        if not HUB_ID.match(self.source):
            raise ValueError(
                f"{self.source!r} is neither a hub id (owner/name) nor a directory (begin it with /, ./, ../ or ~)"
            )
        if self.revision is None or not COMMIT.match(self.revision):
            found = "has no revision" if self.revision is None else f"has revision {self.revision!r}"
            raise ValueError(
                f"{self.source} {found}: pin it to a commit of 40 hexadecimal digits, as listed on "
                f"https://huggingface.co/{self.source}/commits/main or printed by "
                f"`git ls-remote https://huggingface.co/{self.source} HEAD`"
            )
        return self

    def identity(self) -> dict[str, Any]:
        """Return what decides the results. A directory counts by its contents: where it is mounted does not matter.

        Raises:
            ValueError: a directory whose contents have not been hashed yet (``consumers.models.loading.pin``).
        """
        if not self.is_local:
            return super().identity()
        if self.revision is None:
            raise ValueError(f"the contents of {self.source} have not been hashed yet, so that no fingerprint exists")
        return {**super().identity(), "source": "directory"}


class NsfwModelParams(CheckpointParams):
    """An image classifier with an nsfw class."""

    source: str = Field("Falconsai/nsfw_image_detection", min_length=1, description="Hub id or directory.")
    label: str = Field("nsfw", min_length=1, description="Class whose probability is the score, by name; case ignored.")


class AestheticModelParams(CheckpointParams):
    """A CLIP vision tower with a regression head."""

    source: str = Field(
        "shunk031/aesthetics-predictor-v2-sac-logos-ava1-l14-linearMSE",
        min_length=1,
        description="Hub id or directory.",
    )


class GenerationParams(_Params):
    """How text is generated. Never sampled: the same frames give the same words."""

    num_beams: int = Field(4, ge=1, le=16, description="1 is greedy.")
    max_new_tokens: int = Field(128, ge=1, le=1024, description="Longest caption, in tokens.")


class CaptionerParams(CheckpointParams):
    """A captioner that runs in a worker."""

    kind: Literal["video_blip", "blip2", "qwen2_5_vl", "qwen3_vl"] = Field(
        "video_blip", description="Family of the checkpoint. blip2 describes the middle frame, the others all frames."
    )
    source: str = Field("kpyu/video-blip-opt-2.7b-ego4d", min_length=1, description="Hub id or directory.")
    batch_size: int = Field(8, ge=1, le=4096, description="Most clips in one generation.")
    prompt: str = Field(
        "", max_length=4000, description="Instruction; empty: none for BLIP families, a plain request for Qwen-VL."
    )
    max_frames: int = Field(8, ge=1, le=64, description="Most frames of one clip, spread evenly if it has more.")
    generation: GenerationParams = GenerationParams()


class OpenAIChatParams(_Params):
    """A captioner behind a server that speaks the OpenAI chat API with images, such as vLLM."""

    kind: Literal["openai_chat"]
    model: str = Field(min_length=1, description="Model name as the server knows it.")
    revision: str | None = Field(
        None, max_length=200, description="What you know of the served weights, for the record."
    )
    base_url: str = Field(description="Such as http://127.0.0.1:8000/v1; credentials do not belong in it.")
    api_key_env: str | None = Field(
        None,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="Environment variable that holds the key; none sends no key.",
    )
    prompt: str = Field("Describe this video clip in one or two sentences.", min_length=1, max_length=4000)
    max_frames: int = Field(8, ge=1, le=64, description="Most frames of one clip, spread evenly if it has more.")
    max_new_tokens: int = Field(128, ge=1, le=4096, description="Longest caption, in tokens.")
    concurrency: int = Field(8, ge=1, le=256, description="Most requests at once.")
    timeout_s: float = Field(60.0, gt=0, le=3600, description="Longest wait for one answer.")
    max_attempts: int = Field(4, ge=1, le=20, description="Attempts at one clip while the server is unavailable.")

    @field_validator("base_url")
    @classmethod
    def _plain_http(cls, value: str) -> str:
        if not re.match(r"^https?://[^/@\s?#]+(/[^\s?#@]*)?$", value):
            raise ValueError("is not an http(s) URL without credentials, query or fragment")
        return value.rstrip("/")


class ModelsParams(_Params):
    """The models of one profile; a stage without one uses the weight-free built-in.

    ``directory`` holds copies that ``sluice models pull`` made, for machines without a network; it changes where a
    pinned checkpoint is read from, and so nothing about the results.
    """

    directory: str | None = Field(None, min_length=1, description="Where `sluice models pull` put the checkpoints.")
    nsfw: NsfwModelParams | None = None
    aesthetic: AestheticModelParams | None = None
    captioner: Annotated[CaptionerParams | OpenAIChatParams, Field(discriminator="kind")] | None = None

    @field_validator("captioner", mode="before")
    @classmethod
    def _default_kind(cls, value: Any) -> Any:
        return {"kind": "video_blip", **value} if isinstance(value, dict) else value

    def identity(self) -> dict[str, Any]:
        """Return what decides the results, stage by stage."""
        stages = {"nsfw": self.nsfw, "aesthetic": self.aesthetic, "captioner": self.captioner}
        return {name: params.identity() for name, params in stages.items() if params is not None}
