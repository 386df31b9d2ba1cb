"""How a decoded picture is displayed: turned and mirrored, in which colours, with pixels of which shape."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Final, cast

import cv2
import numpy as np
from av.sidedata.sidedata import SideDataContainer
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from numpy.typing import NDArray

BT709: Final = 1
RGB: Final = 0
UNTAGGED: Final = 2
BT601: Final = 6
# Colour matrices as ITU-T H.273 numbers them.

_HD_LONG_SIDE_PX: Final = 1280
_HD_SHORT_SIDE_PX: Final = 720
_MATRIX_BYTES: Final = 36
_HDR_METADATA: Final = (
    "MASTERING_DISPLAY_METADATA",
    "CONTENT_LIGHT_LEVEL",
    "DYNAMIC_HDR_PLUS",
    "DYNAMIC_HDR_VIVID",
    "DOVI_RPU_BUFFER",
    "DOVI_METADATA",
)


@dataclass(frozen=True, slots=True)
class Orientation:
    """One of the eight ways to lay a picture down: transposed or not, then mirrored left to right, then upside down.

    From the whole display matrix of the picture, as its angle does not tell a mirrored picture from a turned one.
    """

    transposes: bool = False
    mirrors: bool = False
    flips: bool = False

    @property
    def rotation_degrees(self) -> int:
        """Quarter turns counterclockwise, after which a mirrored picture is still mirrored left to right."""
        turns = (
            {(False, False): 0, (True, True): 180} if not self.transposes else {(False, True): 90, (True, False): 270}
        )
        if not self.is_mirrored:
            return turns[self.mirrors, self.flips]
        return turns[not self.mirrors, self.flips]

    @property
    def is_mirrored(self) -> bool:
        """Whether no turn alone displays it."""
        return self.transposes ^ self.mirrors ^ self.flips

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Return width and height as displayed."""
        return (height, width) if self.transposes else (width, height)

    def upright(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return ``(height, width[, channels])`` as displayed; ``pixels`` itself where that changes nothing."""
        if self.transposes:
            pixels = np.asarray(cv2.transpose(pixels), dtype=np.uint8)
        if self.mirrors or self.flips:
            around = -1 if self.mirrors and self.flips else int(self.mirrors)
            pixels = np.asarray(cv2.flip(pixels, around), dtype=np.uint8)
        return pixels


UPRIGHT: Final = Orientation()


def orientation_of(image: VideoFrame) -> Orientation:
    """Return how ``image`` is displayed. A matrix that maps the picture onto a line or a point is none."""
    # Not ``image.side_data``: the picture would keep that, and that the picture, until garbage is collected.
    matrix = cast(Any, SideDataContainer)(image).get("DISPLAYMATRIX")
    if matrix is None or matrix.buffer_size < _MATRIX_BYTES:
        return UPRIGHT
    # A point (x, y) is displayed at (a x + c y, b x + d y); y goes down.
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(matrix)[:_MATRIX_BYTES])
    if a * d == b * c:
        return UPRIGHT
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Orientation(False, a < 0, d < 0)
    return Orientation(True, c < 0, b < 0)


def displayed_matrix(image: VideoFrame) -> int:
    """Return the colour matrix that stands for ``image``: its own, or where it has none, the one that players take.

    That is BT.709 for a picture from 720 lines or 1280 columns up, however it is turned, and BT.601 for a smaller one.
    RGB has none.
    """
    if image.colorspace not in {RGB, UNTAGGED} and not is_rgb(image.format):
        return image.colorspace
    long_side_px, short_side_px = max(image.width, image.height), min(image.width, image.height)
    return BT709 if long_side_px >= _HD_LONG_SIDE_PX or short_side_px >= _HD_SHORT_SIDE_PX else BT601


def hdr_metadata(image: VideoFrame) -> tuple[str, ...]:
    """Return the names of what ``image`` tells of high dynamic range beside its colour tags, in lower case."""
    told = cast(Any, SideDataContainer)(image)
    return tuple(name.lower() for name in _HDR_METADATA if told.get(name) is not None)


def assumed_matrix(image: VideoFrame) -> int | None:
    """Return the matrix that is taken for ``image`` because it names none and is HD, None where nothing is assumed."""
    is_untagged = image.colorspace == UNTAGGED and not is_rgb(image.format)
    return BT709 if is_untagged and displayed_matrix(image) == BT709 else None


def is_rgb(pixel_format: VideoFormat) -> bool:
    """Return whether the numbers are colours themselves, without a matrix."""
    return pixel_format.is_rgb or pixel_format.has_palette
