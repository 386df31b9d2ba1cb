"""What every staging keeps, the fake one and the real. A test module subclasses it and gives a ``store`` fixture."""

from __future__ import annotations

import io
import pickle
from typing import Protocol

from consumers.ports import ClipStaging
from schemas.records import BlobReference

DAY_S = 86400.0


class StoreUnderTest(Protocol):
    """A store, stagings of several owners on it, and its clock."""

    def staging(self, owner: str) -> ClipStaging: ...

    def content(self, reference: BlobReference) -> bytes | None:
        """Return what is at ``reference``, None when there is nothing."""
        ...

    def age(self, seconds: float) -> None:
        """Let time go by."""
        ...


class StagingContract:
    def test_what_is_put_is_at_its_reference(self, store: StoreUnderTest) -> None:
        content = bytes(range(256)) * 10_000
        reference = store.staging("a").put("clip", io.BytesIO(content))
        assert (reference.offset_bytes, reference.length_bytes) == (0, len(content))
        assert store.content(reference) == content

    def test_each_attempt_at_a_clip_is_an_object_of_its_own(self, store: StoreUnderTest) -> None:
        first, second = (store.staging("a").put("clip", io.BytesIO(text)) for text in (b"one", b"two"))
        assert (store.content(first), store.content(second)) == (b"one", b"two")

    def test_discarded_object_is_gone_and_discarding_it_again_is_harmless(self, store: StoreUnderTest) -> None:
        staging = store.staging("a")
        gone, kept = staging.put("gone", io.BytesIO(b"x")), staging.put("kept", io.BytesIO(b"y"))
        staging.discard([gone])
        staging.discard([gone])
        assert (store.content(gone), store.content(kept)) == (None, b"y")

    def test_new_store_holds_nothing_stale(self, store: StoreUnderTest) -> None:
        assert store.staging("a").stale() == []

    def test_next_incarnation_finds_what_its_owner_left(self, store: StoreUnderTest) -> None:
        left = store.staging("a").put("clip", io.BytesIO(b"left"))
        assert store.staging("a").stale() == [left]

    def test_objects_of_others_are_stale_after_a_day(self, store: StoreUnderTest) -> None:
        others = store.staging("b").put("clip", io.BytesIO(b"theirs"))
        store.age(DAY_S - 3600)
        assert store.staging("a").stale() == []
        store.age(7200)
        assert store.staging("a").stale() == [others]

    def test_staging_reaches_a_worker_by_pickle(self, store: StoreUnderTest) -> None:
        staging = store.staging("a")
        staging.stale()
        pickle.dumps(staging)
