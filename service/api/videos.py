"""Videos and clips: registering what has landed, one video's story, and the curated clips with their bytes."""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import AwareDatetime

from consumers.errors import ConfigurationError, UriNotAllowedError
from consumers.media.allow_list import file_uri
from consumers.paimon.reading.clips import ClipBytes, ClipRecord
from consumers.paimon.reading.story import VideoFilter
from schemas.api_tables import ClipLink, ClipOut, ClipPage, RegisterIn, RegisterOut, VideoOut, VideoPage, VideoStory
from schemas.api_types import ClipId, ConsumerId, RowId
from schemas.records import RawVideo, VideoStatus
from service.api import security
from service.api.problems import ApiError, declared, does_not_fit
from service.api.services import Services, ServicesDep, named_consumer
from service.host.operations import Operator
from service.library import ClipQuery

router = APIRouter(prefix="/api/v1", tags=["videos and clips"], responses=declared(401, 403, 404, 429, 503))

_RANGE = re.compile(r"^bytes=(\d{0,18})-(\d{0,18})$")
_Row = Annotated[
    RowId | None,
    Query(
        description="The clip's row in the curated table, as lists and their links tell it: an old clip is found by it "
        "at once. Without it, or with one of another clip, the newest clips are searched for about a second."
    ),
]
_WITHOUT_UNIT = Annotated[float | None, Query(allow_inf_nan=False)]


@router.post("/videos", responses=declared(409))
def register(services: ServicesDep, who: security.Operator, body: RegisterIn) -> RegisterOut:
    """Register objects that have landed, by URI. Registering the same object again adds no row."""
    try:
        report = services.library.register(body.uris)
    except UriNotAllowedError as error:
        raise ApiError(
            403,
            "uri-not-allowed",
            "The object may not be read",
            f"{error}; nothing was registered: add its prefix to allow in [input], and restart",
        ) from error
    except ConfigurationError as error:
        raise does_not_fit([f"body.uris: {error}; nothing was registered"]) from error
    if report.num_added:
        for consumer_id in services.host.consumers:
            services.operations.record(
                consumer_id, "register", Operator(who.actor, who.origin), {"num_added": str(report.num_added)}
            )
    return RegisterOut(num_added=report.num_added, num_already_present=report.num_already_present)


