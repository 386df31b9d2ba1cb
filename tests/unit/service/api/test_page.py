"""The page over fakes: who gets in, what is escaped, and what is said when something is wrong."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.errors import StoreUnavailableError
from consumers.paimon.maintain.compaction import Compacted
from consumers.paimon.maintain.expiry import Expired
from consumers.paimon.maintain.maintainer import TableReport
from consumers.pool_report import PoolReport, VideoAt
from consumers.testing import make_video
from schemas.api import StageOut, StagesReport
from schemas.control import AuditEntry, Desired, DesiredState
from schemas.profile import Profile
from schemas.records import ProcessedVideo, Stage, StageTiming, VideoOutcome
from schemas.tables import LEDGER
from service.api import charts, pages, wording
from service.api.app import create_app
from service.api.clip_facts import clip_facts
from service.api.security import COOKIE
from service.api.tokens import Role
from service.api.trail import trail_lines
from service.host.hosting import HostedConsumer
from service.host.upkeep import Upkeep
from service.library import ClipList
from tests.support.api import NOON, TOKENS, FakeLibrary, Service, clip, letter, rejection
from tests.unit.service.host.test_supervisor import wait_for

pytestmark = pytest.mark.anyio

HOSTILE = """<script>alert(1)</script>"><img src=x onerror='alert(2)'>"""
PATHS = (
    "/",
    "/consumers/films",
    "/clips",
    "/videos",
    "/videos?status=rejected",
    "/videos?status=all",
    "/videos/5",
    "/videos/7",
    "/log",
)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as running:
        wait_for(lambda: running.prober.last is not None)
        yield running


def run_of(row: dict[str, Any]) -> dict[str, Any]:
    """Return a whole ledger row."""
    nothing = dict.fromkeys(LEDGER.schema.names)
    more = {"profile": "default", "profile_fingerprint": "0" * 16, "commit_sequence": 4, "epoch": 2, "attempts": 1}
    more["consumer"] = "films"
    clips = [each | {"start_frame": 0, "end_frame": 48} for each in row.get("clips", [])]
    counts = {"num_clips_kept": 0, "num_clips_rejected": len(clips)}
    timing = {"stage": "decode", "wall_s": 0.5, "cpu_s": 0.4, "num_in": 48, "num_out": 48}
    return nothing | more | counts | row | {"clips": clips, "timings": [timing]}


def open_page(service: Service, **changes: Any) -> httpx.AsyncClient:
    service.library.runs = lambda row_id: [  # type: ignore[method-assign]
        run_of(row) for row in (*service.library.letters, *service.library.rejections) if row["source_row_id"] == row_id
    ]
    app = create_app(replace(service.services, **changes), further=[pages.make_router(Profile())])
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")


