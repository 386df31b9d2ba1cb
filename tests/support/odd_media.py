"""Valid media that tells its times, shape and colours in unusual ways; all of it generated."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from consumers.media.samples import Shot, write_video

SHOTS = (Shot(1, seed=1, speed_px=4), Shot(1, seed=2, speed_px=4))
SMALL: dict[str, Any] = {"width": 160, "height": 96}
UNIT = 1 << 16
MIRRORED = (-UNIT, 0, 0, 0, UNIT, 0, 160 * UNIT, 0, 1 << 30)
UPSIDE_DOWN_MIRRORED = (UNIT, 0, 0, 0, -UNIT, 0, 0, 96 * UNIT, 1 << 30)
TURNED = (0, UNIT, 0, -UNIT, 0, 0, 96 * UNIT, 0, 1 << 30)
TURNED_AND_MIRRORED = (0, UNIT, 0, UNIT, 0, 0, 0, 0, 1 << 30)
SINGULAR = (0, 0, 0, 0, 0, 0, 0, 0, 1 << 30)


def with_matrix(source: Path, matrix: Sequence[int], path: Path) -> Path:
    """Write the packets of ``source`` to ``path`` (MP4 or MOV) with another display matrix."""
    with av.open(str(source)) as given, av.open(str(path), "w") as target:
        video = given.streams.video[0]
        stream = target.add_stream_from_template(video)
        stream.set_display_matrix(list(matrix))
        for packet in given.demux(video):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    return path


def late(path: Path, start_s: float, **options: Any) -> Path:
    """Write two shots whose first frame has a time of ``start_s``."""
    start = round(start_s * 12800)
    return write_video(path, SHOTS, **SMALL, timestamps=[start + k * 533 for k in range(48)], **options)


def joined(path: Path, starts_s: Sequence[float], aspects: Sequence[str] | None = None) -> Path:
    """Write a transport stream of a shot per start, each with its own clock and aspect of a pixel (as ``4/3``)."""
    parts = []
    for number, start_s in enumerate(starts_s):
        start = round(start_s * 90_000)
        part = write_video(
            path.with_name(f"{path.stem}-{number}{path.suffix}"),
            [Shot(1, seed=number + 1, speed_px=4)],
            **SMALL,
            fps=25,
            timestamps=[start + 3600 * k for k in range(25)],
            time_base=Fraction(1, 90_000),
            options={} if aspects is None else {"x264-params": f"sar={aspects[number]}"},
        )
        parts.append(part.read_bytes())
        part.unlink()
    path.write_bytes(b"".join(parts))
    return path