@router.get("/videos")
def list_videos(
    services: ServicesDep,
    who: security.Reader,
    consumer: Annotated[ConsumerId | None, Query(description="As this consumer did them; default: the first.")] = None,
    status: Annotated[VideoStatus | None, Query(description="What became of it in its latest run.")] = None,
    uri: Annotated[
        str | None, Query(max_length=4096, description="Exactly this object, or a path of this host.")
    ] = None,
    video_id: Annotated[str | None, Query(max_length=4096, description="Exactly this id.")] = None,
    text: Annotated[
        str | None, Query(max_length=200, description="Part of the URI or of the id, case ignored.")
    ] = None,
    before: Annotated[RowId | None, Query(description="Only rows below this one: `next_before` of a page.")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> VideoPage:
    """Videos that have been processed, the highest row id first, by name or by what became of them."""
    library = services.library if consumer is None else services.library_of(named_consumer(consumer, services))
    exact = uri if uri is None or not uri.startswith("/") else file_uri(uri)
    rows, next_before = library.videos(VideoFilter(status, exact, video_id, text or None, before), limit)
    return VideoPage(items=[_video(row) for row in rows], next_before=next_before)


@router.get("/videos/{row_id}")
def get_video(row_id: RowId, services: ServicesDep, who: security.Reader) -> VideoStory:
    """One video's whole story: where it came from, and every run over it with spans, scores and timings."""
    raw = services.library.raw_video(row_id)
    runs = [run for library in services.libraries.values() for run in library.runs(row_id)]
    runs.sort(key=lambda run: run["processed_at"])
    if raw is None and not runs:
        raise ApiError(404, "unknown-video", "There is no such video", f"the raw table has no row {row_id}")
    links = _links(services, row_id, runs)
    uri = raw.blob.uri if raw is not None and raw.blob is not None else runs[-1]["source_uri"] if runs else None
    return VideoStory(
        row_id=row_id,
        video_id=raw.video_id if raw is not None else runs[-1]["video_id"],
        uri=uri,
        landed_snapshot_id=None if raw is None else raw.snapshot_id,
        landed_at=None if raw is None else raw.committed_at,
        status=_status(services, row_id, raw, runs),
        runs=runs,
        clips=links,
    )


@router.get("/clips")
def list_clips(
    services: ServicesDep,
    who: security.Reader,
    before: Annotated[RowId | None, Query(description="`next_before` of the page before.")] = None,
    since: Annotated[AwareDatetime | None, Query(description="Processed at or after.")] = None,
    until: Annotated[AwareDatetime | None, Query(description="Processed before.")] = None,
    text: Annotated[str | None, Query(max_length=200, description="Part of the caption.")] = None,
    source_row_id: Annotated[RowId | None, Query(description="Of this video.")] = None,
    min_motion: _WITHOUT_UNIT = None,
    min_aesthetic: _WITHOUT_UNIT = None,
    min_quality: _WITHOUT_UNIT = None,
    max_nsfw: _WITHOUT_UNIT = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> ClipPage:
    """Curated clips, the newest first. A page may be short where many clips had to be looked at."""
    query = ClipQuery(before, since, until, text, source_row_id, min_motion, min_aesthetic, min_quality, max_nsfw)
    found = services.library.clips(query, limit)
    return ClipPage(items=[_clip(record) for record in found.records], next_before=found.next_before)


@router.get("/clips/{clip_id}")
def get_clip(clip_id: ClipId, services: ServicesDep, who: security.Reader, row: _Row = None) -> ClipOut:
    """One clip: spans, scores with their methods and models, caption, lineage."""
    return _clip(_find(services, clip_id, row))


@router.get(
    "/clips/{clip_id}/media",
    response_class=Response,
    responses={
        200: {"content": {"video/mp4": {"schema": {"type": "string", "format": "binary"}}}},
        206: {
            "description": "The part that Range asked for",
            "content": {"video/mp4": {"schema": {"type": "string", "format": "binary"}}},
        },
        **declared(416),
    },
)
def get_media(
    services: ServicesDep,
    who: security.Reader,
    clip_id: Annotated[ClipId, Path()],
    row: _Row = None,
    byte_range: Annotated[str | None, Header(alias="Range", max_length=100)] = None,
    if_range: Annotated[str | None, Header(max_length=200)] = None,
    if_none_match: Annotated[str | None, Header(max_length=1000)] = None,
) -> Response:
    """The clip as MP4; understands Range, so that players can seek."""
    record = _find(services, clip_id, row)
    media = services.library.media(record)
    if media is None:
        raise ApiError(
            404,
            "no-media",
            "The clip has no bytes of its own",
            "it was kept as a reference: its row names the source object and the span",
        )
    tag = _tag(record)
    if _is_known(if_none_match, tag):
        return Response(status_code=304, headers={"ETag": tag, **_REVALIDATED})
    return _partial(media, byte_range if if_range in (None, tag) else None, tag)


@router.get(
    "/clips/{clip_id}/thumbnail",
    response_class=Response,
    responses={200: {"content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}}},
)
def get_thumbnail(
    services: ServicesDep,
    who: security.Reader,
    clip_id: ClipId,
    row: _Row = None,
    if_none_match: Annotated[str | None, Header(max_length=1000)] = None,
) -> Response:
    """The clip's picture, JPEG."""
    record = _find(services, clip_id, row)
    headers = {"ETag": _tag(record), **_REVALIDATED}
    if _is_known(if_none_match, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    data = services.library.thumbnail(record)
    if data is None:
        raise ApiError(404, "no-thumbnail", "The clip has no picture", "its row has no thumbnail_jpeg")
    return Response(data, media_type="image/jpeg", headers=headers)


# A clip never changes, but it may be taken down: a browser has to ask each time, and is told that it has it already.
_REVALIDATED = {"Cache-Control": "private, no-cache"}


def _tag(record: ClipRecord) -> str:
    return f'"{record.values["clip_id"]}.{record.row_id}"'


def _is_known(if_none_match: str | None, tag: str) -> bool:
    return if_none_match is not None and tag in {each.strip().removeprefix("W/") for each in if_none_match.split(",")}


def _find(services: Services, clip_id: str, row_id: int | None) -> ClipRecord:
    record = services.library.clip(clip_id, row_id)
    if record is None:
        raise ApiError(
            404,
            "unknown-clip",
            "There is no such clip",
            f"the curated table has no clip {clip_id!r} among those that were looked at; an old one is found by its "
            "row, which lists give: ?row=",
        )
    return record


def _clip(record: ClipRecord) -> ClipOut:
    clip_id = str(record.values["clip_id"])
    link = clip_link(clip_id, record.row_id, has_media=record.has_media)
    return ClipOut(**link.model_dump(), values=dict(record.values))


def clip_link(clip_id: str, row_id: int, *, has_media: bool) -> ClipLink:
    """Return where a clip and its bytes are found, at once."""
    path = f"/api/v1/clips/{clip_id}"
    return ClipLink(
        clip_id=clip_id,
        row_id=row_id,
        media_url=f"{path}/media?row={row_id}" if has_media else None,
        thumbnail_url=f"{path}/thumbnail?row={row_id}" if has_media else None,
    )


def _links(services: Services, row_id: int, runs: list[dict[str, Any]]) -> list[ClipLink]:
    """Return where the clips of the latest run that kept any are."""
    run = next((run for run in reversed(runs) if any(clip["kept"] for clip in run["clips"] or ())), None)
    if run is None or run["source_committed_at"] is None:
        return []
    clip_ids = [str(clip["clip_id"]) for clip in run["clips"] if clip["kept"]]
    places = services.library.clip_places(row_id, clip_ids, run["source_committed_at"], run["processed_at"])
    found = [(clip_id, places[clip_id]) for clip_id in clip_ids if clip_id in places]
    return [clip_link(clip_id, place.row_id, has_media=place.has_media) for clip_id, place in found]


def _status(services: Services, row_id: int, raw: RawVideo | None, runs: list[dict[str, Any]]) -> str:
    for consumer in services.host.consumers.values():
        if any(video.row_id == row_id for video in consumer.activity.in_flight()):
            return "in_flight"
    if runs:
        return str(runs[-1]["status"])
    return "deleted" if raw is None else "waiting"


def _partial(media: ClipBytes, wanted: str | None, tag: str) -> Response:
    """Return the whole clip, or the one range that is wanted (RFC 9110, section 14), read as it is sent."""
    headers = {"Accept-Ranges": "bytes", "ETag": tag, **_REVALIDATED}
    size = media.num_bytes
    match = _RANGE.match(wanted.strip()) if wanted else None
    if match is None or not (match[1] or match[2]):
        # Other units and several ranges may be ignored.
        headers["Content-Length"] = str(size)
        return StreamingResponse(media.chunks(0, size), media_type="video/mp4", headers=headers)
    if match[1]:
        start, end = int(match[1]), min(int(match[2] or size), size - 1)
    else:
        start, end = max(0, size - int(match[2])), size - 1
    if start > end:
        raise ApiError(
            416,
            "range-not-satisfiable",
            "There are no such bytes",
            f"the clip has {size} bytes; ask for a range within them",
            headers={"Content-Range": f"bytes */{size}"},
        )
    headers |= {"Content-Range": f"bytes {start}-{end}/{size}", "Content-Length": str(end + 1 - start)}
    return StreamingResponse(media.chunks(start, end + 1), 206, media_type="video/mp4", headers=headers)


def _video(row: dict[str, Any]) -> VideoOut:
    return VideoOut(
        row_id=row["source_row_id"],
        video_id=row["video_id"],
        uri=row["source_uri"],
        status=row["status"],
        duration_s=row["duration_s"],
        num_clips_kept=row["num_clips_kept"],
        num_clips_rejected=row["num_clips_rejected"],
        stage=row["failure_stage"],
        error_class=row["failure_class"],
        run=row["run"],
        processed_at=row["processed_at"],
    )
