"""Server-sent events: changes of state, commits and failures as they happen."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header
from fastapi.responses import StreamingResponse

from service.api import security
from service.api.problems import declared
from service.api.services import Services, ServicesDep
from service.observe.events import Event

router = APIRouter(prefix="/api/v1", tags=["events"], responses=declared(401, 403, 429))


@router.get(
    "/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
async def watch(
    services: ServicesDep,
    who: security.Reader,
    last_event_id: Annotated[str | None, Header(max_length=20, pattern=r"^\d*$")] = None,
) -> StreamingResponse:
    """Send events until the caller leaves.

    They are `state`, `commit`, `failure`, `retry`, `replay`, `replay_failed`, `takedown` and `position`.

    With Last-Event-ID, those since then are sent first, as far as they are remembered (500).
    """
    after_id = int(last_event_id) if last_event_id else None
    return StreamingResponse(_stream(services, after_id), media_type="text/event-stream")


async def _stream(services: Services, after_id: int | None) -> AsyncIterator[str]:
    # Something at once, so that a client knows that it is connected.
    yield "retry: 2000\n\n"
    async for event in services.host.events.watch(after_id, services.heartbeat_s):
        yield ": still here\n\n" if event is None else _format(event)


def _format(event: Event) -> str:
    data = json.dumps({"consumer": event.consumer, "at": event.at.isoformat(), **event.data})
    return f"id: {event.event_id}\nevent: {event.kind}\ndata: {data}\n\n"
