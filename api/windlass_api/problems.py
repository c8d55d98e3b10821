"""Exception handlers: all errors are returned as RFC 9457 problems."""

import logging
from http import HTTPStatus

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.types import Scope

from windlass.domain.errors import (
    BadRequestError,
    MethodNotAllowedError,
    NotFoundError,
    RequestTimeoutError,
    TooLargeError,
    WindlassError,
)
from windlass.wire.openai_errors import openai_error
from windlass.wire.problems import headers_of, problem_of, status_of
from windlass.wire.validation import field_problems, invalid, json_pointer

_log = logging.getLogger(__name__)

_OPENAI_ROUTES = ("/chat/completions",)

_CLIENT_CLOSED_REQUEST = 499
"""The status that nginx logs for a client that disconnected."""


def render(error: WindlassError, scope: Scope) -> Response:
    """Return the problem response of an error; on OpenAI-compatible routes, it also has OpenAI's member ``error``."""
    if error.is_denial:
        scope["windlass.denial"] = error.code  # the middleware records it
    problem = problem_of(error, scope.get("windlass.request_id", ""))
    content = problem.model_dump()
    if scope["path"].endswith(_OPENAI_ROUTES):
        content["error"] = openai_error(error)
    return JSONResponse(content, problem.status, headers_of(error), media_type="application/problem+json")


async def on_windlass_error(request: Request, error: Exception) -> Response:
    """Handle ``WindlassError``."""
    assert isinstance(error, WindlassError)  # noqa: S101 - registered for this class only
    if status_of(type(error)) >= HTTPStatus.INTERNAL_SERVER_ERROR:
        cause = repr(error.__cause__) if error.__cause__ else ""
        extra = {"code": error.code, "detail": error.message, "cause": cause, "path": request.url.path}
        _log.warning("request failed", extra=extra)
    return render(error, request.scope)


async def on_validation_error(request: Request, error: Exception) -> Response:
    """Handle validation errors: 400 for malformed JSON and headers, else 422 with a JSON pointer per field."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class only
    details = error.errors()
    if any(detail["type"] == "json_invalid" for detail in details):
        return render(BadRequestError("the body is not valid JSON", hint="send a valid JSON document"), request.scope)
    fields = field_problems(details, lambda location: _pointer(location, error.body))
    problem = invalid(fields)
    if any(field.pointer.startswith("/header/") for field in fields):
        return render(BadRequestError(problem.message, fields=fields), request.scope)
    return render(problem, request.scope)


async def on_http_error(request: Request, error: Exception) -> Response:
    """Handle errors of the framework, such as an unknown route or a wrong method."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class only
    path = request.url.path
    problem: WindlassError
    match error.status_code:
        case HTTPStatus.NOT_FOUND:
            problem = NotFoundError(f"there is no route {path}", hint=_route_hint(path))
        case HTTPStatus.METHOD_NOT_ALLOWED:
            allowed = (error.headers or {}).get("Allow", "")
            problem = MethodNotAllowedError(f"{path} accepts {allowed or 'other methods'}, not {request.method}")
        case HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            problem = TooLargeError(str(error.detail))
        case HTTPStatus.REQUEST_TIMEOUT:
            problem = RequestTimeoutError(str(error.detail))
        case _:
            problem = BadRequestError(str(error.detail))
    response = render(problem, request.scope)
    response.status_code = error.status_code
    response.headers.update(error.headers or {})
    return response


async def on_client_disconnect(_request: Request, _error: Exception) -> Response:
    """End a request whose client is gone; nobody receives the status, but the metrics count it."""
    return Response(status_code=_CLIENT_CLOSED_REQUEST)


def _route_hint(path: str) -> str:
    if path != "/" and path.endswith("/"):
        return "leave out the slash at the end"
    if not path.startswith("/v1"):
        return "the paths of the API start with /v1; GET /v1/openapi.json lists them"
    return "GET /v1/openapi.json lists the routes"


async def on_unhandled_error(request: Request, error: Exception) -> Response:
    """Handle unexpected exceptions: the details are logged, the client receives the request id."""
    _log.error("unhandled error", extra={"path": request.url.path}, exc_info=error)
    problem = WindlassError("internal server error", hint="report the request id to the platform's admin")
    return render(problem, request.scope)


def _pointer(location: tuple[str | int, ...], body: object) -> str:
    source, *path = location
    if source == "body":
        return json_pointer(tuple(path), body)
    return "/" + "/".join(str(part) for part in location[:2])
