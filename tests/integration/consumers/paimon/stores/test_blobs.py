from __future__ import annotations

import io
import os
import pickle
import threading
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pypaimon.common.file_io import FileIO
from pypaimon.common.options import Options

from consumers.errors import (
    BadReferenceError,
    ObjectChangedError,
    ObjectNotFoundError,
    ObjectUnavailableError,
    UriNotAllowedError,
)
from consumers.media.allow_list import AllowList
from consumers.paimon.landing.objects import named
from consumers.paimon.stores.blobs import PaimonBlobOpener
from consumers.paimon.stores.pinned import FileOnDisk, ObjectElsewhere
from schemas.object_version import ObjectVersion
from schemas.records import WHOLE_OBJECT, BlobReference
from tests.support.s3_server import S3Server, catalog_options

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


def test_no_race_with_symbolic_links_leads_out_of_the_folder(tmp_path: Path) -> None:
    allowed, outside = tmp_path / "allowed", tmp_path / "outside"
    for folder, text in ((allowed / "real", "allowed"), (outside, "secret")):
        folder.mkdir(parents=True)
        (folder / "video.mp4").write_text(text)
        os.utime(folder / "video.mp4", (0, 0))
    opener = PaimonBlobOpener({}, AllowList([str(allowed)]))
    reference = BlobReference((allowed / "turn" / "video.mp4").as_uri())
    is_over = threading.Event()

    def swap() -> None:
        turns = 0
        while not is_over.is_set():
            link = allowed / f"next-{turns % 2}"
            link.symlink_to(allowed / "real" if turns % 2 else outside)
            link.replace(allowed / "turn")
            turns += 1

    (allowed / "turn").symlink_to(allowed / "real")
    time.sleep(0.05)
    swapper = threading.Thread(target=swap)
    swapper.start()
    seen: Counter[str] = Counter()
    try:
        for _ in range(10_000):
            try:
                with opener.open(reference) as stream:
                    seen[stream.read().decode()] += 1
            except UriNotAllowedError as error:
                seen["late" if "when it was opened" in str(error) else "early"] += 1
    finally:
        is_over.set()
        swapper.join()
    assert seen["secret"] == 0
    assert seen["allowed"] > 0
    assert seen["late"] > 0, "the race was never met"


def test_a_pipe_in_the_place_of_a_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    file = FileOnDisk(pipe)
    assert not file.is_regular
    file.close()


def test_scheme_without_range_reads_is_refused(tmp_path: Path) -> None:
    opener = PaimonBlobOpener({}, AllowList(["https://example.com/"]))
    with pytest.raises(BadReferenceError, match="https:// cannot be read by range"):
        opener.open(BlobReference("https://example.com/a.mp4"))


def test_store_that_does_not_answer_is_no_verdict_on_the_object() -> None:
    opener = PaimonBlobOpener(catalog_options("http://127.0.0.1:9"), AllowList(["s3://bucket/"]))
    with pytest.raises(ObjectUnavailableError, match=r"s3://bucket/a\.mp4"):
        opener.open(BlobReference("s3://bucket/a.mp4"))


class Place:
    """Where objects are put, replaced and deleted: a folder, a bucket, or one that is read through pypaimon alone."""

    def __init__(self, root: str, options: dict[str, str], client: Any = None) -> None:
        self._root, self._client, self.options = root, client, options
        self.opener = PaimonBlobOpener(options, AllowList([root]))

    def uri(self, name: str = "v.mp4") -> str:
        return f"{self._root}/{name}"

    def put(self, content: bytes, name: str = "v.mp4") -> None:
        if self._client is not None:
            self._client.put_object(Bucket=self._root.removeprefix("s3://"), Key=name, Body=content)
            return
        Path(f"{self.uri(name)}.new").write_bytes(content)
        Path(f"{self.uri(name)}.new").replace(self.uri(name))

    def delete(self, name: str = "v.mp4") -> None:
        if self._client is not None:
            self._client.delete_object(Bucket=self._root.removeprefix("s3://"), Key=name)
        else:
            Path(self.uri(name)).unlink()


