"""What flows through Sluice: a raw video, what became of it, and what is written down about it.

All values are immutable. Times are timezone-aware UTC. Units are in the names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from fractions import Fraction
from typing import Literal

from schemas.object_version import ObjectVersion
from schemas.positions import OffsetRange

WHOLE_OBJECT = -1
"""Length of a :class:`BlobReference` that reaches to the end of its object."""


class Stage(StrEnum):
    """The seven stages, in the order of the pipeline, and the steps around them that can fail."""

    OPEN = "open"
    DECODE = "decode"
    SCENE = "scene_segmentation"
    DURATION = "duration_filter"
    FRAMES = "frame_extraction"
    NSFW = "nsfw_filter"
    MOTION = "motion_filter"
    AESTHETIC = "aesthetic_filter"
    CAPTION = "caption"
    CUT = "cut"
    POOL = "pool"


@dataclass(frozen=True, slots=True)
class BlobReference:
    """Where the bytes of a video are: Paimon's ``BlobDescriptor`` (URI, offset, length) as a plain value.

    ``length_bytes`` is :data:`WHOLE_OBJECT` when the reference reaches to the end of the object.
    """

    uri: str
    offset_bytes: int = 0
    length_bytes: int = WHOLE_OBJECT


class RowKind(StrEnum):
    """What a row of a changelog says of its video."""

    INSERT = "+I"
    UPDATE = "+U"
    """A new version, which replaces all older ones."""
    DELETE = "-D"
    """A takedown: no clip of the video may stand any longer."""
    MOVE = "=>"
    """A row that was there under another id: no new video. Its ``key`` names the first id that it had."""


@dataclass(frozen=True, slots=True)
class RawVideo:
    """One row of the raw table, or of its changelog.

    ``key`` identifies the video across its versions; None where the table has no primary key, so that each row is a
    video of its own, unless it has moved.
    ``blob`` is None where the row's video column is null or cannot be understood; ``defect`` then says why, and the
    row is dead-lettered with that message.
    """

    row_id: int
    snapshot_id: int
    committed_at: datetime
    source_table: str
    video_id: str
    blob: BlobReference | None
    size_bytes: int | None = None
    etag: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    defect: str | None = None
    row_kind: RowKind = RowKind.INSERT
    key: str | None = None


@dataclass(frozen=True, slots=True)
class SkippedRange:
    """Offsets that hold no row any more (deleted, or never assigned): finished without a ledger row, but counted.

    ``is_expected``: nothing was deleted; their rows are another shard's, or were finished before the shards changed, or
    the source never gave these numbers to rows.
    """

    range: OffsetRange
    is_expected: bool = False


@dataclass(frozen=True, slots=True)
class Span:
    """One clip's place in its video, from its first frame up to, not including, the frame after its last.

    ``start_s`` and ``end_s`` are seconds after the first frame of the video; ``start_pts`` and ``end_pts`` are the
    stream's own timestamps in units of ``time_base`` seconds. Frame numbers count decoded frames from 0.
    """

    start_s: float
    end_s: float
    start_pts: int
    end_pts: int
    time_base: Fraction
    start_frame: int
    end_frame: int

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.end_s - self.start_s


NSFW_PROBABILITY = "nsfw_probability"
MOTION_MEAN_MAGNITUDE = "motion_mean_magnitude"
AESTHETIC_SCORE = "aesthetic_score"
TECHNICAL_QUALITY = "technical_quality"
# The scores that have columns of their own in the curated table; what a stage measures besides is in the ledger.


@dataclass(frozen=True, slots=True)
class Score:
    """One measured value, with enough beside it to measure it again.

    ``value`` is None where nothing was measured (method ``unscored``). ``model_id`` and ``model_revision`` are None for
    values that come from a formula.
    """

    stage: Stage
    name: str
    value: float | None
    method: str
    model_id: str | None = None
    model_revision: str | None = None


@dataclass(frozen=True, slots=True)
class Caption:
    """A description of a clip. ``is_model_generated`` is False for the template that only states measured facts."""

    text: str
    method: str
    is_model_generated: bool
    model_id: str | None = None
    model_revision: str | None = None


class CutMethod(StrEnum):
    """How the bytes of a clip came about."""

    STREAM_COPY = "stream_copy"
    """Packets copied unchanged; the clip begins on a keyframe and holds no frame of a neighbour."""
    REENCODE_H264 = "h264"
    """Decoded and encoded again, frame-accurate."""
    EDIT_LIST = "edit_list"
    """Packets copied from the keyframe before the clip; ``num_hidden_frames`` precede it, hidden by an edit list."""
    REFERENCE = "reference"
    """No bytes: the source reference and the span are the clip."""


class ClipCheck(StrEnum):
    """What reading a finished clip back, and holding it against its source, has led to."""

    PASSED = "passed"
    """It is what the video shows."""
    ENCODED_AGAIN = "encoded_again"
    """It was not; encoded in another way it passed."""
    REJECTED = "rejected"
    """No way made a clip that passed."""


@dataclass(frozen=True, slots=True)
class ClipMedia:
    """A kept clip: an MP4 and a JPEG thumbnail.

    The MP4 is here as ``data``, or, if it is large, waits in the store at ``staged``; both are None for
    :attr:`CutMethod.REFERENCE`.
    """

    cut_method: CutMethod
    data: bytes | None
    thumbnail_jpeg: bytes | None
    num_frames: int
    num_hidden_frames: int
    has_audio: bool
    staged: BlobReference | None = None

    @property
    def held_bytes(self) -> int:
        """Bytes in memory: of the clip, unless it is staged, and of its thumbnail."""
        return len(self.data or b"") + len(self.thumbnail_jpeg or b"")

    @property
    def num_bytes(self) -> int:
        """Bytes of clip and thumbnail, wherever they are."""
        return self.held_bytes + (0 if self.staged is None else self.staged.length_bytes)


@dataclass(frozen=True, slots=True)
class ClipOutcome:
    """What became of one clip. Kept exactly when ``rejected_by`` is None; only kept clips have ``media``.

    ``reason`` is a short, bounded code such as ``motion_below_min``, fit for a metric label.
    ``scores`` holds every score measured before the verdict.
    """

    clip_id: str
    index: int
    span: Span
    scores: tuple[Score, ...] = ()
    rejected_by: Stage | None = None
    reason: str | None = None
    caption: Caption | None = None
    media: ClipMedia | None = None
    num_frames_sampled: int = 0

    @property
    def kept(self) -> bool:
        """Whether the clip passed every stage."""
        return self.rejected_by is None


class FailureKind(StrEnum):
    """What to do about a failed video."""

    PERMANENT = "permanent"
    """The video's own fault: to the ledger at once."""
    TRANSIENT = "transient"
    """Perhaps not the video's fault: try again with backoff, to the ledger when the attempts are used up."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a video failed. ``error_class`` is a bounded code (``not_a_video``), ``message`` is for a person."""

    kind: FailureKind
    stage: Stage
    error_class: str
    message: str


