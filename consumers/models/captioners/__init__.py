"""Stage 7's models: one module per family, one way to load whichever the settings name."""

from __future__ import annotations

from consumers.models.base import Captioner
from schemas.models import CaptionerParams, OpenAIChatParams


def load_captioner(params: CaptionerParams | OpenAIChatParams, directory: str | None = None) -> Captioner:
    """Load the captioner that ``params`` name.

    Args:
        params: family, model and how to run it.
        directory: ``ModelsParams.directory``.

    Raises:
        ConfigurationError: it cannot be had or loaded, or is of another family.
    """
    # Imported when needed: a worker that asks a server needs no torch.
    if isinstance(params, OpenAIChatParams):
        from consumers.models.captioners.openai_chat import OpenAIChatCaptioner  # noqa: PLC0415

        return OpenAIChatCaptioner.load(params)
    if params.kind in {"video_blip", "blip2"}:
        from consumers.models.captioners.blip import BlipCaptioner  # noqa: PLC0415

        return BlipCaptioner.load(params, directory)
    from consumers.models.captioners.qwen_vl import QwenVlCaptioner  # noqa: PLC0415

    return QwenVlCaptioner.load(params, directory)
