"""Files that are refused, and the words with which they are: for a person who does not know libav."""

import io
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from consumers.errors import (
    EncryptedError,
    NoFramesError,
    NotAVideoError,
    NoVideoStreamError,
    VideoError,
)
from consumers.media.samples import Shot, write_video
from consumers.media.unreadable import explain_unreadable
from tests.support.ebml import encrypted
from tests.support.odd_media import SMALL, shifted
from tests.support.passes import run_pass

KEY = {
    "encryption_scheme": "cenc-aes-ctr",
    "encryption_key": "76a6c65c5ea762046bd749a2e632ccbb",
    "encryption_kid": "a7e61c373e219033c21091fa607bf3b8",
}


@pytest.mark.parametrize("suffix", ["mp4", "mov"])
def test_an_encrypted_file_is_called_encrypted(tmp_path: Path, suffix: str) -> None:
    path = write_video(tmp_path / f"v.{suffix}", [Shot(1, seed=1)], **SMALL, container_options=KEY)
    with pytest.raises(EncryptedError, match="encrypted"):
        run_pass(path)


@pytest.mark.parametrize(("suffix", "codec"), [("mkv", "libx264"), ("webm", "libvpx")])
def test_an_encrypted_matroska_is_called_encrypted(tmp_path: Path, suffix: str, codec: str) -> None:
    path = write_video(tmp_path / f"v.{suffix}", [Shot(1, seed=1)], **SMALL, codec=codec)
    content = encrypted(path.read_bytes())
    with pytest.raises(EncryptedError, match="encrypted"):
        run_pass(content)
    # Without the name of a key, which may be left out.
    with pytest.raises(EncryptedError):
        run_pass(content.replace(bytes.fromhex("47e2"), bytes.fromhex("47e3"), 1))


def test_a_scrambled_broadcast_is_called_encrypted(tmp_path: Path) -> None:
    content = bytearray(write_video(tmp_path / "v.ts", [Shot(1, seed=1)], **SMALL).read_bytes())
    rng = np.random.default_rng(1)
    for at in range(0, len(content), 188):
        pid = int.from_bytes(content[at + 1 : at + 3], "big") & 0x1FFF
        if pid >= 0x100:
            content[at + 3] |= 0x80
            content[at + 4 : at + 188] = rng.bytes(184)
    with pytest.raises(EncryptedError):
        run_pass(bytes(content))


def test_protected_windows_media_is_called_encrypted() -> None:
    head = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
    protected = head + bytes(64) + bytes.fromhex("fbb3112223bdd211b4b700a0c955fc6e") + bytes(500)
    assert isinstance(explain_unreadable(io.BytesIO(protected), "Invalid data"), EncryptedError)
    assert isinstance(explain_unreadable(io.BytesIO(head + bytes(500)), "Invalid data"), NotAVideoError)


@pytest.mark.parametrize("codec", ["mpeg2video", "libx264"])
def test_a_piece_without_its_header_is_not_called_too_large(tmp_path: Path, codec: str) -> None:
    options = {"sc_threshold": "0"} if codec == "libx264" else {}
    whole = write_video(tmp_path / "v.ts", [Shot(2, seed=1)], **SMALL, codec=codec, gop=300, options=options)
    content = whole.read_bytes()
    with pytest.raises(NoFramesError, match="is a piece out of the middle of a recording") as raised:
        run_pass(content[len(content) // 2 // 188 * 188 :])
    assert "limit" not in str(raised.value)


def test_mpeg4_that_lost_its_header_on_the_way_into_a_stream_is_not_called_too_large(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "v.mp4", [Shot(1, seed=1)], **SMALL, codec="mpeg4")
    with pytest.raises(NoFramesError, match="the header without which no mpeg4 picture") as raised:
        run_pass(shifted(whole, tmp_path / "v.ts", 0))
    assert "limit" not in str(raised.value)


def tone(container: av.container.OutputContainer, codec: str) -> Iterator[av.Packet]:
    stream = container.add_stream(codec, rate=48_000)
    frame = av.AudioFrame.from_ndarray(np.zeros((1, 1152), dtype=np.float32), format="fltp", layout="mono")
    frame.sample_rate = 48_000
    for number in range(20):
        frame.pts = number * 1152
        yield from stream.encode(frame)
    yield from stream.encode(None)


def test_a_cover_picture_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as container:
        cover = container.add_stream("png", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 64, "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic
        packets = list(tone(container, "aac"))
        picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
        picture.pts = 0
        container.mux([*cover.encode(picture), *cover.encode(None), *packets])
    with pytest.raises(NoVideoStreamError, match="no video, only audio and a cover picture"):
        run_pass(path)


def test_a_file_of_sound_is_called_that(tmp_path: Path) -> None:
    path = tmp_path / "song.mp3"
    with av.open(str(path), "w") as container:
        for packet in tone(container, "mp3"):
            container.mux(packet)
    with pytest.raises(NoVideoStreamError, match="sound alone"):
        run_pass(path)


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt", "words"),
    [
        ("v.gif", "gif", "rgb8", "a GIF, not a video"),
        ("v.webp", "libwebp_anim", "yuv420p", "a WebP picture or animation, not a video"),
        ("v.apng", "apng", "rgb24", "a PNG picture or animation, not a video"),
    ],
)
def test_an_animated_picture_is_called_that(tmp_path: Path, name: str, codec: str, pix_fmt: str, words: str) -> None:
    path = write_video(tmp_path / name, [Shot(1, seed=1)], **SMALL, fps=10, codec=codec, pix_fmt=pix_fmt)
    with pytest.raises(NotAVideoError, match=words):
        run_pass(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"GIF89a" + bytes(100), "a GIF, not a video"),
        (b"RIFF\x64\0\0\0WEBPVP8X" + bytes(100), "a WebP picture"),
        (b"%PDF-1.7\n" + bytes(100), "a PDF document"),
        (b"PK\x03\x04" + bytes(100), "a ZIP archive"),
        (b"#EXTM3U\n#EXTINF:1,\na.ts\n", "only names videos"),
        (b"The quick brown fox.\n" * 10, "it looks like text"),
        (b"fLaC" + bytes(100), "sound alone"),
    ],
)
def test_what_is_no_video_is_called_what_it_is(content: bytes, words: str) -> None:
    with pytest.raises(VideoError, match=words):
        run_pass(content)
