"""The verdict of stage 3, frame extraction: a clip that no frame stands for is rejected, never scored."""

from __future__ import annotations

from consumers.stages.base import ClipEvidence, StageResult
from schemas.records import Stage


class FramePresence:
    """Rejects clips without an undamaged frame (``no_frames``), and runs of pieces that are no scene.

    Where size, aspect or clock change again and again before the shortest scene has passed, the pieces in between are
    taken together and rejected as ``pieces_below_scene``: no clip can show pictures of several sizes.

    There is no mode: without frames the later stages have nothing to judge, and no score may stand for nothing.
    """

    stage = Stage.FRAMES

    def judge(self, clip: ClipEvidence) -> StageResult:
        """Return whether there is a frame, and the frames belong together."""
        if clip.num_pieces > 1:
            return StageResult(reason="pieces_below_scene")
        return StageResult(reason=None if clip.frames else "no_frames")
