"""Gathers the evidence of one clip, frame by frame, while nobody knows yet where it ends."""

from __future__ import annotations

import copy
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from consumers.media.convert import FrameConverter
from consumers.media.decode import DecodedFrame
from consumers.media.display import assumed_matrix
from consumers.media.look import ClipLook, small_picture
from consumers.stages.base import ClipEvidence
from consumers.stages.frames import FrameSelector
from consumers.stages.meter import StageMeter
from consumers.stages.motion import GrayMaker, MotionMeter
from consumers.stages.view import FrameView
from schemas.profile import Profile
from schemas.records import Span, Stage


class PassTools:
    """What all clips of one video share.

    Args:
        profile: parameters of frame extraction and motion.
        fps: average frame rate of the video, None if unknown.
        time_base: seconds per tick of the stream.
    """

    def __init__(self, profile: Profile, fps: float | None, time_base: Fraction) -> None:
        self.profile = profile
        self.fps = fps
        self.time_base = time_base
        self.converter = FrameConverter()
        self.gray = GrayMaker(profile.motion, self.converter)
        self.frames_meter = StageMeter(Stage.FRAMES)
        self.motion_meter = StageMeter(Stage.MOTION)


class ClipBuilder:
    """One open clip.

    Args:
        tools: of the video.
        first: the clip's first frame, still to be added.
    """

    def __init__(self, tools: PassTools, first: DecodedFrame) -> None:
        self._tools = tools
        self._selector = FrameSelector(tools.profile.frames)
        self._motion = MotionMeter(tools.profile.motion, tools.fps)
        self._last_usable: FrameView | None = None
        self._first_picture: NDArray[np.uint8] | None = None
        self._last_frame: DecodedFrame | None = None
        self._first_pts = first.pts
        self._first_s = first.time_s
        self._first_index = first.index
        self._starts_on_keyframe = first.is_keyframe
        self._pixel_aspect = first.pixel_aspect
        self._assumed_matrix = assumed_matrix(first.image)
        self._num_sharing_time = 0
        self._last_s = -1.0
        self._num_pieces = 1
        self._last_pts = first.pts
        self._last_end_pts, self._last_end_s, self._last_index = first.end_pts, first.end_s, first.index

    def add(self, frame: DecodedFrame, view: FrameView) -> None:
        """Take the next frame; ``view`` holds it for later."""
        self._num_sharing_time += frame.time_s <= self._last_s
        self._last_s = frame.time_s
        # A time that steps back a little is disorder, and the clip no shorter for it.
        if frame.pts >= self._last_pts:
            self._last_pts, self._last_end_pts = frame.pts, frame.end_pts
        self._last_end_s, self._last_index = frame.end_s, frame.index
        if not frame.is_usable:
            return
        self._last_usable, self._last_frame = view, frame
        if self._first_picture is None:
            self._first_picture = small_picture(frame.image)
        with self._tools.frames_meter:
            self._selector.add(view)
        if self._motion.wants(frame.time_s):
            with self._tools.motion_meter:
                self._motion.add(frame.time_s, self._tools.gray.gray(frame), frame.size)

    def ended_here(self) -> ClipBuilder:
        """Return a copy that holds what the clip would be if it ended with the last frame added."""
        twin = copy.copy(self)
        twin._selector = self._selector.fork()
        twin._motion = self._motion.fork()
        twin._sample_end()
        return twin

    def take_over(self, piece: ClipBuilder) -> None:
        """Reach to the end of ``piece``, which follows, and whose pictures are not of the same kind."""
        self._num_pieces += 1
        self._num_sharing_time += piece._num_sharing_time
        self._last_end_pts, self._last_end_s, self._last_index = (
            piece._last_end_pts,
            piece._last_end_s,
            piece._last_index,
        )

    def finish(
        self, index: int, next_pts: int | None, next_s: float | None, *, has_guessed_times: bool
    ) -> ClipEvidence:
        """Return the evidence.

        Args:
            index: the clip's number in its video.
            next_pts: timestamp of the frame after the clip; None if there is none, or it begins a new reckoning.
            next_s: its time.
            has_guessed_times: whether some frame of the video so far was given another time than its packet says.
        """
        self._sample_end()
        with self._tools.frames_meter:
            frames = self._selector.select()
        for meter in (self._tools.frames_meter, self._tools.motion_meter):
            meter.num_in += 1
            meter.num_out += 1
        span = Span(
            start_s=self._first_s,
            end_s=self._last_end_s if next_s is None else next_s,
            start_pts=self._first_pts,
            end_pts=max(self._first_pts + 1, self._last_end_pts if next_pts is None else next_pts),
            time_base=self._tools.time_base,
            start_frame=self._first_index,
            end_frame=self._last_index + 1,
        )
        return ClipEvidence(
            index,
            span,
            frames,
            self._motion.measurement(),
            self._starts_on_keyframe,
            self._pixel_aspect,
            has_guessed_times,
            self._num_sharing_time,
            self._assumed_matrix,
            self._look(),
            self._num_pieces,
        )

    def _look(self) -> ClipLook | None:
        frame = self._last_frame
        if frame is None or self._first_picture is None:
            return None
        aspect = self._pixel_aspect or Fraction(1)
        return ClipLook(
            first=self._first_picture,
            last=small_picture(frame.image),
            size=frame.size,
            pixel_aspect=1 / aspect if frame.orientation.transposes else aspect,
        )

    @property
    def start(self) -> tuple[int, float]:
        """Timestamp and time of the first frame."""
        return self._first_pts, self._first_s

    def _sample_end(self) -> None:
        last = self._last_usable
        if last is not None and self._motion.lacks_end(last.time_s):
            with self._tools.motion_meter:
                self._motion.add(last.time_s, self._tools.gray.gray(last.frame), last.frame.size)
