"""Stage 6, aesthetic filter, without a model: technical quality from published formulas, and named so.

It tells a dark, blank or blurred clip from an ordinary one. It knows nothing of beauty, and never says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from statistics import fmean
from typing import Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from consumers.stages.base import ClipEvidence, StageResult
from schemas.profile import AestheticParams, FilterMode
from schemas.records import TECHNICAL_QUALITY, Score, Stage

METHOD: Final = "technical_quality/1"

_FULL_CONTRAST: Final = 0.2
_FULL_SHARPNESS: Final = 500.0
_FULL_COLOURFULNESS: Final = 59.0
_COLOUR_WEIGHT: Final = 0.2
_REDUCE: Final[dict[str, Callable[[Sequence[float]], float]]] = {"avg": fmean, "max": max, "min": min}


@dataclass(frozen=True, slots=True)
class TechnicalQuality:
    """What is measured on one frame.

    Attributes:
        colourfulness: M of Hasler and Suesstrunk, "Measuring colourfulness in natural images" (2003): 0 is gray, 15
            slightly, 45 averagely, 59 quite and 109 extremely colourful.
        rms_contrast: standard deviation of the luma in ``[0, 1]``, after Peli, "Contrast in complex images" (1990);
            0 to 0.5.
        sharpness: variance of the Laplacian of the 8-bit luma, after Pech-Pacheco et al., "Diatom autofocusing in
            brightfield microscopy" (2000); from 0, and dependent on the frame's size.
        exposure: 1 for a mean luma in the middle, 0 for black or white.
    """

    colourfulness: float
    rms_contrast: float
    sharpness: float
    exposure: float

    @property
    def score(self) -> float:
        """The four as one number in ``[0, 1]``.

        The geometric mean of contrast (1 from 0.2 on), sharpness (logarithmic, 1 from 500 on) and exposure, so that
        one that is missing spoils it, less at most a fifth for want of colour (none from 59 on): a black-and-white
        film is no defect.
        """
        contrast = min(1.0, self.rms_contrast / _FULL_CONTRAST)
        sharpness = min(1.0, math.log1p(self.sharpness) / math.log1p(_FULL_SHARPNESS))
        colour = min(1.0, self.colourfulness / _FULL_COLOURFULNESS)
        return math.cbrt(contrast * sharpness * self.exposure) * (1 - _COLOUR_WEIGHT * (1 - colour))


def measure(rgb: NDArray[np.uint8]) -> TechnicalQuality:
    """Return the technical quality of one frame, ``(height, width, 3)`` uint8."""
    red, green, blue = (rgb[..., channel].astype(np.float32) for channel in range(3))
    red_green, yellow_blue = red - green, 0.5 * (red + green) - blue
    spread = math.hypot(float(red_green.std()), float(yellow_blue.std()))
    offset = math.hypot(float(red_green.mean()), float(yellow_blue.mean()))
    luma = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    mean = float(luma.mean()) / 255
    return TechnicalQuality(
        colourfulness=spread + 0.3 * offset,
        rms_contrast=float(luma.std()) / 255,
        sharpness=float(cv2.Laplacian(luma, cv2.CV_64F).var()),
        exposure=1 - abs(2 * mean - 1),
    )


class TechnicalQualityFilter:
    """Keeps clips whose technical quality, reduced over their frames, is at least ``min_technical_quality``.

    Scores ``technical_quality`` (0 to 1) and beside it its four parts, averaged over the frames. Reason:
    ``technical_quality_below_min``.

    Args:
        params: bound, reduction and mode.
    """

    stage = Stage.AESTHETIC

    def __init__(self, params: AestheticParams) -> None:
        self._min_score = params.min_technical_quality
        self._reduce: Literal["avg", "max", "min"] = params.reduce
        self._rejects = params.mode is FilterMode.FILTER

    def judge(self, clip: ClipEvidence) -> StageResult:
        """Return the quality of the clip's frames, of which there is at least one, and whether it suffices."""
        frames = [measure(frame.rgb) for frame in clip.frames]
        value = _REDUCE[self._reduce]([frame.score for frame in frames])
        parts = (
            Score(self.stage, part.name, fmean(getattr(frame, part.name) for frame in frames), METHOD)
            for part in fields(TechnicalQuality)
        )
        rejected = self._rejects and value < self._min_score
        return StageResult(
            (Score(self.stage, TECHNICAL_QUALITY, value, METHOD), *parts),
            "technical_quality_below_min" if rejected else None,
        )
