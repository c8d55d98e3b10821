"""Maps WindlassError to RFC 9457 problems and HTTP statuses, and responses back to errors."""

import json
from http import HTTPStatus

from pydantic import ValidationError

from windlass.domain.errors import (
    BadRequestError,
    BusyError,
    ChecksumMismatchError,
    ConflictError,
    FieldProblem,
    ForbiddenError,
    IdempotencyMismatchError,
    InvalidError,
    MethodNotAllowedError,
    NotFoundError,
    PreconditionFailedError,
    PreconditionRequiredError,
    QuotaExceededError,
    RequestTimeoutError,
    StorageFullError,
    TooLargeError,
    TooManyRequestsError,
    UnauthenticatedError,
    UnavailableError,
    UnsupportedMediaTypeError,
    UpstreamError,
    WindlassError,
    error_class,
)
from windlass.wire.base import FieldProblemOut, Problem

_STATUS: dict[type[WindlassError], HTTPStatus] = {
    BadRequestError: HTTPStatus.BAD_REQUEST,
    UnauthenticatedError: HTTPStatus.UNAUTHORIZED,
    ForbiddenError: HTTPStatus.FORBIDDEN,
    NotFoundError: HTTPStatus.NOT_FOUND,
    MethodNotAllowedError: HTTPStatus.METHOD_NOT_ALLOWED,
    RequestTimeoutError: HTTPStatus.REQUEST_TIMEOUT,
    UnsupportedMediaTypeError: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    ConflictError: HTTPStatus.CONFLICT,
    PreconditionFailedError: HTTPStatus.PRECONDITION_FAILED,
    PreconditionRequiredError: HTTPStatus.PRECONDITION_REQUIRED,
    TooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    InvalidError: HTTPStatus.UNPROCESSABLE_ENTITY,
    ChecksumMismatchError: HTTPStatus.UNPROCESSABLE_ENTITY,
    IdempotencyMismatchError: HTTPStatus.UNPROCESSABLE_ENTITY,
    QuotaExceededError: HTTPStatus.UNPROCESSABLE_ENTITY,
    TooManyRequestsError: HTTPStatus.TOO_MANY_REQUESTS,
    BusyError: HTTPStatus.TOO_MANY_REQUESTS,
    UnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
    StorageFullError: HTTPStatus.INSUFFICIENT_STORAGE,
    UpstreamError: HTTPStatus.BAD_GATEWAY,
}


def status_of(kind: type[WindlassError]) -> HTTPStatus:
    """Return the HTTP status of an error class or of its nearest ancestor."""
    return next((_STATUS[base] for base in kind.__mro__ if base in _STATUS), HTTPStatus.INTERNAL_SERVER_ERROR)


def problem_of(error: WindlassError, request_id: str = "") -> Problem:
    """Return the problem details of an error."""
    status = status_of(type(error))
    return Problem(
        type=f"urn:windlass:problem:{error.code}",
        title=status.phrase,
        status=status,
        code=error.code,
        detail=error.message,
        hint=error.hint,
        errors=[FieldProblemOut(pointer=field.pointer, detail=field.problem) for field in error.fields],
        context=error.context,
        retryable=error.retryable,
        request_id=request_id,
    )


def headers_of(error: WindlassError) -> dict[str, str]:
    """Return the response headers of an error."""
    headers = {}
    if status_of(type(error)) is HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if error.retryable:
        headers["Retry-After"] = str(error.retry_after)
    return headers


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


def error_from_response(status: int, content: bytes) -> WindlassError:
    """Return the error of a response with status >= 400; the problem's code selects its class."""
    try:
        problem = Problem.model_validate_json(content)
    except ValidationError:
        return _error_from_other_body(status, content)
    kind = error_class(problem.code)
    if kind is WindlassError:
        kind = _BY_STATUS.get(status, WindlassError)
    error = kind(
        problem.detail or problem.title,
        hint=problem.hint,
        fields=[FieldProblem(item.pointer, item.detail) for item in problem.errors],
        context=problem.context,
        retryable=problem.retryable if "retryable" in problem.model_fields_set else None,
    )
    error.request_id = problem.request_id
    return error


def _error_from_other_body(status: int, content: bytes) -> WindlassError:
    """Return the error of a response from a proxy or an OpenAI-compatible route."""
    kind, message = _BY_STATUS.get(status, WindlassError), f"the server returned status {status}"
    try:
        body = json.loads(content).get("error")
    except (ValueError, AttributeError):
        return kind(message)
    if not isinstance(body, dict):
        return kind(message)
    kind_by_code = error_class(str(body.get("code")))
    return (kind if kind_by_code is WindlassError else kind_by_code)(str(body.get("message") or message))
