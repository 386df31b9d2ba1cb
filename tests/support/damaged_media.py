"""Media as the world sends it: cut off, with flipped bits, in odd shapes, or no media at all; all of it generated."""

import gzip
import io
import random
import struct
import zlib
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from consumers.media.samples import Shot, write_video

SIZE = {"width": 160, "height": 120}
_CONTAINER_BOXES = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"dinf", b"edts", b"udta"}
ANY_FAILURE = frozenset(
    {
        "not_a_video",
        "truncated",
        "no_video_stream",
        "no_frames",
        "too_many_pixels",
        "too_long",
        "too_many_frames",
        "index_too_large",
    }
)
NONE = frozenset({""})
"""It must be processed."""


@dataclass(frozen=True)
class Case:
    """One file, and the failure classes it may end with; ``""`` is an end without failure."""

    name: str
    content: bytes
    allowed: frozenset[str]


def boxes(content, start=0, end=None):
    """Yield ``(path, start, end)`` of every box of an MP4, those inside others included."""
    end = len(content) if end is None else end
    while start + 8 <= end:
        size, name = int.from_bytes(content[start : start + 4], "big"), bytes(content[start + 4 : start + 8])
        stop = start + size if size >= 8 else end
        yield name.decode("latin-1"), start, stop
        if name in _CONTAINER_BOXES:
            yield from boxes(content, start + 8, stop)
        start = stop


def place(content, name):
    """Return start and end of the first box called ``name``."""
    return next((start, end) for found, start, end in boxes(content) if found == name)


def patched(content, box, offset, value, *, num_bytes=4):
    """Return ``content`` with a big-endian number at ``offset`` in the payload of ``box``."""
    start = place(content, box)[0] + 8 + offset
    return content[:start] + value.to_bytes(num_bytes, "big") + content[start + num_bytes :]


def make_cases(folder: Path) -> list[Case]:
    """Return all cases; ``folder`` is for what has to be encoded."""
    front = write_video(
        folder / "a.mp4", _SHOTS, **SIZE, fps=_FPS, container_options={"movflags": "+faststart"}
    ).read_bytes()
    back = write_video(folder / "b.mp4", _SHOTS, **SIZE, fps=_FPS, audio=True).read_bytes()
    matroska = write_video(folder / "a.mkv", _SHOTS, **SIZE, fps=_FPS).read_bytes()
    transport = write_video(folder / "a.ts", _SHOTS, **SIZE, fps=_FPS).read_bytes()
    return [
        *_truncated(front, back, matroska, transport),
        *_flipped_boxes(front),
        *_flipped_stream(front, matroska, transport),
        *_no_videos(),
        *_odd_shapes(folder),
        *_wrong_times(front, matroska),
        *_wrong_tables(front),
        Case("size changes in mid-stream", _two_sizes(folder), NONE),
        Case("sound alone", _sound(folder), frozenset({"no_video_stream"})),
        # The decoder refuses the frame, and tells no more than that.
        Case("16384 x 16384", _picture(16384, 16384, declared=(16384, 16384)), frozenset({"no_frames"})),
        Case("16384 x 16384 that says 64 x 64", _picture(16384, 16384, declared=(64, 64)), frozenset({"no_frames"})),
        Case("100,000 tiny frames", _many_frames(100_000), NONE),
    ]


# 8 seconds in few frames: what is missing is measured in seconds.
_SHOTS = [Shot(4, seed=1), Shot(4, seed=2)]
_FPS = 6


