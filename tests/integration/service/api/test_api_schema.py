"""schemathesis over the whole OpenAPI: no server error, no answer that is not documented."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from service.api.app import create_app
from service.api.tokens import Role
from tests.support.api import TOKENS, Service

_service = Service()
_app = create_app(_service.services, allowed_hosts=["testserver"])
# The event stream never ends, and so has tests of its own.
schema = schemathesis.openapi.from_asgi("/openapi.json", _app).exclude(path="/api/v1/events")
_HEADERS = {"Authorization": f"Bearer {TOKENS[Role.ADMIN]}"}


@pytest.fixture(scope="module", autouse=True)
def _running() -> Iterator[None]:
    with _service:
        yield


@schema.parametrize()
@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_every_answer_is_documented(case: Any) -> None:
    case.call_and_validate(
        headers=_HEADERS,
        checks=[
            schemathesis.checks.not_a_server_error,
            status_code_conformance,
            content_type_conformance,
            response_headers_conformance,
            response_schema_conformance,
        ],
    )
