"""What to do so that the served set equals the wish, and what to say of it: pure, no Ray."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from windlass.domain.endpoints import AppState, AppStatus, ServedApp, ServingStatus

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_LOAD_ERROR = re.compile(r"ModelLoadError: (.+)")
_ERROR = "Error:"
_MESSAGE_CHARACTERS = 500
PATIENCE_SECONDS = 60.0
"""An application without a running replica may be starting or failing for so long."""


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
class Refusal:
    """An application that is not served: what was asked for, and why not. It holds until something else is asked."""

    app: ServedApp
    reason: str


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


def hopeless(seen: Observed, seconds_without_replica: float) -> str | None:
    """Return why an application that Serve would go on restarting should be given up, None when it should not.

    Serve itself gives up on a first start that fails, and on none after it: a replica that once ran is started again
    and again, also when its files have gone.
    """
    if seen.running or seen.state not in {ServeState.STARTING, ServeState.UNHEALTHY}:
        return None
    if _LOAD_ERROR.search(seen.message):
        return reason(seen.message)
    if seen.state is ServeState.UNHEALTHY and seconds_without_replica > PATIENCE_SECONDS:
        return reason(seen.message) or "its replicas do not come up"
    return None


def report(
    base_url: str, wish: Sequence[ServedApp], observed: Mapping[str, Observed], refused: Mapping[str, Refusal]
) -> ServingStatus:
    """Return the status of everything wished; what is only being deleted is not named."""
    return ServingStatus(
        base_url=base_url, apps=tuple(_app_status(app, observed.get(app.key), refused.get(app.key)) for app in wish)
    )


def reason(message: str) -> str:
    """Return the sentence that matters of a message of Serve, which may hold a traceback: its last line, or our own."""
    lines = [line.strip() for line in _ANSI.sub("", message).splitlines() if line.strip()]
    ours = [found[1] for line in lines if (found := _LOAD_ERROR.search(line))]
    return (ours or lines or [""])[-1][:_MESSAGE_CHARACTERS]


def _app_status(app: ServedApp, seen: Observed | None, refusal: Refusal | None) -> AppStatus:
    running = seen.running if seen is not None else 0
    if refusal is not None:
        return AppStatus(key=app.key, state=AppState.FAILED, message=refusal.reason, ready_replicas=running)
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
