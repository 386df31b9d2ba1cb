from __future__ import annotations

import io
import pickle
from pathlib import Path

import pytest
from pypaimon.common.file_io import FileIO

from consumers.errors import BadReferenceError, ObjectNotFoundError, ObjectUnavailableError, UriNotAllowedError
from consumers.media.allow_list import AllowList
from consumers.paimon.stores.blobs import PaimonBlobOpener
from schemas.records import WHOLE_OBJECT, BlobReference

_CONTENT = bytes(range(100))


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "a b%.mp4"
    path.write_bytes(_CONTENT)
    return path


@pytest.fixture
def opener(tmp_path: Path) -> PaimonBlobOpener:
    return PaimonBlobOpener({}, AllowList([str(tmp_path)]))


@pytest.mark.parametrize(
    ("offset", "length", "expected"),
    [(0, WHOLE_OBJECT, _CONTENT), (10, 5, _CONTENT[10:15]), (90, WHOLE_OBJECT, _CONTENT[90:]), (100, 0, b"")],
)
def test_exactly_the_referenced_bytes_are_read(
    opener: PaimonBlobOpener, video: Path, offset: int, length: int, expected: bytes
) -> None:
    for uri in (video.as_uri(), str(video)):
        with opener.open(BlobReference(uri, offset, length)) as stream:
            assert stream.tell() == 0
            assert stream.read() == expected
            assert stream.read(1) == b""


def test_seeking_stays_inside_the_reference(opener: PaimonBlobOpener, video: Path) -> None:
    with opener.open(BlobReference(video.as_uri(), 10, 20)) as stream:
        assert stream.seekable()
        assert stream.seek(0, io.SEEK_END) == 20
        assert stream.seek(-3, io.SEEK_CUR) == 17
        assert stream.read(100) == _CONTENT[27:30]
        assert stream.seek(50) == 50
        assert stream.read() == b""
        with pytest.raises(ValueError, match="cannot seek"):
            stream.seek(-1)


@pytest.mark.parametrize(("offset", "length"), [(101, WHOLE_OBJECT), (0, 101), (90, 11), (-1, 5), (0, -2)])
def test_reference_beyond_the_object_is_refused(
    opener: PaimonBlobOpener, video: Path, offset: int, length: int
) -> None:
    with pytest.raises(BadReferenceError, match="has 100 bytes"):
        opener.open(BlobReference(video.as_uri(), offset, length))


def test_object_that_does_not_exist_is_named(opener: PaimonBlobOpener, tmp_path: Path) -> None:
    with pytest.raises(ObjectNotFoundError, match=r"no object at .*gone\.mp4"):
        opener.open(BlobReference(str(tmp_path / "gone.mp4")))


def test_folder_is_not_an_object(opener: PaimonBlobOpener, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(BadReferenceError, match="is not a file"):
        opener.open(BlobReference(str(tmp_path / "folder")))


def test_uri_outside_the_allow_list_is_never_opened(opener: PaimonBlobOpener) -> None:
    with pytest.raises(UriNotAllowedError):
        opener.open(BlobReference("/etc/hostname"))


def test_scheme_without_range_reads_is_refused(tmp_path: Path) -> None:
    opener = PaimonBlobOpener({}, AllowList(["https://example.com/"]))
    with pytest.raises(BadReferenceError, match="https:// cannot be read by range"):
        opener.open(BlobReference("https://example.com/a.mp4"))


class _RemoteStore:
    def new_input_stream(self, uri: str) -> io.BytesIO:
        if uri.endswith("unreachable.mp4"):
            raise OSError("connection timed out")
        return io.BytesIO(_CONTENT)


def test_remote_objects_go_through_the_stores_file_io(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    monkeypatch.setattr(
        FileIO, "get", lambda uri, options: made.append(options.to_map()["s3.region"]) or _RemoteStore()
    )
    opener = PaimonBlobOpener({"s3.region": "r"}, AllowList(["s3://bucket/"]))
    for _ in range(2):
        with opener.open(BlobReference("s3://bucket/a.mp4", 3, 4)) as stream:
            assert stream.read() == _CONTENT[3:7]
    assert made == ["r"]
    with pytest.raises(ObjectUnavailableError, match=r"s3://bucket/unreachable\.mp4: connection timed out"):
        opener.open(BlobReference("s3://bucket/unreachable.mp4"))


def test_opener_works_after_pickling(opener: PaimonBlobOpener, video: Path) -> None:
    copy = pickle.loads(pickle.dumps(opener))
    with copy.open(BlobReference(video.as_uri(), 1, 2)) as stream:
        assert stream.read() == _CONTENT[1:3]
