"""One warehouse for each kind of store, so that a test can be run on all of them."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from consumers.paimon.catalog import CatalogConfig
from tests.support.rest_catalog import RestCatalogServer, make_rest_warehouse
from tests.support.s3_server import S3Server, make_s3_warehouse
from tests.support.warehouse import make_warehouse


def warehouse_of(request: pytest.FixtureRequest, tmp_path: Path) -> CatalogConfig:
    """Return a new warehouse on the store that an indirect parameter names (``s3``, ``rest``), else on disk."""
    kind, name = getattr(request, "param", "disk"), f"w-{uuid.uuid4().hex[:12]}"
    if kind == "s3":
        s3: S3Server = request.getfixturevalue("s3_server")
        return make_s3_warehouse(s3.endpoint, s3.make_bucket(name))
    if kind == "rest":
        rest: RestCatalogServer = request.getfixturevalue("rest_catalog")
        return make_rest_warehouse(rest.uri, rest.make_warehouse(name))
    return make_warehouse(tmp_path / "warehouse")
