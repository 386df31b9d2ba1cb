"""Positions, dead letters, the audit, videos and clips over REST."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from schemas.positions import OffsetRange
from schemas.shards import Position, Shard
from service.api.tokens import Role
from tests.support.api import MEDIA, Service
from tests.unit.service.host.test_supervisor import wait_for

pytestmark = pytest.mark.anyio


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


async def stop(service: Service, client: httpx.AsyncClient) -> None:
    await client.put("/api/v1/consumers/films/stop")
    wait_for(lambda: observed(service) == "stopped")


POSITION = "/api/v1/consumers/films/position"


async def test_dry_run_says_what_a_move_would_do_and_does_nothing(service: Service) -> None:
    async with service.client() as client:
        answer = await client.put(f"{POSITION}?dry_run=true", json={"offset": 3})
    assert answer.status_code == 200
    assert answer.json()["num_read_again"] == 5
    assert service.library.moves == []


async def test_move_needs_a_stopped_consumer_and_the_etag_it_was_based_on(service: Service) -> None:
    async with service.client() as client:
        etag = (await client.get(POSITION)).headers["etag"]
        running = await client.put(POSITION, json={"offset": 3}, headers={"If-Match": etag})
        assert running.status_code == 409
        assert "stop it first" in running.json()["detail"]
        await stop(service, client)
        assert (await client.put(POSITION, json={"offset": 3})).status_code == 428
        for stale in ('"1-1"', "nonsense", b'"\xb2-3"'):
            answer = await client.put(POSITION, json={"offset": 3}, headers={"If-Match": stale})
            assert answer.status_code == 412
        moved = await client.put(POSITION, json={"offset": 3, "reason": "bad model"}, headers={"If-Match": etag})
        assert moved.status_code == 200
        assert service.library.position == Position(3)
        again = await client.put(POSITION, json={"offset": 5}, headers={"If-Match": etag})
        assert again.status_code == 412
    assert service.control.audit_trail("films", 1)[0].action == "position"


async def test_move_beyond_the_table_is_refused(service: Service) -> None:
    async with service.client() as client:
        answer = await client.put(f"{POSITION}?dry_run=true", json={"offset": 11})
    assert answer.status_code == 422
    assert "ends at offset 10" in answer.json()["detail"]


async def test_operator_may_not_move_a_position(service: Service) -> None:
    async with service.client(Role.OPERATE) as client:
        answer = await client.put(f"{POSITION}?dry_run=true", json={"offset": 3})
    assert answer.status_code == 403


async def test_dead_letters_come_in_pages(service: Service) -> None:
    path = "/api/v1/consumers/films/dead-letters"
    async with service.client(Role.READ) as client:
        first = (await client.get(path, params={"limit": 2})).json()
        second = (await client.get(path, params={"limit": 2, "before": first["next_before"]})).json()
        other = (await client.get(path, params={"stage": "decode"})).json()
    assert [item["row_id"] for item in first["items"]] == [7, 3]
    assert [item["row_id"] for item in second["items"]] == [1]
    assert second["next_before"] is None
    assert other["items"] == []


async def test_replay_goes_through_the_running_loop_and_is_noted_when_it_is_answered(service: Service) -> None:
    path = "/api/v1/consumers/films/dead-letters/replay"
    async with service.client(Role.OPERATE) as client:
        answer = await client.post(path, json={"row_ids": [3, 7, 9999], "reason": "codec installed"})
        assert answer.status_code == 202
        assert answer.json() == {"num_accepted": 2, "num_of_other_shards": 0, "num_busy": 0, "num_expired": 0}
        assert list(service.tables.position.missing(8)) == [OffsetRange(3, 4), OffsetRange(7, 8)]
        again = await client.post(path, json={"row_ids": [3]})
        assert again.status_code == 409
        assert "row 3 is processed at this moment, or asked for already" in again.json()["detail"]
        assert (await client.post(path, json={})).json() == {
            "num_accepted": 1,
            "num_of_other_shards": 0,
            "num_busy": 2,
            "num_expired": 0,
        }
        assert (await client.get("/api/v1/consumers/films")).json()["num_replays"] == 3
    assert service.library.moves == []
    assert service.supervisor.status().num_restarts == 0
    assert service.num_built == 1
    assert service.control.audit_trail("films", 3)[2].detail["rows"] == "3,7"


async def test_replay_of_a_stopped_consumer_changes_its_position(service: Service) -> None:
    path = "/api/v1/consumers/films/dead-letters/replay"
    async with service.client() as client:
        await stop(service, client)
        answer = await client.post(path, json={"row_ids": [3, 7]})
    assert (answer.status_code, answer.json()["num_accepted"]) == (202, 2)
    assert list(service.library.position.missing(8)) == [OffsetRange(3, 4), OffsetRange(7, 8)]
    assert len(service.library.moves) == 1


async def test_replay_that_the_store_holds_up_is_answered_promptly_and_told_by_an_event(service: Service) -> None:
    path = "/api/v1/consumers/films/dead-letters/replay"
    with service.tables.lock:
        async with service.client(Role.OPERATE) as client:
            answer = await client.post(path, json={"row_ids": [3]})
            assert (answer.status_code, answer.json()["num_accepted"]) == (202, 1)
            other = await client.post(path, json={"row_ids": [7]})
            assert other.status_code == 409
            assert "another replay is under way" in other.json()["detail"]
    wait_for(lambda: list(service.tables.position.missing(8)) == [OffsetRange(3, 4)])


async def test_replay_of_all_that_match_and_of_nothing(service: Service) -> None:
    path = "/api/v1/consumers/films/dead-letters/replay"
    async with service.client(Role.OPERATE) as client:
        assert (await client.post(path, json={"stage": "decode"})).json()["num_accepted"] == 0
        assert (await client.post(path, json={"row_ids": [1], "stage": "open"})).status_code == 422
        assert (await client.post(path, json={"error_class": "not_a_video"})).json()["num_accepted"] == 3


async def test_replay_by_one_shard_leaves_the_rows_of_others_and_says_how_many() -> None:
    path = "/api/v1/consumers/films/dead-letters/replay"
    with Service(Shard(0, 3)) as service:
        async with service.client(Role.OPERATE) as client:
            none = (await client.post(path, json={"row_ids": [1, 7]})).json()
            assert (none["num_accepted"], none["num_of_other_shards"]) == (0, 2)
            one = (await client.post(path, json={})).json()
            assert (one["num_accepted"], one["num_of_other_shards"]) == (1, 2)
    assert list(service.tables.position.missing(8)) == [OffsetRange(3, 4)]


async def test_audit_says_what_it_found_and_that_another_is_under_way(service: Service) -> None:
    async with service.client(Role.OPERATE) as client:
        assert (await client.get("/api/v1/consumers/films/audit")).json()["is_clean"] is True
        deep = await client.get("/api/v1/consumers/films/audit", params={"num_decoded": 7})
        assert (deep.json()["clips_checked"], deep.json()["files_missing"]) == (7, 0)
        assert (await client.get("/api/v1/consumers/films/audit", params={"num_decoded": -1})).status_code == 422
        service.library.is_auditing = True
        assert (await client.get("/api/v1/consumers/films/audit")).status_code == 409


@pytest.mark.parametrize(("row_id", "status"), [(7, "failed"), (0, "waiting")])
async def test_video_tells_its_story(service: Service, row_id: int, status: str) -> None:
    async with service.client(Role.READ) as client:
        story = (await client.get(f"/api/v1/videos/{row_id}")).json()
    assert story["status"] == status


@pytest.mark.parametrize(("row_id", "status"), [("99", 404), ("-1", 422), ("x", 422), (str(2**63), 422)])
async def test_video_that_is_not_there_is_a_problem(service: Service, row_id: str, status: int) -> None:
    async with service.client(Role.READ) as client:
        answer = await client.get(f"/api/v1/videos/{row_id}")
    assert answer.status_code == status


async def test_objects_are_registered_once_and_only_where_it_is_allowed(service: Service) -> None:
    async with service.client(Role.OPERATE) as client:
        body = {"uris": ["file:///videos/a.mp4"]}
        assert (await client.post("/api/v1/videos", json=body)).json()["num_added"] == 1
        assert (await client.post("/api/v1/videos", json=body)).json()["num_already_present"] == 1
        refused = await client.post("/api/v1/videos", json={"uris": ["file:///etc/passwd"]})
        assert refused.status_code == 403
        assert refused.json()["type"] == "urn:sluice:problem:uri-not-allowed"
        assert (await client.post("/api/v1/videos", json={"uris": []})).status_code == 422


async def clips(service: Service, **params: Any) -> Any:
    async with service.client(Role.READ) as client:
        answer = await client.get("/api/v1/clips", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({}, [4, 3, 2, 1, 0]),
        ({"limit": 2}, [4, 3]),
        ({"before": 2}, [1, 0]),
        ({"min_motion": 3}, [4, 3]),
        ({"text": "DOG NUMBER 2"}, [2]),
        ({"min_aesthetic": 0.1}, []),
        ({"source_row_id": 1}, [1]),
        ({"since": "2026-05-01T12:00:01Z"}, []),
        ({"until": "2026-05-01T12:00:01Z"}, [4, 3, 2, 1, 0]),
    ],
)
async def test_clips_are_filtered_and_newest_first(
    service: Service, params: dict[str, Any], expected: list[int]
) -> None:
    assert [item["row_id"] for item in (await clips(service, **params))["items"]] == expected


MEDIA_URL = f"/api/v1/clips/{1:032x}/media"


@pytest.mark.parametrize(
    ("wanted", "status", "body", "content_range"),
    [
        (None, 200, MEDIA, None),
        ("bytes=0-99", 206, MEDIA[:100], "bytes 0-99/1024"),
        ("bytes=1000-", 206, MEDIA[1000:], "bytes 1000-1023/1024"),
        ("bytes=-10", 206, MEDIA[-10:], "bytes 1014-1023/1024"),
        ("bytes=-5000", 206, MEDIA, "bytes 0-1023/1024"),
        ("bytes=1023-9999", 206, MEDIA[1023:], "bytes 1023-1023/1024"),
        ("bytes=1024-", 416, None, "bytes */1024"),
        ("bytes=9-1", 416, None, "bytes */1024"),
        ("bytes=-0", 416, None, "bytes */1024"),
        ("bytes=-", 200, MEDIA, None),
        ("bytes=0-1,5-6", 200, MEDIA, None),
        ("lines=1-2", 200, MEDIA, None),
    ],
)
async def test_media_answers_ranges(
    service: Service, wanted: str | None, status: int, body: bytes | None, content_range: str | None
) -> None:
    async with service.client(Role.READ) as client:
        answer = await client.get(MEDIA_URL, headers={} if wanted is None else {"Range": wanted})
    assert answer.status_code == status
    assert body is None or answer.content == body
    assert answer.headers.get("content-range") == content_range


async def test_clip_without_bytes_says_where_they_are(service: Service) -> None:
    async with service.client(Role.READ) as client:
        assert "source object" in (await client.get(f"/api/v1/clips/{0:032x}/media")).json()["detail"]
        assert (await client.get(f"/api/v1/clips/{0:032x}/thumbnail")).status_code == 404
        assert (await client.get(f"/api/v1/clips/{1:032x}/thumbnail")).content == b"jpeg"


@pytest.mark.parametrize("clip_id", ["nope", "..", "..%2f..%2fetc%2fpasswd", "a" * 65, "%00"])
async def test_clip_that_is_not_there_is_a_problem(service: Service, clip_id: str) -> None:
    async with service.client(Role.READ) as client:
        for part in ("", "/media", "/thumbnail"):
            answer = await client.get(f"/api/v1/clips/{clip_id}{part}")
            assert answer.status_code in {404, 422}


async def test_videos_are_listed_by_status_and_found_by_name(service: Service) -> None:
    async with service.client(Role.READ) as client:

        async def ids(**params: Any) -> list[int]:
            answer = await client.get("/api/v1/videos", params=params)
            assert answer.status_code == 200, answer.text
            return [item["row_id"] for item in answer.json()["items"]]

        assert await ids() == [7, 5, 3, 1]
        assert await ids(status="rejected") == [5]
        assert await ids(text="3.MP4") == [3]
        assert await ids(uri="/videos/3.mp4") == await ids(uri="file:///videos/3.mp4") == [3]
        assert await ids(limit=2, before=5) == [3, 1]
        assert (await client.get("/api/v1/videos", params={"status": "lost"})).status_code == 422
        assert (await client.get("/api/v1/videos", params={"consumer": "books"})).status_code == 404
