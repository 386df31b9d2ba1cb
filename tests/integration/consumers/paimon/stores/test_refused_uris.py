"""References that lead where they must not: each is a dead letter that says so, and nothing is opened."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from consumers.clock import SystemClock
from consumers.loop.processor import Processor
from consumers.media.samples import Shot, write_video
from consumers.pool.inline import InlinePool
from consumers.testing import FakeSink, FakeSource, FakeTables
from schemas.records import BlobReference, FailureKind, RawVideo
from service import wiring
from service.settings import load_settings


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    return write_video(tmp_path / "outside.mp4", [Shot(1)], width=64, height=64)


@pytest.fixture
def videos(tmp_path: Path, outside: Path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    write_video(folder / "good.mp4", [Shot(1)], width=64, height=64)
    (folder / "link.mp4").symlink_to(outside)
    (folder / "linked").symlink_to(outside.parent, target_is_directory=True)
    return folder


def test_uris_outside_the_allow_list_are_dead_letters_and_neighbours_are_curated(
    tmp_path: Path, videos: Path, outside: Path
) -> None:
    refused = [
        "file:///etc/passwd",
        "/etc/passwd",
        "http://169.254.169.254/latest/meta-data/",
        "http://127.0.0.1:8765/api/v1/consumers",
        "s3://somebody-else/video.mp4",
        outside.as_uri(),
        f"{videos.as_uri()}/../outside.mp4",
        f"{videos.as_uri()}/%2e%2e/outside.mp4",
        f"{videos.as_uri()}/link.mp4",
        f"{videos.as_uri()}/linked/outside.mp4",
    ]
    settings = load_settings(
        overrides={
            "catalog": {"warehouse": str(tmp_path / "warehouse")},
            "input": {"allow": [str(videos)]},
            "profile": {"nsfw": {"unscored": "pass"}},
        }
    )
    source, tables = FakeSource(), FakeTables()
    uris = [*refused, (videos / "good.mp4").as_uri()]
    for row_id, uri in enumerate(uris):
        source.append(RawVideo(row_id, 1, datetime.now(UTC), "db.raw", f"v{row_id}", BlobReference(uri)))
    pool = InlinePool(wiring.processor_factory(settings), num_workers=2)
    pool.start()
    try:
        report = Processor(source, FakeSink(tables), pool, SystemClock()).run(until_caught_up=True)
    finally:
        pool.close()
    assert {uris[row]: failure.error_class for row, failure in tables.failures.items()} == dict.fromkeys(
        refused, "uri_not_allowed"
    )
    assert {failure.kind for failure in tables.failures.values()} == {FailureKind.PERMANENT}
    assert report.counts.num_retries == 0
    assert sorted(tables.ledger) == list(range(len(uris)))
    assert len(tables.clips) == 1
