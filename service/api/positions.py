"""Positions, dead letters and the audit: reading rows again, and accounting for them."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response

from consumers.errors import FencedError
from consumers.paimon.reading.story import LetterFilter
from schemas.api import PositionOut
from schemas.api_tables import (
    AuditOut,
    DeadLetterOut,
    DeadLetterPage,
    MoveOut,
    PositionIn,
    ReasonCount,
    RejectedOut,
    RejectedPage,
    ReplayIn,
    ReplayOut,
)
from schemas.api_types import RowId
from service.api import security, show
from service.api.problems import ApiError, declared, does_not_fit, wrong_state
from service.api.services import ConsumerDep, ServicesDep
from service.host.operations import Operator
from service.host.refusals import StalePlanError, WrongStateError

router = APIRouter(prefix="/api/v1", tags=["positions"], responses=declared(401, 403, 404, 429, 503))


@router.get("/consumers/{consumer_id}/position")
def get_position(consumer: ConsumerDep, services: ServicesDep, who: security.Reader, response: Response) -> PositionOut:
    """What is committed. The ETag goes into If-Match of a change."""
    committed, sequence, epoch = services.library_of(consumer).committed()
    response.headers["ETag"] = _etag(epoch, sequence)
    return show.position(committed, sequence, epoch)


@router.put("/consumers/{consumer_id}/position", responses=declared(409, 412, 428))
def set_position(
    consumer: ConsumerDep,
    services: ServicesDep,
    who: security.Admin,
    body: PositionIn,
    dry_run: Annotated[bool, Query(description="Only say what the change would do.")] = False,
    if_match: Annotated[str | None, Header(max_length=100, description="ETag of the position.")] = None,
) -> MoveOut:
    """Go on from another offset. The consumer has to be stopped; rows with clips are never read again."""
    head = services.library_of(consumer).head_offset()
    if body.offset > head:
        raise does_not_fit([f"body.offset: the table ends at offset {head}; give one from 0 to {head}"])
    if if_match is None and not dry_run:
        raise ApiError(
            428,
            "if-match-required",
            "The change has to say what it is based on",
            "send the ETag of GET .../position in If-Match, so that no change in between is overlooked",
        )
    try:
        move = services.operations.move(
            consumer,
            body.offset,
            Operator(who.actor, who.origin),
            reason=body.reason,
            expected=None if if_match is None else _parse(if_match),
            dry_run=dry_run,
        )
    except WrongStateError as error:
        raise wrong_state(str(error)) from error
    except (StalePlanError, FencedError) as error:
        raise _stale(str(error)) from error
    return MoveOut(
        dry_run=dry_run,
        offset=body.offset,
        watermark=move.proposed.watermark,
        num_read_again=move.num_read_again,
        num_left_done=move.num_left_done,
        num_skipped=move.num_skipped,
    )


@router.get("/consumers/{consumer_id}/dead-letters")
def get_dead_letters(
    consumer: ConsumerDep,
    services: ServicesDep,
    who: security.Reader,
    stage: Annotated[str | None, Query(max_length=64)] = None,
    error_class: Annotated[str | None, Query(max_length=64)] = None,
    before: Annotated[RowId | None, Query(description="Only rows below this one: `next_before` of a page.")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> DeadLetterPage:
    """Videos that failed for good, the highest row id first.

    A page may be short where many rows had to be looked at.
    """
    rows, next_before = services.library_of(consumer).dead_letters(LetterFilter(stage, error_class, before), limit)
    items = [
        DeadLetterOut(
            row_id=row["source_row_id"],
            video_id=row["video_id"],
            uri=row["source_uri"],
            stage=row["failure_stage"],
            error_class=row["failure_class"],
            message=row["failure_message"],
            attempts=row["attempts"],
            run=row["run"],
            processed_at=row["processed_at"],
        )
        for row in rows
    ]
    return DeadLetterPage(items=items, next_before=next_before)


@router.get("/consumers/{consumer_id}/rejected")
def get_rejected(
    consumer: ConsumerDep,
    services: ServicesDep,
    who: security.Reader,
    before: Annotated[RowId | None, Query(description="Only rows below this one: `next_before` of a page.")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> RejectedPage:
    """Videos of which no clip was kept, with the reasons, the highest row id first."""
    rows, next_before = services.library_of(consumer).rejected(before, limit)
    return RejectedPage(items=[_rejected(row) for row in rows], next_before=next_before)


@router.post("/consumers/{consumer_id}/dead-letters/replay", status_code=202, responses=declared(409))
def replay(consumer: ConsumerDep, services: ServicesDep, who: security.Operator, body: ReplayIn) -> ReplayOut:
    """Process dead letters again, beside all that is being processed. A `replay` event says when it is noted."""
    if body.row_ids is not None and (body.stage is not None or body.error_class is not None):
        raise does_not_fit(["body: give row_ids, or stage and error_class, not both"])
    wanted = LetterFilter(body.stage, body.error_class)
    try:
        done = services.operations.replay(consumer, wanted, body.row_ids, Operator(who.actor, who.origin), body.reason)
    except WrongStateError as error:
        raise wrong_state(str(error)) from error
    return ReplayOut.model_validate(done, from_attributes=True)


@router.get("/consumers/{consumer_id}/audit", responses=declared(409))
def get_audit(
    consumer: ConsumerDep,
    services: ServicesDep,
    who: security.Operator,
    num_decoded: Annotated[
        int,
        Query(ge=0, le=1000, description="Look for the bytes of every clip, and decode this many. 0: at no bytes."),
    ] = 0,
) -> AuditOut:
    """Compare raw, ledger and curated table now. Reads every row once; one audit at a time."""
    report = services.library_of(consumer).audit(num_decoded)
    if report is None:
        raise wrong_state("an audit is under way; wait for its answer, then ask again")
    return AuditOut.model_validate(report)


def _rejected(row: dict[str, Any]) -> RejectedOut:
    reasons = Counter((clip["rejected_by"], clip["reason"]) for clip in row["clips"] or ())
    return RejectedOut(
        row_id=row["source_row_id"],
        video_id=row["video_id"],
        uri=row["source_uri"],
        duration_s=row["duration_s"],
        num_clips=row["num_clips_rejected"],
        reasons=[
            ReasonCount(stage=stage, reason=reason, num_clips=num_clips)
            for (stage, reason), num_clips in reasons.most_common()
        ],
        run=row["run"],
        processed_at=row["processed_at"],
    )


def _etag(epoch: int, sequence: int) -> str:
    return f'"{epoch}-{sequence}"'


def _parse(etag: str) -> tuple[int, int]:
    epoch, _, sequence = etag.removeprefix("W/").strip('"').partition("-")
    if not (epoch.isascii() and epoch.isdigit() and sequence.isascii() and sequence.isdigit()):
        raise _stale(f"{etag} is not the ETag of a position; get the position again")
    return int(epoch), int(sequence)


def _stale(detail: str) -> ApiError:
    return ApiError(412, "stale-position", "The position has changed", detail)
