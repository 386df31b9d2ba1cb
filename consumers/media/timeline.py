"""Where each decoded frame stands in time, whatever its stream's timestamps do."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

JITTER_S = 1.0
"""Timestamps that step back by up to this many seconds are disorder; by more, a new beginning (joined recordings)."""

JOINT_JITTER_S = 0.1
"""The same for a keyframe after other frames: a recording that was joined to another begins with one."""

LONGEST_GAP_S = 60.0
"""A pause from the end of a frame to the next one may be as long; where it is longer, the clock has jumped."""

LONGEST_BROADCAST_GAP_S = 10.0
"""The same for containers made for broadcasts, where clocks jump and pauses do not occur; libav's own bound there."""

_BROADCAST = frozenset({"mpegts", "mpeg"})


def longest_gap_s(container_format: str) -> float:
    """Return the bound on gaps, in seconds, for a container by its name in libav."""
    return LONGEST_BROADCAST_GAP_S if container_format in _BROADCAST else LONGEST_GAP_S


@dataclass(frozen=True, slots=True)
class Placed:
    """A frame's place: ``pts`` and ``end_pts`` in the stream's time base, ``time_s`` after the first frame.

    ``end_pts`` is ``pts`` plus the frame's own duration, or the nominal one where it has none. ``jumped`` tells that
    the timestamps began anew at this frame; ``time_s`` goes on all the same. ``overlaps``: they did, with times that
    frames shortly before have had as well.
    """

    pts: int
    end_pts: int
    time_s: float
    end_s: float
    jumped: bool
    overlaps: bool


class Timeline:
    """Turns presentation timestamps into seconds that never step back.

    Args:
        time_base: seconds per tick.
        nominal_frame_s: duration of a frame that states none, in seconds; above 0.
        max_gap_s: from the end of a frame to the next one; a longer one is a clock that begins anew.
    """

    def __init__(self, time_base: Fraction, nominal_frame_s: float, max_gap_s: float = LONGEST_GAP_S) -> None:
        self._time_base = time_base
        self._nominal_ticks = max(1, round(nominal_frame_s / time_base))
        self._max_gap_ticks = round(max_gap_s / time_base)
        self._origin: int | None = None
        self._last: Placed | None = None
        self._is_after_keyframe = True

    def place(self, pts: int | None, duration: int | None, *, is_keyframe: bool = False) -> Placed:
        """Return the place of the next frame; without ``pts`` it follows the last one directly."""
        last = self._last
        if pts is None:
            pts = 0 if last is None else last.end_pts
        end_pts = pts + (duration if duration and duration > 0 else self._nominal_ticks)
        if self._origin is None:
            self._origin = pts
        time_s = self._seconds(pts)
        step_s = 0.0 if last is None else time_s - last.time_s
        # Where every frame is a keyframe, none marks a joint.
        overlaps = is_keyframe and not self._is_after_keyframe and -JITTER_S <= step_s < -JOINT_JITTER_S
        self._is_after_keyframe = is_keyframe
        jumped = last is not None and (overlaps or step_s < -JITTER_S or pts - last.end_pts > self._max_gap_ticks)
        if last is not None and jumped:
            self._origin = pts - round(last.end_s / self._time_base)
            time_s = self._seconds(pts)
        elif last is not None:
            time_s = max(time_s, last.time_s)
        placed = Placed(pts, end_pts, time_s, time_s + self._duration_s(end_pts - pts), jumped, overlaps)
        self._last = placed
        return placed

    def _seconds(self, pts: int) -> float:
        return self._duration_s(pts - (self._origin or 0))

    def _duration_s(self, ticks: int) -> float:
        # As exact as a Fraction, at a tenth of its cost.
        return ticks * self._time_base.numerator / self._time_base.denominator
