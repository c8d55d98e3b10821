"""The protocol without a transport: requests as values, answers as values, flows between them.

An operation is a generator: it yields a ``Step``, is sent the answer, and returns its result. The synchronous and the
asynchronous client drive the same flows, so every rule of the protocol (retries, versions, paging) stands here once.
"""

import secrets
import time
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, ValidationError

from windlass.domain.errors import (
    IdempotencyInProgressError,
    InvalidError,
    PreconditionFailedError,
    UnavailableError,
)
from windlass.sdk._problems import error_of, invalid_from
from windlass.wire.base import Page

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)

READ_TIMEOUT = 60.0
CONNECT_TIMEOUT = 5.0
DEFAULT_RETRIES = 4
_MAX_RETRY_AFTER = 30.0
_FIRST_BACKOFF = 0.1
_MAX_BACKOFF = 5.0
_CHUNK = 1 << 18
_IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE"})
_TOO_BUSY = frozenset({429, 503})
_REREADS = 3
_PAGE_SIZE = 100


@dataclass(frozen=True, slots=True)
class FileBody:
    """The rest of a file from ``offset``, streamed; ``progress`` hears the absolute position after each chunk."""

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
    """One HTTP request. ``sink`` takes the body of a good answer; ``retry`` allows asking again when that is safe."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | FileBody | None = None
    sink: BinaryIO | None = None
    timeout: float = READ_TIMEOUT
    retry: bool = True

    @property
    def repeatable(self) -> bool:
        """Whether the server may see this request twice without a second effect."""
        return self.retry and (self.method in _IDEMPOTENT or "Idempotency-Key" in self.headers)


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP answer; header names are lower-case."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def good(self) -> bool:
        """Whether the status is 2xx; nothing here follows a redirect."""
        return self.status // 100 == 2  # noqa: PLR2004 - the class of good statuses


@dataclass(frozen=True, slots=True)
class Failure:
    """No answer. ``sent`` is false when the server cannot have seen the request; ``silent`` when time ran out."""

    message: str
    sent: bool
    silent: bool = False


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait this many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Work:
    """Run a blocking function (hashing, writing files) outside an event loop; the answer is its result."""

    function: Callable[[], Any]


Step = Request | Pause | Work
Flow = Generator[Step, Any, T]


@dataclass(frozen=True, slots=True)
class Scope:
    """The project that an operation works in."""

    project: str

    def path(self, *segments: str) -> str:
        """Return the path of something below the project."""
        return path("projects", self.project, *segments)


def path(*segments: str) -> str:
    """Return ``/v1/...`` with every segment quoted.

    Raises:
        InvalidError: a segment is empty or a dot, and so would name something else.
    """
    for segment in segments:
        if segment in {"", ".", ".."}:
            raise InvalidError(f"a name is {segment!r}", hint="give the object's name or id")
    return "/v1/" + "/".join(quote(segment, safe="") for segment in segments)


def perform(flow: Flow[T], retries: int) -> Flow[T]:
    """Refine a flow: each of its requests becomes as many attempts and pauses as are safe and needed."""
    answer: object = None
    try:
        while True:
            step = flow.send(answer)
            answer = (yield from _exchange(step, retries)) if isinstance(step, Request) else (yield step)
    except StopIteration as end:
        result: T = end.value
        return result


def _exchange(request: Request, retries: int) -> Flow[Reply | Failure]:
    attempt = 0
    while True:
        answer: Reply | Failure = yield request
        delay = _retry_delay(request, answer, attempt) if attempt < retries else None
        if delay is None:
            return answer
        attempt += 1
        yield Pause(delay)


def _retry_delay(request: Request, answer: Reply | Failure, attempt: int) -> float | None:
    """Return the seconds after which asking again is safe and may help, None when it is not."""
    if isinstance(answer, Failure):
        safe = request.repeatable or (request.retry and not answer.sent)
        return backoff(attempt) if safe else None
    if not request.repeatable:
        return None
    if answer.status in _TOO_BUSY and "retry-after" in answer.headers:
        wished = answer.headers["retry-after"]
        seconds = float(wished) if wished.isdigit() else _FIRST_BACKOFF
        return None if seconds > _MAX_RETRY_AFTER else seconds + _jitter(_FIRST_BACKOFF)
    if answer.status == 409 and isinstance(error_of(answer.status, answer.content), IdempotencyInProgressError):  # noqa: PLR2004 - HTTP conflict
        return backoff(attempt)
    return None


def backoff(attempt: int) -> float:
    """Return a doubling delay in seconds with half of it random, so that clients do not come back together."""
    top = min(_FIRST_BACKOFF * 2.0**attempt, _MAX_BACKOFF)
    return top / 2 + _jitter(top / 2)


def _jitter(top: float) -> float:
    return secrets.randbelow(1001) / 1000 * top


def call(request: Request, decode: Callable[[Reply], T]) -> Flow[T]:
    """Ask, and decode a good answer.

    Raises:
        WindlassError: the class of the problem's code; ``UnavailableError`` when nothing answers.
    """
    answer: Reply | Failure = yield request
    if isinstance(answer, Failure):
        raise UnavailableError(
            answer.message, hint="check that the server runs (`windlass status`) and the URL is right"
        )
    if not answer.good:
        raise error_of(answer.status, answer.content)
    return decode(answer)


def nothing(_: Reply) -> None:
    """Decode an answer without a body."""


def text(reply: Reply) -> str:
    """Decode a text body."""
    return reply.content.decode("utf-8", "replace")


def into(model: type[M]) -> Callable[[Reply], M]:
    """Return a decoder to a wire model.

    Raises:
        UnavailableError: (when called) what answers is not a Windlass server, or one that this client cannot read.
    """

    def decode(reply: Reply) -> M:
        try:
            return model.model_validate_json(reply.content)
        except ValidationError as error:
            raise UnavailableError(
                f"the answer cannot be read as {model.__name__}: {error.error_count()} fields differ",
                hint="check the URL, and that client and server versions fit (`windlass status`)",
            ) from error

    return decode


def get(where: str, model: type[M], query: Mapping[str, object] | None = None) -> Flow[M]:
    """Read one object."""
    return call(Request("GET", where, query=pairs(query)), into(model))


def post(
    where: str, model: type[M], body: BaseModel | None = None, *, key: str | None = None, keyed: bool = True
) -> Flow[M]:
    """Create or act. A key makes it repeatable; ``keyed`` false is for requests that write nothing."""
    headers = {"Idempotency-Key": key or uuid.uuid4().hex} if keyed else {}
    typed = headers if body is None else {**headers, **_JSON}
    return call(Request("POST", where, headers=typed, body=encode(body)), into(model))


def put(where: str, model: type[M], body: BaseModel, query: Mapping[str, object] | None = None) -> Flow[M]:
    """Set."""
    return call(Request("PUT", where, query=pairs(query), headers=_JSON, body=encode(body)), into(model))


def patch(where: str, model: type[M], body: BaseModel, if_match: int | None) -> Flow[M]:
    """Change what ``body`` has set. Without ``if_match`` the current version is read first, and again when it moved.

    Raises:
        PreconditionFailedError: ``if_match`` is not the current version.
    """

    def attempt(etag: str) -> Flow[M]:
        headers = {"If-Match": etag, **_JSON}
        return call(Request("PATCH", where, headers=headers, body=encode(body, changes=True)), into(model))

    return _guarded(attempt, etag_at(where), if_match)


def delete(where: str, if_match: int | None, current: Callable[[], Flow[str]] | None = None) -> Flow[None]:
    """Delete; ``current`` reads the ETag when it is not that of ``where`` itself."""

    def attempt(etag: str) -> Flow[None]:
        return call(Request("DELETE", where, headers={"If-Match": etag}), nothing)

    return _guarded(attempt, current or etag_at(where), if_match)


def _guarded(attempt: Callable[[str], Flow[T]], current: Callable[[], Flow[str]], if_match: int | None) -> Flow[T]:
    if if_match is not None:
        return (yield from attempt(f'"{if_match}"'))
    for _ in range(_REREADS):
        etag = yield from current()
        try:
            return (yield from attempt(etag))
        except PreconditionFailedError:
            continue
    return (yield from attempt((yield from current())))


def etag_at(where: str) -> Callable[[], Flow[str]]:
    """Return a flow that reads the ETag of an object; ``*`` when the object has no versions."""
    return lambda: call(Request("GET", where), lambda reply: reply.headers.get("etag", "*"))


_JSON = {"Content-Type": "application/json"}


def encode(body: BaseModel | None, *, changes: bool = False) -> bytes | None:
    """Return the JSON of a body; ``changes`` leaves out what was not set."""
    if body is None:
        return None
    return body.model_dump_json(exclude_unset=changes).encode()


def pairs(query: Mapping[str, object] | None) -> tuple[tuple[str, str], ...]:
    """Return query parameters without those that are None."""
    return tuple((name, str(value)) for name, value in (query or {}).items() if value is not None)


def built(model: type[M], **values: object) -> M:
    """Build a request body from arguments.

    Raises:
        InvalidError: with a JSON pointer for each wrong field, as the server would say it.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise invalid_from(error, values) from error


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """A list behind cursors."""

    where: str
    decode: Callable[[Reply], Page[T]]
    query: tuple[tuple[str, str], ...] = ()

    def page(self, cursor: str | None) -> Flow[Page[T]]:
        """Read the page at a cursor."""
        query = (*self.query, *pairs({"limit": _PAGE_SIZE, "cursor": cursor}))
        return call(Request("GET", self.where, query=query), self.decode)

    def all(self) -> Flow[list[T]]:
        """Read every page: for lists that are short by nature."""
        items: list[T] = []
        cursor = None
        while True:
            page = yield from self.page(cursor)
            items += page.items
            cursor = page.next_cursor
            if cursor is None:
                return items


