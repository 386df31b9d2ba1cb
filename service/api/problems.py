"""Errors as RFC 9457 problem details: one class, one way to say them, and their declaration in OpenAPI."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from consumers.errors import ConfigurationError, SluiceError, StoreUnavailableError
from schemas.api import Problem

_log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
_UNPROCESSABLE = 422


class ApiError(HTTPException):
    """A problem that is the answer to a request.

    Args:
        status: HTTP status code.
        code: stable word for programs; becomes ``urn:sluice:problem:<code>``.
        title: the kind of problem, for a person.
        detail: what was wrong, and what to do.
        headers: further response headers.
        errors: one line for each part that does not fit.
    """

    def __init__(
        self,
        status: int,
        code: str,
        title: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        errors: list[str] | None = None,
    ) -> None:
        super().__init__(status, detail, dict(headers or {}))
        self.code = code
        self.title = title
        self.errors = errors

    def response(self) -> JSONResponse:
        """Return the answer."""
        body: dict[str, Any] = {
            "type": f"urn:sluice:problem:{self.code}",
            "title": self.title,
            "status": self.status_code,
            "detail": self.detail,
        }
        if self.errors is not None:
            body["errors"] = self.errors
        return JSONResponse(body, self.status_code, headers=self.headers, media_type=MEDIA_TYPE)


def unknown_consumer(consumer_id: str) -> ApiError:
    """Return the problem of a consumer that is not hosted here."""
    return ApiError(
        404,
        "unknown-consumer",
        "There is no such consumer",
        f"consumer {consumer_id!r} is not hosted here; GET /api/v1/consumers lists those that are",
    )


def wrong_state(detail: str) -> ApiError:
    """Return the problem of an action that does not fit the consumer's state."""
    return ApiError(409, "wrong-state", "The consumer's state does not allow this", detail)


def does_not_fit(errors: list[str]) -> ApiError:
    """Return the problem of a request with parts that do not fit."""
    return ApiError(
        _UNPROCESSABLE,
        "invalid-request",
        "The request does not fit",
        "; ".join(errors) + "; correct it and send it again (GET /openapi.json says what fits)",
        errors=errors,
    )


def install(app: FastAPI) -> None:
    """Make every error of ``app`` an answer with problem details, and declare them so in its OpenAPI."""

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> JSONResponse:
        if isinstance(error, ApiError):
            return error.response()
        phrase = HTTPStatus(error.status_code).phrase
        detail = f"{request.method} {request.url.path}: {error.detail}"
        code = phrase.lower().replace(" ", "-")
        return ApiError(error.status_code, code, phrase, detail, headers=error.headers).response()

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        # The input itself is not repeated: it may hold a secret.
        return does_not_fit(
            [f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors()[:20]]
        ).response()

    @app.exception_handler(StoreUnavailableError)
    async def store_away(request: Request, error: StoreUnavailableError) -> JSONResponse:
        _log.warning("%s %s: %s", request.method, request.url.path, error)
        return ApiError(
            503,
            "store-unavailable",
            "The store does not answer",
            "the tables cannot be reached at the moment; try again, and see the service's log for the cause",
            headers={"Retry-After": "5"},
        ).response()

    @app.exception_handler(SluiceError)
    async def refused(request: Request, error: SluiceError) -> JSONResponse:
        _log.warning("%s %s: %s", request.method, request.url.path, error)
        is_settings = isinstance(error, ConfigurationError)
        title = "The settings do not allow this" if is_settings else "It cannot be done now"
        return ApiError(409, "refused", title, str(error)).response()

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> JSONResponse:
        _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return ApiError(
            500, "internal-error", "Something went wrong inside", "see the service's log for the cause"
        ).response()

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            app.openapi_schema = _with_problems(schema)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def declared(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the declaration of problem answers for a route's ``responses``."""
    return {status: {"model": Problem, "description": HTTPStatus(status).phrase} for status in statuses}


def _with_problems(schema: dict[str, Any]) -> dict[str, Any]:
    """Give problem answers their media type, and replace FastAPI's own form of validation errors."""
    reference = {"$ref": "#/components/schemas/Problem"}
    content = {MEDIA_TYPE: {"schema": reference}}
    for path in schema["paths"].values():
        for operation in path.values():
            # The guard's answers, and that of a body that is no JSON.
            operation["responses"]["400"] = {"description": HTTPStatus.BAD_REQUEST.phrase, "content": content}
            if "requestBody" in operation:
                operation["responses"]["413"] = {"description": "Content Too Large", "content": content}
            for status, answer in operation["responses"].items():
                if (
                    status == str(_UNPROCESSABLE)
                    or answer.get("content", {}).get("application/json", {}).get("schema") == reference
                ):
                    answer["content"] = content
    for name in ("HTTPValidationError", "ValidationError"):
        schema["components"]["schemas"].pop(name, None)
    return schema
