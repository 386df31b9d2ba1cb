"""The small picture that stands for a clip."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

_JPEG_QUALITY = 85


def thumbnail_jpeg(frame_rgb: NDArray[np.uint8], long_side_px: int) -> bytes:
    """Return ``frame_rgb`` as a JPEG whose long side is ``long_side_px``, or its own where that is smaller.

    Args:
        frame_rgb: ``(height, width, 3)`` uint8.
        long_side_px: in pixels, at least 1.
    """
    height, width = frame_rgb.shape[:2]
    scale = min(1.0, long_side_px / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(frame_rgb, size, interpolation=cv2.INTER_AREA) if scale < 1 else frame_rgb
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return bytes(encoded.tobytes())