DecoderKind = Literal["cpu", "nvdec"]
"""What decoded a video: the CPU, or the video decoder of an NVIDIA GPU."""


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """What decoding found out about a video. Width and height are as displayed, after rotation."""

    container_format: str
    codec: str
    width_px: int
    height_px: int
    fps: float | None
    duration_s: float
    num_frames: int
    num_corrupt_frames: int
    rotation_degrees: int
    has_audio: bool
    decoder: DecoderKind = "cpu"


@dataclass(frozen=True, slots=True)
class ModelCall:
    """One clip's way through a model.

    Attributes:
        queue_s: seconds from the call until its batch began: transport, linger, and the batches before it.
        busy_s: this clip's share of the time that its batch took the model, in seconds.
        batch_size: clips in that batch.
        on_gpu: whether it ran on a GPU of this cluster.
    """

    queue_s: float
    busy_s: float
    batch_size: int
    on_gpu: bool


@dataclass(frozen=True, slots=True)
class StageTiming:
    """Cost of one stage on one video, and how many items went in and came out of it.

    ``wall_s`` and ``cpu_s`` are sums over the video's clips; the clips of one video wait for models side by side, so
    that for a model stage they may exceed the video's own time. ``cpu_s`` includes the clips' share of the model's.
    ``calls`` has an entry for each clip that a model has seen.
    """

    stage: Stage
    wall_s: float
    cpu_s: float
    num_in: int
    num_out: int
    calls: tuple[ModelCall, ...] = ()

    @property
    def queue_s(self) -> float:
        """Seconds that clips waited for the stage's model."""
        return sum(call.queue_s for call in self.calls)

    @property
    def mean_batch(self) -> float | None:
        """Mean size of the batches that the clips were in; None where no model was asked."""
        return sum(call.batch_size for call in self.calls) / len(self.calls) if self.calls else None


