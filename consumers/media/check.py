"""Reads a finished clip back and holds it against what its source showed."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import IO, BinaryIO, cast

import av
import numpy as np
from numpy.typing import NDArray

from consumers.clock import Deadline
from consumers.media.display import orientation_of
from consumers.media.look import ClipLook, likeness_db, small_picture
from consumers.media.packets import FAULTS
from consumers.media.reader import StreamView
from schemas.records import Stage

_LEAST_COPIED_DB = 40.0
_LEAST_ENCODED_DB = 20.0
_MAX_SOUND_ERROR_S = Fraction(3, 20)
_MAX_ASPECT_ERROR = 0.001
_SHORTEST_TOLERANCE_S = Fraction(1, 500)


@dataclass(frozen=True, slots=True)
class Expected:
    """What a clip has to be.

    Attributes:
        num_frames: frames that a player shows.
        num_hidden_frames: those that the edit list hides.
        duration_s: length of the track of pictures.
        look: what the pass saw; None where that is not known.
        sound: from where to where there is sound, in seconds from the start; None without any.
        encoded_last: the last picture that the encoder was given, as :func:`~consumers.media.look.small_picture`; None
            for a copy.
    """

    num_frames: int
    num_hidden_frames: int
    duration_s: Fraction
    look: ClipLook | None
    sound: tuple[Fraction, Fraction] | None
    encoded_last: NDArray[np.uint8] | None = None

    @property
    def is_copied(self) -> bool:
        """Whether the pictures are the source's own packets: all of them have to decode, to the same pixels."""
        return self.encoded_last is None


def find_fault(file: IO[bytes], expected: Expected, deadline: Deadline) -> str | None:
    """Return what is wrong with the MP4 in ``file``, None where nothing is.

    Of copied pictures all are decoded, of encoded ones the first; the last is looked at as the encoder was given it, as
    decoding it would take all those before it that it refers to.

    Raises:
        DeadlineExceededError: no time left.
    """
    try:
        with av.open(cast(BinaryIO, StreamView(cast(BinaryIO, file))), mode="r") as container:
            return _Reading(container, expected, deadline).fault()
    except FAULTS as error:
        return f"it cannot be read back: {error}"


class _Reading:
    def __init__(self, container: av.container.InputContainer, expected: Expected, deadline: Deadline) -> None:
        self._container = container
        self._expected = expected
        self._deadline = deadline
        self._stream = container.streams.video[0]
        self._context = self._stream.codec_context
        self._context.thread_count = 1
        self._time_base = Fraction(self._stream.time_base or 1)
        self._num_shown = self._num_hidden = self._num_decoded = 0
        self._latest = 0
        self._first: av.VideoFrame | None = None
        self._last: av.VideoFrame | None = None
        self._sound: tuple[Fraction, Fraction] | None = None

    def fault(self) -> str | None:
        self._read()
        return self._wrong_frames() or self._wrong_picture() or self._wrong_length() or self._wrong_sound()

    def _read(self) -> None:
        for packet in self._container.demux():
            self._deadline.check(Stage.CUT)
            if not packet.size:
                continue
            if packet.stream is not self._stream:
                self._note_sound(packet)
                continue
            if packet.is_discard:
                self._num_hidden += 1
            else:
                self._num_shown += 1
            if not packet.is_discard and packet.pts is not None:
                self._latest = max(self._latest, packet.pts)
            if self._expected.is_copied or self._first is None:
                self._take(self._context.decode(cast("av.Packet[av.VideoStream]", packet)))
        if self._expected.is_copied or self._first is None:
            self._take(self._context.decode(None))

    def _take(self, frames: list[av.VideoFrame]) -> None:
        for frame in frames:
            if frame.is_corrupt:
                raise ValueError(f"frame {self._num_decoded} is damaged")
            if self._first is None:
                self._first = frame
            self._last = frame
            self._num_decoded += 1

    def _note_sound(self, packet: av.Packet[av.stream.Stream]) -> None:
        if packet.pts is None or packet.is_discard:
            return
        begin_s = packet.pts * packet.time_base
        end_s = begin_s + (packet.duration or 0) * packet.time_base
        self._sound = (begin_s, end_s) if self._sound is None else (self._sound[0], max(self._sound[1], end_s))

    def _wrong_frames(self) -> str | None:
        expected = self._expected
        if self._num_shown != expected.num_frames:
            return f"it shows {self._num_shown} frames, not {expected.num_frames}"
        if self._num_hidden and not expected.num_hidden_frames:
            return f"it hides {self._num_hidden} frames"
        if expected.is_copied and self._num_decoded != expected.num_frames:
            return f"{self._num_decoded} of its {expected.num_frames} frames can be decoded"
        if self._first is None or (expected.is_copied and (self._last is None or self._last.pts != self._latest)):
            return "its first or last frame cannot be decoded"
        return f"its first frame is at {float(self._first.time or 0):.3f} s" if self._first.pts != 0 else None

    def _wrong_picture(self) -> str | None:
        look, first = self._expected.look, self._first
        if look is None or first is None:
            return None
        orientation = orientation_of(first)
        width, height = orientation.size(first.width, first.height)
        # Odd sides lose their last row or column, and a single one is doubled.
        if abs(width - look.size[0]) > 1 or abs(height - look.size[1]) > 1:
            return f"it shows {width} x {height} pixels, the source {look.size[0]} x {look.size[1]}"
        aspect = Fraction(self._stream.sample_aspect_ratio or 1)
        aspect = 1 / aspect if orientation.transposes else aspect
        if abs(float(aspect / look.pixel_aspect) - 1) > _MAX_ASPECT_ERROR:
            return f"the aspect of its pixels is {aspect}, in the source {look.pixel_aspect}"
        least_db = _LEAST_COPIED_DB if self._expected.is_copied else _LEAST_ENCODED_DB
        last = self._expected.encoded_last
        if last is None and self._last is not None:
            last = small_picture(self._last)
        for name, seen, shown in (("first", look.first, small_picture(first)), ("last", look.last, last)):
            found_db = 0.0 if shown is None else likeness_db(seen, shown)
            if found_db < least_db:
                return f"its {name} picture is not the source's ({found_db:.1f} dB)"
        return None

    def _wrong_length(self) -> str | None:
        expected = self._expected
        shown_s = (self._stream.duration or 0) * self._time_base
        tolerance_s = max(expected.duration_s / expected.num_frames / 2, _SHORTEST_TOLERANCE_S)
        if abs(shown_s - expected.duration_s) > tolerance_s:
            return f"it lasts {float(shown_s):.3f} s, not {float(expected.duration_s):.3f} s"
        return None

    def _wrong_sound(self) -> str | None:
        due, heard = self._expected.sound, self._sound
        if due is None or due[1] - due[0] < _MAX_SOUND_ERROR_S:
            return None
        if heard is None:
            return "it has no sound, the source has"
        if abs(heard[0] - due[0]) > _MAX_SOUND_ERROR_S or abs(heard[1] - due[1]) > _MAX_SOUND_ERROR_S:
            return (
                f"its sound is from {float(heard[0]):.3f} to {float(heard[1]):.3f} s, the source's from "
                f"{float(due[0]):.3f} to {float(due[1]):.3f} s"
            )
        return None
