"""Who is asking, and may they: bearer tokens, the page's cookie with CSRF protection, and a limit on failures."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.security import APIKeyCookie, HTTPBearer
from fastapi.security.http import HTTPAuthorizationCredentials

from service.api.authenticator import Principal, unauthorized
from service.api.problems import ApiError
from service.api.services import Services, get_services, services_of
from service.api.tokens import Role

COOKIE = "sluice_session"
CSRF_HEADER = "X-CSRF-Token"
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

_bearer = HTTPBearer(auto_error=False, description="A token of the role read, operate or admin.")
_cookie = APIKeyCookie(name=COOKIE, auto_error=False, description="The page's session; writes need X-CSRF-Token.")


def origin_of(request: Request) -> str:
    """Return the caller's network address, as far as named proxies may tell it."""
    peer = request.client.host if request.client is not None else "unknown"
    return services_of(request).proxies.origin(peer, request.headers.getlist("x-forwarded-for"))


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
        raise unauthorized("unauthorized", "send a token: `Authorization: Bearer <token>`")
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
