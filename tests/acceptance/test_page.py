"""The page in a real browser, while a real service processes real videos."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from consumers.media.samples import Shot, write_samples, write_video
from tests.support.page import TOKENS, RunningService, browser, prepare, requires_chromium

pytestmark = [requires_chromium, pytest.mark.timeout(180)]

WAIT_MS = 60_000
_PLAYED = """video => new Promise((resolve, reject) => {
    const look = () => { if (video.readyState >= 2 && video.currentTime > 0) resolve(video.currentTime); };
    video.addEventListener("timeupdate", look);
    video.addEventListener("error", () => reject(video.error.message));
    look();
})"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as running:
        yield running


@pytest.fixture
def page(chromium: Any) -> Iterator[Any]:
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(WAIT_MS)
    page = context.new_page()
    page.problems = []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("console", lambda said: page.problems.append(said.text) if "Content Security Policy" in said.text else None)
    yield page
    context.close()


@pytest.fixture
def running() -> Iterator[list[RunningService]]:
    services: list[RunningService] = []
    yield services
    for service in services:
        service.end(signal.SIGKILL)


def log_in(page: Any, url: str, token: str = TOKENS["operate"]) -> None:
    page.goto(url)
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Log in").click()


def expect_text(page: Any, selector: str, text: str | re.Pattern[str]) -> None:
    from playwright.sync_api import expect

    expect(page.locator(selector)).to_have_text(text, timeout=WAIT_MS)


def expect_count(page: Any, selector: str, number: int) -> None:
    from playwright.sync_api import expect

    expect(page.locator(selector)).to_have_count(number, timeout=WAIT_MS)


def test_pause_outlives_a_kill_and_the_backlog_goes_and_an_operator_plays_and_replays(
    page: Any, running: list[RunningService], tmp_path: Path
) -> None:
    media = prepare(tmp_path)
    samples = write_samples(media, count=5)
    broken = media / "late.mp4"
    broken.write_bytes(b"this is no video " * 100)
    service = RunningService(tmp_path)
    running.append(service)

    log_in(page, service.url)
    page.wait_for_selector("#headline")
    page.locator("#pause").click()
    page.get_by_label("Reason").fill("store maintenance <b>tonight</b>")
    page.get_by_label("Go on by itself").select_option(label="After 1 hour")
    page.locator("#ask-go").click()
    page.wait_for_selector("#observed[data-state=paused]")
    assert page.locator("#reason").inner_text() == "store maintenance <b>tonight</b>"
    service.register([*samples, broken])
    expect_text(page, "#lag-records", "6")

    service.end(signal.SIGKILL)
    page.wait_for_selector("#link[data-mode=lost]")
    service = RunningService(tmp_path, service.port)
    running.append(service)
    page.wait_for_selector("#link[data-mode=live]")
    page.reload()
    page.wait_for_selector("#observed[data-state=paused]")
    assert page.locator("#reason").inner_text() == "store maintenance <b>tonight</b>"
    expect_text(page, "#lag-records", "6")

    page.locator("#resume").click()
    page.locator("#ask-go").click()
    page.wait_for_selector("#observed[data-state=running]")
    expect_text(page, "#lag-records", "0")
    assert "Everything that has landed is committed" in page.locator("#sentence").inner_text()

    page.get_by_role("link", name="Clips", exact=True).click()
    page.locator("button.play").first.click()
    assert page.locator("video").evaluate(_PLAYED) > 0

    write_video(broken, [Shot(2, seed=21)])
    page.get_by_role("link", name="Videos", exact=True).click()
    page.get_by_role("button", name="Replay video 5").click()
    page.get_by_label("Reason").fill("the object was mended")
    page.get_by_role("button", name="Replay", exact=True).click()
    page.wait_for_selector("text=No video has failed for good")
    page.goto(f"{service.url}/videos/5")
    assert page.locator("h1 .badge").inner_text() == "Curated"
    assert [text.split()[0] for text in page.locator(".run h2 .badge").all_inner_texts()] == ["Curated", "Failed"]

    page.get_by_role("link", name="Log", exact=True).click()
    actions = page.locator("#trail-films tbody td:nth-child(2) b").all_inner_texts()
    assert actions == ["Replay", "Resume", "Register", "Pause"]
    page.get_by_role("button", name="Compare now").click()
    page.wait_for_selector("text=Every row is accounted for once: 6 rows")
    assert page.problems == []


def test_reader_on_a_phone_in_the_dark_sees_all_and_may_change_nothing(
    chromium: Any, running: list[RunningService], tmp_path: Path
) -> None:
    media = prepare(tmp_path)
    service = RunningService(tmp_path)
    running.append(service)
    service.register(write_samples(media, count=2))
    context = chromium.new_context(viewport={"width": 390, "height": 844}, color_scheme="dark")
    context.set_default_timeout(WAIT_MS)
    page = context.new_page()
    log_in(page, service.url, "a-token-that-nobody-knows")
    assert "the token is not known" in page.get_by_role("alert").inner_text()
    log_in(page, service.url, TOKENS["read"])
    page.wait_for_selector("article.clip")
    expect_text(page, "#lag-records", "0")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.locator("#theme").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != dark
    for path in ("/", "/clips", "/videos", "/videos?status=rejected", "/videos?status=all", "/videos/0", "/log"):
        page.goto(service.url + path)
        assert page.evaluate("document.documentElement.scrollWidth") == 390, path
        assert page.locator("[data-ask]").count() == 0, path
        assert page.evaluate("document.documentElement.dataset.theme") == "light"
    page.get_by_role("button", name="Log out").click()
    page.wait_for_selector("#token")
    page.goto(f"{service.url}/clips")
    assert "/login" in page.url
    context.close()


def test_pictures_of_any_shape_stand_in_boxes_of_one_height(
    page: Any, running: list[RunningService], tmp_path: Path
) -> None:
    media = prepare(tmp_path)
    shapes = {"portrait": (180, 320), "wide": (480, 120), "landscape": (320, 180)}
    for name, (width, height) in shapes.items():
        write_video(media / f"{name}.mp4", [Shot(2, seed=3)], width=width, height=height)
    service = RunningService(tmp_path)
    running.append(service)
    service.register(sorted(media.iterdir()))
    log_in(page, service.url)
    # On the overview they appear as they are committed.
    expect_count(page, "article.clip", 3)
    page.goto(f"{service.url}/clips")
    expect_count(page, "article.clip img", 3)
    page.locator("article.clip img").evaluate_all("images => Promise.all(images.map(image => image.decode()))")
    boxes = page.locator("article.clip .screen").evaluate_all(
        "boxes => boxes.map(box => box.getBoundingClientRect()).map(r => [Math.round(r.width), Math.round(r.height)])"
    )
    assert len({tuple(box) for box in boxes}) == 1
    width, height = boxes[0]
    assert abs(width / height - 16 / 9) < 0.02
    pictures = page.locator("article.clip img").evaluate_all(
        "images => images.map(image => getComputedStyle(image).objectFit)"
    )
    assert pictures == ["contain"] * 3
