"""Probes for an orchestrator. Without authentication, and without a word more than they need.

Coroutines that read what others keep up to date: no thread and no store is asked, however busy those are.
"""

from __future__ import annotations

from fastapi import APIRouter

from schemas.api import HealthOut, VersionOut
from service.api.problems import ApiError, declared
from service.api.services import ServicesDep

router = APIRouter(tags=["health"])


@router.get("/livez", responses=declared(503))
async def live(services: ServicesDep) -> HealthOut:
    """The loop beats. Depends on nothing outside this process: a store that is down is no reason to be killed."""
    if not services.host.is_alive:
        raise _unhealthy("not-alive", "a thread of the service has ended or hangs; restart the process")
    return HealthOut(status="alive")


@router.get("/readyz", responses=declared(503))
async def ready(services: ServicesDep) -> HealthOut:
    """The tables answer, so that what this API says is current."""
    if not services.host.is_started:
        raise _unhealthy("not-ready", "the service is starting")
    if services.host.control_error is not None:
        raise _unhealthy("not-ready", "the control table does not answer; see the service's log")
    if any(consumer.prober.last_error is not None for consumer in services.host.consumers.values()):
        raise _unhealthy("not-ready", "the lag cannot be measured; see the service's log")
    return HealthOut(status="ready")


@router.get("/startupz", responses=declared(503))
async def started(services: ServicesDep) -> HealthOut:
    """The service has started."""
    if not services.host.is_started:
        raise _unhealthy("not-started", "the service is starting")
    return HealthOut(status="started")


@router.get("/version")
async def version(services: ServicesDep) -> VersionOut:
    """What runs, and since when."""
    return VersionOut(version=services.version, started_at=services.started_at)


def _unhealthy(code: str, detail: str) -> ApiError:
    return ApiError(503, code, "Not now", detail, headers={"Retry-After": "1"})
