"""Arithmetic on pictures: ``(height, width, 3)`` uint8 RGB throughout."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

_SMALL_PX = 16


def same_size(theirs: NDArray[np.uint8], ours: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return both without what odd sides lose in 4:2:0, or as they are where their sizes differ by more."""
    height, width = (min(a, b) for a, b in zip(theirs.shape[:2], ours.shape[:2], strict=True))
    if max(theirs.shape[0] - height, theirs.shape[1] - width, ours.shape[0] - height, ours.shape[1] - width) > 1:
        return theirs, ours
    return theirs[:height, :width], ours[:height, :width]


def halved(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return averages of 2 x 2 pixels: 4:2:0 keeps no finer colours."""
    height, width = rgb.shape[:2]
    if min(height, width) < 2:
        return rgb
    return np.asarray(cv2.resize(rgb, (width // 2, height // 2), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def small(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the colours of 16 x 16 areas."""
    return np.asarray(cv2.resize(rgb, (_SMALL_PX, _SMALL_PX), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def psnr_db(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Return the peak signal-to-noise ratio, at most 99 dB; 0 for different sizes."""
    if one.shape != other.shape:
        return 0.0
    error = cv2.norm(np.ascontiguousarray(one), np.ascontiguousarray(other), cv2.NORM_L2SQR) / one.size
    return 99.0 if error == 0 else min(99.0, 10 * float(np.log10(255**2 / error)))