async def log_in(client: httpx.AsyncClient, role: Role = Role.OPERATE) -> None:
    answer = await client.post("/login", data={"token": TOKENS[role], "next": "/clips"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/clips")


@pytest.mark.parametrize("path", PATHS)
async def test_page_without_a_session_leads_to_the_login_and_back(service: Service, path: str) -> None:
    async with open_page(service) as client:
        answer = await client.get(path)
        assert answer.status_code == 303
        form = await client.get(answer.headers["location"])
    assert f'name="next" value="{path}"' in form.text


@pytest.mark.parametrize(
    "target", ["//evil.example/", "https://evil.example", "/\\evil.example", "javascript:alert(1)"]
)
async def test_login_never_leads_to_another_site(service: Service, target: str) -> None:
    async with open_page(service) as client:
        answer = await client.post("/login", data={"token": TOKENS[Role.READ], "next": target})
    assert answer.headers["location"] == "/"


async def test_login_sets_a_cookie_that_scripts_and_other_sites_cannot_use(service: Service) -> None:
    async with open_page(service, secure_cookies=True) as client:
        answer = await client.post("/login", data={"token": TOKENS[Role.READ]})
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(COOKIE)
    assert all(word in cookie for word in ("HttpOnly", "SameSite=strict", "Secure"))


async def test_wrong_token_is_told_and_not_repeated(service: Service) -> None:
    async with open_page(service) as client:
        answer = await client.post("/login", data={"token": "a-token-that-nobody-knows"})
    assert answer.status_code == 401
    assert "the token is not known" in answer.text
    assert "a-token-that-nobody-knows" not in answer.text


async def test_form_of_another_site_is_refused(service: Service) -> None:
    async with open_page(service) as client:
        headers = {"Origin": "http://evil.example"}
        answers = [await client.post(path, headers=headers) for path in ("/login", "/logout")]
    assert [answer.status_code for answer in answers] == [403, 403]


async def test_page_holds_the_token_that_writes_need_and_no_secret(service: Service) -> None:
    async with open_page(service) as client:
        await log_in(client)
        text = (await client.get("/")).text
        found = re.search(r'name="csrf-token" content="([0-9a-f]+)"', text)
        assert found is not None
        answer = await client.put("/api/v1/consumers/films/pause", headers={"X-CSRF-Token": found[1]})
        assert answer.status_code == 202
        assert client.cookies[COOKIE] not in text
    assert not any(token in text for token in TOKENS.values())


@pytest.mark.parametrize("path", [*PATHS, "/login", "/videos/99", "/nothing-here/at-all"])
async def test_no_page_has_script_or_style_of_its_own(service: Service, path: str) -> None:
    async with open_page(service) as client:
        await log_in(client)
        text = (await client.get(path)).text
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=", text)


async def test_what_users_wrote_is_shown_as_text(service: Service) -> None:
    library = service.library
    library.clip_list = [clip(1, caption=HOSTILE)]
    library.letters = [letter(7) | {"failure_message": HOSTILE, "video_id": HOSTILE, "source_uri": HOSTILE}]
    library.rejections = [rejection(5) | {"video_id": HOSTILE, "source_uri": "file:///" + HOSTILE}]
    desired = Desired(DesiredState.PAUSED, HOSTILE, NOON, HOSTILE)
    service.control.write(AuditEntry("1", "pause", "films", HOSTILE, "::1", NOON, HOSTILE, {"why": HOSTILE}), desired)
    service.host.refresh()
    async with open_page(service) as client:
        await log_in(client)
        for path in (*PATHS, "/parts/newest-clips"):
            text = (await client.get(path)).text
            assert "<script>alert" not in text, path
            assert "<img src=x" not in text, path
            # The story takes the video's name from the raw table, which is not hostile here.
            assert "&lt;script&gt;alert(1)" in text or path in ("/videos?status=rejected", "/videos/5"), path


async def test_reader_is_offered_nothing_that_changes_something(service: Service) -> None:
    async with open_page(service) as client:
        await log_in(client, Role.READ)
        texts = [(await client.get(path)).text for path in PATHS]
        await log_in(client, Role.OPERATE)
        assert "data-ask" in (await client.get("/")).text
    assert not any("data-ask" in text or "data-audit" in text for text in texts)


async def test_store_that_is_away_is_a_page_that_says_so(service: Service) -> None:
    def away(*_: Any) -> Any:
        raise StoreUnavailableError("curated table: connection refused")

    service.library.clips = away  # type: ignore[method-assign]
    async with open_page(service) as client:
        await log_in(client)
        answer = await client.get("/clips")
    assert answer.status_code == 503
    assert "The store does not answer" in answer.text


@pytest.mark.parametrize("path", ["/videos/99", "/videos/abc", "/consumers/nobody", "/videos?status=lost"])
async def test_what_does_not_exist_is_a_page_that_leads_back(service: Service, path: str) -> None:
    async with open_page(service) as client:
        await log_in(client)
        answer = await client.get(path)
    assert answer.status_code == 404
    assert 'href="/"' in answer.text


@pytest.mark.parametrize("name", ["..%2fpages.py", "%2e%2e", "page.html", "nothing.js"])
async def test_only_the_files_of_the_page_are_served(service: Service, name: str) -> None:
    async with open_page(service) as client:
        assert (await client.get(f"/static/{name}")).status_code == 404
        style = await client.get(f"/static/page.css?v={pages.assets()['page.css'].tag}")
    assert (style.status_code, style.headers["content-type"]) == (200, "text/css; charset=utf-8")
    assert "immutable" in style.headers["cache-control"]


async def test_row_id_that_is_typed_in_leads_to_the_story(service: Service) -> None:
    async with open_page(service) as client:
        await log_in(client)
        assert (await client.get("/videos?row=%207")).headers["location"] == "/videos/7"
        story = (await client.get("/videos/7")).text
        named = (await client.get("/videos?row=7;drop")).headers["location"]
        assert named == "/videos?status=all&text=7%3Bdrop"
        assert "No video of that name was processed" in (await client.get(named)).text
        found = (await client.get("/videos?status=all&text=3.MP4")).text
        assert 'href="/videos/3"' in found
        assert 'href="/videos/7"' not in found
    assert "it is a text file" in story
    assert 'id="replay"' in story


async def test_rejected_videos_come_with_their_reasons(service: Service) -> None:
    async with service.client(Role.READ) as client:
        page = (await client.get("/api/v1/consumers/films/rejected")).json()
    (found,) = page["items"]
    assert found["reasons"] == [{"stage": "motion_filter", "reason": "motion_below_min", "num_clips": 1}]
    assert page["next_before"] is None


def test_clip_kept_under_another_profile_shows_no_bounds_of_this_one() -> None:
    profile = Profile()
    same = clip_facts(clip(3, profile_fingerprint=profile.fingerprint), profile)
    other = clip_facts(clip(3, profile_fingerprint="f" * 16), profile)
    assert [score.bound for score in same.scores] == ["≤ 0.5", "≥ 0.25", "≥ 0.2"]
    assert {score.bound for score in other.scores} == {None}


def test_registrations_in_a_row_are_one_line() -> None:
    def entry(number: int, action: str) -> AuditEntry:
        return AuditEntry(str(number), action, "films", "eve", "::1", NOON + timedelta(seconds=number), None, {})

    lines = trail_lines([entry(5, "register"), entry(4, "register"), entry(3, "pause"), entry(2, "pause")])
    assert [(line.entry.action, line.times, line.since.second) for line in lines] == [
        ("register", 2, 4),
        ("pause", 1, 3),
        ("pause", 1, 2),
    ]


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1e4), st.floats(0.001, 1e4)), min_size=1, max_size=20), st.floats(0, 2e4))
def test_timeline_stays_inside_its_drawing(spans: list[tuple[float, float]], duration_s: float) -> None:
    clips = [{"start_s": start, "end_s": start + length} for start, length in spans]
    drawn = charts.timeline({"clips": clips, "duration_s": duration_s, "timings": None})
    assert all(0 <= item.x <= 1000 and item.x + item.width <= 1003 for item in drawn.clips)
    assert all(0 <= x <= 1000 for x, _ in drawn.ticks)
    assert len(drawn.ticks) <= 7 or drawn.duration_s > 6 * 3600


