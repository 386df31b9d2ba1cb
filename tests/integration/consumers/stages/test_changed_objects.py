"""Videos that are replaced while they are worked on, or were before: what was judged is what is kept."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from benchmarks import overwrites
from consumers.clock import SystemClock
from consumers.media.allow_list import AllowList
from consumers.media.samples import Shot, write_video
from consumers.paimon.landing.objects import file_info
from consumers.paimon.stores.blobs import PaimonBlobOpener
from consumers.ports import BlobStream
from consumers.stages.curate import VideoCurator
from consumers.stages.pipeline import plan_stages
from schemas.object_version import OnReplaced
from schemas.profile import Limits, NsfwParams, Profile
from schemas.records import WHOLE_OBJECT, BlobReference, FailureKind, RawVideo, VideoOutcome, VideoTask

PROFILE = Profile(nsfw=NsfwParams(unscored="pass"))


@pytest.mark.parametrize("store", ["disk", "s3"])
def test_no_clip_is_of_another_version_than_its_scores(store: str) -> None:
    figures = overwrites.run(store, 12, 48)
    assert (figures["num_mixed"], figures["num_torn"], figures["other"]) == (0, 0, {}), figures
    assert figures["num_whole"] == 12


class Opener:
    """Opens files for real, and lets a test do something just after."""

    def __init__(self, folder: Path, then: Callable[[], object] = lambda: None) -> None:
        self._opener, self._then = PaimonBlobOpener({}, AllowList([str(folder)])), then

    def open(self, reference: BlobReference) -> BlobStream:
        stream = self._opener.open(reference)
        self._then()
        return stream


def video(folder: Path, name: str = "a.mp4", seed: int = 1) -> Path:
    return write_video(folder / name, [Shot(1, seed=seed)], width=160, height=96)


def curate(
    path: Path,
    opener: Opener,
    *,
    size_bytes: int | None = None,
    etag: str | None = None,
    on_replaced: OnReplaced = OnReplaced.FAIL,
    length_bytes: int = WHOLE_OBJECT,
    before_cut: Callable[[], object] = lambda: None,
) -> VideoOutcome:
    row = RawVideo(
        7,
        1,
        datetime(2026, 1, 1, tzinfo=UTC),
        "db.raw",
        "v7",
        BlobReference(str(path), 0, length_bytes),
        size_bytes=size_bytes,
        etag=etag,
    )

    def plan(*arguments: object) -> object:
        before_cut()
        return plan_stages(*arguments)  # type: ignore[arg-type]

    curator = VideoCurator(opener, PROFILE, Limits(), SystemClock(), plan=plan, on_replaced=on_replaced)  # type: ignore[arg-type]
    return curator.process(VideoTask(row, 1, 60))


def test_video_that_is_replaced_between_pass_and_cut_is_tried_again_as_what_it_is_then(tmp_path: Path) -> None:
    path, other = video(tmp_path), video(tmp_path, "b.mp4", seed=2)
    content = other.read_bytes()
    outcome = curate(path, Opener(tmp_path), before_cut=lambda: path.write_bytes(content))
    assert outcome.failure is not None
    assert (outcome.failure.kind, outcome.failure.error_class) == (FailureKind.TRANSIENT, "object_changed")
    assert outcome.clips == ()
    again, expected = curate(path, Opener(tmp_path)), curate(other, Opener(tmp_path))
    assert again.failure is None
    assert [clip.media.data for clip in again.clips if clip.media] == [
        clip.media.data for clip in expected.clips if clip.media
    ]
    assert again.version is not None
    assert again.version.size_bytes == len(content)


@pytest.mark.parametrize("content", [b"", b"no video at all", bytes(1000)], ids=["empty", "text", "zeros"])
def test_damage_by_a_replacement_is_no_verdict_on_the_video(tmp_path: Path, content: bytes) -> None:
    path = video(tmp_path)
    outcome = curate(path, Opener(tmp_path, lambda: path.write_bytes(content)))
    assert outcome.failure is not None
    assert outcome.failure.error_class == "object_changed"


def test_row_whose_object_was_replaced_after_landing_is_a_dead_letter_that_says_so(tmp_path: Path) -> None:
    path = video(tmp_path)
    landed = file_info(path)
    assert curate(path, Opener(tmp_path), size_bytes=landed.size_bytes, etag=landed.etag).failure is None
    video(tmp_path, seed=2)
    outcome = curate(path, Opener(tmp_path), size_bytes=landed.size_bytes, etag=landed.etag)
    assert outcome.failure is not None
    assert (outcome.failure.kind, outcome.failure.error_class) == (FailureKind.PERMANENT, "object_replaced")
    assert "and the row says" in outcome.failure.message
    assert outcome.is_replaced


def test_with_take_new_it_is_curated_and_the_fact_is_told(tmp_path: Path) -> None:
    path = video(tmp_path)
    landed = file_info(path)
    video(tmp_path, seed=2)
    outcome = curate(
        path, Opener(tmp_path), size_bytes=landed.size_bytes, etag=landed.etag, on_replaced=OnReplaced.TAKE_NEW
    )
    assert outcome.failure is None
    assert outcome.is_replaced
    assert outcome.version is not None
    assert outcome.version.etag == file_info(path).etag


def test_what_a_row_says_is_not_held_against_a_part_of_an_object(tmp_path: Path) -> None:
    path = video(tmp_path)
    size = path.stat().st_size
    path.write_bytes(path.read_bytes() + bytes(100))
    outcome = curate(path, Opener(tmp_path), size_bytes=size, etag="1-1", length_bytes=size)
    assert outcome.failure is None
    assert not outcome.is_replaced
