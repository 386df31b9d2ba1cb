"""The page's login: a token is exchanged for an HTTP-only cookie."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Cookie, Request, Response

from schemas.api import LoginIn, SessionOut
from service.api import security
from service.api.problems import declared
from service.api.services import ServicesDep
from service.api.sessions import SESSION_S

router = APIRouter(prefix="/api/v1", tags=["session"], responses=declared(401, 403, 429))


@router.post("/session")
def log_in(body: LoginIn, services: ServicesDep, request: Request, response: Response) -> SessionOut:
    """Exchange a token for a cookie that lasts twelve hours."""
    principal = services.auth.by_token(body.token, security.origin_of(request))
    cookie = services.auth.new_session(principal)
    response.set_cookie(
        security.COOKIE,
        cookie,
        max_age=SESSION_S,
        httponly=True,
        samesite="strict",
        secure=services.secure_cookies,
    )
    return SessionOut(actor=principal.actor, role=principal.role.word, csrf_token=services.auth.csrf_token(cookie))


@router.get("/session")
def who_am_i(who: security.Reader) -> SessionOut:
    """Who is asking, and the token that writes with a cookie need."""
    return SessionOut(actor=who.actor, role=who.role.word, csrf_token=who.csrf_token)


@router.delete("/session", status_code=204)
def log_out(
    services: ServicesDep,
    response: Response,
    sluice_session: Annotated[str | None, Cookie(include_in_schema=False)] = None,
) -> None:
    """End the session: the cookie is nobody's from now on, wherever a copy of it is."""
    if sluice_session is not None:
        services.auth.end_session(sluice_session)
        response.delete_cookie(security.COOKIE, httponly=True, samesite="strict")
