"""Following a place: what appears there becomes a row of the raw table, once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from consumers.clock import Clock
from consumers.errors import StoreUnavailableError, UriNotAllowedError
from consumers.paimon.landing.digest_set import DigestSet
from consumers.paimon.landing.listing import Listing
from consumers.paimon.landing.objects import ObjectInfo
from consumers.paimon.landing.raw_writer import Registrar
from consumers.paimon.landing.s3_listing import is_readable
from consumers.paimon.landing.state import WatchStates
from consumers.paimon.stores.blobs import AllowListLike
from consumers.paimon.stores.s3 import explain

_ROWS_PER_COMMIT = 50_000


@dataclass(frozen=True, slots=True)
class PollReport:
    """What one look at a place came to.

    Attributes:
        num_added: objects that got a row.
        refused: objects that workers may not read, by reason: bounded, and only new ones.
        num_refused: how many of them.
        is_relisting: whether everything was listed from the beginning.
    """

    num_added: int
    refused: tuple[str, ...]
    num_refused: int
    is_relisting: bool


class Watcher:
    """Looks at one place each time :meth:`poll` is called. Not thread-safe.

    Several watchers of one place, in any number of processes, together add one row for each object: a row is appended
    only on top of the snapshot that was searched for it.

    Args:
        listing: the place.
        registrar: appends to the raw table; the caller closes it.
        states: keeps how far the listing has come.
        allow: objects that it refuses get no row, for no worker could read them.
        clock: time.
        relist_interval_s: how often everything is listed from the beginning.
    """

    _MAX_SHOWN = 3

    def __init__(
        self,
        listing: Listing,
        registrar: Registrar,
        states: WatchStates,
        allow: AllowListLike,
        clock: Clock,
        *,
        relist_interval_s: float,
    ) -> None:
        self._listing = listing
        self._registrar = registrar
        self._states = states
        self._allow = allow
        self._clock = clock
        self._relist_interval_s = relist_interval_s
        self._state = states.load(listing.location)
        self._saved = self._state
        self._refused = DigestSet()
        self._num_refused = 0

    @property
    def location(self) -> str:
        """The place."""
        return self._listing.location

    def poll(self, should_stop: Callable[[], bool] = lambda: False) -> PollReport:
        """Register what is new, and return how much that was.

        Args:
            should_stop: asked after each page; what was listed so far is registered, and the next look begins where
                this one did.

        Raises:
            StoreUnavailableError: a store did not answer, or the place is gone; polling again is safe.
        """
        began_at = self._clock.now()
        is_relisting = self._state.is_relisting_due(began_at, self._relist_interval_s)
        shown: list[str] = []
        num_refused_before = self._num_refused
        num_added, is_complete = 0, True
        waiting: list[ObjectInfo] = []
        failure: StoreUnavailableError | None = None
        self._registrar.refresh()
        try:
            for page in self._listing.pages(None if is_relisting else self._state.after, self._registrar.knows):
                waiting += self._allowed(page, shown)
                if len(waiting) >= _ROWS_PER_COMMIT:
                    num_added += self._registrar.add(waiting)
                    waiting = []
                if should_stop():
                    is_complete = False
                    break
        except FileNotFoundError as error:
            failure = StoreUnavailableError(f"{self.location}: is not there any more")
            failure.__cause__ = error
        except StoreUnavailableError:
            raise
        except Exception as error:
            failure = StoreUnavailableError(f"{self.location}: {' '.join(explain(error).split())}")
            failure.__cause__ = error
        num_added += self._registrar.add(waiting)
        if failure is not None:
            raise failure
        if is_complete:
            after = self._listing.next_after
            self._state = self._state.relisted(after, began_at) if is_relisting else self._state.advanced(after)
        if is_complete and is_relisting:
            self._save()
        return PollReport(num_added, tuple(shown), self._num_refused - num_refused_before, is_relisting)

    def close(self) -> None:
        """Keep how far the listing has come.

        Raises:
            StoreUnavailableError: the store did not answer; the next start lists a little more.
        """
        if self._state != self._saved:
            self._save()

    def _save(self) -> None:
        self._states.save(self.location, self._state, self._clock.now())
        self._saved = self._state

    def _allowed(self, page: list[ObjectInfo], shown: list[str]) -> list[ObjectInfo]:
        allowed = []
        for item in page:
            try:
                _check_name(item.uri)
                self._allow.check(item.uri)
                allowed.append(item)
            except UriNotAllowedError as error:
                if item.uri not in self._refused:
                    self._refused.add((item.uri,))
                    self._num_refused += 1
                    if len(shown) < self._MAX_SHOWN:
                        shown.append(str(error))
        return allowed


def _check_name(uri: str) -> None:
    scheme, is_uri, rest = uri.partition("://")
    if is_uri and scheme != "file" and not is_readable(rest):
        raise UriNotAllowedError(
            f"{uri!r} has an empty part, '.' or '..' between slashes, and cannot be read; rename the object"
        )
