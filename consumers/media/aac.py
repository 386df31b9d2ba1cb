"""Encoding the sound of a clip as AAC: cut to the sample, in step with the source's clock, whatever its layout."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, cast

import av
import numpy as np
from av.container import OutputContainer
from numpy.typing import NDArray

from consumers.media.spool import PacketQueue

_AAC_RATES_HZ = frozenset({8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000})
_FRAME_SAMPLES = 1024
_JITTER_S = Fraction(1, 20)
"""Frames may stand so far beside the end of the one before; beyond, there is a gap or an overlap."""


@dataclass(slots=True)
class EncodedSound:
    """Packets of AAC, and which part of the clip they cover, in seconds from its start."""

    packets: PacketQueue
    begin_s: Fraction
    end_s: Fraction


def encode_aac(
    output: OutputContainer, frames: Iterable[av.AudioFrame], *, start_s: Fraction, end_s: Fraction
) -> EncodedSound | None:
    """Encode the part of ``frames`` from ``start_s`` up to ``end_s`` as AAC in a new stream of ``output``.

    Cut to the sample; a gap stays a gap, filled with silence if it is not at the start. Times are seconds on the clock
    of the frames' timestamps; a frame without one follows the one before. More than one channel become two.

    Returns:
        None (and no stream) where no sound lies in the interval.

    Raises:
        av.FFmpegError: the encoder refused the frames.
    """
    encoder: _Encoder | None = None
    mixer: _Mixer | None = None
    for frame, begin_s in _timed(frames):
        frame_end_s = begin_s + Fraction(frame.samples, frame.sample_rate)
        if frame_end_s <= start_s or begin_s >= end_s:
            continue
        if encoder is None:
            rate = frame.sample_rate if frame.sample_rate in _AAC_RATES_HZ else 48_000
            num_channels = 1 if frame.layout.nb_channels == 1 else 2
            encoder = _Encoder(output, rate, num_channels, round((end_s - start_s) * rate))
        if mixer is None or not mixer.goes_on(frame, begin_s):
            if mixer is not None:
                encoder.add(mixer.rest(), mixer.position)
            mixer = _Mixer(frame, begin_s, encoder.rate, encoder.num_channels, start_s)
        position = mixer.position
        encoder.add(mixer.mix(frame, frame_end_s), position)
    if encoder is None or mixer is None:
        return None
    position = mixer.position
    encoder.add(mixer.rest(), position)
    return encoder.finish()


def _timed(frames: Iterable[av.AudioFrame]) -> Iterator[tuple[av.AudioFrame, Fraction]]:
    """Yield the frames with their begin in seconds; of several in one packet only the first may state it."""
    end_s: Fraction | None = None
    for frame in frames:
        if not frame.samples or not frame.sample_rate:
            continue
        begin_s = end_s if frame.pts is None else frame.pts * Fraction(frame.time_base or 1)
        if begin_s is None:
            continue
        end_s = begin_s + Fraction(frame.samples, frame.sample_rate)
        yield frame, begin_s


class _Mixer:
    """Turns a stretch of frames of one kind into mono or stereo at one rate.

    PyAV must not be asked for the planes of a frame with eight channels or more: that reads beyond its table of planes.

    Attributes:
        position: where the next samples belong, counted from the start of the clip at the encoder's rate.
    """

    def __init__(
        self, frame: av.AudioFrame, begin_s: Fraction, rate: int, num_channels: int, start_s: Fraction
    ) -> None:
        self._kind = _kind(frame)
        self._end_s = begin_s
        self._mapped = _FirstTwo(frame) if num_channels == 2 and not _can_mix(frame) else None
        self._resampler = av.AudioResampler("fltp", "mono" if num_channels == 1 else "stereo", rate)
        self._num_channels = num_channels
        self.position = round((begin_s - start_s) * rate)

    def goes_on(self, frame: av.AudioFrame, begin_s: Fraction) -> bool:
        """Return whether ``frame`` follows directly, in the same layout, format and rate."""
        return self._kind == _kind(frame) and abs(begin_s - self._end_s) <= _JITTER_S

    def mix(self, frame: av.AudioFrame, end_s: Fraction) -> NDArray[np.float32]:
        """Return what comes of ``frame``, ``(channels, samples)``; some is held back for the next."""
        # Small errors of the stated times do not add up: the samples count.
        self._end_s += Fraction(frame.samples, frame.sample_rate)
        frame.pts = None
        return self._taken(self._resampler.resample(frame if self._mapped is None else self._mapped.stereo(frame)))

    def rest(self) -> NDArray[np.float32]:
        """Return what is held back."""
        return self._taken(self._resampler.resample(None))

    def _taken(self, pieces: Iterable[av.AudioFrame]) -> NDArray[np.float32]:
        parts = [np.asarray(piece.to_ndarray(), dtype=np.float32) for piece in pieces if piece.samples]
        taken = np.concatenate(parts, axis=1) if parts else np.zeros((self._num_channels, 0), np.float32)
        self.position += taken.shape[1]
        return taken


class _FirstTwo:
    """Takes the first two channels of layouts for which libav knows no way to mix them down to two."""

    def __init__(self, frame: av.AudioFrame) -> None:
        rate = frame.sample_rate
        self._graph = av.filter.Graph()
        source = self._graph.add_abuffer(
            sample_rate=rate, format=frame.format.name, layout=frame.layout.name, time_base=Fraction(1, rate)
        )
        pan = self._graph.add("pan", "stereo|c0=c0|c1=c1")
        sink = self._graph.add("abuffersink")
        source.link_to(pan)
        pan.link_to(sink)
        self._graph.configure()

    def stereo(self, frame: av.AudioFrame) -> av.AudioFrame:
        """Return the frame's first two channels."""
        self._graph.push(frame)
        return cast(av.AudioFrame, self._graph.pull())


