"""Stand-ins for NVDEC: everything but the GPU itself is the real code. They decode on the CPU and hand out NV12."""

from __future__ import annotations

from typing import Any, BinaryIO

import av
import numpy as np
from numpy.typing import NDArray

from consumers.clock import Deadline
from consumers.media.decode import VideoDecoder
from consumers.media.nvdec import CODECS, NvdecDecoder, NvdecGaveUpError
from schemas.profile import Limits

_SURFACES = {"yuv420p": "nv12", "yuvj420p": "nv12", "yuv420p10le": "p010le"}


class NearGpuDecoder(NvdecDecoder):
    """Decodes as NVDEC does where nothing is wrong."""

    def _decode(self, packet: Any) -> list[av.VideoFrame]:
        return [self._downloaded(frame) for frame in super()._decode(packet)]

    def _downloaded(self, frame: av.VideoFrame) -> av.VideoFrame:
        # The range is stated, or swscale would take the pixels of a full-range picture for ones to be converted.
        color_range = frame.color_range or 1
        return frame.reformat(
            format=_SURFACES.get(frame.format.name, frame.format.name),
            src_color_range=color_range,
            dst_color_range=color_range,
        )

    def _unmarked(self, frame: av.VideoFrame, pixels: NDArray[np.uint8]) -> av.VideoFrame:
        """Return NV12 pixels with the times of ``frame`` and without its marks of damage."""
        twin = av.VideoFrame.from_ndarray(pixels, format="nv12")
        twin.pts, twin.time_base, twin.duration = frame.pts, self.time_base, frame.duration
        twin.key_frame = frame.key_frame
        twin.color_range, twin.colorspace = frame.color_range, frame.colorspace
        return twin


class BlindDecoder(NearGpuDecoder):
    """Guesses what damage has destroyed, and does not say so."""

    def _decode(self, packet: Any) -> list[av.VideoFrame]:
        try:
            return super()._decode(packet)
        except NvdecGaveUpError:
            return []

    def _downloaded(self, frame: av.VideoFrame) -> av.VideoFrame:
        return self._unmarked(frame, super()._downloaded(frame).to_ndarray())


class MiscutDecoder(NearGpuDecoder):
    """Shows black from some frame of an H.264 video on: one cut more than there is."""

    def _downloaded(self, frame: av.VideoFrame) -> av.VideoFrame:
        image = super()._downloaded(frame)
        if self.codec != "h264" or self.num_frames < 33:
            return image
        return self._unmarked(frame, np.zeros_like(image.to_ndarray()))


class FailingDecoder(NearGpuDecoder):
    """Fails in the middle of a video; in HEVC with an error that nobody foresaw."""

    def _downloaded(self, frame: av.VideoFrame) -> av.VideoFrame:
        if self.num_frames >= 20:
            if self.codec == "hevc":
                raise RuntimeError("illegal memory access")
            raise NvdecGaveUpError("decoding failed: out of memory")
        return super()._downloaded(frame)


class NearGpu:
    """Implements ``HardwareDecoder`` with one of these."""

    def __init__(self, decoder: type[NearGpuDecoder] = NearGpuDecoder) -> None:
        self._decoder = decoder

    def open(
        self, stream: BinaryIO, limits: Limits, deadline: Deadline, codecs: frozenset[str] = CODECS
    ) -> VideoDecoder:
        return self._decoder(stream, limits, deadline, hwaccel=None, codecs=codecs)