@pytest.fixture(params=["disk", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "disk":
        return Place(str(tmp_path), {})
    server: S3Server = request.getfixturevalue("s3_server")
    bucket = server.make_bucket(f"b-{uuid.uuid4().hex[:12]}")
    return Place(f"s3://{bucket}", catalog_options(server.endpoint), server.client())


@pytest.mark.parametrize(
    "name", ["a.mp4", "a b%.mp4", "a%20b.mp4", "ü/é.mp4", "a+b&c=d;e,f@g$.mp4", "{a}[b]~'!*().mp4"]
)
def test_object_of_any_name_is_read_in_ranges(place: Place, name: str, tmp_path: Path) -> None:
    (tmp_path / "ü").mkdir()
    place.put(_CONTENT, name)
    with place.opener.open(BlobReference(place.uri(name), 3, 40)) as stream:
        assert stream.read(4) == _CONTENT[3:7]
        stream.seek(30)
        assert stream.read() == _CONTENT[33:43]
        stream.check_unchanged()
        assert (stream.version.size_bytes, stream.is_whole) == (100, False)
    with pytest.raises(ObjectNotFoundError, match="there is no object"):
        place.opener.open(BlobReference(place.uri("nothing.mp4")))


@pytest.mark.parametrize("content", [bytes(100), bytes(60), bytes(140)], ids=["as long", "shorter", "longer"])
def test_bytes_of_another_version_are_never_given_for_those_of_the_first(place: Place, content: bytes) -> None:
    place.put(_CONTENT)
    stream = place.opener.open(BlobReference(place.uri()))
    assert stream.read(10) == _CONTENT[:10]
    place.put(content)
    with pytest.raises(ObjectChangedError, match="replaced"):  # noqa: PT012
        # A file that was opened stays what it was; it is noticed at the end.
        assert stream.read(10) == _CONTENT[10:20]
        stream.check_unchanged()
    with place.opener.open(BlobReference(place.uri())) as again:
        assert again.read() == content
        again.check_unchanged()


def test_object_that_is_deleted_meanwhile_has_changed(place: Place) -> None:
    place.put(_CONTENT)
    stream = place.opener.open(BlobReference(place.uri()))
    place.delete()
    with pytest.raises(ObjectChangedError, match="deleted"):
        stream.read(10) and stream.check_unchanged()
    with pytest.raises(ObjectNotFoundError):
        place.opener.open(BlobReference(place.uri()))


@pytest.mark.parametrize("times", ["now", "kept"])
@pytest.mark.parametrize("size", [100, 50, 150])
def test_file_that_is_written_over_has_changed_even_with_its_old_times(video: Path, times: str, size: int) -> None:
    # Just written: the disk's clock may not have gone on since.
    video.write_bytes(_CONTENT)
    with PaimonBlobOpener({}, AllowList([str(video.parent)])).open(BlobReference(str(video))) as stream:
        before = video.stat()
        with video.open("r+b") as file:
            file.write(bytes(min(size, 100)))
            file.truncate(size)
        if times == "kept":
            os.utime(video, ns=(before.st_atime_ns, before.st_mtime_ns))
        with pytest.raises(ObjectChangedError, match="changed while it was read"):
            stream.check_unchanged()


def test_object_that_is_put_anew_as_it_was_is_the_same_on_s3(s3_server: S3Server) -> None:
    bucket = s3_server.make_bucket(f"b-{uuid.uuid4().hex[:12]}")
    place = Place(f"s3://{bucket}", catalog_options(s3_server.endpoint), s3_server.client())
    place.put(_CONTENT)
    with place.opener.open(BlobReference(place.uri())) as stream:
        place.put(_CONTENT)
        assert stream.read() == _CONTENT


def test_where_a_store_knows_no_conditions_size_and_time_are_compared(s3_server: S3Server) -> None:
    # pyarrow's way to S3 asks under no condition, as its ways to other stores.
    place = Place(f"s3://{s3_server.make_bucket(f'b-{uuid.uuid4().hex[:12]}')}", {}, s3_server.client())
    place.put(_CONTENT)
    pinned = ObjectElsewhere(FileIO.get(place.uri(), Options(catalog_options(s3_server.endpoint))), place.uri())
    assert pinned.read(3, 4) == _CONTENT[3:7]
    pinned.check_unchanged()
    place.put(_CONTENT + b"more")
    with pytest.raises(ObjectChangedError, match="replaced"):
        pinned.check_unchanged()
    place.delete()
    with pytest.raises(ObjectChangedError, match="deleted"):
        pinned.check_unchanged()
    pinned.close()


def test_what_a_row_is_registered_with_is_what_its_reader_finds(place: Place) -> None:
    place.put(_CONTENT)
    [info] = named([place.uri()], place.options)
    with place.opener.open(BlobReference(info.uri)) as stream:
        assert stream.version == ObjectVersion(info.size_bytes, info.etag)
        assert stream.is_whole


def test_opener_works_after_pickling(opener: PaimonBlobOpener, video: Path) -> None:
    copy = pickle.loads(pickle.dumps(opener))
    with copy.open(BlobReference(video.as_uri(), 1, 2)) as stream:
        assert stream.read() == _CONTENT[1:3]
