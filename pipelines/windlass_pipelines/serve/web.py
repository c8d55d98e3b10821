"""The HTTP edge of a served application: routes, size limits and who may ask. Every error is an object, no page."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from windlass.domain.errors import (
    FieldProblem,
    ForbiddenError,
    InvalidError,
    MethodNotAllowedError,
    NotFoundError,
    TooLargeError,
    UnsupportedMediaTypeError,
    WindlassError,
)
from windlass.wire.problems import headers_of, problem_of
from windlass_pipelines.serve.limits import MAX_BODY_BYTES

Handler = Callable[[Request], Awaitable[Response]]
Body = TypeVar("Body", bound=BaseModel)


def problem(error: WindlassError) -> Response:
    """Render an error as RFC 9457 problem details."""
    said = problem_of(error)
    return JSONResponse(said.model_dump(), said.status, headers_of(error), media_type="application/problem+json")


async def dispatch(request: Request, routes: Mapping[tuple[str, str], Handler], hosts: Sequence[str]) -> Response:
    """Find the handler for the path below the application's prefix and run it.

    Args:
        request: the request; its path starts with the prefix that Serve put into ``root_path``.
        routes: handlers by method and path.
        hosts: names by which this server may be addressed. A web page that rebinds its own name to the loopback
            address is refused by them, and one that posts across origins by the JSON content type.

    Raises:
        NotFoundError: no such path.
        MethodNotAllowedError: the path has other methods.
        ForbiddenError: addressed by a name that is not ours.
    """
    if hosts and request.url.hostname not in hosts:
        raise ForbiddenError("this server is addressed by a name that is not its own")
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    handler = routes.get((request.method, path))
    if handler is not None:
        return await handler(request)
    methods = sorted(method for method, known in routes if known == path)
    if methods:
        raise MethodNotAllowedError(f"{path} answers {', '.join(methods)}, not {request.method}")
    raise NotFoundError(f"there is no {path} here", hint=f"use one of {', '.join(sorted({p for _, p in routes}))}")


async def read_json(request: Request, model: type[Body], limit: int = MAX_BODY_BYTES) -> Body:
    """Read a JSON body of at most ``limit`` bytes and validate it.

    Raises:
        UnsupportedMediaTypeError: the content type is not JSON.
        TooLargeError: more bytes than ``limit``; reading stops there.
        InvalidError: not JSON, or fields that do not fit; the JSON pointer of each is given.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise UnsupportedMediaTypeError("send the body as application/json")
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > limit:
        raise TooLargeError(f"the body has {announced} bytes, the limit is {limit}")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise TooLargeError(f"the body has more than {limit} bytes")
    try:
        return model.model_validate_json(bytes(body))
    except ValidationError as error:
        raise _invalid(error) from None


def _invalid(error: ValidationError) -> InvalidError:
    fields = [
        FieldProblem("".join(f"/{part}" for part in item["loc"]), item["msg"])
        for item in error.errors(include_url=False, include_input=False, include_context=False)
    ]
    first = fields[0]
    name = first.pointer.lstrip("/").replace("/", ".") or "body"
    return InvalidError(f"{name}: {first.problem}", fields=fields[:20])
