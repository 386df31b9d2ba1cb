"""Pieces of a video that are too short to be scenes, where size, aspect or clock change again and again."""

from __future__ import annotations

from consumers.stages.clip_builder import ClipBuilder

Following = tuple[int, float] | None
"""Timestamp and time of the frame after a clip; None if there is none, or it begins a new reckoning."""

_MAX_APART = 2


class Pieces:
    """Holds clips that a change ended before the shortest scene had passed, until one follows that lasts.

    One or two of them are clips like others: a change near the beginning or the end of a video leaves such. More are
    taken together, so that the number of clips is bounded by the shortest scene.
    """

    def __init__(self) -> None:
        self._held: list[tuple[ClipBuilder, Following]] = []
        self._is_one = False

    def __bool__(self) -> bool:
        return bool(self._held)

    def add(self, clip: ClipBuilder, following: Following) -> None:
        """Take a clip that has ended, the next one in order."""
        self._held.append((clip, following))
        if self._is_one or len(self._held) > _MAX_APART:
            self._is_one = True
            first = self._held[0][0]
            for piece, _ in self._held[1:]:
                first.take_over(piece)
            self._held = [(first, following)]

    def release(self) -> list[tuple[ClipBuilder, Following]]:
        """Return what is held, in order, and hold nothing."""
        released, self._held, self._is_one = self._held, [], False
        return released