def listed(where: str, model: type[M], query: Mapping[str, object] | None = None) -> Listing[M]:
    """Return the list at a path."""
    page: type[Page[M]] = Page[model]  # type: ignore[valid-type]  # pydantic makes the page model at run time
    return Listing(where, into(page), pairs(query))


def rows(where: str, query: Mapping[str, object] | None = None) -> Listing[dict[str, Any]]:
    """Return a list of plain JSON objects."""
    return Listing(where, into(Page[dict[str, Any]]), pairs(query))


class WaitTimeoutError(TimeoutError):
    """The time given to a wait is over; what was waited for goes on."""


def poll(read: Callable[[], Flow[T]], done: Callable[[T], bool], timeout: float | None, what: str) -> Flow[T]:
    """Read until ``done``, more and more seldom.

    Raises:
        WaitTimeoutError: after ``timeout`` seconds.
    """
    until = None if timeout is None else time.monotonic() + timeout
    delay = 0.1
    while True:
        value = yield from read()
        if done(value):
            return value
        left = delay if until is None else until - time.monotonic()
        if left <= 0:
            raise WaitTimeoutError(f"{what} is not finished after {timeout:g} s; it goes on")
        yield Pause(min(delay, left))
        delay = min(delay * 1.5, 2.0)


def ref(reference: str) -> tuple[str, int | None]:
    """Split ``name`` or ``name@3`` into name and number.

    Raises:
        InvalidError: what stands after ``@`` is not a positive number.
    """
    name, _, number = reference.partition("@")
    if "@" not in reference:
        return name, None
    if not number.isascii() or not number.isdigit() or int(number) < 1:
        raise InvalidError(f"{reference!r}: no such version number", hint="write NAME or NAME@NUMBER, like reviews@2")
    return name, int(number)
