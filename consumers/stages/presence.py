"""The verdict of stage 3, frame extraction: a clip that no frame stands for is rejected, never scored."""

from __future__ import annotations

from consumers.stages.base import ClipEvidence, StageResult
from schemas.records import Stage


class FramePresence:
    """Rejects clips without an undamaged frame, with the reason ``no_frames``.

    There is no mode: without frames the later stages have nothing to judge, and no score may stand for nothing.
    """

    stage = Stage.FRAMES

    def judge(self, clip: ClipEvidence) -> StageResult:
        """Return whether there is a frame."""
        return StageResult(reason=None if clip.frames else "no_frames")
