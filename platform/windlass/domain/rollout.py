"""How an endpoint moves from what is live to what is wished: one pure decision, taken again and again."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from windlass.domain.endpoints import AppState, AppStatus, Endpoint, EndpointState, LiveTarget
from windlass.domain.jobs import Owner, Reason


def rolls_out(endpoint: Endpoint, wished: tuple[LiveTarget, ...]) -> bool:
    """Tell whether the wish needs other applications than the live ones, and has not failed before."""
    keys = _keys(wished)
    return keys != _keys(endpoint.live) and keys != set(endpoint.tried)


def needed(endpoint: Endpoint, wished: tuple[LiveTarget, ...]) -> tuple[LiveTarget, ...]:
    """Return the targets whose applications must run now: the live ones, and the new ones while they roll out."""
    if endpoint.state is EndpointState.DELETING or endpoint.spec.stopped:
        return ()
    new = wished if rolls_out(endpoint, wished) else ()
    return tuple({target.app: target for target in (*endpoint.live, *new)}.values())


def decide(
    endpoint: Endpoint,
    wished: tuple[LiveTarget, ...],
    statuses: Mapping[str, AppStatus],
    *,
    probed: str | None,
    now: datetime,
    since: datetime,
    patience: timedelta,
) -> Endpoint:
    """Return the endpoint as it should stand now; the same object when nothing changes.

    ``since`` is when somebody began to look: a rollout is not blamed for the time in which nobody worked on it.
    ``probed`` is what the smoke test of the wished applications said: None not run, empty passed, else its complaint.
    """
    if endpoint.state is EndpointState.DELETING:
        return endpoint
    if endpoint.spec.stopped:
        gone = {"live": (), "state": EndpointState.STOPPED, "reason": None, "rollout_at": None, "ready_replicas": 0}
        return _changed(endpoint, gone | {"observed_generation": endpoint.generation}, now)
    if rolls_out(endpoint, wished):
        began = endpoint.rollout_at or now
        slow = (
            f"it was not healthy within {patience.total_seconds():.0f} s" if now - max(began, since) > patience else ""
        )
        return _changed(endpoint, _roll(endpoint, wished, statuses, probed, began, slow), now)
    if _keys(wished) == _keys(endpoint.live):
        settled: dict[str, Any] = {"live": wished, "live_spec": endpoint.spec, "rollout_at": None}
        return _changed(
            endpoint, settled | _health(wished, statuses) | {"observed_generation": endpoint.generation}, now
        )
    # The wish failed before: the live applications go on, under the reason of that failure.
    health = _health(endpoint.live, statuses)
    if endpoint.live and health["state"] is EndpointState.READY:
        health["reason"] = endpoint.reason
    elif not endpoint.live:
        health = {"state": EndpointState.FAILED, "ready_replicas": 0}
    return _changed(endpoint, health, now)


def _roll(
    endpoint: Endpoint,
    wished: tuple[LiveTarget, ...],
    statuses: Mapping[str, AppStatus],
    probed: str | None,
    began: datetime,
    slow: str,
) -> dict[str, Any]:
    found = [statuses.get(target.app) for target in wished]
    broken = next((app for app in found if app and app.state is AppState.FAILED), None)
    complaint = (broken.message or "it did not start") if broken else None
    if complaint is None and probed:
        complaint = f"the smoke test failed: {probed}"
    if complaint is None and probed is None and slow:
        complaint = slow
    if complaint is not None:
        return _rolled_back(endpoint, wished, complaint, passing=broken is not None and broken.passing)
    if probed is None:
        return {"state": EndpointState.ROLLING_OUT, "rollout_at": began, "reason": None}
    return {
        "live": wished,
        "live_spec": endpoint.spec,
        "observed_generation": endpoint.generation,
        "tried": (),
        "rollout_at": None,
    } | _health(wished, statuses)


def _rolled_back(
    endpoint: Endpoint, wished: tuple[LiveTarget, ...], complaint: str, *, passing: bool
) -> dict[str, Any]:
    names = ", ".join(f"{target.model}@{target.number}" for target in wished)
    kept = ", ".join(f"{target.model}@{target.number}" for target in endpoint.live)
    tail = f"; {kept} goes on answering" if kept else ""
    reason = Reason(
        code="rollout_failed",
        message=f"{names} could not be served: {complaint}{tail}",
        owner=Owner.ADMIN if passing else Owner.YOU,
        action=(
            "free what it lacks, then send the same spec again"
            if passing
            else "serve another version, or send the same spec again to try again"
        ),
        facts={"complaint": complaint, "kept": kept},
    )
    return {
        "state": EndpointState.READY if endpoint.live else EndpointState.FAILED,
        "reason": reason,
        "tried": tuple(sorted(_keys(wished))),
        "observed_generation": endpoint.generation,
        "rollout_at": None,
    }


def _health(targets: tuple[LiveTarget, ...], statuses: Mapping[str, AppStatus]) -> dict[str, Any]:
    found = [statuses.get(target.app) for target in targets]
    ready = sum(app.ready_replicas for app in found if app)
    broken = next((app for app in found if app and app.state is AppState.FAILED), None)
    if broken is not None:
        owner = Owner.ADMIN if broken.passing else Owner.YOU
        reason = Reason(code="replica_failed", message=broken.message or "the model server failed", owner=owner)
        return {"state": EndpointState.FAILED, "reason": reason, "ready_replicas": ready}
    if any(app is None or app.state is not AppState.READY for app in found):
        reason = Reason(code="starting", message="the model server is starting")
        return {"state": EndpointState.PENDING, "reason": reason, "ready_replicas": ready}
    return {"state": EndpointState.READY, "reason": None, "ready_replicas": ready}


def _keys(targets: tuple[LiveTarget, ...]) -> set[str]:
    return {target.app for target in targets}


def _changed(endpoint: Endpoint, update: dict[str, Any], now: datetime) -> Endpoint:
    after = endpoint.model_copy(update=update)
    return endpoint if after == endpoint else after.model_copy(update={"changed_at": now})
