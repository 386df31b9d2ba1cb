"""Takes a Matroska file apart and marks its track as encrypted, as no muxer here does (RFC 9559, 5.1.4.1.31)."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np

_SEGMENT, _TRACKS, _CLUSTER, _TRACK_ENTRY = 0x18538067, 0x1654AE6B, 0x1F43B675, 0xAE
_SIMPLE_BLOCK, _BLOCK_GROUP, _BLOCK = 0xA3, 0xA0, 0xA1
_SEEK_HEAD, _CUES, _VOID = 0x114D9B74, 0x1C53BB6B, 0xEC
_BLOCK_HEADER_BYTES = 4
_KEY_ID = bytes(range(16))


def encrypted(data: bytes) -> bytes:
    """Return a file whose pictures are noise, and whose track says that they are encrypted."""
    rng = np.random.default_rng(1)
    return b"".join(_encrypted(kind, payload, rng) for kind, payload in _elements(data))


def _encrypted(kind: int, payload: bytes, rng: np.random.Generator) -> bytes:
    if kind in {_SEEK_HEAD, _CUES, _VOID}:
        return b""
    if kind in {_SEGMENT, _TRACKS, _CLUSTER, _BLOCK_GROUP}:
        return _element(kind, b"".join(_encrypted(*inner, rng) for inner in _elements(payload)))
    if kind == _TRACK_ENTRY:
        how = _element(0x5035, _element(0x47E1, b"\x05") + _element(0x47E2, _KEY_ID))
        return _element(kind, payload + _element(0x6D80, _element(0x6240, _element(0x5033, b"\x01") + how)))
    if kind in {_SIMPLE_BLOCK, _BLOCK}:
        # One byte says that the frame is encrypted, eight are its counter.
        noise = b"\x01" + rng.bytes(8 + len(payload) - _BLOCK_HEADER_BYTES)
        return _element(kind, payload[:_BLOCK_HEADER_BYTES] + noise)
    return _element(kind, payload)


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    stream = io.BytesIO(data)
    while head := stream.read(1):
        kind = int.from_bytes(head + stream.read(8 - head[0].bit_length()), "big")
        first = stream.read(1)
        num_more = 8 - first[0].bit_length()
        size = int.from_bytes(first + stream.read(num_more), "big") & ((1 << 7 * (num_more + 1)) - 1)
        yield kind, stream.read(size)


def _element(kind: int, payload: bytes) -> bytes:
    id_bytes = kind.to_bytes((kind.bit_length() + 7) // 8, "big")
    return id_bytes + (len(payload) | 1 << 56).to_bytes(8, "big") + payload