@settings(deadline=None)
@given(st.lists(st.integers(0, 50), min_size=7, max_size=7))
def test_funnel_bars_never_overrun(lost: list[int]) -> None:
    num = 400
    stages = []
    for stage, dropped in zip(charts.SEVEN, lost, strict=True):
        # Scene segmentation takes in frames.
        num_in, num = (9000, 400) if stage is Stage.SCENE else (num, num - dropped)
        stages.append(
            StageOut(
                stage=stage,
                num_in=num_in,
                num_out=num,
                rejected={} if stage is Stage.SCENE else {"r": dropped},
                wall_s=1.0,
                cpu_s=1.0,
            )
        )
    found = charts.funnel(StagesReport(stages=stages, bottleneck=Stage.MOTION, num_in_flight=0))
    assert all(row.width + row.lost_width <= 100.02 for row in found.rows)
    assert [row.stage for row in found.rows if row.is_bottleneck] == [Stage.MOTION]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (0.0004, "0.4 ms"),
        (0.04, "40 ms"),
        (3.21, "3.2 s"),
        (59.7, "1 min"),
        (3725, "1 h 2 min"),
        (90000, "1 d 1 h"),
    ],
)
def test_length_of_time_is_said_in_its_largest_units(seconds: float, words: str) -> None:
    assert wording.span(seconds) == words


