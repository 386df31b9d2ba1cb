"""Downscales frames by converting only the rows of pixels that the downscaling reads.

OpenCV's linear interpolation reads two rows of the source per row of the result, however much it shrinks. For 4:4:4
video, which swscale converts to BGR slowly and pixel by pixel, leaving out the other rows halves the time at 720p and
changes nothing. For 4:2:0 the full conversion is fast, and picking rows out of it would save nothing.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

_FORMATS: Final = {"yuv444p", "yuvj444p"}
_NO_WEIGHT: Final = 1e-6


def rows_read(height: int, small_height: int) -> NDArray[np.intp]:
    """Return, ascending, the source rows that ``cv2.resize`` with ``INTER_LINEAR`` gives any weight.

    Args:
        height: of the source, in pixels.
        small_height: of the result, not larger.
    """
    centres = (np.arange(small_height) + 0.5) * (height / small_height) - 0.5
    upper = np.floor(centres)
    weight = centres - upper
    rows = np.concatenate([upper, upper[weight > _NO_WEIGHT] + 1])
    return np.unique(np.clip(rows, 0, height - 1).astype(np.intp))


class SparseDownscaler:
    """Downscales the frames of one video; checks itself against the plain way on the first frame of each size."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()
        self._checked: tuple[int, int, str] | None = None
        self._is_exact = False
        self._rows = np.zeros(0, dtype=np.intp)
        self._picked: VideoFrame | None = None
        self._full = np.zeros((0, 0, 3), dtype=np.uint8)

    def downscale(self, image: VideoFrame, size: tuple[int, int]) -> NDArray[np.uint8] | None:
        """Return ``image`` as ``(height, width, 3)`` uint8 BGR of ``size`` (width, height), or None: use the plain way.

        The pixels equal those of a full conversion followed by ``cv2.resize(..., interpolation=cv2.INTER_LINEAR)``.
        """
        if image.format.name not in _FORMATS:
            return None
        shape = (image.width, image.height, image.format.name)
        if shape != self._checked:
            self._checked = shape
            self._prepare(image, size)
            full = self._reformatter.reformat(image, format="bgr24", interpolation="BICUBIC", threads=1).to_ndarray()
            plain = cv2.resize(full, size, interpolation=cv2.INTER_LINEAR)
            self._is_exact = bool(np.array_equal(plain, self._from_rows(image, size)))
        return self._from_rows(image, size) if self._is_exact else None

    def _prepare(self, image: VideoFrame, size: tuple[int, int]) -> None:
        self._rows = rows_read(image.height, size[1])
        self._picked = VideoFrame(image.width, len(self._rows), image.format.name)
        self._full = np.zeros((image.height, image.width, 3), dtype=np.uint8)

    def _from_rows(self, image: VideoFrame, size: tuple[int, int]) -> NDArray[np.uint8]:
        picked = self._picked
        if picked is None:
            raise RuntimeError("rows are picked only after the size is known")
        picked.colorspace, picked.color_range = image.colorspace, image.color_range
        for source, target in zip(image.planes, picked.planes, strict=True):
            pixels = np.asarray(memoryview(source), dtype=np.uint8).reshape(-1, source.line_size)
            wanted = np.asarray(memoryview(target), dtype=np.uint8).reshape(-1, target.line_size)
            wanted[:, : image.width] = pixels[self._rows, : image.width]
        converted = self._reformatter.reformat(picked, format="bgr24", interpolation="BICUBIC", threads=1)
        self._full[self._rows] = converted.to_ndarray()
        return np.asarray(cv2.resize(self._full, size, interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
