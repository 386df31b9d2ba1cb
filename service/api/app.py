"""The application: every route behind the guard, every error a problem."""

from __future__ import annotations

from collections.abc import Collection

from fastapi import APIRouter, FastAPI

from service.api import consumers, events, health, positions, problems, session, takedowns, videos
from service.api.guard import Guard
from service.api.services import Services

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})


def create_app(
    services: Services,
    *,
    allowed_hosts: Collection[str] = (),
    has_tls: bool = False,
    further: Collection[APIRouter] = (),
) -> FastAPI:
    """Return the application.

    Args:
        services: what it works with.
        allowed_hosts: names under which callers may reach it, besides the loopback ones.
        has_tls: whether it is reached by TLS only.
        further: routes beside the REST interface, such as the page's.
    """
    # FastAPI's own documentation pages load scripts from other hosts; the schema itself is at /openapi.json.
    app = FastAPI(
        title="Sluice control plane",
        version=services.version,
        description="Lag, throughput and state of the consumers; pausing, replaying, and what became of each video.",
        docs_url=None,
        redoc_url=None,
    )
    app.state.services = services
    problems.install(app)
    for module in (consumers, positions, takedowns, videos, session, events, health):
        app.include_router(module.router)
    for router in further:
        app.include_router(router)
    app.add_middleware(Guard, allowed_hosts=LOOPBACK_NAMES | {host.lower() for host in allowed_hosts}, has_tls=has_tls)
    return app
