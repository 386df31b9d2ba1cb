"""Valid media that tells its times, shape and colours in unusual ways; all of it generated."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.packet import Packet

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


def shifted(source: Path, path: Path, by_s: float) -> Path:
    """Write the packets of ``source`` to ``path`` with times later by ``by_s``."""
    with av.open(str(source)) as given, av.open(str(path), "w") as target:
        streams = {one.index: target.add_stream_from_template(one) for one in given.streams}
        for packet in given.demux():
            if packet.pts is not None and packet.dts is not None:
                offset = round(by_s / packet.time_base)
                packet.pts, packet.dts = packet.pts + offset, packet.dts + offset
                packet.stream = streams[packet.stream_index]
                target.mux(packet)
    return path


def resized(path: Path, num_frames: Sequence[int]) -> Path:
    """Write a transport stream whose size changes after each of these numbers of frames; it has 24 a second."""
    parts, first = [], 240
    for number, count in enumerate(num_frames):
        part = write_video(
            path.with_name(f"{path.stem}-{number}{path.suffix}"),
            [Shot(count / 24, seed=1)],
            width=160 + 32 * (number % 2),
            height=96,
            timestamps=[round((first + k) * 90_000 / 24) for k in range(count)],
            time_base=Fraction(1, 90_000),
            options={"bf": "0"},
        )
        first += count
        parts.append(part.read_bytes())
        part.unlink()
    path.write_bytes(b"".join(parts))
    return path


def ends_with_dropped_frames(source: Path, path: Path, num_dropped: int) -> Path:
    """Write the pictures of ``source`` as AVI, and behind them frames of no bytes: "show the last one again"."""
    with av.open(str(source)) as given, av.open(str(path), "w") as target:
        video = given.streams.video[0]
        stream: Any = target.add_stream_from_template(video)
        last = 0
        for packet in given.demux(video):
            if packet.dts is not None:
                packet.stream, last = stream, packet.dts
                target.mux(packet)
        for number in range(num_dropped):
            dropped: Packet[Any] = Packet(b"")
            dropped.stream, dropped.time_base, dropped.duration = stream, Fraction(video.time_base or 1), 1
            dropped.pts = dropped.dts = last + 1 + number
            target.mux_one(dropped)
    return path


def layered(source: Path, path: Path) -> Path:
    """Write the HEVC of ``source`` with each slice once more in a second layer, as a second view is stored."""
    with av.open(str(source)) as given, av.open(str(path), "w") as target:
        video = given.streams.video[0]
        stream: Any = target.add_stream_from_template(video)
        for packet in given.demux(video):
            if packet.dts is None:
                continue
            data = bytes(packet)
            second, at = b"", 0
            while at + 4 < len(data):
                size = int.from_bytes(data[at : at + 4], "big")
                unit = data[at + 4 : at + 4 + size]
                if unit[0] >> 1 & 63 < 32:
                    second += data[at : at + 4] + bytes([unit[0] & 0xFE, 1 << 3 | unit[1] & 7]) + unit[2:]
                at += 4 + size
            both: Packet[Any] = Packet(data + second)
            both.stream, both.time_base, both.is_keyframe = stream, packet.time_base, packet.is_keyframe
            both.pts, both.dts, both.duration = packet.pts, packet.dts, packet.duration
            target.mux(both)
    return path
