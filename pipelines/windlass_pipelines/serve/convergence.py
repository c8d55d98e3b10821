"""What to do so that the served set equals the wish, and what to say of it: pure, no Ray."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from windlass.domain.endpoints import AppState, AppStatus, ServedApp, ServingStatus

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_OURS = re.compile(r"Model(Load|Memory)Error: (.+)")
"""How a replica says why it cannot start (``windlass_pipelines.serve.artifact``)."""
_ERROR = "Error:"
_MESSAGE_CHARACTERS = 500
PATIENCE_SECONDS = 60.0
"""An application that ran may be without a running replica for so long before it is paused."""
_FIRST_PAUSE_SECONDS = 5.0
_LONGEST_PAUSE_SECONDS = 300.0


class ServeState(StrEnum):
    """Where Serve says that an application stands, as far as it matters here."""

    STARTING = "starting"
    RUNNING = "running"
    UNHEALTHY = "unhealthy"
    FAILED = "failed"
    DELETING = "deleting"


@dataclass(frozen=True)
class Observed:
    """One application as Serve reports it."""

    state: ServeState
    message: str = ""
    running: int = 0


@dataclass(frozen=True)
class Failure:
    """Why an application should be stopped; ``lasting`` when the artifact is to blame, so that it would fail again."""

    reason: str
    lasting: bool


@dataclass(frozen=True)
class Refusal:
    """An application that is not served: what was asked for, and why not.

    It holds until something else is asked, or else until the time ``until``, when the application is started again.
    """

    app: ServedApp
    reason: str
    until: float | None = None

    def holds(self, asked: ServedApp | None, now: float) -> bool:
        """Tell whether this is still to be refused."""
        return asked == self.app and (self.until is None or now < self.until)


@dataclass(frozen=True)
class Trouble:
    """An application that fails for reasons that pass: how often it did, and until when it was last paused."""

    app: ServedApp
    times: int
    until: float


def trouble(app: ServedApp, before: Trouble | None, now: float) -> Trouble:
    """Count one more failure; the pause after it doubles, unless the application ran well for long in between."""
    fresh = before is None or before.app != app or now > before.until + _LONGEST_PAUSE_SECONDS
    times = 1 if before is None or fresh else before.times + 1
    pause = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2.0 ** (min(times, 10) - 1))
    return Trouble(app, times, now + pause)


@dataclass(frozen=True)
class Plan:
    """Applications to deploy and names to delete."""

    deploy: tuple[ServedApp, ...] = ()
    delete: tuple[str, ...] = ()


def plan(
    wish: Sequence[ServedApp],
    deployed: Mapping[str, ServedApp],
    observed: Mapping[str, Observed],
    refused: Mapping[str, Refusal],
) -> Plan:
    """Compare and decide.

    Args:
        wish: what is to be served.
        deployed: what this host has handed to Serve.
        observed: what Serve reports.
        refused: what must not be started.
    """
    wished = {app.key for app in wish}
    wanted = {app.key: app for app in wish if app.key not in refused}

    def given_up(key: str) -> bool:
        # What ran before a refused successor stays: it answers, and nobody said that it should not.
        return key in refused and deployed.get(key) == refused[key].app

    leaving = {key for key, seen in observed.items() if seen.state is ServeState.DELETING}
    return Plan(
        # One that is being deleted is deployed again when it is gone.
        tuple(
            app
            for key, app in wanted.items()
            if key not in leaving and (key not in observed or deployed.get(key) != app)
        ),
        tuple(key for key in observed if key not in leaving and (key not in wished or given_up(key))),
    )


def failure(seen: Observed, seconds_without_replica: float) -> Failure | None:
    """Return why an application should be stopped, None when Serve should go on with it.

    Serve gives up on a first start that fails. A replica that once ran it starts again and again without any pause,
    also when its files have gone, and when there is no memory it takes what others need to recover.
    """
    if seen.running or seen.state not in {ServeState.STARTING, ServeState.UNHEALTHY, ServeState.FAILED}:
        return None
    why = reason(seen.message)
    if ours := _OURS.search(seen.message):
        return Failure(why, lasting=ours[1] == "Load")
    if seen.state is ServeState.FAILED:
        return Failure(why or "it failed without a message", lasting=False)
    if seen.state is ServeState.UNHEALTHY and seconds_without_replica > PATIENCE_SECONDS:
        return Failure(why or "its replicas do not come up", lasting=False)
    return None


def report(
    base_url: str, wish: Sequence[ServedApp], observed: Mapping[str, Observed], refused: Mapping[str, Refusal]
) -> ServingStatus:
    """Return the status of everything wished, and of everything that is no longer wished until it is gone."""
    wished = {app.key for app in wish}
    leaving = [leaving_status(key, seen.running) for key, seen in observed.items() if key not in wished]
    named = [_app_status(app, observed.get(app.key), refused.get(app.key)) for app in wish]
    return ServingStatus(base_url=base_url, apps=(*named, *leaving))


def leaving_status(key: str, running: int) -> AppStatus:
    """Return the status of an application that is no longer wished and still there."""
    return AppStatus(key=key, state=AppState.LEAVING, message="it is being stopped", ready_replicas=running)


def reason(message: str) -> str:
    """Return the sentence that matters of a message of Serve, which may hold a traceback: its last line, or our own."""
    lines = [line.strip() for line in _ANSI.sub("", message).splitlines() if line.strip()]
    ours = [found[2] for line in lines if (found := _OURS.search(line))]
    return (ours or lines or [""])[-1][:_MESSAGE_CHARACTERS]


def _app_status(app: ServedApp, seen: Observed | None, refusal: Refusal | None) -> AppStatus:
    running = seen.running if seen is not None else 0
    if refusal is not None:
        return AppStatus(
            key=app.key,
            state=AppState.FAILED,
            message=refusal.reason,
            passing=refusal.until is not None,
            ready_replicas=running,
        )
    if seen is None or seen.state is ServeState.DELETING:
        return AppStatus(key=app.key, state=AppState.DEPLOYING, message="waiting to be deployed")
    message = reason(seen.message)
    if seen.state is ServeState.FAILED:
        state, message = AppState.FAILED, message or "it failed without a message"
    elif seen.state is ServeState.RUNNING or (running and seen.state is ServeState.UNHEALTHY):
        state = AppState.READY
    else:
        # Without an error, Serve only remarks that loading takes long.
        state, message = AppState.DEPLOYING, message if _ERROR in seen.message else "the model is being loaded"
    return AppStatus(key=app.key, state=state, message=message, ready_replicas=running)
