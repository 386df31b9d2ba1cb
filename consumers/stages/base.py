"""What the one decode pass hands to the filters, and the contract that every filter keeps."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from consumers.media.look import ClipLook
from schemas.records import Caption, ModelCall, Score, Span, Stage


@dataclass(frozen=True, slots=True)
class SampledFrame:
    """One decoded frame, made small for the model stages.

    Attributes:
        time_s: seconds after the first frame of the video.
        pts: the stream's timestamp.
        is_keyframe: whether it decodes without any other frame.
        rgb: ``(height, width, 3)`` uint8, rotated as displayed, short side ``FramesParams.size_px`` or the video's own
            if that is smaller.
    """

    time_s: float
    pts: int
    is_keyframe: bool
    rgb: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class MotionMeasurement:
    """Mean Farneback flow magnitude of a clip, in pixels of the source frame, or of its diagonal if relative.

    ``mean_magnitude`` is None where the clip has fewer than two samples. ``method`` names algorithm and size, for the
    record: ``farneback/long_side_256``, ``farneback/full``.
    """

    mean_magnitude: float | None
    num_pairs: int
    method: str


@dataclass(frozen=True, slots=True)
class ClipEvidence:
    """Everything the pass knows of one clip, available as soon as the clip has ended.

    ``frames`` are the extracted frames in order of time, empty where every candidate was corrupt. ``pixel_aspect`` is
    that of the clip, before turning, None where nothing says that pixels are not square. ``has_guessed_times``: up to
    its end some frame of the video was given another time than its packet says. ``num_sharing_time`` frames came at the
    time of the one before, and no file can show both. ``assumed_matrix`` as
    :func:`~consumers.media.display.assumed_matrix`. ``look`` is what the finished clip is held against, None where
    every frame was corrupt. ``num_pieces`` above 1: these frames are so many pieces, each shorter than the shortest
    scene, between which size, aspect or clock change.
    """

    index: int
    span: Span
    frames: tuple[SampledFrame, ...]
    motion: MotionMeasurement
    starts_on_keyframe: bool
    pixel_aspect: Fraction | None = None
    has_guessed_times: bool = False
    num_sharing_time: int = 0
    assumed_matrix: int | None = None
    look: ClipLook | None = None
    num_pieces: int = 1

    def notes(self) -> tuple[Score, ...]:
        """Return what a reader of the clip should know of its frames, for the record; nothing where all is plain."""
        notes = []
        if self.num_sharing_time:
            notes.append(Score(Stage.DECODE, "frames_sharing_time", float(self.num_sharing_time), "count"))
        if self.assumed_matrix is not None:
            notes.append(Score(Stage.DECODE, "colour_matrix", float(self.assumed_matrix), "untagged_hd_as_bt709"))
        return tuple(notes)


@dataclass(frozen=True, slots=True)
class StageResult:
    """What one stage says about one clip. ``reason`` is None to pass it on, else the bounded code of the rejection.

    ``call`` says what asking a model took, and ``model_cpu_s`` what it cost there; None and 0 where no model was asked.
    """

    scores: tuple[Score, ...] = ()
    reason: str | None = None
    caption: Caption | None = field(default=None)
    call: ModelCall | None = None
    model_cpu_s: float = 0.0


class ClipStage(Protocol):
    """A stage that judges one clip by its evidence: no decoding, and the same answer each time.

    It may ask a model in another process; then it is called in a thread of its own, and raises
    :class:`~consumers.errors.VideoError` where the model gives no answer.
    """

    @property
    def stage(self) -> Stage:
        """Which of the seven it is."""
        ...

    def judge(self, clip: ClipEvidence) -> StageResult:
        """Return scores and verdict of this stage for ``clip``."""
        ...
