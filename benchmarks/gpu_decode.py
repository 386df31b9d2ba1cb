"""Decoding on the CPU and with NVDEC, side by side: a part of ``python -m benchmarks.gpu``."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from consumers.clock import Deadline, SystemClock
from consumers.errors import ConfigurationError
from consumers.media.samples import Shot, write_video
from consumers.stages.decoder import DecoderChoice, choose
from consumers.stages.single_pass import OpenDecoder, SinglePass
from schemas.profile import Limits, Profile

_SIZES = {"360p": (640, 360), "720p": (1280, 720), "1080p": (1920, 1080)}
_SHOTS = tuple(Shot(5, seed=seed) for seed in range(1, 5))


def decode_cases() -> Iterator[dict[str, Any]]:
    """Yield for each size what a decode alone and a whole pass cost both ways; one line of reason without NVDEC."""
    try:
        choice = choose("nvdec")
    except ConfigurationError as error:
        yield {"case": "gpu/decode", "measured": False, "reason": str(error)}
        return
    yield from compare(choice)


def compare(choice: DecoderChoice) -> Iterator[dict[str, Any]]:
    """Yield the cases of :func:`decode_cases`; the first way of ``choice`` is NVDEC's, the last the CPU's."""
    with tempfile.TemporaryDirectory() as folder:
        for name, (width, height) in _SIZES.items():
            path = write_video(
                Path(folder) / f"{name}.mp4", _SHOTS, width=width, height=height, options={"preset": "veryfast"}
            )
            for decoder, way in (("cpu", choice.ways[-1]), ("nvdec", choice.ways[0])):
                for what, run in (("decode", _decode), ("pass", _pass)):
                    # The first run warms up.
                    run(path, way)
                    began_s, cpu_began_s = time.perf_counter(), time.process_time()
                    video_s = run(path, way)
                    wall_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_began_s
                    yield {
                        "case": f"gpu/{what}/{name}",
                        "decoder": decoder,
                        "video_s_per_s": round(video_s / wall_s, 2),
                        "cpu_ms_per_video_s": round(1000 * cpu_s / video_s, 2),
                    }


def _decode(path: Path, way: OpenDecoder) -> float:
    with path.open("rb") as stream:
        decoder = way(stream, Limits(), Deadline(SystemClock(), 600))
        for _ in decoder.frames():
            pass
        decoder.close()
        return decoder.duration_s


def _pass(path: Path, way: OpenDecoder) -> float:
    with path.open("rb") as stream:
        one_pass = SinglePass(stream, Profile(), Limits(), Deadline(SystemClock(), 600), way)
        for _ in one_pass.clips():
            pass
        return one_pass.media.duration_s
