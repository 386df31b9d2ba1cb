"""Pixels of a decoded frame, in the shapes that the stages need, at the least cost.

Importing this module sets two things for the whole process, both measured. OpenCV is kept to one thread: videos run in
parallel, not the parts of a frame. And glibc's allocator keeps freed frames instead of handing them back to the kernel:
a fresh full-size array per frame cost up to a quarter of the CPU time in page faults.
"""

from __future__ import annotations

import ctypes
from typing import Final

import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from consumers.media.decode import DecodedFrame
from consumers.media.display import UPRIGHT, displayed_matrix
from consumers.media.sparse import SparseDownscaler

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_MMAP_THRESHOLD_BYTES: Final = 32 * 1024 * 1024  # the largest that glibc accepts on 64-bit machines
_TRIM_THRESHOLD_BYTES: Final = 64 * 1024 * 1024


def _keep_freed_memory() -> None:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # not glibc: slower, nothing worse
        mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _TRIM_THRESHOLD_BYTES)


cv2.setNumThreads(1)
_keep_freed_memory()


class FrameConverter:
    """Converts frames of one video. Holds one conversion context per target, so use one converter per video."""

    def __init__(self) -> None:
        self._to_bgr = VideoReformatter()
        self._to_rgb = VideoReformatter()
        self._to_gray = VideoReformatter()
        self._sparse = SparseDownscaler()

    def bgr(self, frame: DecodedFrame) -> NDArray[np.uint8]:
        """Return the frame as displayed, ``(height, width, 3)`` uint8 BGR, pixel for pixel as OpenCV's reader does."""
        converted = self._to_bgr.reformat(frame.image, format="bgr24", interpolation="BICUBIC", threads=1)
        return frame.orientation.upright(_bytes_of(converted))

    def downscaled_bgr(self, frame: DecodedFrame, size: tuple[int, int]) -> NDArray[np.uint8]:
        """Return :meth:`bgr` resized by OpenCV's linear interpolation to ``size`` (width, height), to the last bit."""
        if size == frame.size:
            return self.bgr(frame)
        small = None if frame.orientation != UPRIGHT else self._sparse.downscale(frame.image, size)
        if small is None:
            small = np.asarray(cv2.resize(self.bgr(frame), size, interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
        return small

    def gray(self, frame: DecodedFrame, long_side_px: int | None) -> NDArray[np.uint8]:
        """Return the frame as displayed, ``(height, width)`` uint8.

        At full size (``long_side_px`` None, or not below the frame's own) it is OpenCV's gray of :meth:`bgr`. Smaller
        it is the luma averaged over areas, which needs no colour conversion; flow on it differs by less than 1 percent.
        """
        width, height = frame.image.width, frame.image.height
        factor = 1.0 if long_side_px is None else long_side_px / max(width, height)
        if factor >= 1:
            return np.asarray(cv2.cvtColor(self.bgr(frame), cv2.COLOR_BGR2GRAY), dtype=np.uint8)
        converted = self._to_gray.reformat(
            frame.image,
            width=max(1, round(width * factor)),
            height=max(1, round(height * factor)),
            format="gray",
            interpolation="AREA",
            threads=1,
        )
        return frame.orientation.upright(np.ascontiguousarray(_bytes_of(converted)))

    def rgb(self, frame: DecodedFrame, short_side_px: int) -> NDArray[np.uint8]:
        """Return the frame as displayed, ``(height, width, 3)`` uint8 RGB; untagged HD is BT.709, as players show it.

        The short side is ``short_side_px``, or the frame's own if that is smaller; the aspect ratio is kept.
        """
        width, height = frame.image.width, frame.image.height
        factor = min(1.0, short_side_px / min(width, height))
        converted = self._to_rgb.reformat(
            frame.image,
            width=max(1, round(width * factor)),
            height=max(1, round(height * factor)),
            format="rgb24",
            src_colorspace=displayed_matrix(frame.image),
            interpolation="BICUBIC",
            threads=1,
        )
        return frame.orientation.upright(np.ascontiguousarray(_bytes_of(converted)))


def _bytes_of(picture: VideoFrame) -> NDArray[np.uint8]:
    return np.asarray(picture.to_ndarray(), dtype=np.uint8)