async def test_page_says_where_the_videos_in_flight_stand_and_what_waits(service: Service) -> None:
    report = PoolReport(
        {1: VideoAt(Stage.CAPTION, 12.5), 2: VideoAt(Stage.SCENE, 3.0, is_waiting=True)}, {Stage.SCENE: 1}
    )
    service.activity.begin(lambda: report)
    for row_id in (1, 2, 3):
        service.activity.admitted(make_video(row_id))
    timings = (StageTiming(Stage.SCENE, 9.0, 9.0, 10, 2),)
    service.activity.finished(ProcessedVideo(make_video(9), VideoOutcome(timings=timings), 1, NOON))
    async with open_page(service) as client:
        await log_in(client)
        text = (await client.get("/")).text
    assert "Caption, 12 s" in text
    assert "waits for a worker" in text
    assert "waits for its next attempt" in text
    assert "<b>1</b> waiting" in text


async def test_videos_of_each_consumer_of_a_process_are_listed_and_replayed_as_its_own() -> None:
    # Not started: its host would look after consumers that it was not made with.
    service = Service()
    service.host.consumers["books"] = HostedConsumer("books", service.supervisor, service.activity, service.prober)
    library = FakeLibrary(letters=[letter(11)], rejections=[rejection(12)])
    async with open_page(service, libraries={"films": service.library, "books": library}) as client:
        await log_in(client)
        films = (await client.get("/videos")).text
        failed = (await client.get("/videos?consumer=books")).text
        rejected = (await client.get("/videos?consumer=books&status=rejected")).text
        unknown = await client.get("/videos?consumer=plays")
    assert 'href="/videos/7"' in films
    assert 'href="/videos?status=failed&consumer=books"' in films
    assert 'href="/videos/11"' in failed
    assert 'href="/videos/7"' not in failed
    assert "/api/v1/consumers/books/dead-letters/replay" in failed
    assert 'href="/videos/12"' in rejected
    assert unknown.status_code == 404


async def test_caption_of_any_length_can_be_read_as_a_whole(service: Service) -> None:
    caption = "a dog that runs over a field of grass, " * 9 + "and is gone"
    service.library.clip_list = [clip(1, caption=caption)]
    async with open_page(service) as client:
        await log_in(client)
        text = (await client.get("/clips")).text
    details = text[text.index("<details") : text.index("</details>")]
    assert caption in details


def test_reason_codes_and_commands_are_said_as_people_read_them() -> None:
    assert wording.label("nsfw_above_max") == "NSFW above max"
    assert wording.label("motion_below_min") == "Motion below min"
    assert wording.with_code("<b> run `sluice ingest`, `<i>`") == (
        "&lt;b&gt; run <code>sluice ingest</code>, <code>&lt;i&gt;</code>"
    )


async def test_headroom_is_shown_and_warned_of_when_it_runs_low(service: Service) -> None:
    async with open_page(service) as client:
        await log_in(client)
        wait_for(lambda: service.prober.last is not None)
        assert "oldest change needed may expire in 1 h" in (await client.get("/")).text
        last = service.prober.last
        assert last is not None
        service.prober.close()
        service.prober._last = replace(last, lag=replace(last.lag, headroom_s=60.0))
        assert "Changes that have not been read may expire in 1 min" in (await client.get("/")).text


async def test_search_that_is_not_over_says_so_and_leads_on(service: Service) -> None:
    service.library.clips = lambda query, limit: ClipList([], 7)  # type: ignore[method-assign]
    service.library.dead_letters = lambda wanted, limit: ([], 7)  # type: ignore[method-assign]
    async with open_page(service) as client:
        await log_in(client)
        for path in ("/clips?text=cat", "/videos"):
            text = (await client.get(path)).text
            assert "None among those looked at so far" in text
            assert "before=7" in text


