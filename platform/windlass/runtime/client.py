"""HTTP client of a run's processes for the control plane: JSON with the run token."""

import time
from types import TracebackType
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ValidationError

from windlass.domain.errors import (
    AttemptActiveError,
    FencedError,
    ForbiddenError,
    NotFoundError,
    UnauthenticatedError,
    UnavailableError,
)
from windlass.domain.reports import AcquireAttemptReply, AcquireAttemptRequest, LogItem, ReportReply
from windlass.kit.backoff import Backoff
from windlass.runtime.context import RunEnvironment
from windlass.runtime.http import internal_client
from windlass.runtime.json_requests import send_json
from windlass.wire.runs import (
    RUNS_PATH,
    DeployedEndpointOut,
    RegisteredModelOut,
    RunStatusOut,
    StepLogIn,
    StepState,
    StepStatusIn,
    WarmTrainerIn,
)

RUN_ENDED_ERRORS = (FencedError, UnauthenticatedError, ForbiddenError, NotFoundError)
"""Errors of a run or attempt that may not write any more: it is fenced, or its token is revoked."""
_Reply = TypeVar("_Reply", bound=BaseModel)
_BACKOFF = Backoff(0.2, 2.0)


class RunApiClient:
    """Client of one run with one keep-alive connection. Not thread-safe.

    All calls are idempotent. Those of the steps are retried for ``retry_seconds`` while the control plane is
    unavailable; those of the trainer are not, because its reporter has a schedule of its own.

    All methods raise ``UnavailableError`` when the control plane does not answer, or answers with status 429 or 5xx,
    and otherwise the error that the response names.
    """

    def __init__(self, environment: RunEnvironment, *, retry_seconds: float = 0.0, timeout: float = 10.0) -> None:
        self._environment, self._retry_seconds = environment, retry_seconds
        self._api_url = environment.current_api_url()
        token = environment.context.run_token
        self._http = internal_client(timeout=timeout, headers={"authorization": f"Bearer {token}"})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def cap_retries(self, retry_seconds: float) -> None:
        """Retry for at most this time from now on, including in a running call (called by signal handlers)."""
        self._retry_seconds = min(self._retry_seconds, retry_seconds)

    def get_run(self) -> RunStatusOut:
        """Return the run's status."""
        return _parse(RunStatusOut, self._send_with_retry("GET", ""))

    def acquire_attempt(self, trainer: str) -> AcquireAttemptReply:
        """Request a new attempt (and its fence) once.

        Raises:
            AttemptActiveError: the previous attempt is still active.
            FencedError: the job or the run has ended.
        """
        return _parse(
            AcquireAttemptReply, self._send("POST", "/attempts:acquire", _body(AcquireAttemptRequest(trainer=trainer)))
        )

    def report(self, attempt: int, batch: bytes) -> ReportReply:
        """Send one serialised ``ReportBatch`` once.

        Raises:
            FencedError: the attempt has ended.
        """
        return _parse(ReportReply, self._send("POST", f"/attempts/{attempt}/reports", batch))

    def report_attempt_lost(self, attempt: int) -> None:
        """Report that the attempt's trainer exited without a result."""
        self._send_with_retry("POST", f"/attempts/{attempt}:lost")

    def set_step_state(self, name: str, state: StepState, message: str = "") -> None:
        """Report a step's state."""
        self._send_with_retry("PUT", f"/steps/{name}", StepStatusIn(state=state, message=message))

    def append_log(self, name: str, producer: str, sequence: int, items: list[LogItem]) -> None:
        """Send a chunk of a step's log once."""
        chunk = StepLogIn(producer=producer, sequence=sequence, items=items)
        self._send("POST", f"/steps/{name}/logs", _body(chunk))

    def assign_warm_trainer(self, name: str) -> None:
        """Report that the run has claimed a warm trainer, which is waiting for the context of its run.

        Raises:
            FencedError: the run has ended.
        """
        self._send_with_retry("PUT", "/warm-trainer", WarmTrainerIn(name=name))

    def register(self) -> RegisteredModelOut:
        """Register the verified artifact of the run's result."""
        return _parse(RegisteredModelOut, self._send_with_retry("POST", "/register"))

    def deploy(self) -> DeployedEndpointOut:
        """Serve the registered version at the endpoint of the job's spec."""
        return _parse(DeployedEndpointOut, self._send_with_retry("POST", "/deploy"))

    def _send_with_retry(self, method: str, path: str, body: BaseModel | None = None) -> Any:
        content, started, failures = None if body is None else _body(body), time.monotonic(), 0
        while True:
            try:
                return self._send(method, path, content)
            except UnavailableError:
                if time.monotonic() - started >= self._retry_seconds:
                    raise
            failures += 1
            time.sleep(_BACKOFF.delay(failures))

    def _send(self, method: str, path: str, content: bytes | None = None) -> Any:
        url = f"{self._api_url}{RUNS_PATH}/{self._environment.context.identity.run}{path}"
        try:
            return send_json(self._http, method, url, content)
        except UnavailableError:
            self._api_url = self._environment.current_api_url()
            raise


def acquire_attempt(
    environment: RunEnvironment, trainer: str, *, timeout: float = 300.0, retry_interval: float = 1.0
) -> AcquireAttemptReply:
    """Request a new attempt; retry while the previous one is active or the control plane is unavailable.

    Raises:
        FencedError: the job or the run has ended.
        AttemptActiveError: the previous attempt is still active after ``timeout`` seconds.
        UnavailableError: the control plane is still unavailable after ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    with RunApiClient(environment) as client:
        while True:
            try:
                return client.acquire_attempt(trainer)
            except (UnauthenticatedError, ForbiddenError, NotFoundError) as error:
                raise FencedError(f"the run no longer exists or its token is revoked: {error.message}") from error
            except (AttemptActiveError, UnavailableError):
                if time.monotonic() + retry_interval > deadline:
                    raise
            time.sleep(retry_interval)


def _body(model: BaseModel) -> bytes:
    return model.model_dump_json().encode()


def _parse(kind: type[_Reply], content: Any) -> _Reply:
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise UnavailableError(f"the response of the control plane is not a valid {kind.__name__}") from error
