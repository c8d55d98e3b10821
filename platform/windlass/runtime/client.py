"""The run's line to the control plane: JSON over HTTP with the run token; problems become ``WindlassError``."""

import time
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx2
from pydantic import BaseModel, ValidationError

from windlass.domain.errors import (
    AttemptHeldError,
    FencedError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    UnauthenticatedError,
    UnavailableError,
    WindlassError,
    error_class,
)
from windlass.domain.reports import ClaimReply, ClaimRequest, ReportReply
from windlass.runtime.context import RunContext

_Reply = TypeVar("_Reply", bound=BaseModel)
_SERVER_ERROR = 500
_CLIENT_ERROR = 400
_TOO_MANY = 429
_BY_STATUS: dict[int, type[WindlassError]] = {401: UnauthenticatedError, 403: ForbiddenError, 404: NotFoundError}


class RunClient:
    """One keep-alive connection to ``/internal/v1/runs/{run}``. Not shared between threads."""

    def __init__(self, context: RunContext, *, timeout: float = 10.0) -> None:
        self._context, self._api_url = context, context.current_api_url()
        self._http = httpx2.Client(
            headers={"authorization": f"Bearer {context.run_token}"},
            timeout=timeout,
            trust_env=False,  # the control plane is named by the context; a proxy would see the run token
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the connection."""
        self._http.close()

    def post(self, path: str, body: bytes) -> Any:
        """Send JSON with POST and return the reply's JSON; raises as ``send`` does."""
        return self.send("POST", path, body)

    def send(self, method: str, path: str, body: bytes | None = None) -> Any:
        """Send JSON and return the reply's JSON.

        Raises:
            UnavailableError: no answer, or a server error: the same request may be sent again.
            WindlassError: what the problem's ``code`` names.
        """
        try:
            headers = {} if body is None else {"content-type": "application/json"}
            url = f"{self._api_url}/internal/v1/runs/{self._context.run}{path}"
            reply = self._http.request(method, url, content=body, headers=headers)
        except httpx2.HTTPError as error:
            self._api_url = self._context.current_api_url()
            raise UnavailableError(f"the control plane cannot be reached: {type(error).__name__}") from error
        if reply.status_code >= _SERVER_ERROR or reply.status_code == _TOO_MANY:
            raise UnavailableError(f"the control plane answered {reply.status_code}")
        if reply.status_code >= _CLIENT_ERROR:
            raise _problem(reply)
        try:
            return reply.json() if reply.content else None
        except ValueError as error:
            raise UnavailableError("the control plane's answer is no JSON") from error

    def claim(self, trainer: str) -> ClaimReply:
        """Ask once for the fence.

        Raises:
            AttemptHeldError: the previous attempt still lives.
            FencedError: the job or the run has ended.
            UnavailableError: the control plane is away.
        """
        return _read(ClaimReply, self.post("/attempts:claim", ClaimRequest(trainer=trainer).model_dump_json().encode()))

    def report(self, attempt: int, batch: bytes) -> ReportReply:
        """Send one serialised ``ReportBatch``.

        Raises:
            FencedError: the attempt is over.
            UnavailableError: the control plane is away.
        """
        return _read(ReportReply, self.post(f"/attempts/{attempt}/reports", batch))


def claim_fence(context: RunContext, trainer: str, *, patience: float = 300.0, pause: float = 1.0) -> ClaimReply:
    """Ask for the fence until it is won, while the previous attempt lives or the control plane is away.

    Raises:
        FencedError: the job or the run has ended: there is nothing to train.
        AttemptHeldError: held for longer than ``patience`` seconds.
        UnavailableError: away for longer than ``patience`` seconds.
    """
    deadline = time.monotonic() + patience
    with RunClient(context) as client:
        while True:
            try:
                return client.claim(trainer)
            except (UnauthenticatedError, ForbiddenError, NotFoundError) as error:
                raise FencedError(f"the control plane no longer knows this run: {error.message}") from error
            except (AttemptHeldError, UnavailableError):
                if time.monotonic() + pause > deadline:
                    raise
            time.sleep(pause)


def _read(kind: type[_Reply], content: Any) -> _Reply:
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise UnavailableError(f"the control plane's answer is no {kind.__name__}") from error


def _problem(reply: httpx2.Response) -> WindlassError:
    try:
        problem = reply.json()
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        problem = {}
    code = str(problem.get("code", ""))
    kind = error_class(code) if code else _BY_STATUS.get(reply.status_code, InvalidError)
    detail = str(problem.get("detail") or problem.get("title") or f"status {reply.status_code}")
    return kind(detail, hint=str(problem.get("hint") or ""))
