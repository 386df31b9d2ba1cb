"""Holds the clips of one video against what its source shows and sounds like."""

from __future__ import annotations

from pathlib import Path

from benchmarks.media_clip import ClipJudge, Comparison
from benchmarks.media_truth import pictures, sounds
from schemas.records import VideoOutcome


def compare(path: Path, outcome: VideoOutcome) -> Comparison:
    """Compare every clip of ``outcome`` with the file at ``path``, which it was made of.

    Raises:
        av.FFmpegError: the file cannot be opened.
        ValueError: it holds no video.
    """
    found = Comparison(num_clips=len(outcome.clips))
    is_damaged = outcome.media is not None and outcome.media.num_corrupt_frames > 0
    source_sounds = sounds(path)
    clips = iter(outcome.clips)
    judge: ClipJudge | None = None
    expected_start = 0
    for picture in pictures(path):
        found.num_frames += 1
        if judge is None or picture.index >= judge.clip.span.end_frame:
            if judge is not None:
                judge.finish(picture)
                expected_start = judge.clip.span.end_frame
            clip = next(clips, None)
            if clip is None:
                judge = None
                continue
            if clip.span.start_frame != expected_start:
                found.problems.append(
                    f"clip {clip.index} begins at frame {clip.span.start_frame}, not {expected_start}"
                )
            judge = ClipJudge(clip, found, picture, source_sounds, is_damaged=is_damaged)
        judge.add(picture)
    if judge is not None:
        judge.finish(None)
        expected_start = judge.clip.span.end_frame
    if expected_start != found.num_frames or next(clips, None) is not None:
        found.problems.append(f"the clips end at frame {expected_start}, the video at {found.num_frames}")
    return found