def _kind(frame: av.AudioFrame) -> tuple[str, str, int]:
    return frame.format.name, frame.layout.name, frame.sample_rate


def _can_mix(frame: av.AudioFrame) -> bool:
    silence = av.AudioFrame(format="s16", layout=frame.layout.name, samples=16)
    silence.sample_rate = frame.sample_rate
    try:
        av.AudioResampler("s16", "stereo", frame.sample_rate).resample(silence)
    except (av.FFmpegError, ValueError):
        return False
    return True


class _Encoder:
    """An AAC stream that takes samples at their places and cuts them to the clip."""

    def __init__(self, output: OutputContainer, rate: int, num_channels: int, length: int) -> None:
        self.rate = rate
        self.num_channels = num_channels
        self._layout = "mono" if num_channels == 1 else "stereo"
        self._output = output
        self._stream: Any = None
        self._length = length
        self._packets = PacketQueue()
        self._waiting: list[NDArray[np.float32]] = []
        self._num_waiting = 0
        self._first = self._next = 0
        self._encoded_to = 0

    def add(self, samples: NDArray[np.float32], position: int) -> None:
        """Take ``samples``, the first of which belongs to ``position``; what was there before stays."""
        skip = max(0, self._next - position)
        samples = samples[:, skip : max(skip, self._length - position)]
        if not samples.shape[1]:
            return
        position += skip
        if self._stream is None:
            self._stream = self._output.add_stream("aac", rate=self.rate, options={"b": "128k"})
            self._stream.layout = self._layout
            self._first = self._next = self._encoded_to = position
        while position > self._next:
            self._queue(np.zeros((self.num_channels, min(self.rate, position - self._next)), np.float32))
        self._queue(samples)

    def finish(self) -> EncodedSound | None:
        """Encode what waits, and return all packets, None without any sound."""
        if self._stream is None:
            return None
        if self._num_waiting:
            self._encode(self._num_waiting)
        self._packets.extend(self._stream.encode(None))
        return EncodedSound(self._packets, Fraction(self._first, self.rate), Fraction(self._next, self.rate))

    def _queue(self, samples: NDArray[np.float32]) -> None:
        self._waiting.append(samples)
        self._num_waiting += samples.shape[1]
        self._next += samples.shape[1]
        while self._num_waiting >= _FRAME_SAMPLES:
            self._encode(_FRAME_SAMPLES)

    def _encode(self, num_samples: int) -> None:
        waiting = self._waiting[0] if len(self._waiting) == 1 else np.concatenate(self._waiting, axis=1)
        part, rest = np.ascontiguousarray(waiting[:, :num_samples]), waiting[:, num_samples:]
        self._waiting, self._num_waiting = [rest], rest.shape[1]
        piece = av.AudioFrame.from_ndarray(cast(Any, part), format="fltp", layout=self._layout)
        piece.sample_rate, piece.pts, piece.time_base = self.rate, self._encoded_to, Fraction(1, self.rate)
        self._encoded_to += num_samples
        self._packets.extend(self._stream.encode(piece))
