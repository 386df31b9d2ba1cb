from __future__ import annotations

import io
import uuid
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from consumers.clock import SystemClock
from consumers.errors import ObjectNotFoundError, StagingUnavailableError
from consumers.media.allow_list import AllowList
from consumers.media.reader import RangeReader
from consumers.paimon.catalog import CatalogConfig
from consumers.paimon.commit.staging import FOLDER, PaimonStaging
from consumers.paimon.stores.blobs import PaimonBlobOpener
from consumers.ports import ClipStaging
from consumers.testing import FakeClock, FakeStaging, FakeStore
from schemas.records import BlobReference
from schemas.shards import Shard
from tests.contract.staging_suite import StagingContract
from tests.support.s3_server import S3Server, make_s3_warehouse
from tests.support.warehouse import NAMES, make_warehouse, table


class _Fake:
    def __init__(self) -> None:
        self._store = FakeStore()
        self._clock = FakeClock()

    def staging(self, owner: str) -> ClipStaging:
        return FakeStaging(self._store, owner, self._clock)

    def content(self, reference: BlobReference) -> bytes | None:
        return self._store.contents.get(reference.uri)

    def age(self, seconds: float) -> None:
        self._clock.advance(seconds)


class TestFakeStaging(StagingContract):
    @pytest.fixture
    def store(self) -> _Fake:
        return _Fake()


class _ShiftedClock(SystemClock):
    """The real time, and some more."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def now(self) -> datetime:
        return super().now() + self.ahead


class _Real:
    def __init__(self, config: CatalogConfig) -> None:
        self._config = config
        self._clock = _ShiftedClock()
        self._opener = PaimonBlobOpener(config.options, AllowList([config.warehouse]))

    def staging(self, owner: str) -> ClipStaging:
        return PaimonStaging(self._config, NAMES.curated, owner, Shard(), self._clock)

    def content(self, reference: BlobReference) -> bytes | None:
        try:
            with RangeReader(self._opener.open(reference)) as reader:
                return reader.read()
        except ObjectNotFoundError:
            return None

    def age(self, seconds: float) -> None:
        self._clock.ahead += timedelta(seconds=seconds)


class TestPaimonStagingOnDisk(StagingContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> _Real:
        return _Real(make_warehouse(tmp_path / "warehouse"))


class TestPaimonStagingOnS3(StagingContract):
    @pytest.fixture
    def store(self, s3_server: S3Server) -> _Real:
        return _Real(make_s3_warehouse(s3_server.endpoint, s3_server.make_bucket(f"staging-{uuid.uuid4().hex[:12]}")))


def test_store_that_takes_nothing_is_a_passing_fault(tmp_path: Path) -> None:
    config = make_warehouse(tmp_path / "warehouse")
    (Path(table(config, NAMES.curated).table_path) / FOLDER).write_text("in the way of the folder")
    with pytest.raises(StagingUnavailableError, match="clip a could not be written to the store: NotADirectoryError"):
        PaimonStaging(config, NAMES.curated, "main", Shard()).put("a", io.BytesIO(b"x"))


def test_catalog_that_does_not_open_is_a_passing_fault_of_the_put(tmp_path: Path) -> None:
    nowhere = CatalogConfig({"warehouse": str(tmp_path / "nowhere")}, "db")
    with pytest.raises(StagingUnavailableError, match="nowhere: does not exist"):
        PaimonStaging(nowhere, NAMES.curated, "main", Shard()).put("a", io.BytesIO(b"x"))
