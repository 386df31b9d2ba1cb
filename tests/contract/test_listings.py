from __future__ import annotations

import itertools
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from consumers.paimon.landing.listing import Listing, _WalkListing, open_listing
from consumers.testing import FakeClock
from tests.contract.listing_suite import ListingContract
from tests.support.s3_server import S3Server, catalog_options

_numbers = itertools.count()
_SETTLE_S = 5.0


class _Folder:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._folder.mkdir()
        self._clock = FakeClock()

    def listing(self) -> Listing:
        return open_listing(str(self._folder), {}, self._clock, settle_s=_SETTLE_S, look_back=2)

    def put(self, name: str, content: bytes) -> None:
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        # As fresh as the clock of the test says.
        at_s = self._clock.now().timestamp()
        os.utime(path, (at_s, at_s))

    def remove(self, name: str) -> None:
        (self._folder / name).unlink()

    def settle(self) -> None:
        self._clock.advance(2 * _SETTLE_S)

    def destroy(self) -> None:
        shutil.rmtree(self._folder)


class TestListingOfAFolder(ListingContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> _Folder:
        return _Folder(tmp_path / "in")


class _Bucket:
    def __init__(self, server: S3Server) -> None:
        self._bucket = server.make_bucket(f"listed-{next(_numbers)}")
        self._client: Any = server.client()
        self._location = f"s3://{self._bucket}/in"
        self._options = catalog_options(server.endpoint)

    def listing(self) -> Listing:
        return open_listing(self._location, self._options, FakeClock(), settle_s=_SETTLE_S, look_back=2)

    def put(self, name: str, content: bytes) -> None:
        self._client.put_object(Bucket=self._bucket, Key=f"in/{name}", Body=content)

    def remove(self, name: str) -> None:
        self._client.delete_object(Bucket=self._bucket, Key=f"in/{name}")

    def settle(self) -> None:
        """Objects appear whole."""

    def destroy(self) -> None:
        for item in self._client.list_objects_v2(Bucket=self._bucket).get("Contents", []):
            self._client.delete_object(Bucket=self._bucket, Key=item["Key"])
        self._client.delete_bucket(Bucket=self._bucket)


class TestListingOfS3(ListingContract):
    @pytest.fixture
    def place(self, s3_server: S3Server) -> _Bucket:
        return _Bucket(s3_server)


class _Walked(_Bucket):
    """The way through pypaimon's own file system, which OSS and others take."""

    def listing(self) -> Listing:
        return _WalkListing(self._location, self._options)


class TestListingByAWalk(ListingContract):
    @pytest.fixture
    def place(self, s3_server: S3Server) -> _Walked:
        return _Walked(s3_server)
