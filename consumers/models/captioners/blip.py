"""BLIP-2, which describes one frame, and Video-BLIP, the same network looking at the tokens of all frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import Blip2ForConditionalGeneration

from consumers.models.base import Frame, ModelInfo, require_frames, spread
from consumers.models.batching import BatchedModel
from consumers.models.captioners.generation import Clip, caption_by_shape, deterministic, require_family
from consumers.models.hub import locate
from consumers.models.loading import load_image_config, load_model, load_tokenizer, refuse_custom_code
from consumers.models.preprocess import Preprocessor
from schemas.models import CaptionerParams
from schemas.records import Stage


class BlipCaptioner(BatchedModel):
    """Captions by BLIP-2's language model, led by what the Q-Former saw.

    Kind ``blip2`` shows it the clip's middle frame; ``video_blip`` shows it the vision tokens of all frames, one after
    the other, as yukw777's VideoBLIP does: time is folded into the batch for the vision tower and unfolded again.

    Args:
        model: on its device. Its language model's generation config is replaced.
        tokenizer: the language model's.
        preprocess: as the checkpoint asks for.
        params: kind, prompt, frames, generation and batch size.
        info: what is loaded.
    """

    def __init__(
        self, model: Any, tokenizer: Any, preprocess: Preprocessor, params: CaptionerParams, info: ModelInfo
    ) -> None:
        super().__init__(info, params.batch_size, Stage.CAPTION)
        self._model = model
        self._tokenizer = tokenizer
        self._preprocess = preprocess
        self._max_frames = 1 if params.kind == "blip2" else params.max_frames
        language = model.language_model
        self._prompt = self._prompt_ids(params.prompt)
        language.generation_config = deterministic(params.generation, language)

    @classmethod
    def load(cls, params: CaptionerParams, directory: str | None = None) -> BlipCaptioner:
        """Load what ``params`` name.

        Raises:
            ConfigurationError: it cannot be had or loaded, or is of another family.
        """
        checkpoint = locate(params, directory)
        require_family(checkpoint, params)
        refuse_custom_code(checkpoint)
        preprocess = Preprocessor.from_config(load_image_config(checkpoint), checkpoint.model_id)
        tokenizer = load_tokenizer(checkpoint)
        model, info = load_model(checkpoint, Blip2ForConditionalGeneration, params)
        return cls(model, tokenizer, preprocess, params, info)

    def caption(self, clips: Sequence[Sequence[Frame]]) -> list[str]:
        """Return one caption per clip."""
        require_frames(clips)
        chosen = [spread(frames, self._max_frames) for frames in clips]
        return caption_by_shape(self._runner, chosen, len, self._generate)

    def _prompt_ids(self, prompt: str) -> list[int]:
        language = self._model.language_model
        if not prompt and not language.config.is_encoder_decoder:
            return [self._model.config.text_config.bos_token_id]
        ids: list[int] = self._tokenizer(prompt).input_ids
        return ids

    def _generate(self, clips: Sequence[Clip]) -> list[str]:
        frames = [frame for clip in clips for frame in clip]
        with torch.inference_mode():
            pixels = self._preprocess(frames, self._model.device, self._model.dtype)
            seen = look(self._model, pixels.unflatten(0, (len(clips), -1)))
            prompt = torch.tensor([self._prompt], device=seen.device).expand(len(clips), -1)
            embeddings = torch.cat([seen, self._model.get_input_embeddings()(prompt).to(seen.dtype)], dim=1)
            mask = torch.ones(embeddings.shape[:2], dtype=torch.long, device=seen.device)
            ids = self._model.language_model.generate(inputs_embeds=embeddings, attention_mask=mask)
        texts: list[str] = self._tokenizer.batch_decode(ids, skip_special_tokens=True)
        return texts


def look(model: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Return what the language model is led by: ``(B, query tokens, hidden)`` for ``(B, T, 3, H, W)`` pixels."""
    num_clips, num_frames = pixels.shape[:2]
    tokens = model.vision_model(pixel_values=pixels.flatten(0, 1)).last_hidden_state
    tokens = tokens.unflatten(0, (num_clips, num_frames)).flatten(1, 2)
    answers = model.qformer(
        query_embeds=model.query_tokens.expand(num_clips, -1, -1),
        encoder_hidden_states=tokens,
        encoder_attention_mask=torch.ones(tokens.shape[:2], dtype=torch.long, device=tokens.device),
    ).last_hidden_state
    # The Q-Former stays in float32 whatever the dtype of the rest.
    return model.language_projection(answers.to(tokens.dtype))
