"""What a clip looks like at its two ends, small enough to keep: by it a finished clip is told from a wrong one."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import cv2
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from consumers.media.display import displayed_matrix, orientation_of

_SIDE_PX: Final = 32
_HALFWAY_PX: Final = 128


@dataclass(frozen=True, slots=True)
class ClipLook:
    """What the pass saw of a clip.

    Attributes:
        first: its first undamaged picture, as :func:`small_picture`.
        last: its last one.
        size: width and height as displayed, in pixels.
        pixel_aspect: width over height of a displayed pixel.
    """

    first: NDArray[np.uint8]
    last: NDArray[np.uint8]
    size: tuple[int, int]
    pixel_aspect: Fraction


def small_picture(image: VideoFrame) -> NDArray[np.uint8]:
    """Return ``image`` as displayed, each side squeezed to 32 pixels: ``(32, 32, 3)`` uint8 BGR."""
    # In two steps: over so many pixels at once libav's averages differ from side to side.
    factor = max(1, min(image.width, image.height) // _HALFWAY_PX)
    whole = image.reformat(
        width=image.width // factor,
        height=image.height // factor,
        format="bgr24",
        src_colorspace=displayed_matrix(image),
        interpolation="AREA",
        threads=1,
    ).to_ndarray()
    small = cv2.resize(np.asarray(whole, dtype=np.uint8), (_SIDE_PX, _SIDE_PX), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(orientation_of(image).upright(np.asarray(small, dtype=np.uint8)))


def likeness_db(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Return the peak signal-to-noise ratio of two pictures of one size, infinite for equal ones."""
    error = float(np.mean((one.astype(np.float64) - other) ** 2))
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))
