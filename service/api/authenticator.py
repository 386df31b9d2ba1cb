"""Who is asking: bearer tokens, signed sessions of the page, and a limit on failures."""

from __future__ import annotations

import hmac
import threading
from collections import OrderedDict, deque
from dataclasses import dataclass
from datetime import UTC, datetime

from consumers.clock import Clock
from service.api.problems import ApiError
from service.api.tokens import MIN_TOKEN_LENGTH, Role, Token, TokenStore, is_well_formed

SESSION_S = 12 * 3600


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is asking. ``csrf_token`` is None for a bearer token, which a browser never sends by itself."""

    actor: str
    role: Role
    origin: str
    csrf_token: str | None = None


class FailureLimiter:
    """Refuses callers that keep failing.

    Args:
        clock: time.
        max_failures: failures within ``window_s`` after which an address is refused.
        window_s: in seconds.
        max_addresses: addresses remembered; the longest silent is forgotten first.
    """

    def __init__(
        self, clock: Clock, *, max_failures: int = 10, window_s: float = 60.0, max_addresses: int = 10_000
    ) -> None:
        self._clock = clock
        self._max_failures = max_failures
        self._window_s = window_s
        self._max_addresses = max_addresses
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def check(self, address: str) -> None:
        """Return if ``address`` may try.

        Raises:
            ApiError: it has failed too often.
        """
        now_s = self._clock.monotonic_s()
        with self._lock:
            failures = self._failures.get(address)
            if failures is None:
                return
            while failures and failures[0] <= now_s - self._window_s:
                failures.popleft()
            if len(failures) < self._max_failures:
                return
            wait_s = int(failures[0] + self._window_s - now_s) + 1
        raise ApiError(
            429,
            "too-many-failures",
            "Too many failed attempts",
            f"{self._max_failures} attempts from {address} have failed; try again in {wait_s} s",
            headers={"Retry-After": str(wait_s)},
        )

    def failed(self, address: str) -> None:
        """Note a failure."""
        with self._lock:
            failures = self._failures.setdefault(address, deque(maxlen=self._max_failures))
            failures.append(self._clock.monotonic_s())
            self._failures.move_to_end(address)
            if len(self._failures) > self._max_addresses:
                self._failures.popitem(last=False)


class Authenticator:
    """Tells who is asking.

    A session is a signed cookie ``name.expiry.signature``: it needs no store and survives a restart of the service.

    Args:
        tokens: what is known.
        clock: time.
        limiter: refuses callers that keep failing.
    """

    def __init__(self, tokens: TokenStore, clock: Clock, limiter: FailureLimiter | None = None) -> None:
        self._tokens = tokens
        self._clock = clock
        self._limiter = limiter or FailureLimiter(clock)

    def by_token(self, presented: str, origin: str) -> Principal:
        """Return who presents this token.

        Raises:
            ApiError: it is unknown or has expired, or the caller has failed too often.
        """
        self._limiter.check(origin)
        token = self._tokens.find(presented)
        if token is None:
            self._limiter.failed(origin)
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
        token = self._token_of(cookie)
        if token is None:
            raise unauthorized("session-ended", "the session has ended; log in again")
        return Principal(token.name, token.role, origin, self._sign("csrf:" + cookie))

    def new_session(self, principal: Principal) -> str:
        """Return the value of a cookie for ``principal``."""
        claim = f"{principal.actor}.{int(self._clock.now().timestamp()) + SESSION_S}"
        return f"{claim}.{self._sign('session:' + claim)}"

    def csrf_token(self, cookie: str) -> str:
        """Return what requests with ``cookie`` have to carry in the header to change something."""
        return self._sign("csrf:" + cookie)

    def _token_of(self, cookie: str) -> Token | None:
        claim, _, signature = cookie.rpartition(".")
        name, _, expiry = claim.rpartition(".")
        if not hmac.compare_digest(self._sign("session:" + claim).encode(), signature.encode()):
            return None
        now = self._clock.now()
        token = self._tokens.named(name)
        if int(expiry) <= now.timestamp() or token is None or token.has_expired(now):
            return None
        return token

    def _sign(self, text: str) -> str:
        return hmac.new(self._tokens.session_key, text.encode(), "sha256").hexdigest()


def _utc(at: datetime | None) -> str:
    return "" if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def unauthorized(code: str, detail: str) -> ApiError:
    """Return the answer to a caller who cannot be told."""
    return ApiError(401, code, "It is not known who is asking", detail, headers={"WWW-Authenticate": "Bearer"})
