"""Writing one plain MP4 (index first, not fragmented) in bounded memory, and the edit list that hides its frames."""

from __future__ import annotations

import contextlib
import heapq
import io
import os
import struct
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import IO

import av
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream

from consumers.media.spool import SpooledFile

_MIN_TIMESCALE = 10_000
_CONTAINERS = frozenset({b"moov", b"trak", b"edts", b"mdia"})


def track_timescale(time_base: Fraction) -> int:
    """Return the units per second that FFmpeg's muxer gives a video track of ``time_base`` (doubled up to 10,000)."""
    scale = time_base.denominator
    while scale < _MIN_TIMESCALE:
        scale *= 2
    return scale


def lasting(packets: Iterable[Packet[Stream]], length: int) -> Iterator[Packet[Stream]]:
    """Yield a track's packets, the last of which lasts so long that the track does not end before ``length``.

    The muxer takes the length of a track from the decode times, of which only the last packet's duration says the end.
    """
    first_dts = first_pts = 0
    waiting: Packet[Stream] | None = None
    for packet in packets:
        if waiting is None:
            first_dts, first_pts = packet.dts or 0, packet.pts or 0
        else:
            yield waiting
        waiting = packet
    if waiting is not None:
        missing = length - first_pts - ((waiting.dts or 0) - first_dts)
        waiting.duration = max(waiting.duration or 0, missing)
        yield waiting


class Mp4Writer:
    """One MP4: add streams to :attr:`container`, then :meth:`finish` with all packets.

    Args:
        timescale: units per second of the movie's own clock, in which edit lists are written. A track's own timescale
            makes them exact to the frame.
    """

    def __init__(self, timescale: int = 1000) -> None:
        self._file = SpooledFile()
        opened = av.open(
            _Output(self._file),
            "w",
            format="mp4",
            # Dolby Vision's configuration is written only where more than the standard's first edition is allowed.
            options={"movflags": "+faststart", "movie_timescale": str(timescale), "strict": "unofficial"},
            io_open=lambda url, flags, options: _SecondView(self._file),
        )
        self.container: OutputContainer = opened

    def finish(self, *tracks: Iterable[Packet[Stream]], shown: int | None = None) -> IO[bytes]:
        """Write the packets of all tracks, interleaved by time, and return the file, for the caller to close.

        Args:
            tracks: packets in decode order, one iterable per stream; they are pulled as they are written.
            shown: where the edit list of the video track ends, in units of the movie's clock. What the track holds
                beyond that stays in the bytes and is not shown. None is all of it.

        Raises:
            av.FFmpegError: the muxer refused a stream or a packet.
            ValueError: ``shown`` is given and the video track has no edit list.
        """
        try:
            for packet in heapq.merge(*tracks, key=_decode_time):
                self.container.mux_one(packet)
            self.container.close()
            if shown is not None:
                _limit_edit_list(self._file, shown)
        except BaseException:
            with contextlib.suppress(av.FFmpegError, ValueError):
                self.container.close()
            self._file.close()
            raise
        return self._file


def _limit_edit_list(file: IO[bytes], duration: int) -> None:
    """End the last entry of the video track's edit list after ``duration``. See ISO/IEC 14496-12, 8.6.6."""
    place: int | None = None
    layout = ">I"
    for kind, start, _ in _boxes(file, 0, file.seek(0, os.SEEK_END)):
        if kind == b"trak":
            place = None
        elif kind == b"elst":
            header = _read_at(file, start, 8)
            long_form, count = header[0] == 1, struct.unpack_from(">I", header, 4)[0]
            place = start + 8 + (count - 1) * (20 if long_form else 12)
            layout = ">Q" if long_form else ">I"
        elif kind == b"hdlr" and place is not None and _read_at(file, start + 8, 4) == b"vide":
            file.seek(place)
            file.write(struct.pack(layout, duration))
            return
    raise ValueError("no video track with an edit list")


def _boxes(file: IO[bytes], start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield type, start of the payload and end of every box, those inside the ones that matter here included."""
    while start + 8 <= end:
        size, kind = struct.unpack(">I4s", _read_at(file, start, 8))
        header = 8
        if size == 1:
            size, header = struct.unpack(">Q", _read_at(file, start + 8, 8))[0], 16
        if size < header:
            return
        yield kind, start + header, start + size
        if kind in _CONTAINERS:
            yield from _boxes(file, start + header, start + size)
        start += size


def _read_at(file: IO[bytes], offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size)


def _decode_time(packet: Packet[Stream]) -> Fraction:
    stamp = packet.dts if packet.dts is not None else packet.pts
    return (stamp or 0) * packet.time_base


class _Output:
    """The file as the muxer sees it. Closing it must not throw the bytes away."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, data: bytes) -> int:
        return self._file.write(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


class _SecondView:
    """A reader over the same bytes: to put the index first, the muxer reads its own output while it writes."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._position = 0

    def read(self, size: int) -> bytes:
        writer_position = self._file.tell()
        self._file.seek(self._position)
        data = self._file.read(size)
        self._position += len(data)
        self._file.seek(writer_position)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        self._position = offset if whence == io.SEEK_SET else self._position + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def close(self) -> None:
        return None
