"""What the boxes of an MP4 or MOV declare, held against the bytes that there are (ISO/IEC 14496-12, QuickTime)."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from consumers.errors import IndexTooLargeError
from consumers.media.bounds import (
    MAX_INDEX_BYTES,
    MAX_INDEX_ENTRIES,
    MAX_UNPACKED_BYTES,
    Bytes,
    EntryCount,
    check_count,
)

_MAX_BOXES = 100_000
_MAX_DEPTH = 12
_CHUNK_SAMPLES = 1024
# Where libav looks into, and how many bytes of a box of that kind come before its first child.
_CONTAINERS = {
    **dict.fromkeys((b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"moof", b"traf", b"mvex", b"udta"), 0),
    **dict.fromkeys((b"dinf", b"tref", b"wave", b"ilst", b"sinf", b"schi", b"clip", b"strk", b"mfra"), 0),
    b"stsd": 8,
}
_SAMPLE_ENTRY_BYTES = {b"vide": 78, b"soun": 28}
# Tables of which each entry takes so many bytes of the box, and where they tell how many there are.
_TABLES = {
    b"stts": (4, 8),
    b"ctts": (4, 8),
    b"stsc": (4, 12),
    b"stco": (4, 4),
    b"co64": (4, 8),
    b"stss": (4, 4),
    b"stps": (4, 4),
    b"sbgp": (8, 8),
    b"dref": (4, 12),
    b"stsd": (4, 8),
}
_PER_SAMPLE_IN_RUN = (0x100, 0x200, 0x400, 0x800)


@dataclass(slots=True)
class _Track:
    number: int
    handler: bytes = b""
    num_samples: int = 0
    has_offsets: bool = False
    ticks: tuple[int, int] = (0, 0)
    num_chunks: int = 0
    chunk_runs: tuple[int, int] = (0, 0)
    sync_samples: tuple[int, int] = (0, 0)
    num_edits: int = 0
    sample_bytes: int = 0


class Mp4Bounds:
    """Follows the boxes of one object, the outermost as far as the demuxer has come.

    Reads the headers of boxes and the first bytes of tables; whole tables only where a file has thousands of edits, or
    uncompressed sound, of which only the table of chunks is long.

    Args:
        content: the object.
    """

    def __init__(self, content: Bytes) -> None:
        self._content = content
        self._entries = EntryCount()
        self.next_box: int | None = 0

    def follow(self, until: int, hops: int) -> None:
        """Look at the outermost boxes that begin before ``until``.

        Args:
            until: offset in the object.
            hops: so many boxes may be looked at outside the piece that was read: a demuxer that looks at the end of an
                object is not followed over all its fragments.

        Raises:
            IndexTooLargeError: a box declares more than there can be.
        """
        while self.next_box is not None and self.next_box < until and hops > 0:
            start = self.next_box
            kind, payload, end = self._header(self._content, start, self._content.size)
            if kind in {b"moov", b"moof", b"mfra", b"udta", b"meta"}:
                if end - start > MAX_INDEX_BYTES:
                    raise IndexTooLargeError(
                        f"the index of this MP4 or MOV ('{kind.decode()}') is {end - start:,} bytes long, the limit is "
                        f"{MAX_INDEX_BYTES:,}"
                    )
                _Walk(self._content, self._entries).run(kind, payload, end)
            self.next_box = end if start + 8 <= end < self._content.size else None
            hops -= 1

    @staticmethod
    def _header(content: Bytes, start: int, limit: int) -> tuple[bytes, int, int]:
        """Return kind, start of the payload and end of the box at ``start``, not beyond ``limit``."""
        header = content.at(start, 16)
        size, kind, payload = int.from_bytes(header[:4], "big"), header[4:8], start + 8
        if size == 1 and len(header) == 16:
            size, payload = int.from_bytes(header[8:16], "big"), start + 16
        return kind, payload, limit if size == 0 else min(start + size, limit)


class _Walk:
    """One outermost box and all that libav looks at in it."""

    def __init__(self, content: Bytes, entries: EntryCount, num_tracks: int = 0) -> None:
        self._content = content
        self._entries = entries
        self._track = _Track(num_tracks)
        self._num_boxes = 0

    def run(self, kind: bytes, payload: int, end: int) -> None:
        """Look at everything in the box ``kind``."""
        self.walk(kind, payload, end, 0)
        self._finish_track()

    def walk(self, kind: bytes, payload: int, end: int, depth: int) -> None:
        if kind == b"cmov":
            self._unpack(payload, end, depth)
        elif kind == b"trak":
            self._finish_track()
            self._track = _Track(self._track.number + 1)
            self._children(payload, end, depth)
            self._finish_track()
        elif kind == b"meta":
            # QuickTime's has no version before its children; libav looks for the first of them, as here.
            place = self._content.at(payload, min(64, end - payload)).find(b"hdlr")
            if place >= 4:
                self._children(payload + place - 4, end, depth)
        elif kind in _CONTAINERS:
            if kind in _TABLES:
                self._table(kind, payload, end)
            self._children(payload + _CONTAINERS[kind], end, depth, in_samples=kind == b"stsd")
        else:
            self._leaf(kind, payload, end)

    def _children(self, start: int, end: int, depth: int, *, in_samples: bool = False) -> None:
        if depth >= _MAX_DEPTH:
            return
        while start + 8 <= end:
            self._num_boxes += 1
            if self._num_boxes > _MAX_BOXES:
                raise IndexTooLargeError(
                    f"the index of this MP4 or MOV has more than {_MAX_BOXES:,} boxes, which is the limit"
                )
            kind, payload, stop = Mp4Bounds._header(self._content, start, end)
            if stop < start + 8:
                return
            if in_samples:
                skipped = _SAMPLE_ENTRY_BYTES.get(self._track.handler, 8)
                self._children(payload + skipped, stop, depth + 1)
            else:
                self.walk(kind, payload, stop, depth + 1)
            start = stop

    def _leaf(self, kind: bytes, payload: int, end: int) -> None:
        track = self._track
        if kind == b"hdlr":
            # There is a second one, of where the data lie, in a QuickTime track.
            handler = self._content.at(payload + 8, 4)
            track.handler = handler if handler in _SAMPLE_ENTRY_BYTES else track.handler
        elif kind in {b"stsz", b"stz2"}:
            self._sample_sizes(kind, payload, end)
        elif kind == b"trun":
            self._run(payload, end)
        elif kind == b"elst":
            version, count = self._count(payload, 4)
            size = 20 if version == 1 else 12
            check_count(self._named(kind), count, (end - payload - 8) // size, "its box")
            track.num_edits = min(count, (end - payload - 8) // size)
        elif kind in _TABLES:
            self._table(kind, payload, end)

    def _table(self, kind: bytes, payload: int, end: int) -> None:
        place, entry_bytes = _TABLES[kind]
        _, count = self._count(payload, place)
        room = max(0, end - payload - place - 4) // entry_bytes
        check_count(self._named(kind), count, room, "its box")
        track, first = self._track, payload + place + 4
        if kind == b"stts":
            track.ticks = (count, int.from_bytes(self._content.at(first + 4, 4), "big"))
        elif kind == b"ctts":
            track.has_offsets = count > 0
        elif kind == b"stsc":
            track.chunk_runs = (first, min(count, room))
        elif kind == b"stss":
            track.sync_samples = (first, min(count, room))
        elif kind in {b"stco", b"co64"}:
            track.num_chunks = min(count, room)

    def _sample_sizes(self, kind: bytes, payload: int, end: int) -> None:
        head = self._content.at(payload, 12)
        size, count = int.from_bytes(head[4:8], "big"), int.from_bytes(head[8:12], "big")
        if kind == b"stz2":
            bits, size = size & 0xFF, 0
        else:
            bits = 32
        if size == 0:
            check_count(self._named(kind), count, max(0, end - payload - 12) * 8 // max(1, bits), "its box")
        if count <= self._track.num_samples:
            return
        self._track.num_samples = count
        # Whether the object can hold as many of one size is asked when the track is known: of sound they may be 1/1024.
        self._track.sample_bytes = size

    def _run(self, payload: int, end: int) -> None:
        head = self._content.at(payload, 8)
        flags, count = int.from_bytes(head[1:4], "big"), int.from_bytes(head[4:8], "big")
        entry_bytes = 4 * sum(bool(flags & bit) for bit in _PER_SAMPLE_IN_RUN)
        if entry_bytes:
            check_count("a fragment ('trun')", count, max(0, end - payload - 8) // entry_bytes, "its box")
        else:
            check_count("a fragment ('trun')", count, self._content.size, f"an object of {self._content.size:,} bytes")
        self._entries.add(count, "a fragment ('trun')")

    def _finish_track(self) -> None:
        """Count the entries that libav makes of a track once it has read it."""
        track, self._track = self._track, _Track(self._track.number)
        if not track.num_samples:
            return
        what = f"the table of samples ('stsz') of track {track.number}"
        is_raw_sound = track.handler == b"soun" and track.ticks == (1, 1) and not track.has_offsets
        if is_raw_sound:
            num_entries = self._raw_entries(track)
        else:
            num_entries = track.num_samples
            if track.sample_bytes:
                possible = self._content.size // track.sample_bytes
                check_count(what, num_entries, possible, f"an object of {self._content.size:,} bytes")
        self._entries.add(num_entries, what)
        self._check_edits(track, num_entries)

    def _raw_entries(self, track: _Track) -> int:
        """Return how many entries libav makes of uncompressed sound: one for up to 1,024 samples of a chunk."""
        place, count = track.chunk_runs
        if not count or not track.num_chunks:
            return 0
        runs = np.frombuffer(self._content.at(place, count * 12), dtype=">u4")
        runs = runs[: len(runs) // 3 * 3].reshape(-1, 3).astype(np.int64)
        ends = np.append(runs[1:, 0], track.num_chunks + 1)
        lengths = np.clip(ends - runs[:, 0], 0, track.num_chunks)
        return int((lengths * -(-runs[:, 1] // _CHUNK_SAMPLES)).sum())

    def _check_edits(self, track: _Track, num_entries: int) -> None:
        """Each edit makes entries of its own, from the keyframe before it on."""
        count = track.num_edits
        if count * num_entries <= MAX_INDEX_ENTRIES:
            return
        longest_group = num_entries
        sync_place, num_syncs = track.sync_samples
        if num_syncs:
            syncs = np.frombuffer(self._content.at(sync_place, num_syncs * 4), dtype=">u4").astype(np.int64)
            longest_group = int(np.diff(np.concatenate(([1], syncs, [num_entries + 1]))).max(initial=0))
        self._entries.add(
            count * min(longest_group, num_entries), f"the list of {count:,} edits ('elst') of track {track.number}"
        )

    def _unpack(self, payload: int, end: int, depth: int) -> None:
        """Look into a compressed index, of which not more than a bound is unpacked."""
        while payload + 12 <= end:
            kind, start, stop = Mp4Bounds._header(self._content, payload, end)
            if kind == b"cmvd":
                declared = int.from_bytes(self._content.at(start, 4), "big")
                if declared > MAX_UNPACKED_BYTES:
                    raise IndexTooLargeError(
                        f"its compressed index ('cmov', {stop - start - 4:,} bytes) declares {declared:,} bytes when "
                        f"unpacked, the limit is {MAX_UNPACKED_BYTES:,}"
                    )
                try:
                    index = zlib.decompressobj().decompress(self._content.at(start + 4, stop - start - 4), declared)
                except zlib.error:
                    return
                inner = _Walk(_Unpacked(index, self._content.size), self._entries, self._track.number)
                inner._children(0, len(index), depth + 1)
                inner._finish_track()
                return
            if stop < payload + 8:
                return
            payload = stop

    def _count(self, payload: int, place: int) -> tuple[int, int]:
        head = self._content.at(payload, place + 4)
        return (head[0] if head else 0), int.from_bytes(head[place : place + 4], "big")

    def _named(self, kind: bytes) -> str:
        return f"table '{kind.decode('latin-1')}' of track {self._track.number}"


class _Unpacked(Bytes):
    """An index that was compressed; ``size`` stays that of the object, which holds the samples."""

    def __init__(self, index: bytes, object_bytes: int) -> None:
        self.size = object_bytes
        self._index = index

    def at(self, offset: int, count: int) -> bytes:
        return self._index[offset : offset + count]
