"""Fixtures that several folders share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import hypothesis
import pytest

from consumers.pool.embedded_ray import RAY_ENVIRONMENT
from tests.support.rest_catalog import RestCatalogServer
from tests.support.s3_server import S3Server

# Ray reads these when it is first imported, which in a run of all tests may be by a test that starts no cluster.
os.environ.update(RAY_ENVIRONMENT)
# A busy machine makes a single example slow; that says nothing about the code.
hypothesis.settings.register_profile("sluice", deadline=None)
hypothesis.settings.load_profile("sluice")


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    with S3Server() as server:
        yield server


@pytest.fixture(scope="session")
def rest_catalog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RestCatalogServer]:
    with RestCatalogServer(tmp_path_factory.mktemp("rest-catalog")) as server:
        yield server
