"""What the captioners that run here share: deterministic generation, and batches of clips of one shape."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

from transformers import GenerationConfig

from consumers.errors import ConfigurationError
from consumers.models.base import Frame
from consumers.models.batching import BatchRunner
from consumers.models.hub import Checkpoint
from schemas.models import CaptionerParams, GenerationParams

Clip = Sequence[Frame]

_FAMILIES = {
    "video_blip": {"blip-2", "VideoBlipForConditionalGeneration"},
    "blip2": {"blip-2"},
    "qwen2_5_vl": {"qwen2_5_vl"},
    "qwen3_vl": {"qwen3_vl"},
}


def require_family(checkpoint: Checkpoint, params: CaptionerParams) -> None:
    """Return if the checkpoint is of the configured family.

    Raises:
        ConfigurationError: it is of another.
    """
    found = {str(checkpoint.config.get("model_type")), *(checkpoint.config.get("architectures") or [])}
    if not found & _FAMILIES[params.kind]:
        raise ConfigurationError(
            f"model {checkpoint.model_id}: it is a {checkpoint.config.get('model_type')}, but kind = {params.kind!r} "
            f"is configured; the kinds are {', '.join(_FAMILIES)} and openai_chat"
        )


def deterministic(params: GenerationParams, model: Any) -> GenerationConfig:
    """Return greedy or beam search with the special tokens of ``model``.

    Everything else a checkpoint recommends (temperature, top_p, penalties) is left behind: it belongs to sampling.
    """
    own = model.generation_config
    eos = own.eos_token_id
    pad = own.pad_token_id
    if pad is None:
        pad = eos[0] if isinstance(eos, list) else eos
    return GenerationConfig(
        do_sample=False,
        num_beams=params.num_beams,
        max_new_tokens=params.max_new_tokens,
        bos_token_id=own.bos_token_id,
        eos_token_id=eos,
        pad_token_id=pad,
        decoder_start_token_id=own.decoder_start_token_id,
    )


def caption_by_shape(
    runner: BatchRunner,
    clips: Sequence[Clip],
    shape: Callable[[Clip], Hashable],
    generate: Callable[[Sequence[Clip]], Sequence[str]],
) -> list[str]:
    """Return a caption for each clip. Only clips of equal ``shape`` share a batch.

    Prompts of one length need no padding, and padding is what would make a caption depend on its neighbours.

    Raises:
        OutOfMemoryError: a single clip does not fit.
    """
    groups: dict[Hashable, list[int]] = {}
    for index, clip in enumerate(clips):
        groups.setdefault(shape(clip), []).append(index)
    captions = [""] * len(clips)
    for indices in groups.values():
        for index, text in zip(indices, runner.run([clips[index] for index in indices], generate), strict=True):
            captions[index] = " ".join(text.split())
    return captions
