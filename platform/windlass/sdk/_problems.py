"""Problems from the wire (RFC 9457, or the OpenAI error shape of chat routes) back to the classes of the error tree."""

import json
from typing import Any

from pydantic import ValidationError

from windlass.domain.errors import (
    BadRequestError,
    BusyError,
    ConflictError,
    FieldProblem,
    ForbiddenError,
    InvalidError,
    MethodNotAllowedError,
    NotFoundError,
    PreconditionFailedError,
    PreconditionRequiredError,
    TooLargeError,
    UnauthenticatedError,
    UnavailableError,
    UnsupportedMediaTypeError,
    UpstreamError,
    WindlassError,
    error_class,
)
from windlass.wire.base import Problem

_BY_STATUS: dict[int, type[WindlassError]] = {
    400: BadRequestError,
    401: UnauthenticatedError,
    403: ForbiddenError,
    404: NotFoundError,
    405: MethodNotAllowedError,
    409: ConflictError,
    412: PreconditionFailedError,
    413: TooLargeError,
    415: UnsupportedMediaTypeError,
    422: InvalidError,
    428: PreconditionRequiredError,
    429: BusyError,
    502: UpstreamError,
    503: UnavailableError,
    504: UnavailableError,
}


def error_of(status: int, content: bytes) -> WindlassError:
    """Build the error that an answer of status >= 400 stands for; its class is that of the problem's code."""
    try:
        problem = Problem.model_validate_json(content)
    except ValidationError:
        return _foreign(status, content)
    kind = error_class(problem.code)
    if kind is WindlassError:
        kind = _BY_STATUS.get(status, WindlassError)
    error = kind(
        problem.detail or problem.title,
        hint=problem.hint,
        fields=[FieldProblem(item.pointer, item.detail) for item in problem.errors],
        facts=problem.facts,
    )
    error.request_id = problem.request_id
    return error


def _foreign(status: int, content: bytes) -> WindlassError:
    """Read what a proxy or an OpenAI-shaped route says."""
    kind, message = _BY_STATUS.get(status, WindlassError), f"the server answered with status {status}"
    try:
        said = json.loads(content).get("error")
    except (ValueError, AttributeError):
        return kind(message)
    if not isinstance(said, dict):
        return kind(message)
    named = error_class(str(said.get("code")))
    return (kind if named is WindlassError else named)(str(said.get("message") or message))


def invalid_from(error: ValidationError, values: object) -> InvalidError:
    """Turn a validation error of a body built from ``values`` into the one that the server would answer."""
    fields = [
        FieldProblem(_pointer(item["loc"], values), item["msg"].removeprefix("Value error, "))
        for item in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    first = fields[0]
    more = f" (and {len(fields) - 1} more)" if len(fields) > 1 else ""
    return InvalidError(f"{first.pointer or 'body'}: {first.problem}{more}", fields=fields)


def _pointer(loc: tuple[int | str, ...], values: object) -> str:
    """Return the JSON pointer (RFC 6901) of a pydantic location.

    The location also names the chosen branch of a union, which is no key of the input: such a part is left out.
    """
    parts, here = [], values
    for index, part in enumerate(loc):
        last = index == len(loc) - 1
        inside = _step(here, part)
        if inside is _ABSENT and not last:
            continue
        parts.append(str(part).replace("~", "~0").replace("/", "~1"))
        here = inside
    return "".join(f"/{part}" for part in parts)


_ABSENT = object()


def _step(here: object, part: int | str) -> Any:
    if isinstance(here, dict):
        return here.get(part, _ABSENT)
    if isinstance(here, list | tuple) and isinstance(part, int) and part < len(here):
        return here[part]
    return _ABSENT