def _truncated(front, back, matroska, transport):
    mdat = place(front, "mdat")[0]
    for k in range(1, 30):
        length = len(front) * k // 30
        # With the index in front, what is left of the data can be decoded, and is too short.
        near_end = length > mdat + (len(front) - mdat) * 0.8
        allowed = {"truncated", ""} if near_end else {"truncated"}
        yield Case(f"index first, cut at {k}/30", front[:length], frozenset(allowed | {"no_frames"}))
    for k in range(1, 16):
        yield Case(f"index last, cut at {k}/16", back[: len(back) * k // 16], frozenset({"truncated"}))
    for k in range(1, 13):
        cut = matroska[: len(matroska) * k // 13]
        yield Case(
            f"matroska, cut at {k}/13", cut, frozenset({"truncated", "no_frames", "not_a_video", "no_video_stream", ""})
        )
    for k in range(1, 11):
        # A transport stream has no length of its own: what is there is all there is.
        yield Case(
            f"transport stream, cut at {k}/11", transport[: len(transport) * k // 11], frozenset({"", "no_frames"})
        )
    for length in (1, 7, 8, 9, 31):
        yield Case(f"{length} bytes", front[:length], frozenset({"not_a_video", "truncated"}))


def _flipped_boxes(content):
    rng = random.Random(1)
    for name, start, end in boxes(content):
        header = min(end, start + 8)
        for where, low, high in (("size", start, start + 4), ("name", start + 4, header), ("content", header, end)):
            if low >= high:
                continue
            damaged = bytearray(content)
            for _ in range(1 if where != "content" else max(1, (high - low) // 40)):
                damaged[rng.randrange(low, high)] ^= 1 << rng.randrange(8)
            yield Case(f"bits of the {where} of {name} at {start}", bytes(damaged), ANY_FAILURE | NONE)


def _flipped_stream(front, matroska, transport):
    for label, content in (("mp4", front), ("matroska", matroska), ("transport stream", transport)):
        low = place(front, "mdat")[0] + 8 if label == "mp4" else 0
        for seed in range(8):
            rng = random.Random(seed)
            damaged = bytearray(content)
            for _ in range((1, 10, 100, 1000)[seed % 4]):
                damaged[rng.randrange(low, len(damaged))] ^= 1 << rng.randrange(8)
            yield Case(f"bits of a {label} stream, {seed}", bytes(damaged), ANY_FAILURE | NONE)


def _no_videos():
    rng = random.Random(2)
    contents = {
        "zero length": b"",
        "text renamed .mp4": b"This is a text file, whatever its name says.\n" * 100,
        "zeros": bytes(100_000),
        "noise": rng.randbytes(100_000),
        "a web page": b"<!doctype html><title>404</title>" * 50,
        "a gzip archive": gzip.compress(rng.randbytes(10_000)),
        "an ffconcat script": b"ffconcat version 1.0\nfile '/etc/passwd'\n",
        "a playlist": b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n/etc/passwd\n#EXT-X-ENDLIST\n",
        "a session description": b"v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
        "a picture": _png(16, 16),
    }
    for name, content in contents.items():
        yield Case(name, content, frozenset({"not_a_video"}))


def _odd_shapes(folder):
    shapes = {
        "1 x 1": {"width": 1, "height": 1, "codec": "ffv1", "pix_fmt": "yuv444p"},
        "2 x 2": {"width": 2, "height": 2},
        "3 x 1001": {"width": 3, "height": 1001, "codec": "ffv1", "pix_fmt": "yuv444p"},
        "1001 x 3": {"width": 1001, "height": 3, "codec": "ffv1", "pix_fmt": "yuv444p"},
        "161 x 121": {"width": 161, "height": 121, "codec": "ffv1"},
        "odd h264": {"width": 161, "height": 121, "pix_fmt": "yuv444p"},
        "4:4:4": {"pix_fmt": "yuv444p"},
        "4:2:2": {"pix_fmt": "yuv422p"},
        "10-bit": {"pix_fmt": "yuv420p10le"},
        "10-bit 4:4:4": {"pix_fmt": "yuv444p10le"},
        "gray": {"pix_fmt": "gray", "codec": "ffv1"},
        "with alpha": {"pix_fmt": "yuva420p", "codec": "ffv1"},
        "12-bit": {"pix_fmt": "yuv420p12le", "codec": "ffv1"},
        "16-bit rgb": {"pix_fmt": "gbrp16le", "codec": "ffv1"},
        "palette": {"pix_fmt": "rgb24", "codec": "qtrle"},
        "mjpeg": {"pix_fmt": "yuvj420p", "codec": "mjpeg"},
    }
    for name, shape in shapes.items():
        path = folder / f"{name.replace(' ', '_').replace(':', '')}.{'mov' if shape.get('codec') == 'qtrle' else 'mkv'}"
        yield Case(name, write_video(path, [Shot(1, seed=3)], **{**SIZE, **shape}).read_bytes(), NONE)


def _wrong_times(front, matroska):
    timescale = 1000
    for label, value in (
        ("none", 0),
        ("too short", timescale // 10),
        ("too long", timescale * 3600),
        ("endless", 2**32 - 1),
    ):
        content = front
        for box in ("mvhd", "mdhd"):
            content = patched(content, box, 16, value)
        content = patched(content, "tkhd", 20, value)
        yield Case(f"declares a duration that is {label}", content, NONE | {"truncated", "too_long"})
    for label, value in (("zero", 0), ("huge", 2**31 - 1), ("negative", 2**32 - 512)):
        # Payload of stts: version and flags, count, then pairs of count and delta.
        yield Case(f"frame durations {label}", patched(front, "stts", 12, value), ANY_FAILURE | NONE)
    yield Case("a time scale of 0", patched(front, "mdhd", 12, 0), ANY_FAILURE | NONE)
    yield Case("a time scale of 1", patched(front, "mdhd", 12, 1), ANY_FAILURE | NONE)
    for label, order in (
        ("unordered", _shuffled),
        ("negative", lambda k: k - 30),
        ("backwards", lambda k: -k),
        ("all the same", lambda k: 0),
    ):
        # Without any times the length of what is there is a guess.
        allowed = NONE | {"truncated"} if label == "all the same" else NONE
        yield Case(f"timestamps {label}", _with_clusters(matroska, order), allowed)


def _shuffled(k):
    return k ^ 5


def _with_clusters(matroska, order):
    """Return ``matroska`` with the 16-bit timestamps of its blocks changed, as a broken writer leaves them."""
    content = bytearray(matroska)
    position = content.find(b"\x1f\x43\xb6\x75")
    number = 0
    while (position := content.find(b"\xa3", position + 1)) != -1:
        size_bytes = 8 - int(content[position + 1]).bit_length() + 1
        track = position + 1 + size_bytes
        if size_bytes <= 8 and content[track] == 0x81:
            struct.pack_into(">h", content, track + 1, max(-32768, min(32767, order(number) * 167)))
            number += 1
            size = int.from_bytes(content[position + 1 : track], "big") & ((1 << (7 * size_bytes)) - 1)
            position = track + size - 1
    assert number > 20
    return bytes(content)


def _wrong_tables(front):
    size = len(front)
    for label, box, offset, value in (
        ("chunk offset beyond the end", "stco", 8, size + 1000),
        ("chunk offset 0", "stco", 8, 0),
        ("too many chunks", "stco", 4, 2**31 - 1),
        ("too many samples", "stsz", 8, 2**31 - 1),
        ("a huge sample", "stsz", 12, 2**31 - 1),
        ("no samples", "stsz", 8, 0),
        ("too many samples in a chunk", "stsc", 12, 2**31 - 1),
        ("a description that is not there", "stsc", 16, 77),
        ("too many descriptions", "stsd", 4, 2**31 - 1),
    ):
        yield Case(label, patched(front, box, offset, value), ANY_FAILURE | NONE)
    start, end = place(front, "moov")
    yield Case("no index", front[:start] + front[end:], frozenset({"not_a_video"}))
    yield Case("the index twice", front[:end] + front[start:], ANY_FAILURE | NONE)


def _two_sizes(folder):
    parts = (
        write_video(folder / f"{width}.ts", [Shot(1, seed=width)], width=width, height=120).read_bytes()
        for width in (160, 320, 64)
    )
    return b"".join(parts)


def _sound(folder):
    path = folder / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
        frame.sample_rate = 48000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path.read_bytes()


def _png(width, height, bits=1):
    """Return a black picture of one bit per pixel, or of 8 for each of three colours."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    lines = zlib.compress(bytes((1 + (width * (1 if bits == 1 else 24) + 7) // 8) * height), 1)
    header = struct.pack(">IIBBBBB", width, height, bits, 0 if bits == 1 else 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", lines) + chunk(b"IEND", b"")


def _picture(width, height, declared, bits=1):
    """Return a container whose one frame is a PNG, with the size that its header declares."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mov") as container:
        stream = container.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "monob" if bits == 1 else "rgb24"
        packet = av.Packet(_png(width, height, bits))
        packet.stream, packet.pts, packet.dts, packet.time_base = stream, 0, 0, Fraction(1, 1)
        packet.is_keyframe = True
        container.mux(packet)
    content = patched(buffer.getvalue(), "stsd", 40, declared[0], num_bytes=2)
    return patched(content, "stsd", 42, declared[1], num_bytes=2)


def large_picture():
    """Return a video within the default limits whose one frame takes 107 MB."""
    return _picture(8192, 4352, declared=(8192, 4352), bits=8)


def _many_frames(count):
    """Return ``count`` frames of 16 x 16: one group of pictures, encoded once and repeated."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="nut") as container:
        stream = container.add_stream("mpeg4", rate=100)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "yuv420p"
        stream.codec_context.gop_size = 200
        stream.codec_context.max_b_frames = 0
        packets = []
        for k in range(200):
            frame = av.VideoFrame.from_ndarray(np.full((16, 16, 3), k, dtype=np.uint8), format="rgb24")
            frame.pts = k
            packets += [(bytes(packet), packet.is_keyframe) for packet in stream.encode(frame)]
        packets += [(bytes(packet), packet.is_keyframe) for packet in stream.encode(None)]
        for index in range(count):
            content, is_keyframe = packets[index % len(packets)]
            packet = av.Packet(content)
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, index, index, Fraction(1, 100)
            packet.is_keyframe = is_keyframe
            container.mux(packet)
    return buffer.getvalue()
