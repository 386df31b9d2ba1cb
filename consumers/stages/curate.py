"""One video from its reference to its outcome: the pass, the verdicts, the cuts. This is what a worker runs."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import BinaryIO, cast

import cv2

from consumers.clock import Clock, Deadline
from consumers.errors import (
    BadReferenceError,
    CutFailedError,
    DeadlineExceededError,
    ObjectChangedError,
    ObjectReplacedError,
    ObjectUnavailableError,
    TooManyBytesError,
    VideoError,
    out_of_memory,
)
from consumers.media.cut import ClipCutter
from consumers.media.look import ClipLook
from consumers.media.nvdec import NvdecGaveUpError
from consumers.media.reader import RangeReader
from consumers.media.thumbnail import thumbnail_jpeg
from consumers.models.calls import ClipModels, ModelUnavailableError
from consumers.pool_report import VideoProgress
from consumers.ports import BlobOpener, BlobStream, ClipStaging
from consumers.stages.base import ClipEvidence
from consumers.stages.decoder import ON_CPU, DecoderChoice
from consumers.stages.delivery import ClipDelivery
from consumers.stages.desk import ClipDesk
from consumers.stages.meter import StageMeter
from consumers.stages.pipeline import JUDGING_STAGES, StagePlan, Verdict, plan_stages
from consumers.stages.single_pass import OpenDecoder, SinglePass
from schemas.object_version import ObjectVersion, OnReplaced
from schemas.profile import Limits, Profile, clip_id
from schemas.records import (
    ClipCheck,
    ClipOutcome,
    Failure,
    FailureKind,
    MediaInfo,
    RawVideo,
    Stage,
    StageTiming,
    VideoOutcome,
    VideoTask,
)

logger = logging.getLogger(__name__)

Planner = Callable[[Profile, MediaInfo, ClipModels, Deadline], StagePlan]

NO_MODELS = ClipModels()


class VideoCurator:
    """Implements :class:`~consumers.ports.VideoProcessor`.

    Reads a video twice at most: once to decode it, judging each clip as it ends and letting go of its frames, and once
    to cut the clips that were kept. What is held meanwhile is a small JPEG per kept clip, and of the clips the first
    few MB; the others go to the store at once.

    Whatever goes wrong is an outcome. A video at fault fails for good; a fault of the store, a lack of memory or an
    error in Sluice itself may pass and is marked transient. A kept clip that cannot be cut is rejected by itself, at
    stage ``cut`` with reason ``cut_failed``.

    Everything is of one version of the object, the one that was there when it was opened: an object that changes
    meanwhile makes the attempt fail, whatever came out of it, and the next one judges what is there then.

    Args:
        opener: opens references.
        profile: what is kept.
        limits: bounds on one video.
        clock: for the deadline.
        models: those that the profile names.
        max_waiting_clips: clips of one video that may be with the models at once, 1 or more.
        plan: makes the stages that judge the clips of one video.
        staging: takes clips that are too large for the outcome; None keeps all of them there.
        choose_decoder: called once, here; says how to decode.
        on_replaced: what becomes of a row whose object is another one by now.

    Raises:
        ConfigurationError: the decoder that is asked for is not to be had here.
    """

    def __init__(
        self,
        opener: BlobOpener,
        profile: Profile,
        limits: Limits,
        clock: Clock,
        models: ClipModels = NO_MODELS,
        max_waiting_clips: int = 8,
        plan: Planner = plan_stages,
        staging: ClipStaging | None = None,
        choose_decoder: Callable[[], DecoderChoice] = lambda: ON_CPU,
        on_replaced: OnReplaced = OnReplaced.FAIL,
    ) -> None:
        self._opener = opener
        self._profile = profile
        self._limits = limits
        self._clock = clock
        self._models = models
        self._plan = plan
        self._staging = staging
        self._on_replaced = on_replaced
        self._desk = ClipDesk(max_waiting_clips)
        self._fingerprint = profile.fingerprint
        *self._hardware, self._cpu = choose_decoder().ways

    def process(self, task: VideoTask, progress: VideoProgress | None = None) -> VideoOutcome:
        """Return what became of the video of ``task``; raises nothing but what ends the process."""
        run = _Run(
            Deadline(self._clock, min(task.deadline_s, self._limits.deadline_s)),
            ClipDelivery(self._staging),
            progress or VideoProgress(self._clock),
        )
        try:
            failure = self._guarded(task.video, run)
        finally:
            run.close()
        if failure is not None:
            run.delivery.take_back()
        return VideoOutcome(
            run.media,
            () if failure is not None else tuple(run.clips),
            failure,
            run.timings(),
            run.bytes_read,
            version=run.version,
            is_replaced=run.is_replaced,
            clip_checks=dict(run.checks),
        )

    def _guarded(self, video: RawVideo, run: _Run) -> Failure | None:
        try:
            self._curate(video, run)
        except VideoError as error:
            # A demuxer takes a failed read for damage; then the store, not the video, is to blame. And half of one
            # version with half of another looks like damage, too.
            store_failure = run.reader.failure if run.reader is not None else None
            return (run.change() or store_failure or error).to_failure()
        except Exception as error:
            if _is_out_of_memory(error):
                logger.exception("out of memory", extra={"video_id": video.video_id})
                return out_of_memory(error, run.stage)
            logger.exception("internal error", extra={"video_id": video.video_id})
            message = f"{type(error).__name__}: {error}"
            return Failure(FailureKind.TRANSIENT, run.stage, "internal_error", message)
        return None

    def _curate(self, video: RawVideo, run: _Run) -> None:
        if video.blob is None or video.defect is not None:
            raise BadReferenceError(video.defect)
        run.source = self._opener.open(video.blob)
        run.reader = RangeReader(cast(BinaryIO, run.source))
        self._check_row(video, run.source, run)
        if run.reader.size_bytes > self._limits.max_bytes:
            raise TooManyBytesError(f"{run.reader.size_bytes} bytes, the limit is {self._limits.max_bytes}")
        run.enter(Stage.DECODE)
        kept = self._decode(video, run, run.reader)
        if kept:
            run.enter(Stage.CUT)
            self._cut(run, run.reader, kept)
        if run.reader.failure is not None:
            raise run.reader.failure
        run.source.check_unchanged()

    def _check_row(self, video: RawVideo, source: BlobStream, run: _Run) -> None:
        """Compare the object with what its row says of it."""
        run.version = source.version
        # What a row says of size and etag is of a whole object.
        told = source.version.contradiction(video.size_bytes, video.etag) if source.is_whole else None
        run.is_replaced = told is not None
        if told is not None and self._on_replaced is OnReplaced.FAIL:
            raise ObjectReplacedError(
                f"the object was replaced since the row was written: {told}; register it again as it is now, or set "
                "input.on_replaced to take_new"
            )

    def _decode(self, video: RawVideo, run: _Run, reader: RangeReader) -> list[_Kept]:
        """Decode and judge, all of it in the one way or all of it in the other; return what has to be cut."""
        for way in self._hardware:
            try:
                return self._pass(video, run, reader, way)
            except NvdecGaveUpError as error:
                logger.info("video %s is begun again on the CPU: %s", video.video_id, error)
                run.begin_again()
                reader.seek(0)
        return self._pass(video, run, reader, self._cpu)

    def _pass(self, video: RawVideo, run: _Run, reader: RangeReader, way: OpenDecoder) -> list[_Kept]:
        one_pass = SinglePass(cast(BinaryIO, reader), self._profile, self._limits, run.deadline, way)

        def plan() -> StagePlan:
            return self._plan(self._profile, one_pass.media, self._models, run.deadline)

        kept: list[_Kept] = []
        try:
            for clip, verdict in self._desk.judged(one_pass.clips(), plan, run.meters, run.progress):
                run.clips.append(self._outcome(video, clip, verdict))
                if verdict.rejected_by is None:
                    kept.append(self._keep(clip))
        except DeadlineExceededError as error:
            if self._desk.waited_s > run.deadline.seconds / 2:
                raise ModelUnavailableError(
                    f"{self._desk.waited_s:.0f} of {run.deadline.seconds:g} s went by waiting for models",
                    stage=run.stage,
                ) from error
            raise
        finally:
            run.pass_timings = one_pass.timings
            run.media = one_pass.media
        return kept

    def _outcome(self, video: RawVideo, clip: ClipEvidence, verdict: Verdict) -> ClipOutcome:
        return ClipOutcome(
            clip_id=clip_id(video.source_table, video.row_id, clip.span, self._fingerprint),
            index=clip.index,
            span=clip.span,
            scores=(*verdict.scores, *clip.notes()),
            rejected_by=verdict.rejected_by,
            reason=verdict.reason,
            caption=verdict.caption,
            num_frames_sampled=len(clip.frames),
        )

    def _keep(self, clip: ClipEvidence) -> _Kept:
        middle = clip.frames[len(clip.frames) // 2]
        thumbnail = thumbnail_jpeg(middle.rgb, self._profile.clips.thumbnail_long_side_px)
        return _Kept(
            clip.index, thumbnail, clip.starts_on_keyframe, clip.pixel_aspect, clip.has_guessed_times, clip.look
        )

    def _cut(self, run: _Run, reader: RangeReader, kept: list[_Kept]) -> None:
        """Give every kept clip its bytes, or reject it where that is impossible."""
        meter = run.meters[Stage.CUT]
        with meter:
            cutter = ClipCutter(cast(BinaryIO, reader), self._profile.clips.mode, run.deadline, self._limits)
        for item in kept:
            meter.num_in += 1
            clip = run.clips[item.index]
            try:
                with meter:
                    result = cutter.cut(
                        clip.span,
                        starts_on_keyframe=item.starts_on_keyframe,
                        pixel_aspect=item.pixel_aspect,
                        has_guessed_times=item.has_guessed_times,
                        look=item.look,
                    )
                    has_audio = run.media is not None and run.media.has_audio
                    media = run.delivery.deliver(clip.clip_id, result, item.thumbnail, source_has_audio=has_audio)
            except CutFailedError as error:
                if reader.failure is not None:
                    raise
                run.checks[ClipCheck.REJECTED] += 1
                logger.warning("clip %s is rejected: %s", clip.clip_id, error)
                run.clips[item.index] = replace(clip, rejected_by=Stage.CUT, reason="cut_failed", caption=None)
                continue
            meter.num_out += 1
            if result.file is not None:
                run.checks[ClipCheck.ENCODED_AGAIN if result.failed_checks else ClipCheck.PASSED] += 1
            for fault in result.failed_checks:
                logger.info("clip %s was encoded again: %s", clip.clip_id, fault)
            run.clips[item.index] = replace(clip, media=media, scores=(*clip.scores, *result.losses))


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or (isinstance(error, cv2.error) and error.code == cv2.Error.StsNoMem)


@dataclass(frozen=True, slots=True)
class _Kept:
    index: int
    thumbnail: bytes
    starts_on_keyframe: bool
    pixel_aspect: Fraction | None
    has_guessed_times: bool
    look: ClipLook | None


class _Run:
    """What is known of one video so far, whatever ends its processing."""

    def __init__(self, deadline: Deadline, delivery: ClipDelivery, progress: VideoProgress) -> None:
        self.deadline = deadline
        self.delivery = delivery
        self.progress = progress
        self.source: BlobStream | None = None
        self.reader: RangeReader | None = None
        self.version: ObjectVersion | None = None
        self.is_replaced = False
        self.stage = Stage.OPEN
        self.begin_again()

    def begin_again(self) -> None:
        """Forget what a pass over the video has found out."""
        self.media: MediaInfo | None = None
        self.clips: list[ClipOutcome] = []
        self.meters = {stage: StageMeter(stage) for stage in (*JUDGING_STAGES, Stage.CUT)}
        self.pass_timings: tuple[StageTiming, ...] = ()
        self.checks: Counter[ClipCheck] = Counter()

    def enter(self, stage: Stage) -> None:
        """Go on to ``stage``."""
        self.stage = stage
        self.progress.enter(stage)

    def change(self) -> ObjectChangedError | None:
        """Return what has become of the object since it was opened, as far as it can be told."""
        try:
            if self.source is not None:
                self.source.check_unchanged()
        except ObjectChangedError as error:
            return error
        except ObjectUnavailableError:
            # What went wrong first is told.
            return None
        return None

    @property
    def bytes_read(self) -> int:
        return 0 if self.reader is None else self.reader.bytes_read

    def timings(self) -> tuple[StageTiming, ...]:
        """Return the cost of each stage, and what went in and came out: videos up to the scenes, clips from there on.

        The pass samples frames of every clip; counted are those of clips that are long enough, so that the counts of
        the seven stages are a funnel.
        """
        judged = {stage: meter.timing() for stage, meter in self.meters.items()}
        for measured in self.pass_timings:
            verdict = judged.get(measured.stage, replace(measured, wall_s=0.0, cpu_s=0.0))
            judged[measured.stage] = replace(
                verdict, wall_s=verdict.wall_s + measured.wall_s, cpu_s=verdict.cpu_s + measured.cpu_s
            )
        if Stage.FRAMES in judged:
            num_left = judged[Stage.DURATION].num_out
            judged[Stage.FRAMES] = replace(judged[Stage.FRAMES], num_in=num_left, num_out=num_left)
        return tuple(judged[stage] for stage in Stage if stage in judged)

    def close(self) -> None:
        if self.reader is not None:
            self.reader.close()
