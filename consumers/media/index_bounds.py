"""What the indexes of Matroska, AVI, MXF and FLV declare, held against bounds."""

from __future__ import annotations

from typing import Final

from consumers.errors import IndexTooLargeError
from consumers.media.bounds import MAX_INDEX_BYTES, MAX_INDEX_ENTRIES, Bytes, EntryCount, check_count

EBML_MARK: Final = bytes.fromhex("1a45dfa3")
_SEGMENT, _SEEK_HEAD, _CLUSTER = 0x18538067, 0x114D9B74, 0x1F43B675
_SEEK, _SEEK_ID, _SEEK_POSITION = 0x4DBB, 0x53AB, 0x53AC
# libav makes up to ten bytes of memory of each byte of these; an hour of video has some 100 kB of each at most.
_ELEMENTS: Final = {
    0x1C53BB6B: ("index ('Cues')", 32 << 20),
    _SEEK_HEAD: ("list of parts ('SeekHead')", 16 << 20),
    0x1654AE6B: ("list of tracks ('Tracks')", 16 << 20),
    0x1254C367: ("tags ('Tags')", 16 << 20),
    0x1043A770: ("chapters ('Chapters')", 16 << 20),
    0x1549A966: ("title ('Info')", 16 << 20),
    0x1941A469: ("attachments ('Attachments')", MAX_INDEX_BYTES),
}
_MAX_ELEMENTS = 1000
_MAX_SEEKS = 64

_AVI_INDEX_ENTRY_BYTES = 16
_MAX_CHUNKS = 1000

MXF_HEADER_MARK: Final = bytes.fromhex("060e2b34020501010d0102010102")
MXF_INDEX_MARK: Final = bytes.fromhex("060e2b34025301010d010201011001")
FLV_MARK: Final = b"FLV"
# Name and type of the two arrays of numbers that libav makes an index of.
_FLV_LISTS: Final = (b"\0\x05times\x0a", b"\0\x0dfilepositions\x0a")
_FLV_NUMBER_BYTES = 9
_MAX_SET_BYTES = 1 << 20
_MXF_ENTRIES, _MXF_START, _MXF_DURATION, _MXF_SID = 0x3F0A, 0x3F0C, 0x3F0D, 0x3F06


def check_matroska(content: Bytes) -> None:
    """Hold the elements of a Matroska beside its clusters against bounds: those at its front, and those it points to.

    What is compressed in it (tracks may have their headers and packets so) libav unpacks up to 30 MB at a time.

    Raises:
        IndexTooLargeError: one is too long.
    """
    offset = 0
    for _ in range(2):
        element, start, end = _element(content, offset, content.size)
        if element == _SEGMENT:
            _check_segment(content, start, end)
            return
        offset = end


def _check_segment(content: Bytes, start: int, end: int) -> None:
    offset, places = start, list[int]()
    for _ in range(_MAX_ELEMENTS):
        element, payload, stop = _element(content, offset, end)
        if element is None or element == _CLUSTER or stop <= offset:
            break
        _check_element(element, payload, stop)
        if element == _SEEK_HEAD:
            places += [start + place for place in _seek_positions(content, payload, stop)]
        offset = stop
    for place in sorted(set(places))[:_MAX_SEEKS]:
        if offset <= place < end:
            element, payload, stop = _element(content, place, end)
            if element is not None:
                _check_element(element, payload, stop)


def _check_element(element: int, payload: int, stop: int) -> None:
    name, limit = _ELEMENTS.get(element, ("", 0))
    if name and stop - payload > limit:
        raise IndexTooLargeError(
            f"the {name} of this Matroska is {stop - payload:,} bytes long, the limit is {limit:,}"
        )


def _seek_positions(content: Bytes, start: int, end: int) -> list[int]:
    found = []
    for element, payload, stop in _children(content, start, end):
        if element == _SEEK:
            for inner, at, until in _children(content, payload, stop):
                if inner == _SEEK_POSITION and until - at <= 8:
                    found.append(int.from_bytes(content.at(at, until - at), "big"))
    return found


def _children(content: Bytes, start: int, end: int) -> list[tuple[int, int, int]]:
    found: list[tuple[int, int, int]] = []
    while start < end and len(found) < _MAX_ELEMENTS:
        element, payload, stop = _element(content, start, end)
        if element is None or stop <= start:
            break
        found.append((element, payload, stop))
        start = stop
    return found