async def test_copy_of_the_cookie_is_nobody_after_the_page_logs_out() -> None:
    async with open_page(Service()) as client:
        await log_in(client)
        copied = dict(client.cookies)
        assert (await client.post("/logout")).status_code == 303
        client.cookies.update(copied)
        assert (await client.get("/")).headers["location"].startswith("/login")


async def test_login_with_too_many_fields_is_refused_in_words() -> None:
    form = "&".join(f"field{number}=1" for number in range(11))
    async with open_page(Service()) as client:
        answer = await client.post(
            "/login", content=form, headers={"Content-Type": "application/x-www-form-urlencoded"}
        )
    assert answer.status_code == 400
    assert "This is not the login" in answer.text


async def test_names_without_end_make_no_page_without_end() -> None:
    service = Service()
    service.library.letters = [
        letter(11)
        | {"video_id": "v" * 50_000, "failure_message": "<b>" * 20_000, "source_uri": "s3://b/" + "x" * 50_000}
    ]
    async with open_page(service) as client:
        await log_in(client)
        for path in ("/videos", "/videos/11"):
            text = (await client.get(path)).text
            assert "vvvv" in text or "xxxx" in text
            assert len(text) < 40_000
            assert "<b><b>" not in text


async def test_filter_that_cannot_be_meant_is_said_and_restricts_nothing(service: Service) -> None:
    async with open_page(service) as client:
        await log_in(client)
        everything = (await client.get("/clips")).text
        odd = (await client.get("/clips?min_motion=much&until=2026-02-30")).text
        past = (await client.get("/clips?until=2026-04-30")).text
        that_day = (await client.get("/clips?since=2026-05-01&until=2026-05-01&max_nsfw=0,1")).text
        strict = (await client.get("/clips?max_nsfw=0.05")).text
    assert everything.count("<article") == 5
    assert odd.count("<article") == 5
    assert "“Motion at least” wants a number, such as 0.5, and was given “much”" in odd
    assert "“To day” wants a day, such as 2026-05-31, and was given “2026-02-30”" in odd
    assert "No clip meets this" in past
    assert that_day.count("<article") == 5
    assert "No clip meets this" in strict


async def test_failed_videos_are_counted_by_reason_and_replayed_as_a_page(service: Service) -> None:
    service.library.letters[0] |= {"failure_class": "encrypted"}
    async with open_page(service) as client:
        await log_in(client)
        text = (await client.get("/videos")).text
        one = (await client.get("/videos?error_class=encrypted")).text
    assert "Not a video <b>2</b>" in text
    assert "Encrypted <b>1</b>" in text
    assert "Replay these 3" in text
    assert html.unescape(text).count('{"row_ids": [7, 3, 1]}') == 1
    assert 'href="/videos/7"' in one
    assert 'href="/videos/3"' not in one


async def test_log_tells_what_maintenance_did_and_when(service: Service) -> None:
    @contextmanager
    def maintenance(is_stopped: Callable[[], bool]) -> Iterator[Any]:
        report = TableReport("db.curated_clips", Compacted(20, 2, 5000), expired=Expired(7, 30, 2048))
        yield SimpleNamespace(run=lambda sweep: [report])

    keeper = Upkeep(maintenance, service.clock, 3600)
    async with open_page(service, upkeep=keeper) as client:
        await log_in(client)
        assert "No round has ended yet" in (await client.get("/log")).text
        keeper.round()
        text = (await client.get("/log")).text
    assert "20 data files became 2; 7 snapshots with 30 files (2.0 kB) gone" in text
    assert keeper.rounds[0].at.isoformat() in text[text.index('id="maintenance"') :]
    async with open_page(service) as client:
        await log_in(client)
        assert "Another engine maintains the tables" in (await client.get("/log")).text
