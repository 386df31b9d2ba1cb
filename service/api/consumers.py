"""Consumers: what they do, how far behind they are, and starting and stopping their intake."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from schemas.api import (
    CommitOut,
    ConsumerDetail,
    ConsumerSummary,
    LagReport,
    ReasonIn,
    StagesReport,
    StateOut,
    ThroughputReport,
    TrailOut,
    TroubleOut,
    WishIn,
)
from schemas.control import DesiredState
from service.api import security, show
from service.api.authenticator import Principal
from service.api.problems import declared, wrong_state
from service.api.services import ConsumerDep, ServicesDep
from service.host.operations import Operator
from service.host.refusals import WrongStateError

router = APIRouter(prefix="/api/v1", tags=["consumers"], responses=declared(401, 403, 404, 429, 503))

Limit = Annotated[int, Query(ge=1, le=500)]


@router.get("/consumers")
def list_consumers(services: ServicesDep, who: security.Reader) -> list[ConsumerSummary]:
    """Every consumer of this process in a line."""
    return [show.summary(services.host, consumer) for consumer in services.host.consumers.values()]


@router.get("/consumers/{consumer_id}")
def get_consumer(consumer: ConsumerDep, services: ServicesDep, who: security.Reader) -> ConsumerDetail:
    """State, verdict, position, lag, throughput, videos in flight and last error of a consumer."""
    return show.detail(services.host, consumer)


@router.get("/consumers/{consumer_id}/lag")
def get_lag(consumer: ConsumerDep, services: ServicesDep, who: security.Reader) -> LagReport:
    """How far behind a consumer is, now and over the last hour. True also while it is paused or has failed."""
    return show.lag_report(services.host, consumer)


@router.get("/consumers/{consumer_id}/throughput")
def get_throughput(consumer: ConsumerDep, who: security.Reader) -> ThroughputReport:
    """Rates over 1, 5 and 15 minutes, beside the rate of arrival."""
    return show.throughput_report(consumer)


@router.get("/consumers/{consumer_id}/stages")
def get_stages(consumer: ConsumerDep, who: security.Reader) -> StagesReport:
    """What went into each stage and came out, rejections by reason, and where the time goes."""
    return show.stages_report(consumer)


@router.get("/consumers/{consumer_id}/commits")
def get_commits(
    consumer: ConsumerDep, services: ServicesDep, who: security.Reader, limit: Limit = 50
) -> list[CommitOut]:
    """The newest commits, the newest first."""
    own = {note.sequence: note for note in consumer.activity.commits(limit)}
    found = []
    for mark in services.library_of(consumer).recent_commits(limit):
        note = own.get(mark.sequence)
        found.append(
            CommitOut(
                sequence=mark.sequence,
                epoch=mark.epoch,
                committed_at=mark.committed_at,
                snapshot_id=mark.snapshot_id,
                watermark=mark.position.watermark,
                num_videos=None if note is None else note.num_videos,
                num_clips=None if note is None else note.num_clips,
            )
        )
    return found


@router.get("/consumers/{consumer_id}/errors")
def get_errors(consumer: ConsumerDep, who: security.Reader, limit: Limit = 50) -> list[TroubleOut]:
    """Retries and failed videos of this process, the newest first."""
    return [TroubleOut.model_validate(trouble) for trouble in consumer.activity.troubles(limit)]


@router.get("/consumers/{consumer_id}/trail")
def get_trail(consumer: ConsumerDep, services: ServicesDep, who: security.Reader, limit: Limit = 50) -> list[TrailOut]:
    """Who did what to the consumer, when and from where, the newest first."""
    entries = services.host.control.audit_trail(consumer.consumer_id, limit)
    return [TrailOut.model_validate(entry) for entry in entries]


@router.put("/consumers/{consumer_id}/pause", status_code=202)
def pause(consumer: ConsumerDep, services: ServicesDep, who: security.Operator, body: WishIn | None = None) -> StateOut:
    """Take in nothing new. Observed as paused once all that was in flight is committed; survives restarts."""
    return _wish(services, consumer, who, DesiredState.PAUSED, body or WishIn())


@router.put("/consumers/{consumer_id}/resume", status_code=202)
def resume(
    consumer: ConsumerDep, services: ServicesDep, who: security.Operator, body: ReasonIn | None = None
) -> StateOut:
    """Go on: after a pause, a stop or a failure."""
    return _wish(services, consumer, who, DesiredState.RUNNING, WishIn(reason=body.reason if body else None))


@router.put("/consumers/{consumer_id}/stop", status_code=202)
def stop(consumer: ConsumerDep, services: ServicesDep, who: security.Operator, body: WishIn | None = None) -> StateOut:
    """Drain, and give the workers back; survives restarts."""
    return _wish(services, consumer, who, DesiredState.STOPPED, body or WishIn())


@router.post("/consumers/{consumer_id}/restart", status_code=202, responses=declared(409))
def restart(
    consumer: ConsumerDep, services: ServicesDep, who: security.Operator, body: ReasonIn | None = None
) -> StateOut:
    """Drain, and start anew with new workers."""
    try:
        wish = services.operations.restart(consumer, Operator(who.actor, who.origin), body.reason if body else None)
    except WrongStateError as error:
        raise wrong_state(str(error)) from error
    return show.state(services.host, consumer, wish)


def _wish(services: ServicesDep, consumer: ConsumerDep, who: Principal, state: DesiredState, body: WishIn) -> StateOut:
    operator = Operator(who.actor, who.origin)
    wish = services.operations.wish(consumer, state, operator, reason=body.reason, ttl_s=body.ttl_s)
    return show.state(services.host, consumer, wish)
