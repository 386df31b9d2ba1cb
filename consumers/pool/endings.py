"""What the end of a call on Ray means for the video that the call was for."""

from __future__ import annotations

from consumers.errors import WorkerDiedError
from consumers.pool.worker import unexpected_failure
from schemas.records import VideoOutcome, VideoTask

# What Ray's memory monitor puts into the death of a worker that it chose.
_LOW_MEMORY = "low on memory"


def translated(error: Exception, task: VideoTask, elapsed_s: float, log_tail: str) -> VideoOutcome | WorkerDiedError:
    """Return what an exception of Ray's means for the video."""
    from ray.exceptions import RayTaskError  # noqa: PLC0415

    if isinstance(error, RayTaskError):
        return unexpected_failure(getattr(error, "cause", None) or error)
    if elapsed_s >= task.deadline_s:
        return WorkerDiedError(
            f"the video was not done {elapsed_s:.0f} s after it was handed to a worker, and its deadline is "
            f"{task.deadline_s:g} s; the worker was ended",
            log_tail=log_tail,
        )
    cause = "the node ran low on memory" if _LOW_MEMORY in str(error) else type(error).__name__
    return WorkerDiedError(f"the worker ended while it held the video ({cause})", log_tail=log_tail)
