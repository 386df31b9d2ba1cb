"""Stage 7, caption, without a model: one sentence that states what was measured, marked as not model-generated."""

from __future__ import annotations

import colorsys
import math
from typing import Final

import numpy as np

from consumers.stages.base import ClipEvidence, StageResult
from schemas.records import Caption, MediaInfo, Stage

_Scale = tuple[tuple[float, str], ...]

_HUES: _Scale = (
    (15, "red"),
    (45, "orange"),
    (70, "yellow"),
    (165, "green"),
    (200, "cyan"),
    (260, "blue"),
    (330, "purple"),
    (361, "red"),
)
_BRIGHTNESS: _Scale = (
    (0.1, "very dark"),
    (0.3, "dark"),
    (0.7, "medium-bright"),
    (1.1, "bright"),
)
_MOTION: _Scale = (
    (0.25, "hardly any motion"),
    (2.0, "slow motion"),
    (8.0, "moderate motion"),
    (math.inf, "fast motion"),
)
_LEAST_CHROMA: Final = 0.04


class TemplateCaptioner:
    """Describes a clip by measured facts alone: length, size, frame rate, brightness, dominant colour and motion.

    Args:
        media: of the clip's video, as far as it is known while the video is decoded.
        motion_is_relative: whether motion is measured in frame diagonals instead of pixels.
    """

    stage = Stage.CAPTION

    def __init__(self, media: MediaInfo, *, motion_is_relative: bool) -> None:
        self._media = media
        self._motion_unit_px = math.hypot(media.width_px, media.height_px) if motion_is_relative else 1.0

    def judge(self, clip: ClipEvidence) -> StageResult:
        """Return the description; never rejects."""
        return StageResult(caption=Caption(self._describe(clip), "template", is_model_generated=False))

    def _describe(self, clip: ClipEvidence) -> str:
        rate = "" if self._media.fps is None else f" at {self._media.fps:.4g} frames per second"
        facts = [f"A {clip.span.duration_s:.1f} s clip of {self._media.width_px}x{self._media.height_px} pixels{rate}"]
        if clip.frames:
            mean_rgb = np.mean([frame.rgb.mean(axis=(0, 1)) for frame in clip.frames], axis=0) / 255
            red, green, blue = (float(channel) for channel in mean_rgb)
            facts.append(f"{_brightness(red, green, blue)}, {_colour(red, green, blue)} on average")
        if clip.motion.mean_magnitude is not None:
            facts.append(_first_above(clip.motion.mean_magnitude * self._motion_unit_px, _MOTION))
        return ", ".join(facts) + "."


def _brightness(red: float, green: float, blue: float) -> str:
    """Return a word for the luma (ITU-R BT.601) of a colour with channels from 0 to 1."""
    return _first_above(0.299 * red + 0.587 * green + 0.114 * blue, _BRIGHTNESS)


def _colour(red: float, green: float, blue: float) -> str:
    """Return the name of the hue of a colour with channels from 0 to 1, ``gray`` where it has hardly any."""
    hue, _, saturation = colorsys.rgb_to_hls(red, green, blue)
    chroma = max(red, green, blue) - min(red, green, blue)
    return "gray" if min(saturation, chroma) < _LEAST_CHROMA else _first_above(hue * 360, _HUES)


def _first_above(value: float, scale: _Scale) -> str:
    return next((word for bound, word in scale if value < bound), scale[-1][1])
