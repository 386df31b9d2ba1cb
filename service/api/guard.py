"""In front of every route: Host and Origin checks, a bound on bodies, and security headers. Plain ASGI."""

from __future__ import annotations

import re
from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.problems import ApiError

MAX_BODY_BYTES = 1024 * 1024
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_AUTHORITY = re.compile(r"^(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:\d{1,5})?$")
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data:; media-src 'self'; object-src 'none'; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'"
    ),
}


class Guard:
    """Refuses what no page of ours and no honest client sends.

    Args:
        app: what is guarded.
        allowed_hosts: names, without port, under which callers may reach it; lower case.
        has_tls: whether to tell browsers to come by TLS only.
        max_body_bytes: longest body.
    """

    def __init__(
        self,
        app: ASGIApp,
        allowed_hosts: Collection[str],
        *,
        has_tls: bool = False,
        max_body_bytes: int = MAX_BODY_BYTES,
    ) -> None:
        self._app = app
        self._allowed_hosts = frozenset(allowed_hosts)
        self._has_tls = has_tls
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Guard one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
                if self._has_tls:
                    headers.setdefault("Strict-Transport-Security", "max-age=31536000")
            await send(message)

        num_bytes = 0

        async def bounded_receive() -> Message:
            nonlocal num_bytes
            message = await receive()
            num_bytes += len(message.get("body", b""))
            if num_bytes > self._max_body_bytes:
                raise self._too_large()
            return message

        problem = self._problem(scope)
        if problem is not None:
            await problem.response()(scope, receive, send_with_headers)
            return
        await self._app(scope, bounded_receive, send_with_headers)

    def _problem(self, scope: Scope) -> ApiError | None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        host = hosts[0].lower() if len(hosts) == 1 else ""
        match = _AUTHORITY.match(host)
        if match is None or match[1] not in self._allowed_hosts:
            return ApiError(
                400,
                "host-not-allowed",
                "The service is not known by this name",
                "reach it by its own address, or add the name to allowed_hosts in [api]",
            )
        origin = headers.get("origin")
        if scope["method"] not in _SAFE_METHODS and origin is not None and origin.lower().partition("://")[2] != host:
            return ApiError(
                403, "origin-not-allowed", "The request comes from another site", "send it from the service's own page"
            )
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self._max_body_bytes:
            return self._too_large()
        return None

    def _too_large(self) -> ApiError:
        return ApiError(
            413,
            "body-too-large",
            "The body is too large",
            f"send at most {self._max_body_bytes} bytes at once; split the request",
        )
