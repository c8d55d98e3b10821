"""The steps' half of the internal API: typed, and patient while the control plane is away."""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict

from windlass.domain.errors import (
    FencedError,
    ForbiddenError,
    NotFoundError,
    UnauthenticatedError,
    UnavailableError,
)
from windlass.domain.jobs import JobState
from windlass.domain.reports import Command, ResultItem
from windlass.runtime.client import RunClient
from windlass.runtime.context import RunContext

StepState = Literal["running", "succeeded", "failed"]
RUN_IS_OVER = (FencedError, UnauthenticatedError, ForbiddenError, NotFoundError)
"""Answers after which a run has nothing more to do: it is closed, and its token with it."""
_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 2.0
_TIMEOUT = 10.0


class _Reply(BaseModel):
    """Ignores what a newer control plane adds."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class RunView(_Reply):
    """What the control plane knows of the run: its job's state, what it wants, and the result once there is one."""

    job: str
    state: JobState
    command: Command
    result: ResultItem | None = None

    @property
    def wanted(self) -> bool:
        """Whether the run is to go on."""
        return self.command is Command.CONTINUE and not self.state.terminal


class Registration(_Reply):
    """The registered version and what its gates decided."""

    model_version: str
    model: str
    number: int
    decision: Literal["candidate", "rejected"]
    reason: str = ""


class Deployment(_Reply):
    """The endpoint that serves the version, or will."""

    endpoint: str


class ControlPlane:
    """Every call is safe to repeat, and is repeated while the control plane is away, for ``patience`` seconds.

    All methods raise ``UnavailableError`` when patience ends, and the ``WindlassError`` of the answer's code.
    """

    def __init__(self, context: RunContext, patience: float) -> None:
        self._client = RunClient(context, timeout=_TIMEOUT)
        self._patience = patience

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def hurry(self, patience: float) -> None:
        """Wait no longer than this from now on, also in a call under way (called by signal handlers)."""
        self._patience = min(self._patience, patience)

    def look(self) -> RunView:
        """Read the run."""
        return RunView.model_validate(self._call("GET", ""))

    def step(self, name: str, state: StepState, message: str = "") -> None:
        """Tell where a step stands."""
        self._call("PUT", f"/steps/{name}", {"state": state, "message": message})

    def log(self, name: str, sequence: int, text: str, *, once: bool = False) -> None:
        """Ship a chunk of a step's log; with ``once`` it is tried once."""
        body = {"sequence": sequence, "text": text, "time": datetime.now(UTC).isoformat()}
        self._call("POST", f"/steps/{name}/logs", body, once=once)

    def lost(self, attempt: int, trainer: str) -> None:
        """Tell that the attempt's trainer was seen to end without a result."""
        self._call("POST", f"/attempts/{attempt}:lost", {"trainer": trainer})

    def register(self) -> Registration:
        """Register the verified artifact of the run's result."""
        return Registration.model_validate(self._call("POST", "/register", {}))

    def deploy(self) -> Deployment:
        """Serve the registered version at the endpoint of the job's spec."""
        return Deployment.model_validate(self._call("POST", "/deploy", {}))

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None, *, once: bool = False) -> Any:
        content = None if body is None else json.dumps(body).encode()
        return _patiently(lambda: self._client.send(method, path, content), lambda: 0.0 if once else self._patience)


def _patiently(call: Callable[[], Any], patience: Callable[[], float]) -> Any:
    started, pause = time.monotonic(), _FIRST_PAUSE
    while True:
        try:
            return call()
        except UnavailableError:
            if time.monotonic() - started >= patience():
                raise
        time.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)
