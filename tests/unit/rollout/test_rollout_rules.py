"""The next state of an endpoint: rollout, rollback, health, and which applications must run."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from windlass.domain.endpoints import (
    AppState,
    AppStatus,
    Endpoint,
    EndpointSpec,
    EndpointState,
    LiveTarget,
    ReplicaRange,
    TrafficTarget,
)
from windlass.domain.jobs import ActionOwner, Reason
from windlass.domain.rollout import STARTING, advance, required_targets, requires_rollout
from windlass.domain.specs import Task

BEFORE = datetime(2026, 1, 1, tzinfo=UTC)
NOW = BEFORE + timedelta(hours=1)
TIMEOUT = timedelta(minutes=5)
SPEC = EndpointSpec(traffic=(TrafficTarget(model="classifier", version=1),))
TO_ZERO = SPEC.model_copy(update={"replicas": ReplicaRange(min=0)})
NO_QUOTA = Reason(code="waiting_for_quota", message="no GPU is free")
NO_DISK = Reason(code="serving_unavailable", message="the disk is full")
OLD_FAILURE = Reason(code="rollout_failed", message="the version before could not be served")


def target(number: int, weight: int = 100) -> LiveTarget:
    return LiveTarget(
        app=f"app-{number}", model_version=f"mv-{number}", model="classifier", number=number, weight=weight
    )


ONE, TWO = (target(1),), (target(2),)


def endpoint(live: tuple[LiveTarget, ...] = (), **changes: Any) -> Endpoint:
    values: dict[str, Any] = {
        "id": "ep",
        "project": "ours",
        "name": "live",
        "task": Task.TEXT_CLASSIFICATION,
        "spec": SPEC,
        "state": EndpointState.READY if live else EndpointState.PENDING,
        "live": live,
        "live_spec": SPEC if live else None,
        "generation": 7,
        "observed_generation": 6,
        "created_by": "somebody",
        "created_at": BEFORE,
        "changed_at": BEFORE,
    }
    return Endpoint.model_validate(values | changes)


def app(number: int, state: AppState = AppState.READY, ready: int = 1, desired: int = 1, **more: Any) -> AppStatus:
    return AppStatus(key=f"app-{number}", state=state, ready_replicas=ready, desired_replicas=desired, **more)


def step(before: Endpoint, desired: tuple[LiveTarget, ...], *apps: AppStatus, **more: Any) -> Endpoint:
    given: dict[str, Any] = {"probe_error": None, "now": NOW, "observed_since": BEFORE, "timeout": TIMEOUT} | more
    return advance(before, desired, {each.key: each for each in apps}, **given)


def changes(before: Endpoint, after: Endpoint) -> dict[str, Any]:
    """Return the fields that differ, without the time of the change, which must be there exactly when one differs."""
    differing = {name: value for name, value in after if value != getattr(before, name)}
    assert differing.pop("changed_at", None) == (NOW if differing else None)
    assert differing or after is before
    return differing


# ---------------------------------------------------------------- which applications run


@pytest.mark.parametrize(
    ("live", "attempted", "required"), [(ONE, (), False), (TWO, (), True), (TWO, ("app-1",), False), ((), (), True)]
)
def test_a_rollout_is_required_for_other_applications_that_did_not_fail_last(
    live: tuple[LiveTarget, ...], attempted: tuple[str, ...], required: bool
) -> None:
    assert requires_rollout(endpoint(live, attempted_apps=attempted), ONE) is required


def test_the_live_applications_run_beside_those_of_the_rollout() -> None:
    assert required_targets(endpoint(ONE), TWO) == ONE + TWO
    assert required_targets(endpoint(ONE), ONE + TWO) == ONE + TWO
    assert required_targets(endpoint(ONE), ONE) == ONE
    assert required_targets(endpoint(ONE, attempted_apps=("app-2",)), TWO) == ONE


def test_no_application_runs_for_an_endpoint_that_is_stopped_or_being_deleted() -> None:
    stopped = SPEC.model_copy(update={"stopped": True})
    assert required_targets(endpoint(ONE, spec=stopped), TWO) == ()
    assert required_targets(endpoint(ONE, state=EndpointState.DELETING), TWO) == ()


# ---------------------------------------------------------------- stopped and deleted


def test_an_endpoint_that_is_being_deleted_does_not_change() -> None:
    before = endpoint(ONE, state=EndpointState.DELETING)
    assert step(before, TWO, app(2), probe_error="") is before


def test_a_stopped_endpoint_serves_nothing() -> None:
    stopped = SPEC.model_copy(update={"stopped": True})
    before = endpoint(
        ONE, spec=stopped, reason=STARTING, rollout_started_at=BEFORE, ready_replicas=2, desired_replicas=3
    )
    assert changes(before, step(before, TWO, app(1))) == {
        "live": (),
        "state": EndpointState.STOPPED,
        "reason": None,
        "rollout_started_at": None,
        "ready_replicas": 0,
        "desired_replicas": 0,
        "observed_generation": 7,
    }


# ---------------------------------------------------------------- rollout


def test_a_rollout_waits_for_the_smoke_test_and_keeps_its_start() -> None:
    before = endpoint(ONE, ready_replicas=1)
    after = step(before, TWO, app(1), app(2))
    assert changes(before, after) == {"state": EndpointState.ROLLING_OUT, "rollout_started_at": NOW}
    later = step(after, TWO, app(1), app(2), now=NOW + timedelta(seconds=1))
    assert later is after, "the start of the rollout is that of its first step"


def test_a_rollout_shows_what_its_applications_wait_for() -> None:
    before = endpoint(ONE)
    rolling = step(before, TWO, app(1), app(2, AppState.DEPLOYING, waits=NO_QUOTA))
    assert rolling.reason == NO_QUOTA
    assert step(rolling, TWO, app(1), app(2, AppState.DEPLOYING)).reason is None
    refused = step(before, TWO, app(1), app(2, AppState.DEPLOYING, waits=NO_QUOTA), unavailable=NO_DISK)
    assert refused.reason == NO_DISK


def test_a_version_that_passes_the_smoke_test_replaces_the_live_one() -> None:
    spec = SPEC.model_copy(update={"max_batch_size": 8})
    before = endpoint(
        ONE,
        spec=spec,
        state=EndpointState.ROLLING_OUT,
        rollout_started_at=BEFORE,
        attempted_apps=("app-3",),
        reason=OLD_FAILURE,
    )
    assert changes(before, step(before, TWO, app(1), app(2, ready=2, desired=3), probe_error="")) == {
        "live": TWO,
        "live_spec": spec,
        "state": EndpointState.READY,
        "reason": None,
        "rollout_started_at": None,
        "attempted_apps": (),
        "observed_generation": 7,
        "ready_replicas": 2,
        "desired_replicas": 3,
    }


def test_a_rollout_times_out_after_the_timeout_since_its_server_listens() -> None:
    before = endpoint(ONE, state=EndpointState.ROLLING_OUT, rollout_started_at=BEFORE)
    at_limit = step(before, TWO, observed_since=NOW - TIMEOUT)
    assert at_limit is before
    longer = step(before, TWO, observed_since=NOW - TIMEOUT - timedelta(seconds=1))
    assert longer.reason is not None
    assert longer.reason.context["error"] == "it was not healthy within 300 s"
    late_start = before.model_copy(update={"rollout_started_at": NOW - TIMEOUT})
    assert step(late_start, TWO, observed_since=BEFORE) is late_start, "it has had no more time than since its start"


def test_a_smoke_test_that_passes_after_the_timeout_is_a_success() -> None:
    before = endpoint(ONE, state=EndpointState.ROLLING_OUT, rollout_started_at=BEFORE)
    assert step(before, TWO, app(2), probe_error="").live == TWO


@pytest.mark.parametrize(
    ("status", "probe_error", "error"),
    [
        (app(2, AppState.FAILED, message="no such file"), None, "no such file"),
        (app(2, AppState.FAILED), None, "it did not start"),
        (app(2, AppState.FAILED, message="no such file"), "status 500", "no such file"),
        (app(2), "status 500", "the smoke test failed: status 500"),
    ],
)
@pytest.mark.parametrize("observed_since", [BEFORE, NOW])
def test_a_failed_rollout_leaves_the_live_version_and_is_not_repeated(
    status: AppStatus, probe_error: str | None, error: str, observed_since: datetime
) -> None:
    before = endpoint(ONE, state=EndpointState.ROLLING_OUT, rollout_started_at=BEFORE, ready_replicas=1)
    after = step(before, TWO, app(1), status, probe_error=probe_error, observed_since=observed_since)
    assert changes(before, after) == {
        "state": EndpointState.READY,
        "reason": Reason(
            code="rollout_failed",
            message=f"classifier@2 could not be served: {error}; classifier@1 still serves",
            action_by=ActionOwner.USER,
            action="serve another version, or send the same spec again to retry",
            context={"error": error, "live": "classifier@1"},
        ),
        "attempted_apps": ("app-2",),
        "observed_generation": 7,
        "rollout_started_at": None,
    }
    assert not requires_rollout(after, TWO)


@pytest.mark.parametrize("transient", [False, True])
def test_a_first_rollout_that_fails_leaves_the_endpoint_failed(transient: bool) -> None:
    before = endpoint()
    status = app(2, AppState.FAILED, message="out of memory", transient=transient)
    after = step(before, ONE + TWO, app(1), status)
    assert (after.state, after.live, after.attempted_apps) == (EndpointState.FAILED, (), ("app-1", "app-2"))
    assert after.reason is not None
    assert after.reason.message == "classifier@1, classifier@2 could not be served: out of memory"
    assert after.reason.action_by is (ActionOwner.ADMIN if transient else ActionOwner.USER)
    assert after.reason.action.startswith("free the missing" if transient else "serve another version")


# ---------------------------------------------------------------- health of the desired applications


def health(spec: EndpointSpec, *apps: AppStatus, **more: Any) -> tuple[EndpointState, Reason | None]:
    before = endpoint((target(1, 50), target(2, 50)), spec=spec)
    after = step(before, before.live, *apps, **more)
    return after.state, after.reason


READY, DEPLOYING, FAILED = AppState.READY, AppState.DEPLOYING, AppState.FAILED


@pytest.mark.parametrize(
    ("spec", "first", "second", "state", "reason"),
    [
        (SPEC, app(1), app(2), EndpointState.READY, None),
        (SPEC, app(1), app(2, waits=NO_QUOTA), EndpointState.READY, NO_QUOTA),
        (SPEC, app(1), app(2, DEPLOYING), EndpointState.PENDING, STARTING),
        (SPEC, app(1), app(2, DEPLOYING, waits=NO_QUOTA), EndpointState.PENDING, NO_QUOTA),
        (SPEC, app(1, waits=NO_QUOTA), app(2, DEPLOYING, waits=NO_DISK), EndpointState.PENDING, NO_QUOTA),
        (SPEC, app(1), None, EndpointState.PENDING, STARTING),
        (SPEC, None, app(2), EndpointState.PENDING, STARTING),
        # one that may scale to zero starts its replicas for the first request
        (TO_ZERO, app(1), app(2), EndpointState.READY, None),
        (TO_ZERO, app(1), app(2, DEPLOYING), EndpointState.READY, None),
        (TO_ZERO, app(1), app(2, waits=NO_QUOTA), EndpointState.READY, NO_QUOTA),
        (TO_ZERO, app(1), app(2, DEPLOYING, waits=NO_QUOTA), EndpointState.PENDING, NO_QUOTA),
        (TO_ZERO, app(1), None, EndpointState.PENDING, STARTING),
    ],
)
def test_an_endpoint_is_ready_when_its_applications_are(
    spec: EndpointSpec, first: AppStatus | None, second: AppStatus | None, state: EndpointState, reason: Reason | None
) -> None:
    assert health(spec, *(each for each in (first, second) if each is not None)) == (state, reason)


def test_a_failed_replica_is_the_reason_of_the_endpoint() -> None:
    for message, shown in (("it exited with 1", "it exited with 1"), ("", "the model server failed")):
        for transient, owner in ((False, ActionOwner.USER), (True, ActionOwner.ADMIN)):
            failed = app(2, FAILED, message=message, transient=transient)
            reason = Reason(code="replica_failed", message=shown, action_by=owner)
            assert health(SPEC, app(1), failed) == (EndpointState.FAILED, reason)
            assert health(TO_ZERO, failed) == (EndpointState.FAILED, reason)


def test_the_reason_of_a_back_end_that_starts_nothing_is_shown_where_an_endpoint_waits_for_it() -> None:
    assert health(SPEC, app(1), app(2, DEPLOYING), unavailable=NO_DISK) == (EndpointState.PENDING, NO_DISK)
    assert health(SPEC, app(1), app(2), unavailable=NO_DISK) == (EndpointState.READY, None)
    failed = health(SPEC, app(1), app(2, FAILED), unavailable=NO_DISK)
    assert failed == health(SPEC, app(1), app(2, FAILED))


def test_replicas_are_added_up_and_new_weights_and_settings_are_taken_over() -> None:
    spec = SPEC.model_copy(update={"max_batch_size": 8})
    before = endpoint((target(1, 50), target(2, 50)), spec=spec, rollout_started_at=BEFORE)
    desired = target(1, 20), target(2, 80)
    after = step(before, desired, app(1, ready=2, desired=3), app(2, ready=4, desired=5))
    assert changes(before, after) == {
        "live": desired,
        "live_spec": spec,
        "observed_generation": 7,
        "rollout_started_at": None,
        "ready_replicas": 6,
        "desired_replicas": 8,
    }
    assert step(after, desired, app(1, ready=2, desired=3), app(2, ready=4, desired=5)) is after


# ---------------------------------------------------------------- after a failed rollout


def failed_before(live: tuple[LiveTarget, ...], reason: Reason | None, **more: Any) -> Endpoint:
    return endpoint(live, reason=reason, attempted_apps=("app-2",), observed_generation=7, **more)


def test_the_reason_of_a_failed_rollout_stays_while_the_live_version_serves() -> None:
    before = failed_before(ONE, OLD_FAILURE)
    after = step(before, TWO, app(1, ready=2, desired=2))
    assert changes(before, after) == {"ready_replicas": 2, "desired_replicas": 2}
    pending = step(before, TWO, app(1, DEPLOYING))
    assert (pending.state, pending.reason) == (EndpointState.PENDING, OLD_FAILURE)


def test_another_reason_is_replaced_while_the_live_version_serves() -> None:
    for reason in (NO_QUOTA, None):
        before = failed_before(ONE, reason)
        assert step(before, TWO, app(1)).reason is None
        assert step(before, TWO, app(1, waits=NO_DISK)).reason == NO_DISK
        assert step(before, TWO, app(1, DEPLOYING), unavailable=NO_DISK).reason == NO_DISK


def test_a_failure_of_the_live_version_is_shown_instead_of_that_of_the_rollout() -> None:
    after = step(failed_before(ONE, OLD_FAILURE), TWO, app(1, FAILED, message="it exited with 1"))
    assert after.state is EndpointState.FAILED
    assert after.reason is not None
    assert after.reason.code == "replica_failed"


def test_the_health_of_the_live_version_is_that_by_its_own_spec() -> None:
    scales_to_zero = failed_before(ONE, None, live_spec=TO_ZERO)
    assert step(scales_to_zero, TWO, app(1, DEPLOYING)).state is EndpointState.READY
    without = failed_before(ONE, None, live_spec=None, spec=TO_ZERO)
    assert step(without, TWO, app(1, DEPLOYING)).state is EndpointState.READY


def test_an_endpoint_whose_first_rollout_failed_stays_failed() -> None:
    before = failed_before((), OLD_FAILURE, state=EndpointState.FAILED, ready_replicas=1, desired_replicas=1)
    after = step(before, TWO, app(2))
    assert changes(before, after) == {"ready_replicas": 0, "desired_replicas": 0}
    assert step(after, TWO) is after
