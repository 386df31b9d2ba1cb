"""Stage 6's model: CLIP's image embedding and a small regression head, trained on human ratings from 0 to 10."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from consumers.errors import ConfigurationError
from consumers.models.base import Frame, ModelInfo
from consumers.models.batching import BatchedModel
from consumers.models.frames import score_frames
from consumers.models.hub import Checkpoint, locate
from consumers.models.loading import load_image_config, load_model
from consumers.models.preprocess import Preprocessor
from schemas.models import AestheticModelParams
from schemas.records import Stage

_SCALE = 10.0
"""Ratings are 0 to 10, ours 0 to 1, as the peer divides them."""


class AestheticModel(CLIPVisionModelWithProjection):
    """CLIP's vision tower, projection, and a head of linear layers on the L2-normalised embedding.

    The layers have the names and shapes of shunk031's aesthetics-predictor-v2 linearMSE checkpoints (after Schuhmann's
    improved-aesthetic-predictor), so that these load without the code that comes with them.
    """

    def __init__(self, config: CLIPVisionConfig) -> None:
        super().__init__(config)
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(config.projection_dim, 1024),
            torch.nn.Dropout(0.2),
            torch.nn.Linear(1024, 128),
            torch.nn.Dropout(0.2),
            torch.nn.Linear(128, 64),
            torch.nn.Dropout(0.1),
            torch.nn.Linear(64, 16),
            torch.nn.Linear(16, 1),
        )
        self.post_init()

    def rate(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Return the rating of each image, ``(N,)``, about 0 to 10, for ``(N, 3, H, W)`` normalised pixels."""
        embeddings = self.visual_projection(self.vision_model(pixel_values=pixel_values).pooler_output)
        embeddings = embeddings / embeddings.norm(dim=-1, keepdim=True)
        return self.layers(embeddings).squeeze(-1)


class AestheticScorer(BatchedModel):
    """Rating / 10 per frame; nearly always within 0 to 1, and not clamped.

    Args:
        model: on its device.
        preprocess: as the checkpoint asks for.
        info: what is loaded.
        batch_size: most frames in one forward pass.
    """

    def __init__(self, model: AestheticModel, preprocess: Preprocessor, info: ModelInfo, batch_size: int) -> None:
        super().__init__(info, batch_size, Stage.AESTHETIC)
        self._model = model
        self._preprocess = preprocess

    @classmethod
    def load(cls, params: AestheticModelParams, directory: str | None = None) -> AestheticScorer:
        """Load what ``params`` name.

        Args:
            params: model, revision and how to run it.
            directory: ``ModelsParams.directory``.

        Raises:
            ConfigurationError: it cannot be had or loaded.
        """
        checkpoint = locate(params, directory)
        preprocess = Preprocessor.from_config(load_image_config(checkpoint), checkpoint.model_id)
        model, info = load_model(checkpoint, AestheticModel, params, _config(checkpoint))
        return cls(model, preprocess, info, params.batch_size)

    def score(self, clips: Sequence[Sequence[Frame]]) -> list[list[float]]:
        """Return for each clip the score of each frame."""
        return score_frames(self._runner, clips, self._forward)

    def _forward(self, frames: Sequence[Frame]) -> list[float]:
        with torch.inference_mode():
            pixels = self._preprocess(frames, self._model.device, self._model.dtype)
            scores: list[float] = (self._model.rate(pixels).float() / _SCALE).tolist()
        return scores


def _config(checkpoint: Checkpoint) -> Any:
    # The published config.json names code of its own (auto_map) for what AestheticModel does; its figures suffice.
    known = CLIPVisionConfig().to_dict()
    figures = {key: value for key, value in checkpoint.config.items() if key in known and key != "model_type"}
    if not {"hidden_size", "projection_dim", "image_size", "patch_size"} <= figures.keys():
        raise ConfigurationError(
            f"model {checkpoint.model_id}: config.json does not describe a CLIP vision tower; choose an aesthetic "
            "predictor such as the default"
        )
    return CLIPVisionConfig(**figures)
