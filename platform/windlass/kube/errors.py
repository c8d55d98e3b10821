"""Errors of the Kubernetes API. Adapters translate them into domain errors explicitly.

They are not ``WindlassError``: a permission that our service account lacks is not the fault of the user whose request
needed it.
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, ClassVar, NamedTuple

_MAX_MESSAGE_LENGTH = 2000
"""Characters kept of a server message: errors are shown to people and logged."""


class Cause(NamedTuple):
    """One cause of an invalid request (metav1.StatusCause)."""

    field: str
    """Path of the field, as ``spec.quotas[0].nominal``; empty if the server names none."""
    message: str


class KubeApiError(Exception):
    """The API server did not perform the request.

    ``status`` is the HTTP status, 0 without a response; ``reason`` the reason of the metav1.Status; ``retry_after`` the
    seconds that the server asks the client to wait, None if it does not.
    """

    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        reason: str = "",
        retry_after: float | None = None,
        managers: str = "",
        causes: Sequence[Cause] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.reason = reason
        self.retry_after = retry_after
        self.managers = managers
        """Server-side apply: the managers of the conflicting fields, as the server lists them."""
        self.causes = tuple(causes)

    @property
    def fields(self) -> tuple[str, ...]:
        """Paths of the invalid fields, if the server names them: ``spec.quotas[0].nominal``."""
        return tuple(cause.field for cause in self.causes if cause.field)


class KubeNotFoundError(KubeApiError):
    """The object or its kind does not exist."""


class NoKindMatchError(KubeNotFoundError):
    """The API server does not serve the kind: its CRD is not installed."""


class KubeConflictError(KubeApiError):
    """The object was modified concurrently, exists already, or another manager owns some of its fields."""


class KubeInvalidError(KubeApiError):
    """The object violates its schema, a validation rule or an admission policy; retrying it unchanged fails again."""


class KubeForbiddenError(KubeApiError):
    """RBAC forbids the request to our account."""


class ResourceExpiredError(KubeApiError):
    """The resourceVersion to watch from is too old: list again."""


class KubeUnavailableError(KubeApiError):
    """The server cannot be reached or cannot answer now; the same request may succeed later."""

    retryable = True


class WatchTimeoutError(KubeUnavailableError):
    """A watch received nothing for too long: the connection may be dead, and the watch is restarted."""


_ERRORS_BY_STATUS: Mapping[int, type[KubeApiError]] = {
    HTTPStatus.BAD_REQUEST: KubeInvalidError,
    HTTPStatus.UNAUTHORIZED: KubeForbiddenError,
    HTTPStatus.FORBIDDEN: KubeForbiddenError,
    HTTPStatus.NOT_FOUND: KubeNotFoundError,
    HTTPStatus.CONFLICT: KubeConflictError,
    HTTPStatus.GONE: ResourceExpiredError,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: KubeInvalidError,
    HTTPStatus.UNPROCESSABLE_ENTITY: KubeInvalidError,
    HTTPStatus.TOO_MANY_REQUESTS: KubeUnavailableError,
}


_UNKNOWN_FIELD_MESSAGE = "failed to create typed patch object"
_UID_FIELD = "metadata.uid"


def error_of(what: str, status: int, body: Mapping[str, Any], retry_after: str | None = None) -> KubeApiError:
    """Return the error for a response; ``body`` is a metav1.Status, empty if the response is not JSON."""
    error_type = _ERRORS_BY_STATUS.get(status) or (
        KubeUnavailableError if status >= HTTPStatus.INTERNAL_SERVER_ERROR else KubeApiError
    )
    details = body.get("details") or {}
    raw_causes = details.get("causes") or ()
    conflicts = [cause for cause in raw_causes if cause.get("reason") == "FieldManagerConflict"]
    causes = [
        Cause(str(cause.get("field") or ""), str(cause.get("message") or "")[:_MAX_MESSAGE_LENGTH])
        for cause in raw_causes
    ]
    message = str(body.get("message") or f"HTTP {status}")
    if _UNKNOWN_FIELD_MESSAGE in message:
        error_type = KubeInvalidError  # the server reports an unknown field as an internal error
    if error_type is KubeInvalidError and _UID_FIELD in {cause.field for cause in causes}:
        error_type = KubeConflictError  # an object of the same name with another uid exists
    managers = "; ".join(f"{cause.get('field', '')}: {cause.get('message', '')}" for cause in conflicts)
    return error_type(
        f"{what}: {message}"[:_MAX_MESSAGE_LENGTH],
        status=status,
        reason=str(body.get("reason") or ""),
        retry_after=_seconds(retry_after) or details.get("retryAfterSeconds"),
        managers=managers[:_MAX_MESSAGE_LENGTH],
        causes=causes,
    )


def _seconds(retry_after: str | None) -> float | None:
    """Parse the seconds of a Retry-After header; the API server sends no dates."""
    return float(retry_after) if retry_after and retry_after.isdecimal() else None
