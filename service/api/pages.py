"""The page: the same facts as the REST interface, rendered for a browser."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Annotated, Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.routing import APIRoute

from consumers.errors import SluiceError
from schemas.api_types import ConsumerId, RowId
from schemas.profile import Profile
from service.api import charts, consumers, positions, security, show, videos, wording
from service.api.assets import assets, render
from service.api.authenticator import Principal
from service.api.clip_facts import clip_facts
from service.api.clip_form import BOUNDS, DAYS, read_form
from service.api.problems import ApiError
from service.api.security import authenticated, origin_of
from service.api.services import ConsumerDep, Services, ServicesDep, get_services, named_consumer, services_of
from service.api.sessions import SESSION_S
from service.api.tokens import Role
from service.api.trail import trail_lines
from service.host.hosting import HostedConsumer
from service.host.upkeep import said
from service.library import ClipQuery

_CLIPS_A_PAGE = 24
_CLIPS_ON_OVERVIEW = 4
_VIDEOS_A_PAGE = 50
_TRAIL_ENTRIES = 100


class _LoginNeeded(Exception):  # noqa: N818  not an error
    """Nobody is logged in."""


class _PageRoute(APIRoute):
    """Answers with a page also where something is wrong: to the login, or a page that says what to do."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def page(request: Request) -> Response:
            try:
                response = await handle(request)
            except _LoginNeeded:
                target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
                return RedirectResponse(f"/login?next={quote(target)}", 303)
            except ApiError as error:
                response = _error(error.status_code, error.title, str(error.detail))
            except RequestValidationError:
                response = _error(404, "There is no such page", "the address names nothing that can be shown")
            except HTTPException as error:
                response = _error(error.status_code, "There is no such page", str(error.detail))
            except SluiceError as error:
                response = _error(
                    503, "The store does not answer", f"{error}; the page tries again when it is loaded anew"
                )
            # A form's Origin is only sent along with a referrer, and the guard wants to see it.
            response.headers["Referrer-Policy"] = "same-origin"
            return response

        return page


async def _viewer(request: Request, services: Annotated[Services, Depends(get_services)]) -> Principal:
    try:
        return await authenticated(request, services, None, request.cookies.get(security.COOKIE))
    except ApiError as error:
        if error.status_code == 401:
            raise _LoginNeeded from error
        raise


Viewer = Annotated[Principal, Depends(_viewer)]
Cursor = Annotated[RowId | None, Query()]
FieldText = Annotated[str, Query(max_length=20)]


