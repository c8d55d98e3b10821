"""HTTP client of the transfer routes: a process gets presigned requests for its files by its token."""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import httpx2
from pydantic import BaseModel, ValidationError

from windlass.domain.artifacts import Manifest
from windlass.domain.errors import InvalidError, UnavailableError
from windlass.domain.transfers import (
    COMPLETE_SECONDS,
    CompleteRequest,
    EmptyReply,
    FileReply,
    FileRequest,
    FileUploadReply,
    FolderFile,
    FolderReply,
    FolderRequest,
    PartsReply,
    PartsRequest,
    SignedPut,
    UriRequest,
    UrisReply,
)
from windlass.kit.backoff import Backoff
from windlass.runtime.context import TRANSFER_TOKEN_VARIABLE, TRANSFER_URL_VARIABLE, RunEnvironment
from windlass.runtime.http import internal_client
from windlass.runtime.json_requests import send_json
from windlass.wire.runs import RUNS_PATH, TRANSFERS_PATH

RETRY_SECONDS = 300.0
"""Time for which requests are repeated while the control plane or the object store is away."""
_REPLY_SECONDS = 30.0
_BACKOFF = Backoff(0.2, 10.0)
_Reply = TypeVar("_Reply", bound=BaseModel)


@dataclass
class RetryTimer:
    """Waits between the tries of one operation, until it has made no progress for ``seconds``."""

    seconds: float
    _failures: int = 0
    _progress_at: float = field(default_factory=time.monotonic)

    def progress(self) -> None:
        """Record that the operation came further."""
        self._failures, self._progress_at = 0, time.monotonic()

    def wait(self, error: UnavailableError) -> None:
        """Wait before the next try.

        Raises:
            UnavailableError: ``error``, when the time is over.
        """
        self._failures += 1
        delay = _BACKOFF.delay(self._failures)
        if time.monotonic() + delay - self._progress_at > self.seconds:
            raise error
        time.sleep(delay)


@dataclass(frozen=True)
class TransferClient:
    """The transfer routes of one token, with one connection. Not thread-safe.

    All calls are idempotent, and repeated while the control plane is unavailable.

    Args:
        url: returns the URL of the routes; it may change when the server restarts.
        token: returns the token.
        retry_seconds: see ``RETRY_SECONDS``.
    """

    url: Callable[[], str]
    token: Callable[[], str]
    retry_seconds: float = RETRY_SECONDS
    _http: httpx2.Client = field(default_factory=lambda: internal_client(timeout=_REPLY_SECONDS))

    @classmethod
    def of_run(cls, environment: RunEnvironment) -> Self:
        """Return the client of a run."""
        context = environment.context
        path = f"{RUNS_PATH}/{context.identity.run}/transfers"
        return cls(lambda: environment.current_api_url() + path, lambda: context.run_token)

    @classmethod
    def of_process(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Return the client that the environment variables describe.

        Raises:
            InvalidError: a variable is missing.
        """
        url, token = environment.get(TRANSFER_URL_VARIABLE), environment.get(TRANSFER_TOKEN_VARIABLE)
        if not url or not token:
            raise InvalidError(f"files of an object store need {TRANSFER_URL_VARIABLE} and {TRANSFER_TOKEN_VARIABLE}")
        return cls(lambda: url + TRANSFERS_PATH, lambda: Path(token).read_text(encoding="ascii").strip())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def open_folder(self, uri: str) -> FolderReply:
        """Return the manifest of a published folder and the requests for its files."""
        return self._call("open-folder", UriRequest(uri=uri), FolderReply)

    def open_file(self, uri: str) -> FileReply:
        """Return the requests for one file."""
        return self._call("open-file", UriRequest(uri=uri), FileReply)

    def published(self, uri: str) -> tuple[str, ...]:
        """Return the URIs of the folders that are published below a URI."""
        return self._call("list", UriRequest(uri=uri), UrisReply).uris

    def delete(self, uri: str) -> None:
        """Delete all files at and below a URI."""
        self._call("delete", UriRequest(uri=uri), EmptyReply)

    def begin(self, uri: str) -> None:
        """Check that a folder may be published."""
        self._call("begin", UriRequest(uri=uri), EmptyReply)

    def write_file(self, uri: str, file: FolderFile) -> FileUploadReply:
        """Return how to store a file."""
        return self._call("write-file", FileRequest(uri=uri, file=file), FileUploadReply)

    def write_parts(self, uri: str, file: FolderFile, upload: str, numbers: tuple[int, ...]) -> tuple[SignedPut, ...]:
        """Return the requests for parts of a file."""
        request = PartsRequest(uri=uri, file=file, upload=upload, numbers=numbers)
        return self._call("write-parts", request, PartsReply).parts

    def complete_file(self, uri: str, file: FolderFile, upload: str, etags: tuple[str, ...]) -> None:
        """Store a file from its parts."""
        request = CompleteRequest(uri=uri, file=file, upload=upload, etags=etags)
        self._call("complete-file", request, EmptyReply, seconds=COMPLETE_SECONDS + _REPLY_SECONDS)

    def commit(self, uri: str, manifest: Manifest) -> None:
        """Publish a folder whose files are stored."""
        self._call("commit", FolderRequest(uri=uri, manifest=manifest), EmptyReply)

    def _call(self, operation: str, body: BaseModel, reply: type[_Reply], *, seconds: float | None = None) -> _Reply:
        """Send a request; ``seconds``: how long to wait for its reply, if that is not ``_REPLY_SECONDS``."""
        self._http.timeout = seconds or _REPLY_SECONDS
        timer, content = RetryTimer(self.retry_seconds), body.model_dump_json().encode()
        while True:
            try:
                self._http.headers["authorization"] = f"Bearer {self.token()}"
                return reply.model_validate(send_json(self._http, "POST", f"{self.url()}:{operation}", content))
            except ValidationError as error:
                raise UnavailableError(f"the reply to {operation} is not a valid {reply.__name__}") from error
            except UnavailableError as error:
                timer.wait(error)
