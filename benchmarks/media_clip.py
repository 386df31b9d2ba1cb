"""Holds one clip against the pictures of its source, and keeps what was found."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.media_pixels import halved, psnr_db, same_size, small
from benchmarks.media_sound import SoundComparison, compare_sound
from benchmarks.media_truth import Picture, Sound, Tags, count_with_hidden, pictures, track_duration_s
from schemas.records import ClipMedia, ClipOutcome, CutMethod

NEVER_KEPT = {"pieces_below_scene"}
"""Why a clip may be rejected by rule: its pictures do not belong together."""
MIN_PSNR_DB = 25.0
"""Below this two pictures are not the same picture."""
MIN_COPIED_PSNR_DB = 60.0
"""Copied packets decode to the same picture."""
MAX_COLOUR_ERROR = 7.0
"""Levels of 255 that the colours of broad areas may be off; encoding costs 1 to 6, a wrong matrix or range 10 to 40."""
MAX_TIME_ERROR_S = 0.002
_MATCH_S = 0.012
_MAX_ASPECT_ERROR = 0.001
_MIN_THUMBNAIL_PSNR_DB = 22.0
_MOVES_BELOW_DB = 40.0
_RGB_MATRIX, _UNTAGGED, _UNTAGGED_RANGE = 0, 2, 0


@dataclass(slots=True)
class Comparison:
    """What was found, over all clips of one video. Figures are None where nothing was compared."""

    num_frames: int = 0
    num_clips: int = 0
    num_kept: int = 0
    cut_methods: dict[str, int] = field(default_factory=dict)
    num_compared: int = 0
    num_shared_times: int = 0
    num_hidden_frames: int = 0
    min_psnr_db: float | None = None
    max_time_error_ms: float | None = None
    max_colour_error: float | None = None
    min_sound_correlation: float | None = None
    max_sound_lag_ms: float | None = None
    problems: list[str] = field(default_factory=list)

    def take(self, likeness_db: float, time_error_s: float, colour_error: float) -> None:
        """Take the figures of one picture."""
        self.num_compared += 1
        self.min_psnr_db = likeness_db if self.min_psnr_db is None else min(self.min_psnr_db, likeness_db)
        self.max_time_error_ms = max(self.max_time_error_ms or 0.0, time_error_s * 1000)
        self.max_colour_error = max(self.max_colour_error or 0.0, colour_error)

    def take_sound(self, sound: SoundComparison) -> None:
        """Take the figures of one clip's sound."""
        if sound.correlation is not None:
            least = self.min_sound_correlation
            self.min_sound_correlation = sound.correlation if least is None else min(least, sound.correlation)
            self.max_sound_lag_ms = max(self.max_sound_lag_ms or 0.0, abs(sound.lag_s) * 1000)


