"""Planned changes and status from desired and observed applications."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.serve.tiny_artifacts import served_app

from windlass.domain.endpoints import AppState, ReplicaRange, ServedApp
from windlass.domain.specs import Task
from windlass.serving.failures import reason
from windlass_pipelines.serve.reconcile import (
    UNHEALTHY_GRACE_SECONDS,
    CrashBackoff,
    DeployFailure,
    ObservedApp,
    ServeState,
    detect_failure,
    next_backoff,
    plan,
    serving_status,
)

RUNNING = ObservedApp(ServeState.RUNNING, running=1)
LOAD_ERROR = "\x1b[36mray::x\x1b[39m\n  File x\nwindlass_pipelines.serve.loading.ModelLoadError: a weight is missing\n"
NO_MEMORY = "A replica failed to start.\nwindlass_pipelines.serve.artifact.ModelMemoryError: no free memory\n"


def app(key: str, replicas: int = 1) -> ServedApp:
    scale = ReplicaRange(min=replicas, max=replicas)
    return served_app(key, Path("/a"), Task.CHAT, digest="0" * 64, replicas=scale)


def test_new_apps_are_deployed_and_undesired_ones_deleted() -> None:
    changes = plan([app("a")], {}, {"b": RUNNING}, {})
    assert (changes.deploy, changes.delete) == ((app("a"),), ("b",))


def test_an_app_in_its_desired_state_is_unchanged() -> None:
    changes = plan([app("a")], {"a": app("a")}, {"a": RUNNING}, {})
    assert (changes.deploy, changes.delete) == ((), ())


def test_a_changed_app_is_redeployed() -> None:
    assert plan([app("a", 2)], {"a": app("a")}, {"a": RUNNING}, {}).deploy == (app("a", 2),)


def test_all_apps_are_redeployed_after_a_controller_restart() -> None:
    assert plan([app("a")], {}, {"a": RUNNING}, {}).deploy == (app("a"),)


def test_a_failed_app_is_not_redeployed() -> None:
    failed = ObservedApp(ServeState.FAILED, LOAD_ERROR)
    assert plan([app("a")], {"a": app("a")}, {"a": failed}, {}).deploy == ()


def test_an_app_that_is_being_deleted_is_neither_deployed_nor_deleted() -> None:
    terminating = ObservedApp(ServeState.DELETING)
    changes = plan([app("a")], {}, {"a": terminating, "b": terminating}, {})
    assert (changes.deploy, changes.delete) == ((), ())


def test_an_app_with_a_deploy_failure_is_deleted_and_not_deployed() -> None:
    changes = plan([app("a")], {"a": app("a")}, {"a": RUNNING}, {"a": DeployFailure(app("a"), "no")})
    assert (changes.deploy, changes.delete) == ((), ("a",))


def test_the_running_version_stays_when_its_successor_cannot_be_deployed() -> None:
    failed_keys = {"a": DeployFailure(app("a", 2), "digest")}
    changes = plan([app("a", 2)], {"a": app("a")}, {"a": RUNNING}, failed_keys)
    assert (changes.deploy, changes.delete) == ((), ())
    (status,) = serving_status([app("a", 2)], {"a": RUNNING}, failed_keys).apps
    assert (status.state, status.message, status.ready_replicas) == (AppState.FAILED, "digest", 1)


keys = st.sets(st.sampled_from("abcd"))


@given(keys, keys, keys, keys)
def test_the_plan_converges_and_never_deploys_and_deletes_the_same_app(
    desired: set[str], known: set[str], observed_app: set[str], failed_keys: set[str]
) -> None:
    desired_apps = [app(key) for key in sorted(desired)]
    deployed = {key: app(key) for key in known}
    deploy_failures = {key: DeployFailure(app(key), "no") for key in failed_keys & desired}
    changes = plan(desired_apps, deployed, dict.fromkeys(observed_app, RUNNING), deploy_failures)
    assert not {item.key for item in changes.deploy} & set(changes.delete)
    deployed |= {item.key: item for item in changes.deploy}
    after = dict.fromkeys((observed_app - set(changes.delete)) | {item.key for item in changes.deploy}, RUNNING)
    assert (
        plan(desired_apps, {key: deployed[key] for key in deployed if key in after}, after, deploy_failures).deploy
        == ()
    )


def probe_error(observed_app: ObservedApp, seconds: float = 0) -> tuple[str, bool] | None:
    detected = detect_failure(observed_app, seconds)
    return None if detected is None else (detected.reason, detected.permanent)


def test_a_load_error_is_permanent_in_every_state() -> None:
    for state in (ServeState.UNHEALTHY, ServeState.STARTING, ServeState.FAILED):
        assert probe_error(ObservedApp(state, LOAD_ERROR)) == ("a weight is missing", True)


def test_a_lack_of_memory_is_transient_in_every_state() -> None:
    for state in (ServeState.UNHEALTHY, ServeState.STARTING, ServeState.FAILED):
        assert probe_error(ObservedApp(state, NO_MEMORY)) == ("no free memory", False)


def test_another_failure_is_transient_after_a_grace_period() -> None:
    killed = ObservedApp(ServeState.UNHEALTHY, "Error:\nThe worker was killed: out of memory")
    assert probe_error(killed, UNHEALTHY_GRACE_SECONDS) is None
    assert probe_error(killed, UNHEALTHY_GRACE_SECONDS + 1) == ("The worker was killed: out of memory", False)
    assert probe_error(ObservedApp(ServeState.FAILED)) == ("failed without a message", False)


def test_an_app_with_a_running_replica_is_never_stopped() -> None:
    for message in (LOAD_ERROR, NO_MEMORY):
        assert detect_failure(ObservedApp(ServeState.UNHEALTHY, message, running=1), 1e9) is None


def test_the_backoff_doubles_up_to_a_maximum_and_resets_after_a_healthy_period() -> None:
    detected: CrashBackoff | None = None
    now, delays = 0.0, []
    for _ in range(9):
        detected = next_backoff(app("a"), detected, now)
        delays.append(detected.until - now)
        now = detected.until + 1
    assert delays == [5, 10, 20, 40, 80, 160, 300, 300, 300]
    assert next_backoff(app("a"), detected, now + 1000).failures == 1
    assert next_backoff(app("a", 2), detected, now).failures == 1


def test_a_deploy_failure_applies_until_its_deadline_or_a_changed_app() -> None:
    for_good, for_now = DeployFailure(app("a"), "no"), DeployFailure(app("a"), "not now", until=10.0)
    assert for_good.still_applies(app("a"), 1e9)
    assert not for_good.still_applies(app("a", 2), 0)
    assert not for_good.still_applies(None, 0)
    assert for_now.still_applies(app("a"), 9.9)
    assert not for_now.still_applies(app("a"), 10.0)


def test_the_reason_is_the_load_error_or_the_last_line() -> None:
    assert reason(LOAD_ERROR + "\nsomething after") == "a weight is missing"
    assert reason("first\n\n  last  \n") == "last"
    assert reason("") == ""
    assert len(reason("x" * 10_000)) == 500


def test_desired_and_terminating_apps_have_a_status() -> None:
    observed = {
        "run": RUNNING,
        "load": ObservedApp(
            ServeState.STARTING, "Deployment 'model' has 1 replicas that take more than 30s.\nA remark."
        ),
        "bad": ObservedApp(ServeState.FAILED, LOAD_ERROR),
        "gone": ObservedApp(ServeState.DELETING),
        "other": RUNNING,
    }
    status = serving_status([app(key) for key in ("run", "load", "bad", "gone", "new")], observed, {})
    assert {item.key: (item.state, item.message) for item in status.apps} == {
        "run": (AppState.READY, ""),
        "load": (AppState.DEPLOYING, "loading the model"),
        "bad": (AppState.FAILED, "a weight is missing"),
        "gone": (AppState.DEPLOYING, "waiting to be deployed"),
        "new": (AppState.DEPLOYING, "waiting to be deployed"),
        "other": (AppState.TERMINATING, "stopping"),
    }
