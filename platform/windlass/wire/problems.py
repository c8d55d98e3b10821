"""WindlassError -> RFC 9457 problem, for the API and the model servers. The only map from codes to HTTP statuses."""

from http import HTTPStatus

from windlass.domain.errors import (
    BadRequestError,
    BusyError,
    ChecksumMismatchError,
    ConflictError,
    ForbiddenError,
    IdempotencyMismatchError,
    InvalidError,
    MethodNotAllowedError,
    NotFoundError,
    PreconditionFailedError,
    PreconditionRequiredError,
    QuotaExceededError,
    StorageFullError,
    TooLargeError,
    UnauthenticatedError,
    UnavailableError,
    UnsupportedMediaTypeError,
    UpstreamError,
    WindlassError,
)
from windlass.wire.base import FieldProblemOut, Problem

_STATUS: dict[type[WindlassError], HTTPStatus] = {
    BadRequestError: HTTPStatus.BAD_REQUEST,
    UnauthenticatedError: HTTPStatus.UNAUTHORIZED,
    ForbiddenError: HTTPStatus.FORBIDDEN,
    NotFoundError: HTTPStatus.NOT_FOUND,
    MethodNotAllowedError: HTTPStatus.METHOD_NOT_ALLOWED,
    UnsupportedMediaTypeError: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    ConflictError: HTTPStatus.CONFLICT,
    PreconditionFailedError: HTTPStatus.PRECONDITION_FAILED,
    PreconditionRequiredError: HTTPStatus.PRECONDITION_REQUIRED,
    TooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    InvalidError: HTTPStatus.UNPROCESSABLE_ENTITY,
    ChecksumMismatchError: HTTPStatus.UNPROCESSABLE_ENTITY,
    IdempotencyMismatchError: HTTPStatus.UNPROCESSABLE_ENTITY,
    QuotaExceededError: HTTPStatus.UNPROCESSABLE_ENTITY,
    BusyError: HTTPStatus.TOO_MANY_REQUESTS,
    UnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
    StorageFullError: HTTPStatus.INSUFFICIENT_STORAGE,
    UpstreamError: HTTPStatus.BAD_GATEWAY,
}


def status_of(kind: type[WindlassError]) -> HTTPStatus:
    """Return the status of an error class: its own, or its nearest ancestor's."""
    return next((_STATUS[base] for base in kind.__mro__ if base in _STATUS), HTTPStatus.INTERNAL_SERVER_ERROR)


def problem_of(error: WindlassError, request_id: str = "") -> Problem:
    """Return the wire form of an error."""
    status = status_of(type(error))
    return Problem(
        type=f"urn:windlass:problem:{error.code}",
        title=status.phrase,
        status=status,
        code=error.code,
        detail=error.message,
        hint=error.hint,
        errors=[FieldProblemOut(pointer=field.pointer, detail=field.problem) for field in error.fields],
        facts=error.facts,
        retryable=error.retryable,
        request_id=request_id,
    )


def headers_of(error: WindlassError) -> dict[str, str]:
    """Return the headers that go with an error's response."""
    headers = {}
    if status_of(type(error)) is HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if error.retryable:
        headers["Retry-After"] = "1"
    return headers
