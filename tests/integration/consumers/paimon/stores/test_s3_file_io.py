from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from pypaimon.common.file_io import FileIO
from pypaimon.common.options import Options

from consumers.paimon.commit.sink import PaimonSink
from consumers.paimon.stores.s3_file_io import LeanS3FileIO, lean
from schemas.positions import Position
from tests.support.faulty_store import Fault, FaultyStore, Request
from tests.support.s3_server import S3Server, catalog_options, make_s3_warehouse
from tests.support.warehouse import NAMES, PROFILE, append_raw, batch


@pytest.fixture
def store(s3_server: S3Server) -> Iterator[FaultyStore]:
    with FaultyStore(s3_server.port) as opened:
        yield opened


@pytest.fixture
def place(s3_server: S3Server) -> str:
    name = "lean"
    client: Any = s3_server.client()
    if name not in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]:
        s3_server.make_bucket(name)
    return f"s3://{name}/t"


@pytest.fixture
def file_io(store: FaultyStore) -> LeanS3FileIO:
    made = lean(FileIO.get("s3://lean/t", Options(catalog_options(store.endpoint))))
    assert isinstance(made, LeanS3FileIO)
    return made


def test_small_files_are_written_and_read_as_by_pyarrow(file_io: LeanS3FileIO, store: FaultyStore, place: str) -> None:
    plain = FileIO.get(place, Options(catalog_options(store.endpoint)))
    for name in (
        "snapshot/snapshot-1",
        "manifest/manifest-list-1",
        "manifest/index-manifest-1",
        "bucket-0/data-1.parquet",
    ):
        path = f"{place}/{name}"
        assert not file_io.exists(path)
        with pytest.raises(FileNotFoundError):
            file_io.read_file_utf8(path)
        with file_io.new_output_stream(path) as stream:
            stream.write(b"one ")
            stream.write(b"two")
        for reader in (file_io, plain, pickle.loads(pickle.dumps(file_io))):
            assert reader.exists(path)
            assert reader.exists(path.rpartition("/")[0])
            assert reader.read_file_utf8(path) == "one two"
            with reader.new_input_stream(path) as stream:
                assert stream.read() == b"one two"


def test_manifest_whose_writing_fails_is_not_there(file_io: LeanS3FileIO, place: str) -> None:
    path = f"{place}/manifest/manifest-broken"
    with pytest.raises(TypeError), file_io.new_output_stream(path) as stream:
        stream.writelines([b"half", "not bytes"])
    assert not file_io.exists(path)


def test_store_that_is_away_is_an_os_error_and_never_a_missing_file(
    file_io: LeanS3FileIO, store: FaultyStore, place: str
) -> None:
    store.plan = lambda request: Fault.ERROR_AFTER
    path = f"{place}/snapshot/snapshot-9"
    for attempt in (
        lambda: file_io.exists(path),
        lambda: file_io.read_file_utf8(path),
        lambda: file_io.new_output_stream(f"{place}/manifest/manifest-9").close(),
    ):
        with pytest.raises(OSError, match=r"Internal ?(Server )?Error") as caught:
            attempt()
        assert not isinstance(caught.value, FileNotFoundError)


def test_commit_on_s3_costs_few_requests(s3_server: S3Server, store: FaultyStore) -> None:
    config = make_s3_warehouse(store.endpoint, s3_server.make_bucket("lean-commit"))
    append_raw(config, "ab")
    sink = PaimonSink(config, NAMES, "main", PROFILE)
    sink.open()
    sink.commit(batch(Position(), [0]))
    requests: list[Request] = []
    store.plan = lambda request: requests.append(request) or Fault.NONE  # type: ignore[func-returns-value]
    sink.commit(batch(Position(1), [1]))
    # Two tables; by pyarrow alone it would be 92.
    assert len(requests) <= 44, [f"{request.method} {request.path}" for request in requests]
