"""A decoded frame that is made small only when somebody asks, and only once."""

from __future__ import annotations

from consumers.media.convert import FrameConverter
from consumers.media.decode import DecodedFrame
from consumers.stages.base import SampledFrame


class FrameView:
    """Holds a frame for later: libav's picture until it is needed small or its memory is needed elsewhere.

    Args:
        frame: the decoded frame.
        converter: of the same video.
        short_side_px: of the small version.
    """

    def __init__(self, frame: DecodedFrame, converter: FrameConverter, short_side_px: int) -> None:
        self.index = frame.index
        self.time_s = frame.time_s
        self.is_keyframe = frame.is_keyframe
        self._frame: DecodedFrame | None = frame
        self._pts = frame.pts
        self._converter = converter
        self._short_side_px = short_side_px
        self._sampled: SampledFrame | None = None

    @property
    def held_bytes(self) -> int:
        """Memory of the full picture, 0 once it was made small and let go."""
        return 0 if self._frame is None else sum(plane.buffer_size for plane in self._frame.image.planes)

    @property
    def frame(self) -> DecodedFrame:
        """The full picture.

        Raises:
            RuntimeError: the view was :meth:`shrunk <shrink>`.
        """
        if self._frame is None:
            raise RuntimeError(f"the picture of frame {self.index} was let go")
        return self._frame

    def sampled(self) -> SampledFrame:
        """Return the small version, made on the first call."""
        if self._sampled is None:
            rgb = self._converter.rgb(self.frame, self._short_side_px)
            self._sampled = SampledFrame(self.time_s, self._pts, self.is_keyframe, rgb)
        return self._sampled

    def shrink(self) -> None:
        """Make the small version and let the full picture go."""
        self.sampled()
        self._frame = None
