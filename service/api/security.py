"""Who is asking, and may they: bearer tokens, the page's cookie with CSRF protection, and a limit on failures."""

from __future__ import annotations

import hmac
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.security import APIKeyCookie, HTTPBearer
from fastapi.security.http import HTTPAuthorizationCredentials

from consumers.ports import Clock
from service.api.problems import ApiError
from service.api.services import Services, get_services
from service.api.tokens import MIN_TOKEN_LENGTH, Role, Token, TokenStore, is_well_formed

COOKIE = "sluice_session"
CSRF_HEADER = "X-CSRF-Token"
SESSION_S = 12 * 3600
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

_bearer = HTTPBearer(auto_error=False, description="A token of the role read, operate or admin.")
_cookie = APIKeyCookie(name=COOKIE, auto_error=False, description="The page's session; writes need X-CSRF-Token.")


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
                raise _unauthorized(
                    "token-malformed",
                    f"that is no token: tokens are one word of at least {MIN_TOKEN_LENGTH} characters; send all of it, "
                    "as it was handed out",
                )
            raise _unauthorized(
                "token-unknown", "the token is not known; use one that was handed out with this service"
            )
        if token.has_expired(self._clock.now()):
            raise _unauthorized(
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
            raise _unauthorized("session-ended", "the session has ended; log in again")
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


def _unauthorized(code: str, detail: str) -> ApiError:
    return ApiError(401, code, "It is not known who is asking", detail, headers={"WWW-Authenticate": "Bearer"})


def origin_of(request: Request) -> str:
    """Return the caller's network address."""
    return request.client.host if request.client is not None else "unknown"


async def authenticated(
    request: Request,
    services: Annotated[Services, Depends(get_services)],
    bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    cookie: Annotated[str | None, Depends(_cookie)],
) -> Principal:
    """Return who is asking.

    Raises:
        ApiError: that is not known, or a request with a cookie lacks its CSRF token.
    """
    origin = origin_of(request)
    if bearer is not None:
        return services.auth.by_token(bearer.credentials, origin)
    if cookie is None:
        raise _unauthorized("unauthorized", "send a token: `Authorization: Bearer <token>`")
    principal = services.auth.by_session(cookie, origin)
    if request.method not in _SAFE_METHODS:
        sent = request.headers.get(CSRF_HEADER, "")
        if not hmac.compare_digest(sent.encode(), (principal.csrf_token or "").encode()):
            raise ApiError(
                403,
                "csrf",
                "The request does not come from the page",
                f"a request with a cookie that changes something needs the session's token in {CSRF_HEADER}; "
                "GET /api/v1/session gives it",
            )
    return principal


def require(role: Role) -> Callable[[Principal], Coroutine[Any, Any, Principal]]:
    """Return a dependency that lets pass who has ``role`` or a higher one."""

    async def check(principal: Annotated[Principal, Depends(authenticated)]) -> Principal:
        if principal.role < role:
            raise ApiError(
                403,
                "role-too-low",
                "The token does not allow this",
                f"this needs the role {role.word}; the token {principal.actor!r} has {principal.role.word}",
            )
        return principal

    return check


Reader = Annotated[Principal, Depends(require(Role.READ))]
Operator = Annotated[Principal, Depends(require(Role.OPERATE))]
Admin = Annotated[Principal, Depends(require(Role.ADMIN))]
