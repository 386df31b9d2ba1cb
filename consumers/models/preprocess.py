"""Turns frames into model inputs with torch, batched, as the checkpoint's preprocessor_config.json says.

Equal to the reference image processor of transformers (Pillow before 13) ahead of normalisation: within 1/255, but for
fewer than one value in a thousand, which are within 2/255. Resizing works on 8-bit values,
as Pillow does: in floating point without rounding and clamping, bicubic is off by up to 20 levels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.functional import interpolate

from consumers.errors import ConfigurationError
from consumers.models.base import Frame

_MODES = {2: "bilinear", 3: "bicubic"}
"""Pillow's numbers of the resampling filters that torch has too."""


def to_batch(frames: Sequence[Frame], device: torch.device) -> torch.Tensor:
    """Return frames of one size as ``(N, 3, H, W)`` uint8 on ``device``, in memory still channels last."""
    # Not rearranged: torch's 8-bit resize is fastest on interleaved channels, and a copy is saved.
    return torch.from_numpy(np.stack(frames)).to(device, non_blocking=True).permute(0, 3, 1, 2)


def resize(batch: torch.Tensor, size: tuple[int, int], mode: str) -> torch.Tensor:
    """Return ``(N, 3, H, W)`` uint8 resized to ``size`` (height, width) with antialiasing, as Pillow does it."""
    if tuple(batch.shape[-2:]) == size:
        return batch
    if batch.device.type == "cpu":
        return interpolate(batch, size=size, mode=mode, antialias=True)
    # The kernel of the GPU has no uint8.
    return resize_rounded(batch, size, mode)


def resize_rounded(batch: torch.Tensor, size: tuple[int, int], mode: str) -> torch.Tensor:
    """As :func:`resize`, by way of float32: first the width, then the height, rounded and clamped after each.

    Pillow keeps 8 bits between its two passes. One clamp at the end leaves bicubic off by 12 levels at sharp edges.
    """
    pixels = batch.float()
    for target in ((pixels.shape[-2], size[1]), size):
        pixels = interpolate(pixels, size=target, mode=mode, antialias=True).round_().clamp_(0, 255)
    return pixels.to(torch.uint8)


@dataclass(frozen=True, slots=True)
class Normalization:
    """``(pixel * scale - mean) / std`` per channel; pixels are 0 to 255."""

    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def apply(self, batch: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Return ``(N, 3, H, W)`` uint8 as normalised ``dtype``; computed in float32."""
        mean = torch.tensor(self.mean, device=batch.device).view(1, -1, 1, 1)
        std = torch.tensor(self.std, device=batch.device).view(1, -1, 1, 1)
        return batch.float().mul_(self.scale / std).sub_(mean / std).to(dtype)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Normalization:
        """Return what a preprocessor_config.json says."""
        scale = float(config.get("rescale_factor", 1 / 255)) if config.get("do_rescale", True) else 1.0
        if not config.get("do_normalize", True):
            return cls(scale, (0.0,) * 3, (1.0,) * 3)
        return cls(scale, tuple(map(float, config["image_mean"])), tuple(map(float, config["image_std"])))


@dataclass(frozen=True, slots=True)
class Preprocessor:
    """Resize, centre crop and normalise to one fixed input size.

    Attributes:
        size: (height, width) to resize to, or None.
        shortest_edge: length that the short side is resized to, or None.
        crop: (height, width) cut from the centre, or None.
        mode: ``bilinear`` or ``bicubic``.
        normalization: last step.
    """

    size: tuple[int, int] | None
    shortest_edge: int | None
    crop: tuple[int, int] | None
    mode: str
    normalization: Normalization

    def __call__(self, frames: Sequence[Frame], device: torch.device, dtype: torch.dtype) -> torch.Tensor:
        """Return ``(N, 3, height, width)`` normalised, in the order of ``frames``; frames may differ in size."""
        groups: dict[tuple[int, ...], list[int]] = {}
        for index, frame in enumerate(frames):
            groups.setdefault(frame.shape, []).append(index)
        parts = []
        for indices in groups.values():
            batch = to_batch([frames[index] for index in indices], device)
            parts.append(self._crop(resize(batch, self._target(batch), self.mode)))
        if len(parts) == 1:
            return self.normalization.apply(parts[0], dtype)
        order = torch.tensor([index for indices in groups.values() for index in indices], device=device)
        return self.normalization.apply(torch.cat(parts)[order.argsort()], dtype)

    def _target(self, batch: torch.Tensor) -> tuple[int, int]:
        height, width = batch.shape[-2:]
        if self.size is not None:
            return self.size
        if self.shortest_edge is None:
            return height, width
        edge = self.shortest_edge
        long = int(edge * max(height, width) / min(height, width))
        return (edge, long) if height <= width else (long, edge)

    def _crop(self, batch: torch.Tensor) -> torch.Tensor:
        if self.crop is None:
            return batch
        top, left = ((have - want) // 2 for have, want in zip(batch.shape[-2:], self.crop, strict=True))
        return batch[..., top : top + self.crop[0], left : left + self.crop[1]]

    @classmethod
    def from_config(cls, config: Mapping[str, Any], model: str) -> Preprocessor:
        """Return what the reference processor is configured to do.

        Args:
            config: from :func:`consumers.models.loading.load_image_config`.
            model: for messages.

        Raises:
            ConfigurationError: it asks for something that this class does not do, or leaves the input size open.
        """
        where = f"model {model}: preprocessor_config.json"
        mode = _MODES.get(int(config.get("resample", 2)))
        if mode is None:
            raise ConfigurationError(f"{where} asks for resampling filter {config['resample']}; 2 and 3 are understood")
        if config.get("do_pad"):
            raise ConfigurationError(f"{where} asks for padding, which no model of this stage needs")
        try:
            size, edge = _size(config["size"])
            crop = _size(config["crop_size"])[0] if config.get("do_center_crop", False) else None
            normalization = Normalization.from_config(config)
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigurationError(f"{where} cannot be understood: {type(error).__name__} {error}") from error
        if not config.get("do_resize", True) or (edge is not None and crop is None):
            raise ConfigurationError(f"{where} leaves the input size open; choose a checkpoint with a fixed input size")
        resized = size or (edge, edge)
        if crop is not None and any(int(have or 0) < want for have, want in zip(resized, crop, strict=True)):
            raise ConfigurationError(f"{where} crops {crop} out of the smaller {resized}")
        return cls(size, edge, crop, mode, normalization)


def _size(value: Mapping[str, Any]) -> tuple[tuple[int, int] | None, int | None]:
    if value.get("shortest_edge"):
        return None, int(value["shortest_edge"])
    return (int(value["height"]), int(value["width"])), None
