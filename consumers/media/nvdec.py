"""Decoding with NVDEC, the video decoder of an NVIDIA GPU: the same pictures as the CPU's, or none.

H.264, HEVC and VP9 state every bit of what a decoder has to put out. So a picture that comes out of NVDEC, brought from
NV12 to planar 4:2:0 (which moves bytes and changes none), is the one that the CPU would have made, and everything after
it is the same code. What NVDEC does otherwise, or might, is left to the CPU: 10 bits and more (P010), 4:2:2 and 4:4:4,
odd sizes, rotated and interlaced video, and every video in which anything is damaged, for what is lost by damage and
what is used is decided there. Then :class:`NvdecGaveUpError` says so, and the video is begun again.

Damage inside a picture is beyond that: libav reads only headers here, and the GPU does not say that it had to guess.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, ClassVar

import av
from av.codec.codec import Codec
from av.codec.hwaccel import HWAccel, hwdevices_available
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from consumers.clock import Deadline
from consumers.errors import DeadlineExceededError, ObjectUnavailableError, SluiceError
from consumers.media.decode import VideoDecoder
from consumers.media.display import UPRIGHT, orientation_of
from schemas.profile import Limits
from schemas.records import DecoderKind

CODECS = frozenset({"h264", "hevc", "vp9"})
"""Codecs whose specification leaves a decoder no choice, and that this libav gives to NVDEC (AV1 goes to dav1d)."""

_SURFACE = "nv12"
_PLANAR = "yuv420p"
_NO_DEVICE = 100


class NvdecGaveUpError(SluiceError):
    """NVDEC is not for this video, or failed in it; the CPU has to begin it again. Says nothing about the video."""


class NvdecUnavailableError(SluiceError):
    """This process cannot use NVDEC. The message continues "because"."""


class NvdecDecoder(VideoDecoder):
    """Decodes one video with NVDEC. It yields what :class:`VideoDecoder` yields, or gives up.

    Args:
        stream: seekable, at its beginning; stays the caller's to close.
        limits: bounds on pixels and duration.
        deadline: checked at every read and every packet.
        hwaccel: the GPU.
        codecs: canonical names of those that may be decoded by it.

    Raises:
        NvdecGaveUpError: here, or by :meth:`frames` after any number of frames.
    """

    kind: ClassVar[DecoderKind] = "nvdec"

    def __init__(
        self,
        stream: BinaryIO,
        limits: Limits,
        deadline: Deadline,
        *,
        hwaccel: HWAccel | None,
        codecs: frozenset[str] = CODECS,
    ) -> None:
        self._to_planar = VideoReformatter()
        try:
            super().__init__(stream, limits, deadline, hwaccel=hwaccel)
        except (ObjectUnavailableError, DeadlineExceededError):
            raise
        # Perhaps it is no video, perhaps the GPU has no memory left: libav's codes are the same, and the CPU will tell.
        except Exception as error:
            raise NvdecGaveUpError(f"it cannot be opened: {error}") from error
        if self.codec not in codecs:
            self.close()
            raise NvdecGaveUpError(f"{self.codec} is decoded on the CPU")

    def _images(self) -> Iterator[VideoFrame]:
        for image in super()._images():
            if problem := _unfit(image):
                raise NvdecGaveUpError(problem)
            yield self._to_planar.reformat(image, format=_PLANAR, threads=1)
        if self.num_frames == 0:
            raise NvdecGaveUpError("it gave no picture")

    def _decode(self, packet: Packet[Stream] | None) -> list[VideoFrame]:
        try:
            return self._stream.codec_context.decode(packet)
        except (MemoryError, av.FFmpegError) as error:
            raise NvdecGaveUpError(f"decoding failed: {error}") from error

    def _note_damage(self) -> None:
        raise NvdecGaveUpError("the container is damaged")


def _unfit(image: VideoFrame) -> str | None:
    if image.is_corrupt:
        return "a picture is damaged"
    if image.format.name != _SURFACE:
        return f"pictures of format {image.format.name} are decoded on the CPU"
    if image.width % 2 or image.height % 2:
        return f"pictures of {image.width} x {image.height} pixels are decoded on the CPU"
    if image.interlaced_frame or orientation_of(image) != UPRIGHT:
        return "rotated, mirrored and interlaced video is decoded on the CPU"
    return None


class Nvdec:
    """The NVDEC of one GPU, held ready as long as this object lives.

    Libav's CUDA device is the process's primary context. It is held here, or it would be made anew for every video.

    Args:
        device: index of the GPU, among those that the process sees.

    Raises:
        NvdecUnavailableError: the GPU cannot be used.
    """

    def __init__(self, device: int) -> None:
        self._hwaccel = HWAccel("cuda", device=str(device), allow_software_fallback=False, options={"primary_ctx": "1"})
        try:
            self._held = self._hwaccel.create(Codec("h264", "r"))
        except (av.FFmpegError, NotImplementedError) as error:
            raise NvdecUnavailableError(f"GPU {device} cannot be opened ({error})") from error

    def open(
        self, stream: BinaryIO, limits: Limits, deadline: Deadline, codecs: frozenset[str] = CODECS
    ) -> VideoDecoder:
        """Return a decoder; see :class:`NvdecDecoder`."""
        return NvdecDecoder(stream, limits, deadline, hwaccel=self._hwaccel, codecs=codecs)


def connect() -> Nvdec:
    """Return the NVDEC of a GPU of this machine; where there are several, processes spread over them.

    Raises:
        NvdecUnavailableError: there is none that this process can use.
    """
    if "cuda" not in hwdevices_available():
        raise NvdecUnavailableError("this build of PyAV has no CUDA")
    return Nvdec(os.getpid() % count_gpus())


def count_gpus(load_library: Callable[[str], Any] = ctypes.CDLL) -> int:
    """Return how many GPUs this process sees, 1 or more. Asks the driver, as libav's own errors name no reason.

    Args:
        load_library: loads a shared library by name, or raises OSError.

    Raises:
        NvdecUnavailableError: no driver, no GPU, or no video library.
    """
    try:
        driver = load_library("libcuda.so.1")
    except OSError as error:
        raise NvdecUnavailableError("no NVIDIA driver was found (libcuda.so.1)") from error
    count = ctypes.c_int()
    status = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if status not in {0, _NO_DEVICE}:
        raise NvdecUnavailableError(f"the NVIDIA driver does not start (CUDA error {status})")
    if status == _NO_DEVICE or count.value < 1:
        raise NvdecUnavailableError("the NVIDIA driver shows this process no GPU")
    try:
        load_library("libnvcuvid.so.1")
    except OSError as error:
        raise NvdecUnavailableError(
            "the NVIDIA driver has no video library here (libnvcuvid.so.1); in a container, add video to "
            "NVIDIA_DRIVER_CAPABILITIES"
        ) from error
    return count.value