def make_router(profile: Profile) -> APIRouter:
    """Return the routes of the page.

    Args:
        profile: the one in use, whose bounds are shown beside the scores that were measured under it.
    """
    router = APIRouter(route_class=_PageRoute, include_in_schema=False, default_response_class=HTMLResponse)

    @router.get("/")
    def overview(request: Request, services: ServicesDep, who: Viewer) -> Response:
        hosted = list(services.host.consumers.values())
        if len(hosted) == 1:
            return _page(request, who, "consumer.html", "overview", **_consumer(services, hosted[0]))
        items = consumers.list_consumers(services, who)
        return _page(request, who, "consumers.html", "overview", items=items)

    @router.get("/consumers/{consumer_id}")
    def consumer_page(request: Request, consumer: ConsumerDep, services: ServicesDep, who: Viewer) -> Response:
        return _page(request, who, "consumer.html", "overview", **_consumer(services, consumer))

    @router.get("/parts/newest-clips")
    def newest_clips(request: Request, services: ServicesDep, who: Viewer) -> Response:
        found = services.library.clips(ClipQuery(), _CLIPS_ON_OVERVIEW)
        facts = [clip_facts(record, profile) for record in found.records]
        return _page(request, who, "newest_clips.html", "", clips=facts)

    @router.get("/clips")
    def clip_wall(
        request: Request,
        services: ServicesDep,
        who: Viewer,
        before: Cursor = None,
        text: Annotated[str, Query(max_length=200)] = "",
        since: FieldText = "",
        until: FieldText = "",
        min_motion: FieldText = "",
        min_quality: FieldText = "",
        min_aesthetic: FieldText = "",
        max_nsfw: FieldText = "",
    ) -> Response:
        form = read_form(
            {
                "text": text,
                "since": since,
                "until": until,
                "min_motion": min_motion,
                "min_quality": min_quality,
                "min_aesthetic": min_aesthetic,
                "max_nsfw": max_nsfw,
            },
            before,
        )
        found = services.library.clips(form.query, _CLIPS_A_PAGE)
        return _page(
            request,
            who,
            "clips.html",
            "clips",
            clips=[clip_facts(record, profile) for record in found.records],
            form=form,
            bounds=BOUNDS,
            days=DAYS,
            next_url=None
            if found.next_before is None
            else str(request.url.include_query_params(before=found.next_before)),
            is_first=before is None,
        )

    @router.get("/videos")
    def video_lists(
        request: Request,
        services: ServicesDep,
        who: Viewer,
        row: Annotated[str, Query(max_length=200)] = "",
        before: Cursor = None,
        consumer: ConsumerId | None = None,
        status: Annotated[str, Query(pattern="^(all|failed|rejected)$")] = "failed",
        text: Annotated[str, Query(max_length=200)] = "",
        error_class: Annotated[str | None, Query(max_length=64)] = None,
    ) -> Response:
        if row.strip():
            if row.strip().removeprefix("#").isdecimal():
                return RedirectResponse(f"/videos/{_row_id(row)}", 303)
            return RedirectResponse(f"/videos?{urlencode({'status': 'all', 'text': row.strip()})}", 303)
        names = list(services.host.consumers)
        chosen = named_consumer(consumer or names[0], services)
        if status == "failed":
            page: Any = positions.get_dead_letters(
                chosen, services, who, stage=None, error_class=error_class, before=before, limit=_VIDEOS_A_PAGE
            )
        elif status == "all":
            page = videos.list_videos(
                services,
                who,
                consumer=chosen.consumer_id,
                status=None,
                uri=None,
                video_id=None,
                text=text.strip() or None,
                before=before,
                limit=_VIDEOS_A_PAGE,
            )
        else:
            page = positions.get_rejected(chosen, services, who, before=before, limit=_VIDEOS_A_PAGE)
        return _page(
            request,
            who,
            "videos.html",
            "videos",
            status=status,
            text=text.strip() if status == "all" else "",
            error_class=error_class if status == "failed" else None,
            classes=Counter(item.error_class for item in page.items).most_common() if status == "failed" else (),
            consumer=chosen.consumer_id,
            consumers=names,
            items=page.items,
            next_url=None
            if page.next_before is None
            else str(request.url.include_query_params(before=page.next_before)),
            is_first=before is None,
        )

    @router.get("/videos/{row_id}")
    def video_page(request: Request, row_id: RowId, services: ServicesDep, who: Viewer) -> Response:
        story = videos.get_video(row_id, services, who)
        runs = [charts.timeline(run) for run in reversed(story.runs)]
        # Whose dead letter it is, where it failed.
        consumer = story.runs[-1]["consumer"] if story.runs else None
        links = {link.clip_id: link for link in story.clips}
        return _page(request, who, "video.html", "videos", story=story, runs=runs, links=links, consumer=consumer)

    @router.get("/log")
    def log_page(request: Request, services: ServicesDep, who: Viewer) -> Response:
        trails = {
            consumer_id: trail_lines(services.host.control.audit_trail(consumer_id, _TRAIL_ENTRIES))
            for consumer_id in services.host.consumers
        }
        commits = {
            consumer.consumer_id: consumers.get_commits(consumer, services, who, limit=20)
            for consumer in services.host.consumers.values()
        }
        rounds = [] if services.upkeep is None else services.upkeep.rounds
        upkeep = [(each.at, [(report.table, said(report, wording.size)) for report in each.reports]) for each in rounds]
        is_kept = services.upkeep is not None
        return _page(request, who, "log.html", "log", trails=trails, commits=commits, upkeep=upkeep, is_kept=is_kept)

    _add_session(router)
    return router


