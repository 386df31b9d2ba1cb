"""One small hierarchy of errors. The class says what to do; its docstring is the default message."""

from __future__ import annotations

import re

from schemas.records import Failure, FailureKind, Stage


class SluiceError(Exception):
    """Something went wrong in Sluice."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())


class ConfigurationError(SluiceError):
    """The settings, or a table they name, do not fit; a person has to change something. Exit code 2."""


class AlreadyRunningError(ConfigurationError):
    """Another process runs this consumer; nothing was changed."""


class StopError(SluiceError):
    """The consumer must stop: going on would break a promise."""


class PositionExpiredError(StopError):
    """Snapshots of the source that are still needed have expired; a person has to say how to go on."""


class SourceChangedError(StopError):
    """The source is no longer what the position counts in; a person has to say how to go on."""


class UnfollowedSnapshotError(StopError):
    """A snapshot of the source changes it in a way that cannot be followed; a person has to say how to go on."""


class FencedError(StopError):
    """A newer copy of this consumer has taken over; this one stops so that nothing is written twice."""


class SightLostError(FencedError):
    """Snapshots expired before they were seen, so a newer copy may have taken over; starting again finds out."""


class RetryableError(SluiceError):
    """Perhaps a passing fault of a store or a worker: try again with backoff."""


class StoreUnavailableError(RetryableError):
    """The store did not answer, or answered with a passing fault."""


class WorkerDiedError(RetryableError):
    """The worker process that held this video ended before it had a result.

    Args:
        message: how it ended.
        log_tail: the last lines that the worker wrote while it held the video, where they could be had.
    """

    def __init__(
        self,
        message: str = "the worker process that held this video ended before it had a result",
        *,
        log_tail: str = "",
    ) -> None:
        super().__init__(message)
        self.log_tail = log_tail


class PoolLostError(WorkerDiedError):
    """The worker pool has ended under us; no video is to blame, and another pool has to be made.

    Args:
        message: what was found.
    """

    def __init__(
        self, message: str = "the worker pool has ended under us; no video is to blame, and another has to be made"
    ) -> None:
        super().__init__(message)


class BreakerOpenError(RetryableError):
    """Failures look like our side's fault, and have done so for too long; what was read is left to the next run."""


class VideoError(SluiceError):
    """This video cannot be processed, and no other is affected.

    Args:
        message: for a person: what is wrong and with which figure.
        stage: where it happened; the class's own ``stage`` if None.
    """

    kind = FailureKind.PERMANENT
    stage = Stage.DECODE

    def __init__(self, message: str | None = None, *, stage: Stage | None = None) -> None:
        super().__init__(message)
        self.at_stage = stage or self.stage

    @classmethod
    def error_class(cls) -> str:
        """Return the bounded code of this class, ``TooManyPixelsError`` -> ``too_many_pixels``."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__.removesuffix("Error")).lower()

    def to_failure(self) -> Failure:
        """Return this error as the value that goes into the ledger."""
        return Failure(self.kind, self.at_stage, self.error_class(), str(self))


def out_of_memory(error: BaseException, stage: Stage) -> Failure:
    """Return the failure of a video for which the worker's memory did not suffice.

    Transient: on a machine that was short of memory it may fit the next time.
    """
    detail = getattr(error, "strerror", None) or str(error) or "an allocation failed"
    return Failure(FailureKind.TRANSIENT, stage, "out_of_memory", f"out of memory: {detail}")


class BadReferenceError(VideoError):
    """The row holds no usable reference to a video."""

    stage = Stage.OPEN


class UriNotAllowedError(VideoError):
    """The video's URI is not on the allow-list."""

    stage = Stage.OPEN


class ObjectNotFoundError(VideoError):
    """There is no object at the video's URI."""

    stage = Stage.OPEN


class ObjectUnavailableError(VideoError):
    """The object store did not give the video's bytes."""

    kind = FailureKind.TRANSIENT
    stage = Stage.OPEN


class ObjectChangedError(ObjectUnavailableError):
    """The object was replaced or deleted while it was read; what was found out about it is thrown away."""


class ObjectReplacedError(VideoError):
    """The object is not the one any more that the row tells of."""

    stage = Stage.OPEN


class TooManyBytesError(VideoError):
    """The object is larger than the limit."""

    stage = Stage.OPEN


class NotAVideoError(VideoError):
    """The object is not a video in a container that is understood."""

    stage = Stage.OPEN


class IndexTooLargeError(VideoError):
    """The index of the video declares more than the object can hold, or more than is read."""

    stage = Stage.OPEN


class NoVideoStreamError(VideoError):
    """The container holds no video stream that can be decoded."""

    stage = Stage.OPEN


class EncryptedError(VideoError):
    """The video is encrypted (DRM), so its pictures can be seen only with a key: register an unencrypted copy."""

    stage = Stage.OPEN


class TooManyPixelsError(VideoError):
    """A frame is larger than the limit."""


class TooManyFramesError(VideoError):
    """The video has more frames than the limit."""


class TooLongError(VideoError):
    """The video is longer than the limit."""


class TruncatedError(VideoError):
    """The object ends before the video does."""


class NoFramesError(VideoError):
    """Not one frame of the video could be decoded."""


class DeadlineExceededError(VideoError):
    """Processing took longer than the deadline."""


class StagingUnavailableError(VideoError):
    """A finished clip could not be written to the store."""

    kind = FailureKind.TRANSIENT
    stage = Stage.CUT


class CutFailedError(VideoError):
    """A kept clip could not be cut from its video."""

    stage = Stage.CUT
