"""Consumers over REST: what is said of them, and what is done to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from consumers.errors import StoreUnavailableError
from consumers.pool_report import PoolReport, StageReplicas, VideoAt
from consumers.testing import make_video
from schemas.control import DesiredState
from schemas.records import ModelCall, ProcessedVideo, Stage, StageTiming, VideoOutcome
from service.api.tokens import Role
from tests.support.api import NOON, Service
from tests.unit.service.host.test_supervisor import wait_for

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as running:
        wait_for(lambda: running.prober.last is not None and observed(running) == "running")
        yield running


def observed(service: Service) -> str:
    return service.supervisor.status().observed.value


async def get(service: Service, path: str, role: Role = Role.READ) -> Any:
    async with service.client(role) as client:
        answer = await client.get(f"/api/v1{path}")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_list_says_verdict_state_and_lag(service: Service) -> None:
    (found,) = await get(service, "/consumers")
    assert (found["consumer"], found["observed"], found["desired"]["state"]) == ("films", "running", "running")
    assert found["lag_records"] == 2


async def test_detail_says_where_the_consumer_is(service: Service) -> None:
    found = await get(service, "/consumers/films")
    assert found["position"] == {"watermark": 8, "done": [], "num_ranges": 0, "sequence": 4, "epoch": 2}
    assert found["lag"]["bytes"] == 2000
    assert [rates["window_s"] for rates in found["throughput"]] == [60.0, 300.0, 900.0]


async def test_videos_in_flight_say_where_they_stand(service: Service) -> None:
    stand_in_the_pool(service)
    found = await get(service, "/consumers/films")
    places = {video["row_id"]: (video["stage"], video["stage_s"], video["is_waiting"]) for video in found["in_flight"]}
    assert places == {1: ("decode", 12.5, False), 2: ("scene_segmentation", 3.0, True), 3: (None, None, False)}


async def test_stages_say_what_waits_who_works_and_in_which_batches(service: Service) -> None:
    stand_in_the_pool(service)
    calls = (ModelCall(0.1, 0.2, 4, on_gpu=True), ModelCall(0.1, 0.2, 2, on_gpu=True))
    timings = (StageTiming(Stage.DECODE, 9.0, 9.0, 10, 10), StageTiming(Stage.CAPTION, 1.0, 0.1, 2, 2, calls))
    service.activity.finished(ProcessedVideo(make_video(3), VideoOutcome(timings=timings), 1, NOON))
    service.activity.look()
    report = await get(service, "/consumers/films/stages")
    stages = {stage["stage"]: stage for stage in report["stages"]}
    keys = ("waiting", "replicas", "gpu_replicas", "mean_batch")
    assert [stages["caption"][key] for key in keys] == [7, 2, 2, 3.0]
    assert [stages["scene_segmentation"][key] for key in keys] == [1, 4, 0, None]
    assert [stages["motion_filter"][key] for key in keys] == [None, None, None, None]
    # Decoding takes the most time, and the queue stands before the captioner.
    assert report["bottleneck"] == "caption"


def stand_in_the_pool(service: Service) -> None:
    report = PoolReport(
        {1: VideoAt(Stage.DECODE, 12.5), 2: VideoAt(Stage.SCENE, 3.0, is_waiting=True)},
        {Stage.SCENE: 1, Stage.CAPTION: 7},
        {Stage.SCENE: StageReplicas(4), Stage.CAPTION: StageReplicas(2, 0.5)},
    )
    service.activity.begin(lambda: report)
    for row_id in (1, 2, 3):
        service.activity.admitted(make_video(row_id))


@pytest.mark.parametrize("part", ["lag", "throughput", "stages", "commits", "errors", "trail"])
async def test_every_part_answers_on_its_own(service: Service, part: str) -> None:
    assert await get(service, f"/consumers/films/{part}") is not None


async def test_stages_come_in_the_order_of_the_pipeline(service: Service) -> None:
    stages = [stage["stage"] for stage in (await get(service, "/consumers/films/stages"))["stages"]]
    assert stages.index("scene_segmentation") < stages.index("nsfw_filter") < stages.index("caption")


async def test_pause_is_stored_before_the_answer_and_obeyed(service: Service) -> None:
    async with service.client(Role.OPERATE) as client:
        answer = await client.put("/api/v1/consumers/films/pause", json={"reason": "store maintenance"})
    assert answer.status_code == 202
    assert answer.json()["desired"]["reason"] == "store maintenance"
    assert service.control.desired("films").state is DesiredState.PAUSED
    wait_for(lambda: observed(service) == "paused")
    async with service.client(Role.OPERATE) as client:
        await client.put("/api/v1/consumers/films/resume")
    wait_for(lambda: observed(service) == "running")
    trail = await get(service, "/consumers/films/trail")
    assert [(entry["action"], entry["actor"], entry["origin"]) for entry in trail] == [
        ("resume", "operate", "127.0.0.1"),
        ("pause", "operate", "127.0.0.1"),
    ]


async def test_same_wish_twice_is_one_entry(service: Service) -> None:
    async with service.client(Role.OPERATE) as client:
        for _ in range(3):
            answer = await client.put("/api/v1/consumers/films/pause", json={"reason": "x"})
            assert answer.status_code == 202
    assert len(await get(service, "/consumers/films/trail")) == 1


async def test_pause_with_a_time_to_live_resumes_by_itself(service: Service) -> None:
    async with service.client(Role.OPERATE) as client:
        answer = await client.put("/api/v1/consumers/films/pause", json={"ttl_s": 60})
    assert answer.json()["desired"]["until"] is not None
    wait_for(lambda: observed(service) == "paused")
    service.clock.advance(61)
    wait_for(lambda: observed(service) == "running")
    assert (await get(service, "/consumers/films"))["desired"]["state"] == "running"


async def test_stop_and_restart_fit_the_state(service: Service) -> None:
    async with service.client(Role.OPERATE) as client:
        assert (await client.put("/api/v1/consumers/films/stop")).status_code == 202
        wait_for(lambda: observed(service) == "stopped")
        refused = await client.post("/api/v1/consumers/films/restart")
        assert refused.status_code == 409
        assert refused.json()["type"] == "urn:sluice:problem:wrong-state"
        assert "resume it instead" in refused.json()["detail"]
        assert (await client.put("/api/v1/consumers/films/resume")).status_code == 202
        wait_for(lambda: observed(service) == "running")
        assert (await client.post("/api/v1/consumers/films/restart")).status_code == 202


@pytest.mark.parametrize(
    "body",
    [
        {"ttl_s": -1},
        {"ttl_s": 1e12},
        {"reason": "x" * 501},
        {"reason": "bell \x07"},
        {"surprise": 1},
        ["not", "an", "object"],
    ],
)
async def test_body_that_does_not_fit_is_said_with_what_is_wrong(service: Service, body: object) -> None:
    async with service.client() as client:
        answer = await client.put("/api/v1/consumers/films/pause", json=body)
    problem = answer.json()
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["type"] == "urn:sluice:problem:invalid-request"
    assert problem["errors"]
    assert service.control.version() == 0


@pytest.mark.parametrize("consumer_id", ["books", "..", "%2e%2e%2fetc", "a" * 65, "films;x", "films%00"])
async def test_consumer_that_is_not_there_is_a_problem_and_nothing_else(service: Service, consumer_id: str) -> None:
    async with service.client() as client:
        answer = await client.get(f"/api/v1/consumers/{consumer_id}/lag")
    assert answer.status_code in {404, 422}
    assert answer.json()["detail"]


async def test_store_that_is_away_is_503_and_changes_nothing(service: Service) -> None:
    def away(*arguments: object) -> None:
        raise StoreUnavailableError("s3://secret-bucket is away")

    service.control.write = away  # type: ignore[method-assign]
    async with service.client() as client:
        answer = await client.put("/api/v1/consumers/films/pause")
    assert answer.status_code == 503
    assert "secret-bucket" not in answer.text
    assert service.control.desired("films").state is DesiredState.RUNNING


async def test_probes_need_no_token(service: Service) -> None:
    async with service.client(None) as client:
        for path in ("livez", "readyz", "startupz", "version"):
            assert (await client.get(f"/{path}")).status_code == 200
        service.control.num_failures_to_come = 10**6
        wait_for(lambda: service.host.control_error is not None)
        assert (await client.get("/livez")).status_code == 200
        assert (await client.get("/readyz")).status_code == 503
        service.control.num_failures_to_come = 0


async def test_probes_before_the_start_say_so() -> None:
    service = Service()
    async with service.client(None) as client:
        assert (await client.get("/startupz")).status_code == 503
        assert (await client.get("/readyz")).status_code == 503
        assert (await client.get("/livez")).status_code == 503


async def test_events_tell_states_in_order_and_from_the_last_one_seen(service: Service) -> None:
    import asyncio

    lines: list[str] = []

    async def watch(after: str | None, enough: Callable[[], bool]) -> None:
        async for event in service.events.watch(None if after is None else int(after), 0.05):
            if event is not None:
                lines.append(f"{event.kind}:{event.data.get('to')}")
            if enough():
                return

    async with service.client() as client:
        await client.put("/api/v1/consumers/films/pause")
        await asyncio.wait_for(watch("0", lambda: "state:paused" in lines), 10)
    assert lines.index("state:running") < lines.index("state:paused")
