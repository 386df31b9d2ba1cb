"""Takes the index of an MP4 apart and puts it together otherwise: for files that no muxer here writes."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import av

_CONTAINERS = {b"moov", b"trak", b"mdia", b"minf", b"stbl"}
_SAMPLE_ENTRY_BYTES = 78


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and payload of each box; sizes of 64 bits are not expected."""
    at = 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        yield data[at + 4 : at + 8], data[at + 8 : at + size]
        at += size


def box(kind: bytes, *parts: bytes) -> bytes:
    """Return one box."""
    payload = b"".join(parts)
    return struct.pack(">I4s", len(payload) + 8, kind) + payload


def edited(data: bytes, edit: Callable[[bytes, bytes], bytes | None]) -> bytes:
    """Return boxes with each one replaced by what ``edit`` says of kind and payload; None leaves it as it is.

    The index has to come last, as its place in the file would move otherwise.
    """
    parts = []
    for kind, payload in boxes(data):
        changed = edit(kind, payload)
        if changed is None:
            changed = box(kind, edited(payload, edit) if kind in _CONTAINERS else payload)
        parts.append(changed)
    return b"".join(parts)


def find(data: bytes, wanted: bytes) -> bytes | None:
    """Return the payload of the first box of a kind, those in sample descriptions of pictures included."""
    for kind, payload in boxes(data):
        if kind == wanted:
            return payload
        inner = payload if kind in _CONTAINERS else payload[8:] if kind == b"stsd" else b""
        if kind in {b"avc1", b"hvc1", b"hev1", b"encv"}:
            inner = payload[_SAMPLE_ENTRY_BYTES:]
        if inner and (found := find(inner, wanted)) is not None:
            return found
    return None


def with_described(source: Path, path: Path, *extra: bytes) -> Path:
    """Write ``source`` with further boxes in the sample description of its one track."""

    def edit(kind: bytes, payload: bytes) -> bytes | None:
        if kind != b"stsd":
            return None
        ((entry, described),) = boxes(payload[8:])
        return box(b"stsd", payload[:8], box(entry, described, *extra))

    path.write_bytes(edited(source.read_bytes(), edit))
    return path


def joined_descriptions(first: Path, second: Path, path: Path) -> Path:
    """Write one track of the pictures of two MP4s of one rate, without B-frames, each with its own description."""
    data, other = first.read_bytes(), second.read_bytes()
    body = b"".join(box(kind, payload) for kind, payload in boxes(data) if kind != b"moov")
    places, sizes, keys = [], [], []
    for source, offset in ((first, 0), (second, len(body))):
        with av.open(str(source)) as container:
            for packet in container.demux(container.streams.video[0]):
                if packet.size:
                    keys += [len(sizes) + 1] if packet.is_keyframe else []
                    places.append((packet.pos or 0) + offset)
                    sizes.append(packet.size)
        if source is first:
            num_first = len(sizes)
    descriptions = [(find(part, b"stsd") or b"")[8:] for part in (data, other)]
    duration = struct.unpack_from(">I", (find(data, b"mdhd") or b""), 16)[0] // num_first
    factor = len(sizes) / num_first

    def longer(kind: bytes, payload: bytes, at: int) -> bytes:
        length = round(struct.unpack_from(">I", payload, at)[0] * factor)
        return box(kind, payload[:at], struct.pack(">I", length), payload[at + 4 :])

    def edit(kind: bytes, payload: bytes) -> bytes | None:
        if kind == b"edts":
            return b""
        if kind in {b"mvhd", b"mdhd"}:
            return longer(kind, payload, 16)
        if kind == b"tkhd":
            return longer(kind, payload, 20)
        if kind != b"stbl":
            return None
        return box(
            b"stbl",
            box(b"stsd", _table(2), *descriptions),
            box(b"stts", _table(1, len(sizes), duration)),
            box(b"stss", _table(len(keys), *keys)),
            box(b"stsc", _table(2, 1, 1, 1, num_first + 1, 1, 2)),
            box(b"stsz", _table(0, len(sizes), *sizes)),
            box(b"stco", _table(len(places), *places)),
        )

    index = next(box(kind, payload) for kind, payload in boxes(data) if kind == b"moov")
    others = b"".join(box(kind, payload) for kind, payload in boxes(other) if kind != b"moov")
    path.write_bytes(body + others + edited(index, edit))
    return path


def _table(*values: int) -> bytes:
    return bytes(4) + struct.pack(f">{len(values)}I", *values)
