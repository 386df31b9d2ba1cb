"""Packets and files that stay in memory while they are small and move to disk as they grow.

What is on disk is in unnamed temporary files, which go with the process however it ends.
"""

from __future__ import annotations

import struct
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import IO, Final

from av.packet import Packet, PacketSideData
from av.stream import Stream

PACKETS_IN_MEMORY_BYTES = 4 * 2**20
"""A queue's packets beyond these wait on disk."""

FILE_IN_MEMORY_BYTES = 8 * 2**20
"""A file is kept in memory up to this size."""

_MAX_CHANGES = 256
_NEW_HEADER: Final = "new_extradata"
_UNKNOWN = -(2**63)
_HEADER = struct.Struct("<6q?")


class SpooledFile(tempfile.SpooledTemporaryFile[bytes]):
    """A file, readable and writable, that moves to disk once it is larger than 8 MiB. Whoever drops it closes it."""

    def __init__(self) -> None:
        super().__init__(max_size=FILE_IN_MEMORY_BYTES)

    def __del__(self) -> None:
        self.close()


class PacketQueue:
    """Packets of one stream, first in, first out, in bounded memory.

    A packet that was on disk comes back with what muxers and decoders go by: payload, times, stream, whether it is a
    keyframe, and the header that holds from it on, where it brings one. Of more than 256 such headers the rest is lost.
    """

    def __init__(self) -> None:
        self._memory: deque[Packet[Stream]] = deque()
        self._memory_bytes = 0
        self._disk: IO[bytes] | None = None
        self._stream: Stream | None = None
        self._num_packets = self._num_written = self._num_restored = 0
        self._headers: dict[int, PacketSideData] = {}

    def __del__(self) -> None:
        self.clear()

    def __len__(self) -> int:
        return self._num_packets

    def append(self, packet: Packet[Stream]) -> None:
        """Add ``packet``, of the same stream as the others, at the end."""
        self._num_packets += 1
        if self._disk is None and self._memory_bytes + packet.size <= PACKETS_IN_MEMORY_BYTES:
            self._memory.append(packet)
            self._memory_bytes += packet.size
            return
        if self._disk is None:
            self._disk = tempfile.TemporaryFile()  # noqa: SIM115  closed by clear()
            self._stream = packet.stream
        pts, dts = (_UNKNOWN if stamp is None else stamp for stamp in (packet.pts, packet.dts))
        base = packet.time_base
        self._disk.write(
            _HEADER.pack(
                pts, dts, packet.duration or 0, base.numerator, base.denominator, packet.size, packet.is_keyframe
            )
        )
        self._disk.write(packet)
        if packet.has_sidedata(_NEW_HEADER) and len(self._headers) < _MAX_CHANGES:
            self._headers[self._num_written] = packet.get_sidedata(_NEW_HEADER)
        self._num_written += 1

    def extend(self, packets: Iterable[Packet[Stream]]) -> None:
        """Add ``packets`` one by one."""
        for packet in packets:
            self.append(packet)

    def clear(self) -> None:
        """Forget all packets."""
        self._memory.clear()
        self._memory_bytes = self._num_packets = self._num_written = self._num_restored = 0
        self._headers.clear()
        if self._disk is not None:
            self._disk.close()
            self._disk = None

    def drain(self) -> Iterator[Packet[Stream]]:
        """Yield the packets in order, letting go of each; nothing may be appended meanwhile."""
        while self._memory:
            self._num_packets -= 1
            yield self._memory.popleft()
        if self._disk is not None:
            self._disk.seek(0)
            while header := self._disk.read(_HEADER.size):
                self._num_packets -= 1
                yield self._restored(header, self._disk)
        self.clear()

    def _restored(self, header: bytes, disk: IO[bytes]) -> Packet[Stream]:
        pts, dts, duration, numerator, denominator, size, is_keyframe = _HEADER.unpack(header)
        packet: Packet[Stream] = Packet(disk.read(size))
        if self._stream is not None:
            packet.stream = self._stream
        packet.time_base = Fraction(numerator, denominator)
        packet.pts, packet.dts = (None if stamp == _UNKNOWN else stamp for stamp in (pts, dts))
        packet.duration, packet.is_keyframe = duration, is_keyframe
        if (new_header := self._headers.pop(self._num_restored, None)) is not None:
            packet.set_sidedata(new_header)
        self._num_restored += 1
        return packet
