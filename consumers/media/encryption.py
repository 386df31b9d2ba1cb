"""Tells an encrypted video from a damaged one: to a decoder both are noise."""

from __future__ import annotations

import io
import re
from typing import BinaryIO, Final

from av.packet import Packet
from av.stream import Stream

_HEAD_BYTES: Final = 1 << 20
_TAIL_BYTES: Final = 1 << 20

_MP4_TRACKS: Final = (b"encv", b"drmi")
_MP4_SCHEME: Final = b"sinf"
# Sample entries of protected tracks and the box that goes with each (ISO/IEC 14496-12, 8.12).

_ASF_HEAD: Final = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_MARKS: Final = (
    bytes.fromhex("fbb3112223bdd211b4b700a0c955fc6e"),
    bytes.fromhex("14e68a292226174cb935dae07ee9289c"),
)
# The objects of ASF's content encryption and of its extended form, as they are stored.

_EBML: Final = bytes.fromhex("1a45dfa3")
_MATROSKA_ENCRYPTION: Final = re.compile(
    rb"\x6d\x80(?:[\x80-\xff]|[\x40-\x7f].|\x01.{7})\x62\x40.{0,64}?\x50\x35", re.DOTALL
)
_MATROSKA_KEY: Final = "enc_key_id"
# The elements of a track that say how it is encrypted, one in the other (RFC 9559, 5.1.4.1.31), and where libav tells
# its key.

_TS_PACKET_BYTES: Final = 188
_TS_SYNC: Final = 0x47
_SCRAMBLED: Final = 0xC0


def is_encrypted_packet(packet: Packet[Stream]) -> bool:
    """Return whether the container says that this packet's bytes are encrypted (common encryption, WebM's own)."""
    return packet.has_sidedata("encryption_info")


def is_encrypted_stream(stream: Stream) -> bool:
    """Return whether a Matroska or WebM track names the key with which it is encrypted."""
    return stream.metadata.get(_MATROSKA_KEY) is not None


def looks_encrypted(stream: BinaryIO) -> bool:
    """Return whether an object that could not be read says anywhere that it is encrypted.

    Args:
        stream: seekable, over the whole object; its position is lost.
    """
    num_bytes = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    head = stream.read(_HEAD_BYTES)
    if head[:16] == _ASF_HEAD:
        return any(mark in head for mark in _ASF_MARKS)
    if head[4:8] in {b"ftyp", b"styp", b"moov", b"mdat", b"free", b"wide", b"skip"}:
        stream.seek(max(0, num_bytes - _TAIL_BYTES))
        index = head + stream.read(_TAIL_BYTES)
        return _MP4_SCHEME in index and any(mark in index for mark in _MP4_TRACKS)
    if head[:4] == _EBML:
        return _MATROSKA_ENCRYPTION.search(head) is not None
    return _is_scrambled(head)


def _is_scrambled(head: bytes) -> bool:
    """Return whether packets of a transport stream are marked as scrambled (ISO/IEC 13818-1, 2.4.3.3)."""
    packets = [head[at : at + 4] for at in range(0, len(head) - _TS_PACKET_BYTES, _TS_PACKET_BYTES)]
    if len(packets) < 2 or any(packet[0] != _TS_SYNC for packet in packets):
        return False
    return sum(packet[3] & _SCRAMBLED != 0 for packet in packets) * 4 > len(packets)
