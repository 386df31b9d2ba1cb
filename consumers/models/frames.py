"""Scores frames in batches that form across clips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice

from consumers.models.base import Frame, require_frames
from consumers.models.batching import BatchRunner


def score_frames(
    runner: BatchRunner, clips: Sequence[Sequence[Frame]], forward: Callable[[Sequence[Frame]], Sequence[float]]
) -> list[list[float]]:
    """Return ``forward``'s score of every frame, clip by clip.

    Raises:
        ValueError: a clip without frames.
        OutOfMemoryError: a single frame does not fit.
    """
    require_frames(clips)
    scores = iter(runner.run([frame for frames in clips for frame in frames], forward))
    return [list(islice(scores, len(frames))) for frames in clips]
