"""The error hierarchy: services raise it, the API maps it to HTTP, the SDK to exceptions, the CLI to exit codes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One invalid field of a request: a JSON pointer (RFC 6901) and the problem as a sentence."""

    pointer: str
    problem: str


class WindlassError(Exception):
    """Base of every error that is shown to users.

    ``code`` is stable and documented; ``hint`` says how to fix it; ``retryable``: the same request may succeed later
    without a change (an argument overrides the value of the class); ``context`` holds machine-readable values.
    """

    code: ClassVar[str] = "internal"
    retryable: bool = False
    is_denial: bool = False
    """Whether the credential of the request is the cause; the audit log has denied changes."""
    retry_after: int = 1
    """Seconds after which a retry may succeed, if ``retryable``."""

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        fields: Sequence[FieldProblem] = (),
        context: Mapping[str, Any] | None = None,
        retryable: bool | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.fields = tuple(fields)
        self.context = dict(context or {})
        self.request_id = ""
        if retryable is not None:
            self.retryable = retryable
        if retry_after is not None:
            self.retry_after = retry_after

    @classmethod
    def field(cls, pointer: str, problem: str, *, hint: str = "") -> Self:
        """Build the error for a single wrong field; the message repeats field and problem."""
        name = pointer.rsplit("/", 1)[-1] or "body"
        return cls(f"{name}: {problem}", hint=hint, fields=[FieldProblem(pointer, problem)])


class InvalidError(WindlassError):
    """The request is well-formed, but a value is invalid."""

    code = "invalid"


class BadRequestError(WindlassError):
    """The request cannot be parsed: malformed JSON, an invalid cursor, a missing required header."""

    code = "bad_request"


class MethodNotAllowedError(BadRequestError):
    """The path does not support this method."""

    code = "method_not_allowed"


class UnsupportedMediaTypeError(BadRequestError):
    """This route does not accept the Content-Type of the body."""

    code = "unsupported_media_type"


class RequestTimeoutError(BadRequestError):
    """The body of the request did not arrive in time; the server closes the connection."""

    code = "request_timeout"
    retryable = True


class ContextLengthError(InvalidError):
    """The prompt leaves no room for an answer in the model's context length."""

    code = "context_length_exceeded"


class PurposeNotAllowedError(InvalidError):
    """The dataset may not be used for the purpose of the job; ``context`` has the purposes that it allows."""

    code = "purpose_not_allowed"


class ConsentExpiredError(InvalidError):
    """The consent to use the dataset has ended; ``context`` has the time."""

    code = "consent_expired"


class UnauthenticatedError(WindlassError):
    """The credential is missing, unknown, expired or revoked."""

    code = "unauthenticated"
    is_denial = True


class ForbiddenError(WindlassError):
    """The credential is valid, but its role does not allow this."""

    code = "forbidden"
    is_denial = True


class NotFoundError(WindlassError):
    """The object does not exist or is not visible to the caller."""

    code = "not_found"

    @classmethod
    def hidden(cls, message: str) -> Self:
        """Build the error for an object that the caller may not see; the response is that of a missing object."""
        error = cls(message)
        error.is_denial = True
        return error


class ConflictError(WindlassError):
    """The request conflicts with stored state: the name is taken, or the object is in use."""

    code = "conflict"


class CapabilityMissingError(ConflictError):
    """This server cannot do this, because it has no such back end, or because the cluster owns the object.

    ``context`` has the capability.
    """

    code = "capability_missing"


class InvalidTransitionError(ConflictError):
    """The state machine has no such transition."""

    code = "invalid_transition"


class LimitReachedError(ConflictError):
    """The project has reached its limit of active objects of this kind; ``context`` has the limit."""

    code = "limit_reached"


class BudgetExceededError(LimitReachedError):
    """The project has used its budget of this month, so it accepts no new jobs and no more GPUs of endpoints.

    ``context`` has what is used.
    """

    code = "budget_exceeded"


class FencedError(ConflictError):
    """The caller's attempt is no longer the active one of its job: it must stop writing and exit."""

    code = "fenced"


class AttemptActiveError(ConflictError):
    """The previous attempt is still active: its heartbeat has not timed out."""

    code = "attempt_active"
    retryable = True


class IdempotencyInProgressError(ConflictError):
    """A request with this idempotency key is still in progress."""

    code = "idempotency_in_progress"
    retryable = True


class IdempotencyMismatchError(WindlassError):
    """The idempotency key was already used with another body."""

    code = "idempotency_mismatch"


class PreconditionFailedError(WindlassError):
    """If-Match does not match the current version."""

    code = "precondition_failed"


class PreconditionRequiredError(WindlassError):
    """The request changes an object and has no If-Match header."""

    code = "precondition_required"


class QuotaExceededError(WindlassError):
    """The job can never start under the current quota; ``context`` has the smallest change that would help."""

    code = "quota_exceeded"


class ChecksumMismatchError(WindlassError):
    """The received bytes do not match the declared length or sha256."""

    code = "checksum_mismatch"


class TooLargeError(WindlassError):
    """The body or a part of it exceeds the limit given in the message."""

    code = "too_large"


class StorageFullError(WindlassError):
    """The disk is full; no partial file is left."""

    code = "storage_full"
    retryable = True


class UnavailableError(WindlassError):
    """A component that this request needs is not ready; retry later."""

    code = "unavailable"
    retryable = True


class TransactionConflictError(UnavailableError):
    """Concurrent changes kept preventing this one, although the server repeated it several times."""

    code = "transaction_conflict"


class BusyError(UnavailableError):
    """The request queue of the model server is full."""

    code = "busy"


class TooManyRequestsError(UnavailableError):
    """The caller has too many requests or streams open at once; ``context`` has the limit."""

    code = "too_many_requests"


class RateLimitedError(TooManyRequestsError):
    """The API key or the project has sent more requests than its rate allows; ``context`` has the limit.

    The Retry-After header has the seconds until the next request is accepted.
    """

    code = "rate_limited"


class EndpointNotReadyError(UnavailableError):
    """The endpoint has no healthy replica: it is starting, scaled to zero or failed; ``context`` has its state."""

    code = "endpoint_not_ready"


class UpstreamError(WindlassError):
    """The model server failed while processing the request."""

    code = "upstream_failed"


def error_classes() -> Iterator[type[WindlassError]]:
    """Yield every class of the hierarchy, the base first."""
    pending = [WindlassError]
    while pending:
        kind = pending.pop()
        yield kind
        pending.extend(kind.__subclasses__())


def error_class(code: str) -> type[WindlassError]:
    """Return the class of a code; the base class for an unknown code."""
    return next((kind for kind in error_classes() if kind.code == code), WindlassError)