class ClipJudge:
    """Compares one clip while its source's pictures pass by.

    Args:
        clip: what the stages made of it.
        found: takes the figures and problems.
        first: the source's picture with which the clip begins, still to be added.
        sound: all of the source's sound.
        is_damaged: whether pictures of the source are missing for being damaged.
    """

    def __init__(
        self, clip: ClipOutcome, found: Comparison, first: Picture, sound: Sequence[Sound], *, is_damaged: bool
    ) -> None:
        self.clip = clip
        self._found = found
        self._first = self._last = first
        self._sound = sound
        self._is_damaged = is_damaged
        self._shown = _Shown(clip.media)
        self._num_matched = self._num_missing = self._num_wrong = self._num_moving = self._num_late = 0
        self._small: list[NDArray[np.uint8]] = []
        self._worst_db = float("inf")
        self._worst_colour = self._worst_time_s = 0.0
        if clip.media is None:
            if clip.reason not in NEVER_KEPT:
                self._say(f"was not kept: {clip.reason}")
            return
        found.num_kept += 1
        method = clip.media.cut_method
        found.cut_methods[method.value] = found.cut_methods.get(method.value, 0) + 1
        started_s = float(first.elapsed_s)
        if abs(clip.span.start_s - started_s) > MAX_TIME_ERROR_S:
            self._say(f"starts at {clip.span.start_s:.3f} s by the row, at {started_s:.3f} s by its pictures")

    def add(self, source: Picture) -> None:
        """Take the next picture of the source."""
        shares_time = bool(self._small) and source.elapsed_s <= self._last.elapsed_s
        self._small.append(small(source.rgb))
        self._last = source
        if self.clip.media is None or self.clip.media.data is None:
            return
        due_s = float(source.elapsed_s - self._first.elapsed_s)
        shown = self._shown.at(due_s)
        if shown is None:
            self._found.num_shared_times += shares_time
            self._num_missing += not shares_time
            return
        self._num_matched += 1
        if self._num_matched == 1:
            self._compare_shape(source, shown)
        self._compare_picture(source, shown, abs(float(shown.elapsed_s) - due_s), self.clip.media.cut_method)

    def finish(self, following: Picture | None) -> None:
        """Take the end of the clip's source; ``following`` is the picture after it."""
        media = self.clip.media
        if media is None:
            return
        self._compare_thumbnail(media.thumbnail_jpeg)
        if media.data is None:
            self._say("has no bytes")
            return
        num_extra = self._shown.rest()
        if self._shown.error is not None:
            self._say(f"cannot be read: {self._shown.error}")
            return
        if self._num_missing and not self._is_damaged:
            self._say(f"{self._num_missing} of {self._num_missing + self._num_matched} frames are missing")
        if num_extra:
            self._say(f"{num_extra} frames at times at which the source has none")
        if self._num_matched:
            self._judge_pictures()
        if (num_decoded := self._num_matched + num_extra) != media.num_frames:
            self._say(f"the row says {media.num_frames} frames, {num_decoded} can be decoded")
        hidden = count_with_hidden(io.BytesIO(media.data)) - num_decoded
        self._found.num_hidden_frames += max(0, hidden)
        if hidden != media.num_hidden_frames:
            self._say(f"holds {hidden} hidden frames, the row says {media.num_hidden_frames}")
        goes_on = following is not None and following.segment == self._last.segment
        end_s = following.elapsed_s if following is not None and goes_on else self._last.end_s
        self._compare_length(media.data, float(end_s - self._first.elapsed_s))
        self._compare_sound(media.data, float(end_s - self._first.elapsed_s), has_audio=media.has_audio)

    def _compare_picture(self, source: Picture, shown: Picture, time_error_s: float, method: CutMethod) -> None:
        theirs, ours = same_size(source.rgb, shown.rgb)
        likeness_db = psnr_db(halved(theirs), halved(ours))
        areas, shown_areas = small(theirs), small(ours)
        colour_error = float(np.percentile(cv2.absdiff(areas, shown_areas), 98))
        self._found.take(likeness_db, time_error_s, colour_error)
        self._worst_time_s = max(self._worst_time_s, time_error_s)
        self._worst_db = min(self._worst_db, likeness_db)
        self._worst_colour = max(self._worst_colour, colour_error)
        least_db = MIN_PSNR_DB if method is CutMethod.REENCODE_H264 or source.is_corrupt else MIN_COPIED_PSNR_DB
        self._num_wrong += likeness_db < least_db
        # Where a picture moves, it has to be nearer to its own time's than to the one before.
        if len(self._small) > 1 and psnr_db(before := self._small[-2], areas) < _MOVES_BELOW_DB:
            self._num_moving += 1
            self._num_late += psnr_db(before, shown_areas) > psnr_db(areas, shown_areas)

    def _judge_pictures(self) -> None:
        if self._num_wrong:
            self._say(f"{self._num_wrong} frames differ from the source (worst {self._worst_db:.1f} dB)")
        elif self._worst_colour > MAX_COLOUR_ERROR:
            self._say(f"colours are off by {self._worst_colour:.0f} levels")
        if self._num_late > max(2, self._num_moving // 2):
            self._say("shows each picture one frame late")
        if self._worst_time_s > MAX_TIME_ERROR_S:
            self._say(f"frames stand up to {self._worst_time_s * 1000:.1f} ms beside their times in the source")
        if self._shown.last is not None:
            self._compare_shape(self._last, self._shown.last)

    def _compare_shape(self, source: Picture, shown: Picture) -> None:
        height, width = source.rgb.shape[:2]
        if any(abs(a - b) > 1 for a, b in zip(source.rgb.shape[:2], shown.rgb.shape[:2], strict=True)):
            self._say(f"shows {shown.rgb.shape[1]} x {shown.rgb.shape[0]} pixels, the source {width} x {height}")
        if abs(float(shown.pixel_aspect / source.pixel_aspect) - 1) > _MAX_ASPECT_ERROR:
            self._say(f"the aspect of a pixel is {shown.pixel_aspect}, in the source {source.pixel_aspect}")
        for problem in tag_problems(source, shown):
            self._say(problem)

    def _compare_sound(self, data: bytes, due_s: float, *, has_audio: bool) -> None:
        begin_s = float(self._first.clock_s)
        sound = compare_sound(self._sound, data, self._first.segment, begin_s, begin_s + due_s, has_audio=has_audio)
        self._found.take_sound(sound)
        for problem in sound.problems:
            self._say(problem)

    def _compare_length(self, data: bytes, due_s: float) -> None:
        tolerance_s = max(float(self._last.end_s - self._last.elapsed_s) / 2, 0.01)
        shown_s = track_duration_s(io.BytesIO(data)) or 0.0
        if abs(shown_s - due_s) > tolerance_s and not (self._is_damaged and self._num_missing and shown_s < due_s):
            self._say(f"its track lasts {shown_s:.3f} s, its pictures in the source {due_s:.3f} s")
        if abs(self.clip.span.duration_s - due_s) > tolerance_s:
            self._say(f"lasts {self.clip.span.duration_s:.3f} s by the row, {due_s:.3f} s in the source")

    def _compare_thumbnail(self, jpeg: bytes | None) -> None:
        bgr = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR) if jpeg else None
        if bgr is None:
            self._say("has no thumbnail")
            return
        areas = small(np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8))
        best_db = max(psnr_db(one, areas) for one in self._small)
        if best_db < _MIN_THUMBNAIL_PSNR_DB:
            self._say(f"its thumbnail is none of its pictures (at best {best_db:.1f} dB)")

    def _say(self, problem: str) -> None:
        said = f"clip {self.clip.index}: {problem}"
        if said not in self._found.problems:
            self._found.problems.append(said)


