"""Qwen2.5-VL and Qwen3-VL, shown the frames of a clip as a series of images.

Their own processor classes need torchvision, which has no CPU build; what of them concerns images is here, in torch.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen3VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from consumers.errors import ConfigurationError
from consumers.models.base import Frame, ModelInfo, require_frames, spread
from consumers.models.batching import BatchedModel
from consumers.models.captioners.generation import Clip, caption_by_shape, deterministic, require_family
from consumers.models.hub import locate
from consumers.models.loading import load_image_config, load_model, load_tokenizer, refuse_custom_code
from consumers.models.preprocess import Normalization, resize, to_batch
from schemas.models import CaptionerParams
from schemas.records import Stage

_CLASSES = {"qwen2_5_vl": Qwen2_5_VLForConditionalGeneration, "qwen3_vl": Qwen3VLForConditionalGeneration}
_IMAGE_TOKEN = "<|image_pad|>"  # noqa: S105
_REQUEST = "These are frames of one video clip, in order. Describe the clip in one sentence."


@dataclass(frozen=True, slots=True)
class PatchPreprocessor:
    """Resizes to a multiple of the merged patch size within bounds of area, and cuts into flat patches.

    Attributes:
        min_pixels: least area after resizing.
        max_pixels: greatest area after resizing.
        patch_px: side of a patch.
        merge: patches per side that become one token.
        temporal: times that a still image is repeated along time.
        normalization: after resizing.
    """

    min_pixels: int
    max_pixels: int
    patch_px: int
    merge: int
    temporal: int
    normalization: Normalization

    def __call__(
        self, frames: Sequence[Frame], device: torch.device, dtype: torch.dtype
    ) -> tuple[torch.Tensor, tuple[int, int]]:
        """Return ``(N * rows * columns, 3 * temporal * patch * patch)`` patches and (rows, columns) of every frame.

        The frames are of one size.
        """
        batch = to_batch(frames, device)
        height, width = smart_resize(*batch.shape[-2:], self.patch_px * self.merge, self.min_pixels, self.max_pixels)
        pixels = self.normalization.apply(resize(batch, (height, width), "bicubic"), dtype)
        rows, columns = height // self.patch_px, width // self.patch_px
        merge, patch = self.merge, self.patch_px
        grid = pixels.reshape(len(frames), 3, rows // merge, merge, patch, columns // merge, merge, patch)
        # The patches of one token stand next to each other: token row and column, then row and column within it.
        patches = grid.permute(0, 2, 5, 3, 6, 1, 4, 7)
        repeated = patches.unsqueeze(6).expand(*patches.shape[:6], self.temporal, patch, patch)
        return repeated.reshape(len(frames) * rows * columns, -1), (rows, columns)

    @classmethod
    def from_config(cls, config: Mapping[str, Any], model: str) -> PatchPreprocessor:
        """Return what the reference processor is configured to do.

        Raises:
            ConfigurationError: it is not a Qwen-VL image processor.
        """
        try:
            return cls(
                int(config["size"]["shortest_edge"]),
                int(config["size"]["longest_edge"]),
                int(config["patch_size"]),
                int(config["merge_size"]),
                int(config["temporal_patch_size"]),
                Normalization.from_config(config),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigurationError(
                f"model {model}: preprocessor_config.json is not that of a Qwen-VL ({type(error).__name__} {error}); "
                "fetch the model anew"
            ) from error


class QwenVlCaptioner(BatchedModel):
    """Captions by a Qwen-VL that is shown the frames as images, in order.

    Args:
        model: on its device. Its generation config is replaced.
        tokenizer: with the chat template.
        preprocess: as the checkpoint asks for.
        params: prompt, frames, generation and batch size.
        info: what is loaded.

    Raises:
        ConfigurationError: the chat template does not show images.
    """

    def __init__(
        self, model: Any, tokenizer: Any, preprocess: PatchPreprocessor, params: CaptionerParams, info: ModelInfo
    ) -> None:
        super().__init__(info, params.batch_size, Stage.CAPTION)
        self._model = model
        self._tokenizer = tokenizer
        self._preprocess = preprocess
        self._request = params.prompt or _REQUEST
        self._max_frames = params.max_frames
        model.generation_config = deterministic(params.generation, model)
        if not tokenizer.chat_template or self._conversation(2).count(_IMAGE_TOKEN) != 2:
            raise ConfigurationError(
                f"model {info.model_id}: its chat template does not show images; choose an instruct checkpoint of "
                f"Qwen-VL, and leave {_IMAGE_TOKEN} out of the prompt"
            )

    @classmethod
    def load(cls, params: CaptionerParams, directory: str | None = None) -> QwenVlCaptioner:
        """Load what ``params`` name.

        Raises:
            ConfigurationError: it cannot be had or loaded, or is of another family.
        """
        checkpoint = locate(params, directory)
        require_family(checkpoint, params)
        refuse_custom_code(checkpoint)
        preprocess = PatchPreprocessor.from_config(load_image_config(checkpoint), checkpoint.model_id)
        tokenizer = load_tokenizer(checkpoint)
        model, info = load_model(checkpoint, _CLASSES[params.kind], params)
        return cls(model, tokenizer, preprocess, params, info)

    def caption(self, clips: Sequence[Sequence[Frame]]) -> list[str]:
        """Return one caption per clip."""
        require_frames(clips)
        chosen = [spread(frames, self._max_frames) for frames in clips]
        return caption_by_shape(self._runner, chosen, _shape, self._generate)

    def _conversation(self, num_frames: int) -> str:
        content = [{"type": "image"}] * num_frames + [{"type": "text", "text": self._request}]
        text: str = self._tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
        return text

    def _generate(self, clips: Sequence[Clip]) -> list[str]:
        device = self._model.device
        frames = [frame for clip in clips for frame in clip]
        with torch.inference_mode():
            patches, (rows, columns) = self._preprocess(frames, device, self._model.dtype)
            num_tokens = rows * columns // self._preprocess.merge**2
            text = self._conversation(len(clips[0])).replace(_IMAGE_TOKEN, _IMAGE_TOKEN * num_tokens)
            prompt = torch.tensor([self._tokenizer(text, add_special_tokens=False).input_ids], device=device)
            ids = self._model.generate(
                input_ids=prompt.repeat(len(clips), 1),
                attention_mask=torch.ones_like(prompt).repeat(len(clips), 1),
                mm_token_type_ids=(prompt == self._model.config.image_token_id).int().repeat(len(clips), 1),
                pixel_values=patches,
                image_grid_thw=torch.tensor([[1, rows, columns]] * len(frames), device=device),
            )
        texts: list[str] = self._tokenizer.batch_decode(ids[:, prompt.shape[1] :], skip_special_tokens=True)
        return texts


def _shape(clip: Clip) -> Hashable:
    # Frames of one clip are of one size, as one decode pass makes them.
    return len(clip), clip[0].shape
