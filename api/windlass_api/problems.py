"""What the API answers when a request fails: our errors, FastAPI's and bugs, all as RFC 9457 problems."""

import logging
from http import HTTPStatus
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from windlass.domain.errors import (
    BadRequestError,
    FieldProblem,
    InvalidError,
    MethodNotAllowedError,
    NotFoundError,
    TooLargeError,
    WindlassError,
)
from windlass.wire.problems import headers_of, problem_of, status_of

_log = logging.getLogger(__name__)


def render(error: WindlassError, request_id: str) -> Response:
    """Return the response of an error."""
    problem = problem_of(error, request_id)
    return JSONResponse(problem.model_dump(), problem.status, headers_of(error), media_type="application/problem+json")


async def on_windlass_error(request: Request, error: Exception) -> Response:
    """Render an error of our own tree."""
    assert isinstance(error, WindlassError)  # noqa: S101 - registered for this class alone
    if status_of(type(error)) >= HTTPStatus.INTERNAL_SERVER_ERROR:
        cause = repr(error.__cause__) if error.__cause__ else ""
        facts = {"code": error.code, "detail": error.message, "cause": cause, "path": request.url.path}
        _log.warning("request failed", extra=facts)
    return render(error, _request_id(request))


async def on_validation_error(request: Request, error: Exception) -> Response:
    """Render what pydantic refused: 400 for what is no JSON at all, else 422 with a pointer per field."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class alone
    found = error.errors()
    if any(one["type"] == "json_invalid" for one in found):
        return render(BadRequestError("the body is not valid JSON", hint="send a JSON document"), _request_id(request))
    fields = [FieldProblem(_pointer(one["loc"]), _sentence(one)) for one in found]
    first = fields[0]
    name = first.pointer.rsplit("/", 1)[-1] or "body"
    if any(field.pointer.startswith("/header/") for field in fields):
        return render(BadRequestError(f"{name}: {first.problem}", fields=fields), _request_id(request))
    return render(InvalidError(f"{name}: {first.problem}", fields=fields), _request_id(request))


async def on_http_error(request: Request, error: Exception) -> Response:
    """Render what the framework itself refuses (no route, wrong method) in our form."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class alone
    kinds: dict[int, type[WindlassError]] = {404: NotFoundError, 405: MethodNotAllowedError, 413: TooLargeError}
    kind = kinds.get(error.status_code, BadRequestError)
    response = render(kind(str(error.detail)), _request_id(request))
    response.status_code = error.status_code
    response.headers.update(error.headers or {})
    return response


async def on_crash(request: Request, error: Exception) -> Response:
    """Render a bug: the details go to the log, the request id to the caller."""
    _log.error("unhandled error", extra={"path": request.url.path}, exc_info=error)
    said = WindlassError("something went wrong in the server", hint="report the request id to the platform's admin")
    return render(said, _request_id(request))


def _request_id(request: Request) -> str:
    found: str = request.scope.get("windlass.request_id", "")
    return found


def _pointer(location: tuple[str | int, ...]) -> str:
    source, *path = location
    escaped = [str(part).replace("~", "~0").replace("/", "~1") for part in path]
    return "/" + "/".join(escaped if source == "body" else [str(source), *escaped])


def _sentence(error: dict[str, Any]) -> str:
    if error["type"] == "extra_forbidden":
        return "is not a known field"
    if error["type"] == "missing":
        return "is required"
    message = str(error["msg"]).removeprefix("Value error, ")
    return message[:1].lower() + message[1:]