class _Shown:
    """The pictures that a clip shows, asked for by time.

    Attributes:
        last: the last one given.
        error: why no more can be read, None while they can.
    """

    def __init__(self, media: ClipMedia | None) -> None:
        data = None if media is None else media.data
        self._pictures: Iterator[Picture] = iter(()) if data is None else pictures(io.BytesIO(data))
        self._num_passed_over = 0
        self.last: Picture | None = None
        self.error: str | None = None
        self._next = self._pull()

    def at(self, time_s: float) -> Picture | None:
        """Return the next picture if it is shown at ``time_s``; those before are passed over."""
        while self._next is not None and float(self._next.elapsed_s) < time_s - _MATCH_S:
            self._num_passed_over += 1
            self._next = self._pull()
        if self._next is None or float(self._next.elapsed_s) > time_s + _MATCH_S:
            return None
        self.last, self._next = self._next, self._pull()
        return self.last

    def rest(self) -> int:
        """Return how many pictures were never given."""
        while self._next is not None:
            self._num_passed_over += 1
            self._next = self._pull()
        return self._num_passed_over

    def _pull(self) -> Picture | None:
        try:
            return next(self._pictures, None)
        except (av.FFmpegError, ValueError) as error:
            self.error = str(error)
            return None


def tag_problems(source: Picture, shown: Picture) -> Sequence[str]:
    """Return what is wrong with the colour tags of ``shown``, which stands for ``source``."""
    problems = []
    if shown.tags.matrix == _RGB_MATRIX and not shown.is_rgb:
        problems.append("is tagged as RGB, and is none")
    for name in Tags.__dataclass_fields__:
        told, kept = getattr(source.tags, name), getattr(shown.tags, name)
        # RGB has a matrix and a range of its own, which 4:2:0 cannot have.
        if told == kept or (source.is_rgb and name in {"matrix", "range"}):
            continue
        # What the source leaves unsaid may be said; full range may have become limited: colours show whether rightly.
        if told in {_UNTAGGED, _UNTAGGED_RANGE} if name == "range" else told == _UNTAGGED:
            continue
        if name != "range" or kept != _UNTAGGED_RANGE:
            problems.append(f"the colour tag {name} is {kept}, in the source {told}")
    return problems
