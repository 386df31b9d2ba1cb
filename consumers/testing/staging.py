"""A store for large clips in memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import BinaryIO

from consumers.clock import Clock
from consumers.errors import StagingUnavailableError, StoreUnavailableError
from consumers.testing.clock import FakeClock
from schemas.records import (
    BlobReference,
)


@dataclass
class FakeStore:
    """Objects that several stagings share: content by URI, and when each was put."""

    contents: dict[str, bytes] = field(default_factory=dict)
    put_at: dict[str, datetime] = field(default_factory=dict)


class FakeStaging:
    """One owner's staged clips in a :class:`FakeStore`.

    Attributes:
        num_failures_to_come: so many of the next calls meet a store that does not answer.
    """

    def __init__(self, store: FakeStore, owner: str, clock: Clock | None = None) -> None:
        self._store = store
        self._owner = owner
        self._clock = clock or FakeClock()
        self.num_failures_to_come = 0

    def put(self, clip_id: str, content: BinaryIO) -> BlobReference:
        """Keep the content under a name of its own.

        Raises:
            StagingUnavailableError: a failure was asked for.
        """
        if self._fails():
            raise StagingUnavailableError
        uri = f"memory://staged/{self._owner}/{clip_id}/{len(self._store.put_at)}"
        self._store.contents[uri] = content.read()
        self._store.put_at[uri] = self._clock.now()
        return BlobReference(uri, 0, len(self._store.contents[uri]))

    def stale(self) -> list[BlobReference]:
        """Return this owner's objects, and those of others that are older than a day.

        Raises:
            StoreUnavailableError: a failure was asked for.
        """
        if self._fails():
            raise StoreUnavailableError("the fake store does not answer")
        long_ago = self._clock.now() - timedelta(days=1)
        return [
            BlobReference(uri, 0, len(content))
            for uri, content in self._store.contents.items()
            if uri.startswith(f"memory://staged/{self._owner}/") or self._store.put_at[uri] < long_ago
        ]

    def discard(self, references: Iterable[BlobReference]) -> None:
        """Forget objects."""
        for reference in references:
            self._store.contents.pop(reference.uri, None)

    def _fails(self) -> bool:
        if self.num_failures_to_come <= 0:
            return False
        self.num_failures_to_come -= 1
        return True