def _element(content: Bytes, offset: int, limit: int) -> tuple[int | None, int, int]:
    """Return id, start of the payload and end, not beyond ``limit``, of the element at ``offset``."""
    header = content.at(offset, min(12, max(0, limit - offset)))
    if not header or not header[0]:
        return None, offset, limit
    id_bytes = 9 - int(header[0]).bit_length()
    rest = header[id_bytes:]
    if id_bytes > 4 or not rest or not rest[0]:
        return None, offset, limit
    size_bytes = 9 - int(rest[0]).bit_length()
    size = int.from_bytes(rest[:size_bytes], "big") & ((1 << (7 * size_bytes)) - 1)
    is_unknown = size == (1 << (7 * size_bytes)) - 1
    payload = offset + id_bytes + size_bytes
    return int.from_bytes(header[:id_bytes], "big"), payload, limit if is_unknown else min(payload + size, limit)


def check_avi(content: Bytes) -> None:
    """Hold the index of an AVI, which comes after its data, against the bound on entries.

    Raises:
        IndexTooLargeError: it has more.
    """
    offset = 12
    for _ in range(_MAX_CHUNKS):
        header = content.at(offset, 8)
        if len(header) < 8:
            return
        size = min(int.from_bytes(header[4:], "little"), content.size - offset - 8)
        if header[:4] == b"idx1":
            EntryCount().add(size // _AVI_INDEX_ENTRY_BYTES, "the index ('idx1') of this AVI")
            return
        offset += 8 + size + size % 2


class FlvBounds:
    """Holds the lists of keyframes in an FLV's metadata against the bytes that there are, wherever they stand.

    Args:
        content: the object.
    """

    longest_mark = max(map(len, _FLV_LISTS))

    def __init__(self, content: Bytes) -> None:
        self._content = content

    def look(self, start: int, piece: bytes) -> None:
        """Look at the lists that begin in ``piece``, which lies at ``start``.

        Raises:
            IndexTooLargeError: one declares more than there can be.
        """
        for mark in _FLV_LISTS:
            at = piece.find(mark)
            while at >= 0:
                place = start + at + len(mark)
                count = int.from_bytes(self._content.at(place, 4), "big")
                left = max(0, self._content.size - place - 4)
                check_count("the list of keyframes of this FLV", count, left // _FLV_NUMBER_BYTES, "the rest of it")
                EntryCount().add(count, "the list of keyframes of this FLV")
                at = piece.find(mark, at + 1)


class MxfBounds:
    """Counts what the index segments of an MXF declare, wherever the demuxer meets them.

    Args:
        content: the object.
    """

    longest_mark = len(MXF_INDEX_MARK)

    def __init__(self, content: Bytes) -> None:
        self._content = content
        self._entries = EntryCount()
        self._seen: set[tuple[bytes, bytes]] = set()

    def look(self, start: int, piece: bytes) -> None:
        """Look at the index segments that begin in ``piece``, which lies at ``start``.

        Raises:
            IndexTooLargeError: they declare too many frames.
        """
        at = piece.find(MXF_INDEX_MARK)
        while at >= 0:
            self._segment(start + at)
            at = piece.find(MXF_INDEX_MARK, at + 1)

    def _segment(self, offset: int) -> None:
        head = self._content.at(offset + 16, 9)
        if not head:
            return
        num_bytes = head[0] & 0x7F if head[0] & 0x80 else 0
        size = int.from_bytes(head[1 : 1 + num_bytes], "big") if num_bytes else head[0]
        first = offset + 17 + num_bytes
        fields: dict[int, bytes] = {}
        place, end = first, first + min(size, _MAX_SET_BYTES)
        while place + 4 <= end and len(fields) < _MAX_ELEMENTS:
            pair = self._content.at(place, 4)
            tag, length = int.from_bytes(pair[:2], "big"), int.from_bytes(pair[2:], "big")
            fields[tag] = self._content.at(place + 4, min(length, 8))
            place += 4 + length
        identity = (fields.get(_MXF_SID, b""), fields.get(_MXF_START, b""))
        # Without entries of its own (one size for all frames) libav makes none either.
        if int.from_bytes(fields.get(_MXF_ENTRIES, b"")[:4], "big") and identity not in self._seen:
            self._seen.add(identity)
            duration = int.from_bytes(fields.get(_MXF_DURATION, b""), "big", signed=True)
            self._entries.add(min(max(0, duration), MAX_INDEX_ENTRIES + 1), "the index of this MXF")
