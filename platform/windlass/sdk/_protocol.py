"""Requests and responses without I/O, shared by both clients: retries, encoding, decoding."""

import math
import secrets
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, ValidationError

from windlass.domain.errors import IdempotencyInProgressError, InvalidError, UnavailableError
from windlass.sdk._problems import validation_error
from windlass.wire.problems import error_from_response

M = TypeVar("M", bound=BaseModel)

READ_TIMEOUT = 60.0
CONNECT_TIMEOUT = 5.0
DEFAULT_RETRIES = 4
_MAX_RETRY_AFTER = 30.0
_FIRST_BACKOFF = 0.1
_MAX_BACKOFF = 5.0
_CHUNK = 1 << 18
_IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE"})
_RETRYABLE_STATUSES = frozenset({429, 503})
MAX_ETAG_RETRIES = 3
PAGE_SIZE = 100
JSON_CONTENT = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class FileBody:
    """A file streamed from ``offset``; ``progress`` is called with the absolute position after each chunk."""

    path: Path
    offset: int
    length: int
    progress: Callable[[int], None] | None = None

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes from ``offset`` to ``length``."""
        position = self.offset
        with self.path.open("rb") as stream:
            stream.seek(position)
            while position < self.length and (chunk := stream.read(min(_CHUNK, self.length - position))):
                yield chunk
                position += len(chunk)
                if self.progress is not None:
                    self.progress(position)


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request. A successful response body is written to ``sink`` if set.

    ``retry`` allows safe retries; ``read_only`` marks a POST that changes nothing, so that a retry is safe.
    """

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | FileBody | None = None
    sink: BinaryIO | None = None
    timeout: float = READ_TIMEOUT
    retry: bool = True
    read_only: bool = False

    @property
    def is_retryable(self) -> bool:
        """Whether the request is idempotent and may be sent again."""
        idempotent = self.method in _IDEMPOTENT or self.read_only or "Idempotency-Key" in self.headers
        return self.retry and idempotent


@dataclass(frozen=True, slots=True)
class Response:
    """One HTTP response; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx; redirects are not followed."""
        return self.status // 100 == 2  # noqa: PLR2004 - the class of a status code


@dataclass(frozen=True, slots=True)
class TransportFailure:
    """No response was received. ``sent`` is false if the request cannot have reached the server."""

    message: str
    sent: bool
    timed_out: bool = False


def path(*segments: str) -> str:
    """Return ``/v1/...`` with every segment percent-encoded.

    Raises:
        InvalidError: a segment is empty, ``.`` or ``..`` and would change the path.
    """
    for segment in segments:
        if segment in {"", ".", ".."}:
            raise InvalidError(f"invalid name {segment!r}", hint="pass the object's name or id")
    return "/v1/" + "/".join(quote(segment, safe="") for segment in segments)


def retry_delay(request: Request, response: Response | TransportFailure, attempt: int) -> float | None:
    """Return the delay in seconds before the next retry, or None if the request must not be retried."""
    if isinstance(response, TransportFailure):
        safe = request.is_retryable or (request.retry and not response.sent)
        return backoff(attempt) if safe else None
    if not request.is_retryable:
        return None
    if response.status in _RETRYABLE_STATUSES and "retry-after" in response.headers:
        retry_after = response.headers["retry-after"]
        seconds = float(retry_after) if retry_after.isdigit() else _FIRST_BACKOFF
        return None if seconds > _MAX_RETRY_AFTER else seconds + _jitter(_FIRST_BACKOFF)
    error = None if response.is_success else error_from_response(response.status, response.content)
    return backoff(attempt) if isinstance(error, IdempotencyInProgressError) else None


def backoff(attempt: int) -> float:
    """Return an exponential backoff in seconds; half of it is jitter to spread the retries of clients."""
    top = min(_FIRST_BACKOFF * 2.0**attempt, _MAX_BACKOFF)
    return top / 2 + _jitter(top / 2)


def _jitter(top: float) -> float:
    return secrets.randbelow(1001) / 1000 * top


def success(response: Response | TransportFailure) -> Response:
    """Return a successful response.

    Raises:
        WindlassError: the class of the problem's code; ``UnavailableError`` if there is no response.
    """
    if isinstance(response, TransportFailure):
        raise UnavailableError(
            response.message, hint="check that the server runs (`windlass status`) and that the URL is correct"
        )
    if not response.is_success:
        raise error_from_response(response.status, response.content)
    return response


def decode_text(response: Response) -> str:
    """Decode a text body."""
    return response.content.decode("utf-8", "replace")


def decode_as(model: type[M]) -> Callable[[Response], M]:
    """Return a function that decodes a JSON body as ``model``.

    The returned function raises ``UnavailableError`` if the body does not match: the URL is not a Windlass server, or
    its version is incompatible.
    """

    def decode(response: Response) -> M:
        try:
            return model.model_validate_json(response.content)
        except ValidationError as error:
            raise UnavailableError(
                f"the response is not a valid {model.__name__}: {error.error_count()} invalid fields",
                hint="check the URL, and that client and server versions are compatible (`windlass status`)",
            ) from error

    return decode


def post_request(url: str, body: BaseModel | None, *, key: str | None, read_only: bool) -> Request:
    """Return a POST. The idempotency key allows retries; a read-only request needs none."""
    headers = {} if read_only else {"Idempotency-Key": key or uuid.uuid4().hex}
    if body is not None:
        headers |= JSON_CONTENT
    return Request("POST", url, headers=headers, body=encode(body), read_only=read_only)


def encode(body: BaseModel | None, *, exclude_unset: bool = False) -> bytes | None:
    """Return the JSON encoding of a body."""
    if body is None:
        return None
    return body.model_dump_json(exclude_unset=exclude_unset).encode()


def query_params(query: Mapping[str, object] | None) -> tuple[tuple[str, str], ...]:
    """Return the query parameters that are not None; one with a list is repeated."""
    return tuple(
        (name, str(each))
        for name, value in (query or {}).items()
        if value is not None
        for each in (value if isinstance(value, list) else [value])
    )


def validate_body(model: type[M], **values: object) -> M:
    """Build a request body from arguments.

    Raises:
        InvalidError: invalid fields, with JSON pointers as in the server's response.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise validation_error(error, values) from error


class WaitTimeoutError(TimeoutError):
    """A wait timed out; the operation continues on the server."""


@dataclass(slots=True)
class PollDelay:
    """Growing delays between the requests of a wait, up to a timeout."""

    description: str
    timeout: float | None
    _deadline: float = field(init=False)
    _next: float = field(default=0.1, init=False)

    def __post_init__(self) -> None:
        self._deadline = math.inf if self.timeout is None else time.monotonic() + self.timeout

    def seconds(self) -> float:
        """Return the next delay.

        Raises:
            WaitTimeoutError: the timeout is over.
        """
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise WaitTimeoutError(f"timed out after {self.timeout:g} s waiting for {self.description}; it continues")
        delay, self._next = min(self._next, remaining), min(self._next * 1.5, 2.0)
        return delay


def parse_reference(reference: str) -> tuple[str, int | None]:
    """Split ``name`` or ``name@3`` into name and version number.

    Raises:
        InvalidError: the part after ``@`` is not a positive integer.
    """
    name, _, number = reference.partition("@")
    if "@" not in reference:
        return name, None
    if not number.isascii() or not number.isdigit() or int(number) < 1:
        raise InvalidError(f"invalid version number in {reference!r}", hint="use NAME or NAME@NUMBER, like reviews@2")
    return name, int(number)
