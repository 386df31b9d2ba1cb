"""Who is asking: bearer tokens, signed sessions of the page, and a limit on failures."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from dataclasses import dataclass
from datetime import UTC, datetime

from consumers.clock import Clock
from service.api.problems import ApiError
from service.api.sessions import Sessions
from service.api.tokens import MIN_TOKEN_LENGTH, Role, TokenStore, digest_of, is_well_formed


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is asking. ``csrf_token`` is None for a bearer token, which a browser never sends by itself."""

    actor: str
    role: Role
    origin: str
    csrf_token: str | None = None


class FailureLimiter:
    """Refuses who keeps failing: an address with one wrong token soon, an address with many a little later.

    Several callers may share an address behind a proxy or a NAT: one whose token is old does not stop the others.

    Args:
        clock: time.
        max_failures: failures within ``window_s`` after which a token is refused from an address.
        max_failures_in_all: failures of an address within ``window_s`` after which any unknown token is.
        window_s: in seconds.
        max_remembered: addresses and tokens remembered; the longest silent is forgotten first.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        max_failures: int = 10,
        max_failures_in_all: int = 100,
        window_s: float = 60.0,
        max_remembered: int = 10_000,
    ) -> None:
        self._clock = clock
        self._max_failures = max_failures
        self._max_failures_in_all = max_failures_in_all
        self._window_s = window_s
        self._max_remembered = max_remembered
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def failed(self, address: str, token: str) -> None:
        """Note a failure with ``token``.

        Raises:
            ApiError: there have been too many before this one.
        """
        now_s = self._clock.monotonic_s()
        with self._lock:
            waits = [
                self._note(f"{address} {digest_of(token)[:16]}", self._max_failures, now_s),
                self._note(address, self._max_failures_in_all, now_s),
            ]
        if wait_s := int(max(waits)):
            raise ApiError(
                429,
                "too-many-failures",
                "Too many failed attempts",
                f"too many attempts from {address} have failed; try again in {wait_s} s, or now with a token that is "
                "known",
                headers={"Retry-After": str(wait_s)},
            )

    def _note(self, key: str, max_failures: int, now_s: float) -> float:
        """Return the seconds until the next attempt is looked at, 0 where this one is, and was noted."""
        failures = self._failures.setdefault(key, deque(maxlen=max_failures))
        self._failures.move_to_end(key)
        if len(self._failures) > self._max_remembered:
            self._failures.popitem(last=False)
        while failures and failures[0] <= now_s - self._window_s:
            failures.popleft()
        if len(failures) >= max_failures:
            return failures[0] + self._window_s - now_s + 1
        failures.append(now_s)
        return 0.0


class Authenticator:
    """Tells who is asking.

    Args:
        tokens: what is known.
        clock: time.
        sessions: of the page; without, they live as long as this object.
        limiter: refuses callers that keep failing.
    """

    def __init__(
        self,
        tokens: TokenStore,
        clock: Clock,
        sessions: Sessions | None = None,
        limiter: FailureLimiter | None = None,
    ) -> None:
        self._tokens = tokens
        self._clock = clock
        self._sessions = sessions or Sessions(tokens, clock)
        self._limiter = limiter or FailureLimiter(clock)

    def by_token(self, presented: str, origin: str) -> Principal:
        """Return who presents this token.

        Raises:
            ApiError: it is unknown or has expired, or the caller has failed too often.
        """
        # First whether it is known: others that fail from the same address are no reason to refuse it.
        token = self._tokens.find(presented)
        if token is None:
            self._limiter.failed(origin, presented)
            if not is_well_formed(presented):
                raise unauthorized(
                    "token-malformed",
                    f"that is no token: tokens are one word of at least {MIN_TOKEN_LENGTH} characters; send all of it, "
                    "as it was handed out",
                )
            raise unauthorized("token-unknown", "the token is not known; use one that was handed out with this service")
        if token.has_expired(self._clock.now()):
            raise unauthorized(
                "token-expired",
                f"the token {token.name!r} has expired, at {_utc(token.expires_at)}; ask an administrator "
                "for a new one (`sluice token`)",
            )
        return Principal(token.name, token.role, origin)

    def by_session(self, cookie: str, origin: str) -> Principal:
        """Return whose session this is.

        Raises:
            ApiError: it is not one, or has ended.
        """
        token = self._sessions.token_of(cookie)
        if token is None:
            raise unauthorized("session-ended", "the session has ended; log in again")
        return Principal(token.name, token.role, origin, self._sessions.csrf_token(cookie))

    def new_session(self, principal: Principal) -> str:
        """Return the value of a cookie for ``principal``."""
        return self._sessions.begin(principal.actor)

    def end_session(self, cookie: str) -> None:
        """Let the cookie be nobody's from now on."""
        self._sessions.end(cookie)

    def csrf_token(self, cookie: str) -> str:
        """Return what requests with ``cookie`` have to carry in the header to change something."""
        return self._sessions.csrf_token(cookie)


def _utc(at: datetime | None) -> str:
    return "" if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def unauthorized(code: str, detail: str) -> ApiError:
    """Return the answer to a caller who cannot be told."""
    return ApiError(401, code, "It is not known who is asking", detail, headers={"WWW-Authenticate": "Bearer"})
