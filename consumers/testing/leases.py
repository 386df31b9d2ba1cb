"""Leases in memory."""

from __future__ import annotations

from consumers.errors import StoreUnavailableError
from consumers.members.lease import Lease


class FakeLeaseStore:
    """Implements :class:`~consumers.members.lease.LeaseStore` in memory.

    Attributes:
        lease: what lies there.
        is_away: whether the store does not answer.
    """

    def __init__(self, lease: Lease | None = None) -> None:
        self.lease = lease
        self.is_away = False

    def read(self) -> Lease | None:
        """Return the lease."""
        self._answer()
        return self.lease

    def write(self, lease: Lease) -> None:
        """Put ``lease`` in its place."""
        self._answer()
        self.lease = lease

    def delete(self) -> None:
        """Remove it."""
        self._answer()
        self.lease = None

    def _answer(self) -> None:
        if self.is_away:
            raise StoreUnavailableError("the store of the test is away")
