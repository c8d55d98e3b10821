"""Forwards predictions to model servers; holds those whose application has no replica until it has one."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from http import HTTPStatus

import httpx2
from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from windlass.domain.endpoints import LiveTarget
from windlass.domain.errors import BusyError, EndpointNotReadyError, WindlassError
from windlass.domain.specs import Task
from windlass.domain.usage import RequestGroup
from windlass.services.predictions import Predictions, PredictionTarget
from windlass.services.request_loads import OngoingRequest, RequestLoads
from windlass.services.request_usage import Outcome, RequestUsageCounter
from windlass.settings import LimitSettings
from windlass.wire.problems import status_of
from windlass_api import model_server
from windlass_api.concurrency import release_slot
from windlass_api.metrics import HELD_REQUESTS
from windlass_api.stream_hub import SharedReads

_POLL_SECONDS = 0.25
"""Interval at which the held requests of an application read its state, all together once."""
_LAG_SECONDS = 3.0
"""How much later than the worker this replica may observe a new model server, and its node reach it."""


@dataclass(frozen=True)
class PredictionRequest:
    """A request for a prediction. Its body has been read."""

    request: Request
    predictions: Predictions
    endpoint: str
    task: Task
    path: str
    """Path at the model server, below the application."""
    body: bytes


@dataclass(frozen=True)
class ForwardedReply:
    """The reply of a model server."""

    selected: PredictionTarget
    reply: httpx2.Response
    metered: "MeteredRequest"
    """To be ended at the end of the reply."""


@dataclass
class MeteredRequest:
    """A request to a model server, counted as load until it ends and as usage when it ends. It ends once."""

    usage: RequestUsageCounter
    group: RequestGroup
    ongoing: OngoingRequest
    arrived_at: float
    """Monotonic time, from which its latency counts."""
    _is_open: bool = True

    def move(self, target: LiveTarget) -> None:
        """Count it as one to another application."""
        self.ongoing.move(target.app)
        self.group = self.group._replace(model=target.model, number=target.number)

    def end(self, outcome: Outcome, tokens: tuple[int, int] = (0, 0)) -> None:
        """End it; ``tokens`` are those of the prompt and of the completion."""
        if self._is_open:
            self._is_open = False
            self.ongoing.close()
            seconds = time.monotonic() - self.arrived_at
            self.usage.count(self.group, outcome, *tokens, seconds=seconds)

    def end_with_status(self, status: int, tokens: tuple[int, int] = (0, 0)) -> None:
        """End it with the status of a complete reply."""
        self.end(_outcome_of(status), tokens)

    def fail(self, error: BaseException) -> None:
        """End it with an error."""
        if isinstance(error, ClientDisconnect | asyncio.CancelledError):
            self.end("cancelled")
        elif isinstance(error, WindlassError):
            self.end_with_status(status_of(type(error)))
        else:
            self.end("failed")


def _outcome_of(status: int) -> Outcome:
    if status < HTTPStatus.BAD_REQUEST:
        return "succeeded"
    return "rejected" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "failed"


@dataclass
class PredictionForwarder:
    """Forwards the predictions of this process, and counts them: as the load of their applications, and as usage.

    An application that is scaled to zero has no server that could queue requests. Its requests are held here: they
    count as load, so that the worker starts a replica. They are limited in time, and in number for each project, since
    they need no slot of their caller while they wait.
    """

    loads: RequestLoads
    usage: RequestUsageCounter
    limits: LimitSettings
    _reads: SharedReads = field(default_factory=SharedReads)
    _held: Counter[str] = field(default_factory=Counter)

    @property
    def held(self) -> int:
        """The number of requests that are held."""
        return self._held.total()

    async def send(self, prediction: PredictionRequest) -> ForwardedReply:
        """Forward a prediction.

        Raises:
            WindlassError: as ``Predictions.select_target`` and ``model_server.post``.
            EndpointNotReadyError: no replica has started in time.
            BusyError: too many requests are held.
            ClientDisconnect: the client disconnected.
        """
        request = prediction.request
        arrived_at = time.monotonic()
        predictions = prediction.predictions
        try:
            selected = await run_in_threadpool(predictions.select_target, prediction.endpoint, prediction.task)
        except EndpointNotReadyError:
            # it has no version that could be charged, but its callers see that it fails
            self.usage.count_failure(predictions.project, prediction.endpoint)
            raise
        release_slot(request.scope)
        started_at = time.monotonic()
        metered = self._metered(prediction, selected.target, arrived_at)
        try:
            while True:
                if not selected.url:
                    held = self._hold(prediction, selected, metered, started_at)
                    selected = await model_server.until_disconnect(request, held)
                try:
                    url = f"{selected.url}/{prediction.path}"
                    reply = await model_server.post(request, url, prediction.body, selected.headers)
                    return ForwardedReply(selected, reply, metered)
                except EndpointNotReadyError as error:
                    # its last replica may just have been removed, or its first one just started
                    lags = selected.on_demand or time.monotonic() < started_at + _LAG_SECONDS
                    if not lags or not model_server.is_unreachable(error):
                        raise
                    selected = replace(selected, url="", not_observed=None if selected.on_demand else error)
        except BaseException as error:
            metered.fail(error)
            raise

    def _metered(self, prediction: PredictionRequest, target: LiveTarget, arrived_at: float) -> MeteredRequest:
        predictions = prediction.predictions
        key = predictions.caller.principal.usage_key
        group = RequestGroup(predictions.project, key, prediction.endpoint, target.model, target.number)
        return MeteredRequest(self.usage, group, self.loads.request(target.app), arrived_at)

    async def _hold(
        self, prediction: PredictionRequest, selected: PredictionTarget, metered: MeteredRequest, started_at: float
    ) -> PredictionTarget:
        """Wait until the application has a URL; a rollout may replace the application meanwhile."""
        predictions, endpoint, task = prediction.predictions, prediction.endpoint, prediction.task
        with self._held_slot(predictions.project, endpoint):
            while not selected.url:
                seconds = self.limits.held_seconds if selected.not_observed is None else _LAG_SECONDS
                if time.monotonic() >= started_at + seconds:
                    raise selected.not_observed or _not_started(endpoint, selected, seconds)
                await asyncio.sleep(_POLL_SECONDS)
                app = selected.target.app
                read = partial(predictions.select_target, endpoint, task, app)
                selected = await self._reads.read((predictions.project, endpoint, task, app), _POLL_SECONDS, read)
                metered.move(selected.target)
            return selected

    @contextmanager
    def _held_slot(self, project: str, endpoint: str) -> Iterator[None]:
        limits = (
            (self._held[project], self.limits.held_requests_per_project),
            (self.held, self.limits.held_requests),
        )
        for held, limit in limits:
            if held >= limit:
                raise BusyError(
                    f"endpoint {endpoint} has no replica yet, and {held} requests wait for a first one already",
                    hint="repeat the request in some seconds",
                    context={"limit": limit},
                )
        self._held[project] += 1
        HELD_REQUESTS.inc()
        try:
            yield
        finally:
            HELD_REQUESTS.dec()
            self._held[project] -= 1
            self._held = +self._held


def _not_started(endpoint: str, selected: PredictionTarget, seconds: float) -> EndpointNotReadyError:
    why = f": {selected.waits}" if selected.waits else ""
    return EndpointNotReadyError(
        f"the first replica of endpoint {endpoint} has not started within {seconds:g} s{why}",
        hint=f"repeat the request; `windlass endpoint show {endpoint}` shows the state",
        context={"state": "pending"},
    )
