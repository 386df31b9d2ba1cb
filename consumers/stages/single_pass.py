"""The one decode pass over a video: scene scores, sampled frames and motion for every clip, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import BinaryIO

from consumers.clock import Deadline
from consumers.media.decode import DecodedFrame, VideoDecoder
from consumers.stages.base import ClipEvidence
from consumers.stages.clip_builder import ClipBuilder, PassTools
from consumers.stages.meter import StageMeter
from consumers.stages.pieces import Following, Pieces
from consumers.stages.scene import CutFinder, SceneScorer, Verdict, scoring_size
from consumers.stages.view import FrameView
from schemas.profile import Limits, Profile
from schemas.records import MediaInfo, Stage, StageTiming

OpenDecoder = Callable[[BinaryIO, Limits, Deadline], VideoDecoder]
"""A way to decode: :class:`~consumers.media.decode.VideoDecoder` itself is the one on the CPU."""


class SinglePass:
    """Decodes a video once and yields the evidence of each clip as soon as the clip has ended.

    Args:
        stream: seekable, at its beginning; stays the caller's to close.
        profile: parameters of scenes, frames and motion.
        limits: bounds on pixels and duration.
        deadline: checked at every read and every packet.
        open_decoder: what decodes.

    Raises:
        NvdecGaveUpError: the way of decoding is NVDEC's, and not for this video.
        VideoError: the subclass that says what is wrong with the object, its container or its streams; or the error
            that the stream's ``read`` raised. Raised here or, for what only decoding shows, by :meth:`clips`.
    """

    def __init__(
        self,
        stream: BinaryIO,
        profile: Profile,
        limits: Limits,
        deadline: Deadline,
        open_decoder: OpenDecoder = VideoDecoder,
    ) -> None:
        self._profile = profile
        self._decode_meter = StageMeter(Stage.DECODE)
        self._scene_meter = StageMeter(Stage.SCENE)
        with self._decode_meter:
            self._decoder = open_decoder(stream, limits, deadline)
        self._tools = PassTools(profile, self._decoder.fps, self._decoder.time_base)
        self._scorer = SceneScorer()
        self._cuts = CutFinder(profile.scene, self._decoder.fps)
        self._num_clips = 0
        self._first: DecodedFrame | None = None

    def clips(self) -> Iterator[ClipEvidence]:
        """Yield the clips in order; they cover the video without gap or overlap. To be called once.

        Closes the container at the end, also when the caller stops early.

        Raises:
            VideoError: as :meth:`VideoDecoder.frames`; clips yielded before it are of a video that failed.
        """
        try:
            yield from self._clips()
        finally:
            self._decoder.close()

    @property
    def media(self) -> MediaInfo:
        """What decoding found out; complete once :meth:`clips` is exhausted."""
        decoder = self._decoder
        width, height = decoder.declared_size if self._first is None else self._first.size
        return MediaInfo(
            container_format=decoder.container_format,
            codec=decoder.codec,
            width_px=width,
            height_px=height,
            fps=decoder.fps,
            duration_s=decoder.duration_s,
            num_frames=decoder.num_frames,
            num_corrupt_frames=decoder.num_damaged,
            rotation_degrees=0 if self._first is None else self._first.orientation.rotation_degrees,
            has_audio=decoder.has_audio,
            decoder=decoder.kind,
        )

    @property
    def timings(self) -> tuple[StageTiming, ...]:
        """What decode, scene, frames and motion have cost so far.

        Counted in and out: decode, videos and those with a usable frame; scene, videos and clips; frames and motion,
        clips. The conversion to BGR counts as scene.
        """
        meters = (self._decode_meter, self._scene_meter, self._tools.frames_meter, self._tools.motion_meter)
        return tuple(meter.timing() for meter in meters)

    def _clips(self) -> Iterator[ClipEvidence]:
        clip: ClipBuilder | None = None
        # What `clip` is if it ended at the last mark, and the clip that began there.
        ended: ClipBuilder | None = None
        begun: ClipBuilder | None = None
        pieces = Pieces()
        for frame in self._frames():
            if clip is not None and frame.breaks:
                following = None if frame.restarts else (frame.pts, frame.time_s)
                is_piece = self._cuts.is_below_scene(frame.time_s)
                yield from self._broken_off(clip, following, pieces, is_piece=is_piece)
                clip = ended = begun = None
                self._scorer.reset()
                self._cuts = CutFinder(self._profile.scene, self._decoder.fps)
            with self._scene_meter:
                small = self._tools.converter.downscaled_bgr(frame, scoring_size(*frame.size))
                verdict = self._cuts.step(frame.time_s, self._scorer.score(small))
            self._scene_meter.num_in = 1
            if pieces and not self._cuts.is_below_scene(frame.time_s):
                yield from self._finished(pieces)
            if clip is None:
                clip = ClipBuilder(self._tools, frame)
            elif verdict is Verdict.CUT:
                next_clip = ClipBuilder(self._tools, frame)
                yield self._finish(clip, next_clip.start)
                clip, ended, begun = next_clip, None, None
            elif verdict is Verdict.MAYBE:
                ended, begun = clip.ended_here(), ClipBuilder(self._tools, frame)
            elif verdict is Verdict.CONFIRMED and ended is not None and begun is not None:
                yield self._finish(ended, begun.start)
                clip, ended, begun = begun, None, None
            view = FrameView(frame, self._tools.converter, self._profile.frames.size_px)
            clip.add(frame, view)
            if begun is not None:
                begun.add(frame, view)
        if clip is not None:
            yield from self._broken_off(clip, None, pieces, is_piece=bool(pieces))
        yield from self._finished(pieces)

    def _frames(self) -> Iterator[DecodedFrame]:
        frames = self._decoder.frames()
        while True:
            with self._decode_meter:
                frame = next(frames, None)
            if frame is None:
                return
            if self._first is None:
                self._first = frame
            self._decode_meter.num_in = 1
            self._decode_meter.num_out |= frame.is_usable
            yield frame

    def _broken_off(
        self, clip: ClipBuilder, following: Following, pieces: Pieces, *, is_piece: bool
    ) -> Iterator[ClipEvidence]:
        """Yield a clip that lasted, and keep one that did not until it is known what follows."""
        if is_piece:
            pieces.add(clip, following)
        else:
            yield self._finish(clip, following)

    def _finished(self, pieces: Pieces) -> Iterator[ClipEvidence]:
        for clip, following in pieces.release():
            yield self._finish(clip, following)

    def _finish(self, clip: ClipBuilder, following: Following) -> ClipEvidence:
        next_pts, next_s = following or (None, None)
        guessed = self._decoder.has_guessed_times
        evidence = clip.finish(self._num_clips, next_pts, next_s, has_guessed_times=guessed)
        self._num_clips += 1
        self._scene_meter.num_out += 1
        return evidence
