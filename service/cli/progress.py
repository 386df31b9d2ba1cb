"""Progress of a running consumer as lines, one for each finished video and each commit."""

from __future__ import annotations

import logging
from collections import Counter

from consumers.ports import BreakerState, CommitBatch, CommitReceipt
from schemas.object_names import object_name
from schemas.records import ProcessedVideo, RawVideo, VideoStatus
from service.cli.journal import Say
from service.cli.output import counted, human_bytes

_STYLES = {
    VideoStatus.CURATED: "green",
    VideoStatus.REJECTED: "yellow",
    VideoStatus.FAILED: "red",
    VideoStatus.RETIRED: "magenta",
    VideoStatus.MOVED: "blue",
}


_LEVELS = {"retry": logging.WARNING, "failed": logging.ERROR, "breaker": logging.WARNING}


class LineObserver:
    """Writes what a consumer does as plain sentences.

    Args:
        say: writes a line.
    """

    def __init__(self, say: Say) -> None:
        self._say = say

    def admitted(self, video: RawVideo) -> None:
        """Say nothing: the outcome follows."""

    def retried(self, video: RawVideo, attempt: int, reason: str, delay_s: float) -> None:
        """Name the video, what went wrong and when it is tried again."""
        self._line("retry", f"{_name(video)}: {reason} (attempt {attempt}); again in {delay_s:.1f} s", "yellow")

    def finished(self, video: ProcessedVideo) -> None:
        """Say what became of a video."""
        outcome = video.outcome
        if outcome.failure is not None:
            failure = outcome.failure
            self._line("failed", f"{_name(video.video)}: {failure.error_class}: {failure.message}", "red")
        else:
            kept = sum(clip.kept for clip in outcome.clips)
            reasons = Counter(clip.reason for clip in outcome.clips if not clip.kept)
            because = "".join(f", {count} {reason}" for reason, count in sorted(reasons.items(), key=str))
            total = len(outcome.clips)
            text = f"{_name(video.video)}: {kept} of {counted(total, 'clip')} kept{because}"
            self._line(outcome.status.value, text, _STYLES[outcome.status])

    def committed(self, batch: CommitBatch, receipt: CommitReceipt) -> None:
        """Say what a commit made durable."""
        size = human_bytes(sum(video.outcome.media_bytes for video in batch.videos))
        self._line(
            "commit",
            f"#{receipt.sequence}: {counted(len(batch.videos), 'video')}, {counted(receipt.num_clips, 'clip')} "
            f"({size}); done up to row {batch.position.watermark}",
            "bold",
        )

    def breaker(self, state: BreakerState, reason: str | None) -> None:
        """Say that intake is held, and why; and that it goes on."""
        if state is BreakerState.OPEN:
            self._line("breaker", f"intake is held: {reason}", "red")
        elif state is BreakerState.CLOSED:
            self._line("breaker", "a probe succeeded, intake goes on", "green")

    def _line(self, word: str, text: str, style: str) -> None:
        self._say(text, word, level=_LEVELS.get(word, logging.INFO), style=style)


def _name(video: RawVideo) -> str:
    where = object_name(video.blob.uri) if video.blob else video.video_id
    return f"row {video.row_id} {where}"