@dataclass(frozen=True, slots=True)
class VideoOutcome:
    """What became of one video: its clips, or the failure that ended it (then no clips).

    ``bytes_read`` counts bytes fetched from the object store. ``version`` is that of the object that was read, None
    where none was opened; ``is_replaced``: it is another one than the row tells of. ``is_takedown``: there was nothing
    to process, the video was deleted from the source. ``is_move``: there was nothing to process, the row was so before,
    under another id. ``clip_checks`` counts the clips that were read back, by what came of it.
    """

    media: MediaInfo | None = None
    clips: tuple[ClipOutcome, ...] = ()
    failure: Failure | None = None
    timings: tuple[StageTiming, ...] = ()
    bytes_read: int = 0
    is_takedown: bool = False
    is_move: bool = False
    version: ObjectVersion | None = None
    is_replaced: bool = False
    clip_checks: Mapping[ClipCheck, int] = field(default_factory=dict)

    @property
    def status(self) -> VideoStatus:
        """The one word for the ledger."""
        if self.is_takedown:
            return VideoStatus.RETIRED
        if self.is_move:
            return VideoStatus.MOVED
        if self.failure is not None:
            return VideoStatus.FAILED
        return VideoStatus.CURATED if any(clip.kept for clip in self.clips) else VideoStatus.REJECTED

    @property
    def media_bytes(self) -> int:
        """Bytes of clips and thumbnails, staged ones included: what a commit writes."""
        return sum(clip.media.num_bytes for clip in self.clips if clip.media is not None)

    @property
    def held_bytes(self) -> int:
        """Bytes of clips and thumbnails that this outcome keeps in memory."""
        return sum(clip.media.held_bytes for clip in self.clips if clip.media is not None)

    @property
    def staged(self) -> tuple[BlobReference, ...]:
        """Where its staged clips are."""
        return tuple(
            clip.media.staged for clip in self.clips if clip.media is not None and clip.media.staged is not None
        )


class VideoStatus(StrEnum):
    """The end of a video's story."""

    CURATED = "curated"
    """At least one clip was kept."""
    REJECTED = "rejected"
    """It was processed, and no clip was kept."""
    FAILED = "failed"
    """It could not be processed: a dead letter."""
    RETIRED = "retired"
    """It was deleted from the source; its clips are taken out of the curated table."""
    MOVED = "moved"
    """Its row got another id; it was processed under the first, and the clips of that stand."""


@dataclass(frozen=True, slots=True)
class VideoTask:
    """One call to the worker pool. ``attempt`` counts from 1; ``deadline_s`` bounds processing, not queueing."""

    video: RawVideo
    attempt: int
    deadline_s: float


@dataclass(frozen=True, slots=True)
class ProcessedVideo:
    """A video and its final outcome, ready for the commit. ``attempts`` is how often the pool was called for it."""

    video: RawVideo
    outcome: VideoOutcome
    attempts: int
    processed_at: datetime