def _add_session(router: APIRouter) -> None:
    @router.get("/login")
    def login_form(request: Request, services: ServicesDep, next: Annotated[str, Query()] = "/") -> Response:
        cookie = request.cookies.get(security.COOKIE)
        if cookie is not None:
            try:
                services.auth.by_session(cookie, origin_of(request))
            except ApiError:
                pass
            else:
                return RedirectResponse(_own_path(next), 303)
        return HTMLResponse(render("login.html", next=_own_path(next), problem=None, version=services.version))

    @router.post("/login")
    async def log_in(request: Request, services: ServicesDep) -> Response:
        try:
            form = parse_qs((await request.body()).decode("utf-8", "replace"), max_num_fields=10)
        except ValueError as error:
            raise ApiError(400, "form-malformed", "This is not the login's form", f"{error}; use the form") from error
        target = _own_path(form.get("next", ["/"])[0])
        try:
            principal = services.auth.by_token(form.get("token", [""])[0].strip(), origin_of(request))
        except ApiError as error:
            text = render("login.html", next=target, problem=str(error.detail), version=services.version)
            return HTMLResponse(text, error.status_code, headers=dict(error.headers or {}))
        response = RedirectResponse(target, 303)
        response.set_cookie(
            security.COOKIE,
            services.auth.new_session(principal),
            max_age=SESSION_S,
            httponly=True,
            samesite="strict",
            secure=services.secure_cookies,
        )
        return response

    @router.post("/logout")
    async def log_out(request: Request, services: ServicesDep) -> Response:
        response = RedirectResponse("/login", 303)
        cookie = request.cookies.get(security.COOKIE)
        if cookie is not None:
            services.auth.end_session(cookie)
        response.delete_cookie(security.COOKIE, httponly=True, samesite="strict")
        return response

    @router.get("/static/{name}")
    def static(name: str) -> Response:
        asset = assets().get(name)
        if asset is None:
            raise HTTPException(404, "there is no such file")
        headers = {"Cache-Control": "public, max-age=31536000, immutable"}
        return Response(asset.data, media_type=asset.media_type, headers=headers)

    @router.get("/favicon.ico")
    def favicon() -> Response:
        return RedirectResponse("/static/sluice.svg", 301)


def _consumer(services: Services, consumer: HostedConsumer) -> dict[str, Any]:
    detail = show.detail(services.host, consumer)
    return {
        "item": detail,
        "funnel": charts.funnel(show.stages_report(consumer)),
        "troubles": consumer.activity.troubles(8),
        "probe_error": consumer.prober.last_error,
    }


def _page(request: Request, who: Principal, template: str, section: str, **values: Any) -> HTMLResponse:
    text = render(
        template,
        section=section,
        who=who,
        may_operate=who.role >= Role.OPERATE,
        version=services_of(request).version,
        **values,
    )
    return HTMLResponse(text)


def _error(status: int, title: str, detail: str) -> Response:
    return HTMLResponse(render("error.html", status=status, title=title, detail=detail), status)


def _own_path(target: str) -> str:
    """Return ``target`` if it is a path of this service, else the overview: a login must not lead elsewhere."""
    parts = urlsplit(target)
    is_own = not parts.scheme and not parts.netloc and target.startswith("/") and target[1:2] not in ("/", "\\")
    return target if is_own and target.isprintable() else "/"


def _row_id(text: str) -> int:
    stripped = text.strip().removeprefix("#")
    if not (stripped.isascii() and stripped.isdigit()) or int(stripped) >= 2**63:
        raise ApiError(
            404, "unknown-video", "There is no such video", f"{text!r} is no row id: give its number in the raw table"
        )
    return int(stripped)
