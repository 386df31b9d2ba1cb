"""Curates made files and has the judge hold their clips against an independent decode."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from benchmarks.media import curate, judged
from schemas.records import CutMethod, VideoOutcome

_TONE_RATE_HZ = 48_000


def clean(path: Path) -> VideoOutcome:
    """Curate ``path``; the judge must find nothing, and both shots must be there."""
    outcome = curate(path)
    assert outcome.failure is None
    found = judged(path, outcome)
    assert found["verdict"] == "clean", found
    assert [clip.reason for clip in outcome.clips] == [None] * len(outcome.clips)
    return outcome


def methods(outcome: VideoOutcome) -> list[CutMethod]:
    return [clip.media.cut_method for clip in outcome.clips if clip.media is not None]


def have_sound(outcome: VideoOutcome) -> bool:
    return all(clip.media is not None and clip.media.has_audio for clip in outcome.clips)


def with_sound(pictures: Path, path: Path, codec: str, layout: str = "stereo", **options: Any) -> Path:
    """Write the pictures of a file with a sweeping tone beside them, encoded by ``codec`` in ``layout``."""
    with av.open(str(pictures)) as given, av.open(str(path), "w", **options) as target:
        video = given.streams.video[0]
        stream = target.add_stream_from_template(video)
        sound: Any = target.add_stream(codec, rate=_TONE_RATE_HZ)
        sound.layout, sound.codec_context.bit_rate = layout, 128_000
        sound.codec_context.options = {"strict": "experimental"}
        num_channels = av.AudioLayout(layout).nb_channels
        packets = [packet for packet in given.demux(video) if packet.dts is not None]
        for packet in packets:
            packet.stream = stream
            target.mux(packet)
        wanted = sound.format.name if codec.startswith("pcm") else None
        resampler = av.AudioResampler(wanted or sound.codec_context.format.name, layout, _TONE_RATE_HZ)
        for begin in range(0, 2 * _TONE_RATE_HZ, 1000):
            at = np.arange(begin, begin + 1000) / _TONE_RATE_HZ
            wave = (8000 * np.sin(2 * np.pi * (300 + 200 * at) * at)).astype(np.int16)
            interleaved = np.repeat(wave, num_channels)[None, :]
            frame = av.AudioFrame.from_ndarray(interleaved, format="s16", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = _TONE_RATE_HZ, begin, Fraction(1, _TONE_RATE_HZ)
            for piece in resampler.resample(frame):
                target.mux(sound.encode(piece))
        target.mux(sound.encode(None))
    return path
