"""Stage 4's model: an image classifier; the score is the probability of its nsfw class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import AutoModelForImageClassification

from consumers.errors import ConfigurationError
from consumers.models.base import Frame, ModelInfo
from consumers.models.batching import BatchedModel
from consumers.models.frames import score_frames
from consumers.models.hub import locate
from consumers.models.loading import load_image_config, load_model, refuse_custom_code
from consumers.models.preprocess import Preprocessor
from schemas.models import NsfwModelParams
from schemas.records import Stage


class NsfwScorer(BatchedModel):
    """Probability of the nsfw class per frame, 0 to 1: softmax over the classes, in float32.

    Args:
        model: an image classification model of transformers, on its device.
        preprocess: as the checkpoint asks for.
        class_index: the class whose probability is the score.
        info: what is loaded.
        batch_size: most frames in one forward pass.
    """

    def __init__(
        self, model: Any, preprocess: Preprocessor, class_index: int, info: ModelInfo, batch_size: int
    ) -> None:
        super().__init__(info, batch_size, Stage.NSFW)
        self._model = model
        self._preprocess = preprocess
        self._class_index = class_index

    @classmethod
    def load(cls, params: NsfwModelParams, directory: str | None = None) -> NsfwScorer:
        """Load what ``params`` name.

        Args:
            params: model, revision, class and how to run it.
            directory: ``ModelsParams.directory``.

        Raises:
            ConfigurationError: it cannot be had or loaded, or has no such class.
        """
        checkpoint = locate(params, directory)
        refuse_custom_code(checkpoint)
        preprocess = Preprocessor.from_config(load_image_config(checkpoint), checkpoint.model_id)
        class_index = find_class(checkpoint.config, params.label, checkpoint.model_id)
        model, info = load_model(checkpoint, AutoModelForImageClassification, params)
        return cls(model, preprocess, class_index, info, params.batch_size)

    def score(self, clips: Sequence[Sequence[Frame]]) -> list[list[float]]:
        """Return for each clip the probability of each frame, 0 to 1."""
        return score_frames(self._runner, clips, self._forward)

    def _forward(self, frames: Sequence[Frame]) -> list[float]:
        with torch.inference_mode():
            pixels = self._preprocess(frames, self._model.device, self._model.dtype)
            logits = self._model(pixel_values=pixels).logits.float()
            scores: list[float] = logits.softmax(-1)[:, self._class_index].tolist()
        return scores


def find_class(config: Mapping[str, Any], label: str, model: str) -> int:
    """Return the index of the class named ``label``, case ignored.

    Raises:
        ConfigurationError: there is none, or its index does not fit.
    """
    labels = config.get("label2id")
    if not isinstance(labels, dict):
        labels = {name: index for index, name in (config.get("id2label") or {}).items()}
    matches = {int(index) for name, index in labels.items() if str(name).casefold() == label.casefold()}
    if len(matches) != 1 or not 0 <= min(matches) < len(labels):
        raise ConfigurationError(
            f"model {model}: it has no class named {label!r}; its classes are "
            f"{', '.join(map(str, labels)) or 'unnamed'}. Choose an nsfw classifier, "
            "or set profile.models.nsfw.label to the class to be filtered"
        )
    return matches.pop()
