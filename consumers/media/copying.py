"""Which of a video's packets a copied clip consists of."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from itertools import pairwise

from av.packet import Packet
from av.stream import Stream

from consumers.media.spool import PacketQueue
from schemas.records import Span


class CopySelection:
    """Picks a clip's packets out of the source's, given one by one in decode order.

    It begins with the last keyframe at or before the clip, ends with the last packet whose picture the clip shows, and
    leaves out pictures that come before their keyframe: they need the one before that, the clip does not.

    Attributes:
        packets: the selection, in decode order.
        first: the keyframe with which it begins, None without one.
        num_shown: pictures within the clip.
        num_hidden: other pictures that those refer to.
        num_leading: pictures left out because they come before their keyframe.
    """

    def __init__(self, span: Span) -> None:
        self._span = span
        self._following: deque[Packet[Stream]] = deque()
        self.packets = PacketQueue()
        self._times = array("q")
        self.first: Packet[Stream] | None = None
        self.num_shown = self.num_hidden = self.num_leading = 0

    def add(self, packet: Packet[Stream], pts: int) -> None:
        """Take or drop the next packet of pictures; ``pts`` is its timestamp."""
        if packet.is_keyframe and pts <= self._span.start_pts:
            self.packets.clear()
            del self._times[:]
            self._following.clear()
            self.first = packet
            self.num_shown = self.num_hidden = self.num_leading = 0
        if self.first is None:
            return
        if self.num_shown and not self._is_shown(pts):
            # Needed only if another one that is shown comes after it.
            self._following.append(packet)
            return
        while self._following:
            self._take(self._following.popleft())
        self._take(packet)

    def _take(self, packet: Packet[Stream]) -> None:
        pts = packet.pts or 0
        if self.first is not None and pts < (self.first.pts or 0):
            self.num_leading += 1
            return
        if self._is_shown(pts):
            self.num_shown += 1
        else:
            self.num_hidden += 1
        self.packets.append(packet)
        self._times.append(pts)

    def _is_shown(self, pts: int) -> bool:
        return self._span.start_pts <= pts < self._span.end_pts

    def drain(self, stream: Stream) -> Iterator[Packet[Stream]]:
        """Yield the packets for ``stream``, the first frame shown at 0; to be called once.

        Decode times are made from the presentation times: not every container tells them all. Each packet lasts until
        the next one is shown, the last until the end of the clip.

        Raises:
            ValueError: two pictures share a time, which no MP4 can hold.
        """
        start, end = self._span.start_pts, self._span.end_pts
        shown = array("q", sorted(self._times))
        if any(later == earlier for earlier, later in pairwise(shown)):
            raise ValueError("two pictures share a time")
        delay = max((due - pts for due, pts in zip(shown, self._times, strict=True)), default=0)
        for due, packet in zip(shown, self.packets.drain(), strict=True):
            pts = packet.pts or 0
            place = bisect_right(shown, pts)
            until = shown[place] if place < len(shown) else max(end, pts + 1)
            packet.stream = stream
            packet.pts, packet.dts, packet.duration = pts - start, due - delay - start, until - pts
            yield packet

    def is_clean(self, codec: str) -> bool:
        """Return whether the clip is exactly these packets: none hidden, none left out, nothing before referred to."""
        is_whole = not self.num_hidden and not self.num_leading
        return is_whole and self.first is not None and _is_closed(self.first, codec)


def _is_closed(packet: Packet[Stream], codec: str) -> bool:
    """Return whether nothing from this keyframe on refers to a picture before it.

    H.264 also marks open recovery points as keyframes; only an IDR picture (NAL unit type 5) cuts all references.
    """
    return codec != "h264" or 5 in _nal_types(bytes(packet))


def _nal_types(data: bytes) -> set[int]:
    """Return the H.264 NAL unit types in a packet, whether framed by 4-byte lengths or by start codes."""
    if data[:4] == b"\x00\x00\x00\x01" or data[:3] == b"\x00\x00\x01":
        return {part[0] & 31 for part in data.split(b"\x00\x00\x01")[1:] if part}
    types = set()
    position = 0
    while position + 4 < len(data):
        types.add(data[position + 4] & 31)
        position += 4 + int.from_bytes(data[position : position + 4], "big")
    return types
