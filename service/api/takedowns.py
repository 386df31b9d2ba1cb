"""Taking videos down, and what has become of that."""

from __future__ import annotations

from fastapi import APIRouter

from consumers.errors import ConfigurationError
from consumers.paimon.reading.takedowns import TargetKind
from schemas.api_tables import TakedownIn, TakedownOut, TakedownPage
from service import takedowns
from service.api import security
from service.api.problems import declared, does_not_fit
from service.api.services import ConsumerDep, ServicesDep
from service.host.operations import Operator

router = APIRouter(prefix="/api/v1", tags=["takedowns"], responses=declared(401, 403, 404, 429, 503))


@router.post("/consumers/{consumer_id}/takedowns", status_code=202)
def take_down(consumer: ConsumerDep, services: ServicesDep, who: security.Admin, body: TakedownIn) -> TakedownOut:
    """Retire all clips of a video, and let nothing of it come again.

    It is durable with the answer. The consumer, every shard of it, drains and restarts for it, and then says so under
    `obeyed`; one that is stopped obeys at once, where this process does its rows. Nothing is opened by what is named
    here, it is only compared.
    """
    kind = TargetKind(body.kind)
    if kind is TargetKind.ROW and not (body.value.isascii() and body.value.isdigit() and int(body.value) < 2**63):
        raise does_not_fit(["body.value: is no row id"])
    try:
        made = services.operations.take_down(
            consumer, kind, body.value, Operator(who.actor, who.origin), reason=body.reason
        )
    except ConfigurationError as error:
        raise does_not_fit([f"body.value: {error}"]) from error
    [certificate] = services.library_of(consumer).takedowns(made)
    return TakedownOut.model_validate(takedowns.document(certificate))


@router.get("/consumers/{consumer_id}/takedowns")
def get_takedowns(consumer: ConsumerDep, services: ServicesDep, who: security.Reader) -> TakedownPage:
    """Return the certificates of all takedowns, the newest first. They hold for all consumers of these tables."""
    found = services.library_of(consumer).takedowns()
    return TakedownPage(items=[TakedownOut.model_validate(takedowns.document(each)) for each in found])
