"""HTTP handling of a served application: routing, body size limit, host check and JSON errors."""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from windlass.domain.endpoints import MAX_REQUEST_BYTES
from windlass.domain.errors import (
    ForbiddenError,
    MethodNotAllowedError,
    NotFoundError,
    TooLargeError,
    UnsupportedMediaTypeError,
    WindlassError,
)
from windlass.wire.problems import headers_of, problem_of
from windlass.wire.validation import field_problems, invalid, json_pointer

Handler = Callable[[Request], Awaitable[Response]]
Body = TypeVar("Body", bound=BaseModel)


def problem_response(error: WindlassError) -> Response:
    """Render an error as RFC 9457 problem details."""
    details = problem_of(error)
    return JSONResponse(details.model_dump(), details.status, headers_of(error), media_type="application/problem+json")


async def dispatch(request: Request, routes: Mapping[tuple[str, str], Handler], hosts: Sequence[str]) -> Response:
    """Call the handler for the path below the application's prefix.

    Args:
        request: the request; its path starts with the prefix that Serve put into ``root_path``.
        routes: handlers by method and path.
        hosts: accepted host names, as a protection against DNS rebinding. (Cross-origin posts are rejected by the
            required JSON content type.)

    Raises:
        NotFoundError: the path does not exist.
        MethodNotAllowedError: the path has other methods.
        ForbiddenError: the host name is not accepted.
    """
    if hosts and request.url.hostname not in hosts:
        raise ForbiddenError("the request's host name is not accepted by this server")
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    handler = routes.get((request.method, path))
    if handler is not None:
        return await handler(request)
    methods = sorted(method for method, route_path in routes if route_path == path)
    if methods:
        raise MethodNotAllowedError(f"{path} accepts {', '.join(methods)}, not {request.method}")
    raise NotFoundError(f"path {path} does not exist", hint=f"use one of {', '.join(sorted({p for _, p in routes}))}")


async def read_json(request: Request, model: type[Body], limit: int = MAX_REQUEST_BYTES) -> Body:
    """Read a JSON body of at most ``limit`` bytes and validate it.

    Raises:
        UnsupportedMediaTypeError: the content type is not JSON.
        TooLargeError: the body exceeds ``limit``; reading stops there.
        InvalidError: the body is not JSON, or fields are invalid; the error has the JSON pointer of each.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise UnsupportedMediaTypeError("send the body as application/json")
    content_length = request.headers.get("content-length", "0")
    if content_length.isdecimal() and int(content_length) > limit:
        raise TooLargeError(f"the body has {content_length} bytes, the limit is {limit}")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise TooLargeError(f"the body has more than {limit} bytes")
    try:
        return model.model_validate_json(bytes(body))
    except ValidationError as error:
        details = error.errors(include_url=False)
        value = None if details[0]["type"] == "json_invalid" else json.loads(body)
        raise invalid(field_problems(details, lambda location: json_pointer(location, value))) from None
