"""Taking videos down over REST."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from service.api.tokens import Role
from tests.support.api import Service
from tests.unit.service.host.test_supervisor import wait_for

pytestmark = pytest.mark.anyio

PATH = "/api/v1/consumers/films/takedowns"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as running:
        wait_for(lambda: observed(running) == "running")
        yield running


def observed(service: Service) -> str:
    return service.supervisor.status().observed.value


async def test_takedown_is_stored_and_told_in_the_trail_and_the_consumer_restarts_for_it(service: Service) -> None:
    before = service.control.desired("films").generation
    async with service.client(Role.ADMIN) as client:
        answer = await client.post(PATH, json={"kind": "uri", "value": "s3://b/a.mp4", "reason": "asked by its owner"})
        listed = (await client.get(PATH)).json()["items"]
    assert answer.status_code == 202
    assert answer.json()["target"] == "uri s3://b/a.mp4"
    assert listed == [answer.json()]
    assert [each.takedown_id for each in service.library.taken_down] == [answer.json()["takedown_id"]]
    assert service.control.desired("films").generation == before + 1
    entry = service.control.audit_trail("films", 1)[0]
    assert (entry.action, entry.reason) == ("takedown", "asked by its owner")
    assert entry.detail["takedown"] == answer.json()["takedown_id"]
    wait_for(lambda: observed(service) == "running")


async def test_consumer_that_is_stopped_obeys_at_once_and_stays_stopped(service: Service) -> None:
    async with service.client(Role.ADMIN) as client:
        await client.put("/api/v1/consumers/films/stop")
        wait_for(lambda: observed(service) == "stopped")
        assert (await client.post(PATH, json={"kind": "video_id", "value": "v1"})).status_code == 202
    assert service.library.num_obeyed == 1
    assert observed(service) == "stopped"


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "row", "value": "a"},
        {"kind": "row", "value": "-1"},
        {"kind": "row", "value": "99"},
        {"kind": "row", "value": str(2**63)},
        {"kind": "glob", "value": "*"},
        {"kind": "uri", "value": ""},
        {"kind": "uri", "value": "a\nb"},
        {"kind": "uri"},
        {"value": "v1"},
    ],
)
async def test_what_names_no_video_is_refused_and_changes_nothing(service: Service, body: dict[str, str]) -> None:
    async with service.client(Role.ADMIN) as client:
        assert (await client.post(PATH, json=body)).status_code == 422
    assert service.library.taken_down == []
    assert service.control.audit_trail("films", 1) == []
