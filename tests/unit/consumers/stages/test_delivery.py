from __future__ import annotations

import pytest

from consumers.errors import StagingUnavailableError
from consumers.media.cut import CutResult
from consumers.media.spool import SpooledFile
from consumers.stages.delivery import HELD_BYTES, ClipDelivery
from consumers.testing import FakeStaging, FakeStore
from schemas.records import ClipMedia, CutMethod


def cut(content: bytes) -> CutResult:
    file = SpooledFile()
    file.write(content)
    file.seek(0)
    return CutResult(file, len(content), CutMethod.STREAM_COPY, 25, 0, True)


def deliver(delivery: ClipDelivery, content: bytes) -> ClipMedia:
    return delivery.deliver("clip", cut(content), b"jpeg", source_has_audio=True)


def test_first_clips_stay_in_the_outcome_and_those_beyond_go_to_the_store() -> None:
    store = FakeStore()
    delivery = ClipDelivery(FakeStaging(store, "a"))
    half = bytes(HELD_BYTES // 2)
    first, second, third = (deliver(delivery, half) for _ in range(3))
    assert (first.data, second.data, third.data) == (half, half, None)
    assert third.staged is not None
    assert store.contents == {third.staged.uri: half}
    assert (third.held_bytes, third.num_bytes) == (4, 4 + len(half))


def test_clip_too_large_for_the_outcome_leaves_room_for_small_ones() -> None:
    store = FakeStore()
    delivery = ClipDelivery(FakeStaging(store, "a"))
    large, small = deliver(delivery, bytes(HELD_BYTES + 1)), deliver(delivery, b"small")
    assert (large.data, small.data) == (None, b"small")


def test_clips_of_a_video_that_fails_are_taken_back() -> None:
    store = FakeStore()
    staging = FakeStaging(store, "a")
    delivery = ClipDelivery(staging)
    deliver(delivery, bytes(HELD_BYTES + 1))
    staging.num_failures_to_come = 1
    with pytest.raises(StagingUnavailableError):
        deliver(delivery, bytes(HELD_BYTES + 1))
    delivery.take_back()
    assert store.contents == {}


def test_reference_has_the_sound_of_its_source_and_no_bytes() -> None:
    reference = CutResult(None, 0, CutMethod.REFERENCE, 25, 0, False)
    media = ClipDelivery(None).deliver("clip", reference, b"jpeg", source_has_audio=True)
    assert (media.data, media.staged, media.has_audio) == (None, None, True)
