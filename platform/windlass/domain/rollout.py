"""Moves an endpoint from its live targets to the desired ones: one pure function, called on every pass."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from windlass.domain.endpoints import AppState, AppStatus, Endpoint, EndpointSpec, EndpointState, LiveTarget
from windlass.domain.jobs import ActionOwner, Reason

ROLLOUT_FAILED = "rollout_failed"
STARTING = Reason(code="starting", message="the model server is starting")


def requires_rollout(endpoint: Endpoint, desired: tuple[LiveTarget, ...]) -> bool:
    """Return whether the desired applications differ from the live ones and did not fail in the last rollout."""
    apps = _apps(desired)
    return apps != _apps(endpoint.live) and apps != set(endpoint.attempted_apps)


def required_targets(endpoint: Endpoint, desired: tuple[LiveTarget, ...]) -> tuple[LiveTarget, ...]:
    """Return the targets whose applications must run now: the live ones, and new ones during their rollout."""
    if endpoint.state is EndpointState.DELETING or endpoint.spec.stopped:
        return ()
    new = desired if requires_rollout(endpoint, desired) else ()
    return tuple({target.app: target for target in (*endpoint.live, *new)}.values())


def advance(
    endpoint: Endpoint,
    desired: tuple[LiveTarget, ...],
    statuses: Mapping[str, AppStatus],
    *,
    probe_error: str | None,
    now: datetime,
    observed_since: datetime,
    timeout: timedelta,
    unavailable: Reason | None = None,
) -> Endpoint:
    """Return the endpoint's next state; the same object when nothing changes.

    ``observed_since`` is since when the servers of the desired applications listen: the timeout counts only this time.
    ``probe_error`` is the result of the smoke test of the desired applications: None: not ended; empty: passed.
    ``unavailable`` is why the back end cannot start applications at present; those that run are not affected.
    """
    if endpoint.state is EndpointState.DELETING:
        return endpoint
    if endpoint.spec.stopped:
        stopped = {
            "live": (),
            "state": EndpointState.STOPPED,
            "reason": None,
            "rollout_started_at": None,
            "ready_replicas": 0,
            "desired_replicas": 0,
        }
        return _changed(endpoint, stopped | {"observed_generation": endpoint.generation}, now)
    if requires_rollout(endpoint, desired):
        started = endpoint.rollout_started_at or now
        timeout_error = (
            f"it was not healthy within {timeout.total_seconds():.0f} s"
            if now - max(started, observed_since) > timeout
            else ""
        )
        update = _roll(endpoint, desired, statuses, probe_error, started, timeout_error)
        return _changed(endpoint, _explained(update, unavailable), now)
    if _apps(desired) == _apps(endpoint.live):
        in_sync: dict[str, Any] = {"live": desired, "live_spec": endpoint.spec, "rollout_started_at": None}
        health = _explained(_health(desired, statuses, endpoint.spec), unavailable)
        return _changed(endpoint, in_sync | health | {"observed_generation": endpoint.generation}, now)
    # The desired applications failed before: keep serving the live ones, with the reason of that failure.
    health = _explained(_health(endpoint.live, statuses, endpoint.live_spec or endpoint.spec), unavailable)
    if endpoint.live and health["state"] is not EndpointState.FAILED:
        failed_before = endpoint.reason is not None and endpoint.reason.code == ROLLOUT_FAILED
        health["reason"] = endpoint.reason if failed_before else health["reason"]
    elif not endpoint.live:
        health = {"state": EndpointState.FAILED, "ready_replicas": 0, "desired_replicas": 0}
    return _changed(endpoint, health, now)


def _roll(
    endpoint: Endpoint,
    desired: tuple[LiveTarget, ...],
    statuses: Mapping[str, AppStatus],
    probe_error: str | None,
    started: datetime,
    timeout_error: str,
) -> dict[str, Any]:
    apps = [statuses.get(target.app) for target in desired]
    failed = next((app for app in apps if app and app.state is AppState.FAILED), None)
    error = (failed.message or "it did not start") if failed else None
    if error is None and probe_error:
        error = f"the smoke test failed: {probe_error}"
    if error is None and probe_error is None and timeout_error:
        error = timeout_error
    if error is not None:
        return _rolled_back(endpoint, desired, error, transient=failed is not None and failed.transient)
    if probe_error is None:
        return {"state": EndpointState.ROLLING_OUT, "rollout_started_at": started, "reason": _waits(apps)}
    return {
        "live": desired,
        "live_spec": endpoint.spec,
        "observed_generation": endpoint.generation,
        "attempted_apps": (),
        "rollout_started_at": None,
    } | _health(desired, statuses, endpoint.spec)


def _rolled_back(endpoint: Endpoint, desired: tuple[LiveTarget, ...], error: str, *, transient: bool) -> dict[str, Any]:
    target_names = ", ".join(f"{target.model}@{target.number}" for target in desired)
    live_names = ", ".join(f"{target.model}@{target.number}" for target in endpoint.live)
    suffix = f"; {live_names} still serves" if live_names else ""
    reason = Reason(
        code=ROLLOUT_FAILED,
        message=f"{target_names} could not be served: {error}{suffix}",
        action_by=ActionOwner.ADMIN if transient else ActionOwner.USER,
        action=(
            "free the missing resources, then send the same spec again"
            if transient
            else "serve another version, or send the same spec again to retry"
        ),
        context={"error": error, "live": live_names},
    )
    return {
        "state": EndpointState.READY if endpoint.live else EndpointState.FAILED,
        "reason": reason,
        "attempted_apps": tuple(sorted(_apps(desired))),
        "observed_generation": endpoint.generation,
        "rollout_started_at": None,
    }


def _health(targets: tuple[LiveTarget, ...], statuses: Mapping[str, AppStatus], spec: EndpointSpec) -> dict[str, Any]:
    apps = [statuses.get(target.app) for target in targets]
    replicas = {
        "ready_replicas": sum(app.ready_replicas for app in apps if app),
        "desired_replicas": sum(app.desired_replicas for app in apps if app),
    }
    failed = next((app for app in apps if app and app.state is AppState.FAILED), None)
    if failed is not None:
        action_by = ActionOwner.ADMIN if failed.transient else ActionOwner.USER
        reason = Reason(code="replica_failed", message=failed.message or "the model server failed", action_by=action_by)
        return {"state": EndpointState.FAILED, "reason": reason} | replicas
    waits = _waits(apps)
    starting = any(app is None or app.state is not AppState.READY for app in apps)
    # One that may scale to zero starts its replicas on demand, and holds the requests until then.
    if starting and (waits is not None or spec.replicas.min > 0 or any(app is None for app in apps)):
        return {"state": EndpointState.PENDING, "reason": waits or STARTING} | replicas
    return {"state": EndpointState.READY, "reason": waits} | replicas


def _waits(apps: Sequence[AppStatus | None]) -> Reason | None:
    return next((app.waits for app in apps if app and app.waits), None)


def _explained(update: dict[str, Any], unavailable: Reason | None) -> dict[str, Any]:
    """Give an endpoint that waits for the back end the reason why the back end is not available."""
    waits = update["state"] in {EndpointState.PENDING, EndpointState.ROLLING_OUT}
    return {**update, "reason": unavailable} if waits and unavailable else update


def _apps(targets: tuple[LiveTarget, ...]) -> set[str]:
    return {target.app for target in targets}


def _changed(endpoint: Endpoint, update: dict[str, Any], now: datetime) -> Endpoint:
    after = endpoint.model_copy(update=update)
    return endpoint if after == endpoint else after.model_copy(update={"changed_at": now})
