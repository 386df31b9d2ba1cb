"""Writing one plain MP4 (index first, not fragmented) into memory, and the edit list that hides frames in it."""

from __future__ import annotations

import io
import struct
from collections import deque
from collections.abc import Iterator
from fractions import Fraction

import av
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream

_MIN_TIMESCALE = 10_000
_CONTAINERS = frozenset({b"moov", b"trak", b"edts", b"mdia"})


def track_timescale(time_base: Fraction) -> int:
    """Return the units per second that FFmpeg's muxer gives a video track of ``time_base`` (doubled up to 10,000)."""
    scale = time_base.denominator
    while scale < _MIN_TIMESCALE:
        scale *= 2
    return scale


class Mp4Writer:
    """One MP4 in memory: add streams to :attr:`container`, then :meth:`finish` with all packets.

    Args:
        timescale: units per second of the movie's own clock, in which edit lists are written. A track's own timescale
            makes them exact to the frame.
    """

    def __init__(self, timescale: int = 1000) -> None:
        self._buffer = io.BytesIO()
        opened = av.open(
            _Output(self._buffer),
            "w",
            format="mp4",
            options={"movflags": "+faststart", "movie_timescale": str(timescale)},
            io_open=lambda url, flags, options: _SecondView(self._buffer),
        )
        self.container: OutputContainer = opened

    def finish(self, *tracks: deque[Packet[Stream]], shown: int | None = None) -> bytes:
        """Write the packets of all tracks, interleaved by time, and return the file; the deques end up empty.

        Args:
            tracks: packets in decode order, one deque per stream.
            shown: where the edit list of the video track ends, in units of the movie's clock. What the track holds
                beyond that stays in the bytes and is not shown. None is all of it.

        Raises:
            av.FFmpegError: the muxer refused a stream or a packet.
            ValueError: ``shown`` is given and the video track has no edit list.
        """
        waiting = [track for track in tracks if track]
        while waiting:
            track = min(waiting, key=lambda packets: _decode_time(packets[0]))
            self.container.mux_one(track.popleft())
            if not track:
                waiting.remove(track)
        self.container.close()
        if shown is not None:
            with self._buffer.getbuffer() as view:
                _limit_edit_list(view, shown)
        return self._buffer.getvalue()


def _limit_edit_list(data: memoryview, duration: int) -> None:
    """End the last entry of the video track's edit list after ``duration``. See ISO/IEC 14496-12, 8.6.6."""
    place: int | None = None
    layout = ">I"
    for kind, start, _ in _boxes(data, 0, len(data)):
        if kind == b"trak":
            place = None
        elif kind == b"elst":
            long_form, count = data[start] == 1, struct.unpack_from(">I", data, start + 4)[0]
            place = start + 8 + (count - 1) * (20 if long_form else 12)
            layout = ">Q" if long_form else ">I"
        elif kind == b"hdlr" and place is not None and bytes(data[start + 8 : start + 12]) == b"vide":
            struct.pack_into(layout, data, place, duration)
            return
    raise ValueError("no video track with an edit list")


def _boxes(data: memoryview, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield type, start of the payload and end of every box, those inside the ones that matter here included."""
    while start + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, start)
        header = 8
        if size == 1:
            size, header = struct.unpack_from(">Q", data, start + 8)[0], 16
        if size < header:
            return
        yield kind, start + header, start + size
        if kind in _CONTAINERS:
            yield from _boxes(data, start + header, start + size)
        start += size


def _decode_time(packet: Packet[Stream]) -> Fraction:
    stamp = packet.dts if packet.dts is not None else packet.pts
    return (stamp or 0) * packet.time_base


class _Output:
    """The file as the muxer sees it. Closing it must not throw the bytes away."""

    def __init__(self, buffer: io.BytesIO) -> None:
        self._buffer = buffer

    def write(self, data: bytes) -> int:
        return self._buffer.write(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._buffer.seek(offset, whence)

    def tell(self) -> int:
        return self._buffer.tell()


class _SecondView:
    """A reader over the same bytes: to put the index first, the muxer reads its own output while it writes."""

    def __init__(self, buffer: io.BytesIO) -> None:
        self._buffer = buffer
        self._position = 0

    def read(self, size: int) -> bytes:
        writer_position = self._buffer.tell()
        self._buffer.seek(self._position)
        data = self._buffer.read(size)
        self._position += len(data)
        self._buffer.seek(writer_position)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        self._position = offset if whence == io.SEEK_SET else self._position + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def close(self) -> None:
        return None
