"""What an API server's refusals become. An adapter turns them into errors of the domain, on purpose and one by one.

They are no ``WindlassError``: that Kubernetes forbids something to a service account of ours is not the fault of the
user whose request needed it.
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, ClassVar, NamedTuple

_MESSAGE = 2000
"""Characters that are kept of what a server says: an error is read by people, and logged."""


class Cause(NamedTuple):
    """One thing that is wrong with a request, as the server tells it."""

    field: str
    """Path of the field, as ``spec.quotas[0].nominal``; empty where the server names none."""
    message: str


class ClusterError(Exception):
    """The API server did not do what was asked.

    ``status`` is the HTTP status, 0 when no answer came; ``reason`` the word of the Status object (metav1.Status);
    ``retry_after`` the seconds that the server wants to be left alone, None when it did not say.
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
        """Server-side apply: who owns the fields that were contended, as the server lists them."""
        self.causes = tuple(causes)

    @property
    def fields(self) -> tuple[str, ...]:
        """Paths of the fields at fault, where the server names them: ``spec.quotas[0].nominal``."""
        return tuple(cause.field for cause in self.causes if cause.field)


class NotFoundError(ClusterError):
    """There is no such object, or no such kind."""


class UnknownKindError(NotFoundError):
    """The API server does not serve the kind: its definition is not installed."""


class ConflictError(ClusterError):
    """The object changed meanwhile, exists already, or fields of it belong to another manager."""


class InvalidError(ClusterError):
    """The object breaks its schema, a rule or an admission policy; it is refused as long as it stays so."""


class ForbiddenError(ClusterError):
    """Our account may not do this."""


class ExpiredError(ClusterError):
    """The resource version to watch from is too old: list again."""


class UnavailableError(ClusterError):
    """The server cannot answer now, or nobody does; the same request may succeed later."""

    retryable = True


class SilentError(UnavailableError):
    """A watch was open and nothing came for too long: it may be dead, and is begun again."""


_KINDS: Mapping[int, type[ClusterError]] = {
    HTTPStatus.BAD_REQUEST: InvalidError,
    HTTPStatus.UNAUTHORIZED: ForbiddenError,
    HTTPStatus.FORBIDDEN: ForbiddenError,
    HTTPStatus.NOT_FOUND: NotFoundError,
    HTTPStatus.CONFLICT: ConflictError,
    HTTPStatus.GONE: ExpiredError,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: InvalidError,
    HTTPStatus.UNPROCESSABLE_ENTITY: InvalidError,
    HTTPStatus.TOO_MANY_REQUESTS: UnavailableError,
}


_NO_SUCH_TYPE = "failed to create typed patch object"
_UID = "metadata.uid"


def error_of(what: str, status: int, body: Mapping[str, Any], retry_after: str | None = None) -> ClusterError:
    """Return the error for an answer: ``body`` is a metav1.Status, or empty when something else was sent."""
    kind = _KINDS.get(status) or (UnavailableError if status >= HTTPStatus.INTERNAL_SERVER_ERROR else ClusterError)
    details = body.get("details") or {}
    causes = details.get("causes") or ()
    contended = [cause for cause in causes if cause.get("reason") == "FieldManagerConflict"]
    found = [Cause(str(one.get("field") or ""), str(one.get("message") or "")[:_MESSAGE]) for one in causes]
    said = str(body.get("message") or f"HTTP {status}")
    if _NO_SUCH_TYPE in said:
        kind = InvalidError  # told as an internal error, and as lasting as any wrong field
    if kind is InvalidError and _UID in {cause.field for cause in found}:
        kind = ConflictError  # the wish was for another object of this name
    return kind(
        f"{what}: {said}"[:_MESSAGE],
        status=status,
        reason=str(body.get("reason") or ""),
        retry_after=_seconds(retry_after) or details.get("retryAfterSeconds"),
        managers="; ".join(f"{cause.get('field', '')}: {cause.get('message', '')}" for cause in contended)[:_MESSAGE],
        causes=found,
    )


def _seconds(retry_after: str | None) -> float | None:
    """Seconds of a Retry-After header; the API server sends no dates."""
    return float(retry_after) if retry_after and retry_after.isdecimal() else None
