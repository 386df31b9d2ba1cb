"""Which of a frame's two timestamps to believe."""

from __future__ import annotations


class BestEffortStamps:
    """Guesses the presentation times of one stream's frames as libav does (``guess_correct_pts``, best effort).

    Some containers know only decoding times, and a presentation time made from them is wrong where frames are
    reordered (H.264 with B-frames in AVI, VC-1 in MP4). In order of presentation both clocks have to go forward: the
    one that has failed to less often so far is believed, the presentation time where they draw.

    Attributes:
        has_guessed: whether any time given so far was not the frame's own presentation time.
    """

    def __init__(self) -> None:
        self._last_pts: int | None = None
        self._last_dts: int | None = None
        self._num_bad_pts = 0
        self._num_bad_dts = 0
        self.has_guessed = False

    def stamp(self, pts: int | None, dts: int | None) -> int | None:
        """Return the best guess for the next frame in order of presentation; None where it has neither time."""
        if dts is not None:
            self._num_bad_dts += self._last_dts is not None and dts <= self._last_dts
            self._last_dts = dts
        elif pts is not None:
            self._last_dts = pts
        if pts is None:
            if dts is not None:
                self._last_pts = dts
            self.has_guessed = True
            return dts
        self._num_bad_pts += self._last_pts is not None and pts <= self._last_pts
        self._last_pts = pts
        if dts is None or self._num_bad_pts <= self._num_bad_dts:
            return pts
        self.has_guessed = self.has_guessed or dts != pts
        return dts
