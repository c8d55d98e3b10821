"""The one error tree: services raise it, the API maps it to HTTP, the SDK rebuilds it, the CLI exits by it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """What is wrong with one field of a request: a JSON pointer (RFC 6901) and a sentence."""

    pointer: str
    problem: str


class WindlassError(Exception):
    """Base of every error that a user may see.

    ``code`` is stable and documented; ``hint`` says the way out; ``retryable`` is true when the same
    request may succeed later without a change; ``facts`` carries what a program may want to read.
    """

    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        fields: Sequence[FieldProblem] = (),
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.fields = tuple(fields)
        self.facts = dict(facts or {})
        self.request_id = ""

    @classmethod
    def field(cls, pointer: str, problem: str, *, hint: str = "") -> Self:
        """Build the error for a single wrong field; the message repeats field and problem."""
        name = pointer.rsplit("/", 1)[-1] or "body"
        return cls(f"{name}: {problem}", hint=hint, fields=[FieldProblem(pointer, problem)])


class InvalidError(WindlassError):
    """The request is understood and wrong."""

    code = "invalid"


class BadRequestError(WindlassError):
    """The request cannot be read: malformed JSON, a bad cursor, a missing required header."""

    code = "bad_request"


class MethodNotAllowedError(BadRequestError):
    """The path exists and answers other methods."""

    code = "method_not_allowed"


class UnsupportedMediaTypeError(BadRequestError):
    """The body is announced as something that this route does not read."""

    code = "unsupported_media_type"


class ContextLengthError(InvalidError):
    """The prompt leaves the model no room for an answer."""

    code = "context_length_exceeded"


class UnauthenticatedError(WindlassError):
    """No credential, or one that is unknown, expired or revoked."""

    code = "unauthenticated"


class ForbiddenError(WindlassError):
    """The credential is known and its role does not allow this."""

    code = "forbidden"


class NotFoundError(WindlassError):
    """The object does not exist, or is not visible to the caller: the two look the same."""

    code = "not_found"


class ConflictError(WindlassError):
    """The request contradicts what is stored: a name taken, an object in use."""

    code = "conflict"


class IllegalMoveError(ConflictError):
    """A state machine was asked for a move that it does not have."""

    code = "illegal_move"


class LimitReachedError(ConflictError):
    """The project has as many of these unfinished as it may; ``facts`` has the limit. Ended ones make room."""

    code = "limit_reached"


class FencedError(ConflictError):
    """The caller's attempt is not the live one of its job: it must stop writing and exit."""

    code = "fenced"


class AttemptHeldError(ConflictError):
    """The previous attempt still holds its lease; its loss has not been observed."""

    code = "attempt_held"
    retryable = True


class IdempotencyInProgressError(ConflictError):
    """A request with this idempotency key is still being answered."""

    code = "idempotency_in_progress"
    retryable = True


class IdempotencyMismatchError(WindlassError):
    """The idempotency key was used before with another body."""

    code = "idempotency_mismatch"


class PreconditionFailedError(WindlassError):
    """If-Match names a version that is no longer the current one."""

    code = "precondition_failed"


class PreconditionRequiredError(WindlassError):
    """The request changes an object and carries no If-Match."""

    code = "precondition_required"


class QuotaExceededError(WindlassError):
    """The job can never start under the quota as it stands; ``facts`` names the smallest change that fits."""

    code = "quota_exceeded"


class ChecksumMismatchError(WindlassError):
    """The bytes received are not the bytes announced."""

    code = "checksum_mismatch"


class TooLargeError(WindlassError):
    """The body, or one part of it, is over the limit that the message names."""

    code = "too_large"


class StorageFullError(WindlassError):
    """The disk is full; nothing was half-written."""

    code = "storage_full"
    retryable = True


class UnavailableError(WindlassError):
    """A part that this request needs is not ready; try again."""

    code = "unavailable"
    retryable = True


class BusyError(UnavailableError):
    """As many requests wait already as the model server takes."""

    code = "busy"


class EndpointNotReadyError(UnavailableError):
    """The endpoint exists and has no healthy replica: starting, asleep or failed, as ``facts`` says."""

    code = "endpoint_not_ready"


class UpstreamError(WindlassError):
    """A served model failed while answering."""

    code = "upstream_failed"


def error_classes() -> Iterator[type[WindlassError]]:
    """Yield every class of the tree, the base first."""
    pending = [WindlassError]
    while pending:
        kind = pending.pop()
        yield kind
        pending.extend(kind.__subclasses__())


def error_class(code: str) -> type[WindlassError]:
    """Return the class of a stable code, the base for a code that this version does not know."""
    return next((kind for kind in error_classes() if kind.code == code), WindlassError)
