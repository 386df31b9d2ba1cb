"""The pictures of docs/screenshots, of a service on drawn videos: ``python -m tests.support.screenshots``."""

from __future__ import annotations

import argparse
import io
import shutil
import tempfile
import threading
from itertools import cycle
from pathlib import Path
from typing import Any

from PIL import Image

from consumers.media.samples import Shot, write_samples, write_video
from tests.support.page import TOKENS, RunningService, browser, prepare

_FOLDER = Path(__file__).resolve().parents[2] / "docs" / "screenshots"
_MAX_BYTES = 300_000
_DESKTOP = {"width": 1280, "height": 860}
_PHONE = {"width": 390, "height": 844}
_BURSTS = (5, 1, 7, 0, 2, 6)
_PAUSE_S = 16.0
_PATIENCE_MS = 120_000


def main() -> None:
    """Draw videos, let them land in bursts, and take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=4.0, help="How long videos land before the pictures are taken")
    minutes: float = parser.parse_args().minutes
    _FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        media = prepare(Path(scratch))
        service = RunningService(Path(scratch))
        stop = threading.Event()
        try:
            service.register(write_samples(media))
            landing = threading.Thread(target=_land, args=(service, media, stop))
            landing.start()
            stop.wait(60 * minutes)
            with browser() as chromium:
                _take_overviews(chromium, service)
                stop.set()
                landing.join()
                _take_the_rest(chromium, service)
        finally:
            stop.set()
            service.end()


def _land(service: RunningService, media: Path, stop: threading.Event) -> None:
    drawn = [
        write_video(
            media / f"film_{n:02}.mp4", [Shot(1.5, seed=30 + 3 * n + k, speed_px=1 + k) for k in range(1 + n % 3)]
        )
        for n in range(6)
    ]
    number = 0
    for size in cycle(_BURSTS):
        burst = []
        for _ in range(size):
            burst.append(media / f"landed_{number:04}.mp4")
            shutil.copy(drawn[number % len(drawn)], burst[-1])
            number += 1
        if burst:
            service.register(burst)
        if stop.wait(_PAUSE_S):
            return


def _take_overviews(chromium: Any, service: RunningService) -> None:
    for theme in ("light", "dark"):
        for size, name in ((_DESKTOP, "overview"), (_PHONE, "phone-overview")):
            page = _log_in(chromium, service, theme, size)
            page.wait_for_selector("#chart path.curve")
            _take(page, f"{name}-{theme}", full=size is _DESKTOP)


def _take_the_rest(chromium: Any, service: RunningService) -> None:
    for theme in ("light", "dark"):
        desktop = _log_in(chromium, service, theme, _DESKTOP)
        _take(_go(desktop, service, "/clips", "article.clip"), f"clips-{theme}")
        _take(_go(desktop, service, "/videos/1", ".timeline"), f"story-{theme}")
        _take(_go(desktop, service, "/videos", "#videos td"), f"failed-{theme}")
        phone = _log_in(chromium, service, theme, _PHONE)
        _take(_go(phone, service, "/clips", "article.clip"), f"phone-clips-{theme}")
    page = _log_in(chromium, service, "light", _DESKTOP)
    page.locator("#pause").click()
    page.get_by_label("Reason").fill("store maintenance until noon")
    page.get_by_label("Go on by itself").select_option(label="After 1 hour")
    _take(page, "pause-light")
    page.locator("#ask-go").click()
    page.wait_for_selector("#observed[data-state=paused]")
    _take(page, "paused-light")
    _take(_go(page, service, "/log", "#trail-films td"), "log-light")


def _log_in(chromium: Any, service: RunningService, theme: str, size: dict[str, int]) -> Any:
    context = chromium.new_context(viewport=size, color_scheme=theme)
    context.set_default_timeout(_PATIENCE_MS)
    page = context.new_page()
    page.goto(service.url)
    page.get_by_label("Token").fill(TOKENS["operate"])
    page.get_by_role("button", name="Log in").click()
    page.wait_for_selector("article.clip")
    page.wait_for_selector("#link[data-mode=live]")
    return page


def _go(page: Any, service: RunningService, path: str, selector: str) -> Any:
    page.goto(service.url + path)
    page.wait_for_selector(selector)
    page.wait_for_selector("#link[data-mode=live]")
    return page


def _take(page: Any, name: str, *, full: bool = False) -> None:
    _wait_for_pictures(page, full=full)
    # 256 colours are enough for a page, and make the files small.
    with Image.open(io.BytesIO(page.screenshot(full_page=full))) as taken:
        small = taken.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    path = _FOLDER / f"{name}.png"
    small.save(path, optimize=True)
    print(f"{path.name} {path.stat().st_size} bytes")
    if path.stat().st_size > _MAX_BYTES:
        raise SystemExit(f"{path} is larger than {_MAX_BYTES} bytes")


def _wait_for_pictures(page: Any, *, full: bool) -> None:
    # Those below the visible part are not fetched until one scrolls there.
    page.evaluate(
        """full => Promise.all([...document.images]
            .filter((image) => full || image.getBoundingClientRect().top < innerHeight)
            .map((image) => { image.loading = "eager"; return image.decode().catch(() => {}); }))""",
        full,
    )


if __name__ == "__main__":
    main()
