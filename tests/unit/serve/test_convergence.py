"""Wish and observation in, actions and status out."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.serve.tiny_artifacts import served

from windlass.domain.endpoints import AppState, ReplicaRange, ServedApp
from windlass.domain.specs import Task
from windlass_pipelines.serve.convergence import (
    PATIENCE_SECONDS,
    Observed,
    Refusal,
    ServeState,
    hopeless,
    plan,
    reason,
    report,
)

RUNNING = Observed(ServeState.RUNNING, running=1)
LOAD_ERROR = "\x1b[36mray::x\x1b[39m\n  File x\nwindlass_pipelines.serve.loading.ModelLoadError: a weight is missing\n"


def app(key: str, replicas: int = 1) -> ServedApp:
    scale = ReplicaRange(min=replicas, max=replicas)
    return served(key, Path("/a"), Task.CHAT, digest="0" * 64, replicas=scale)


def test_what_is_new_is_deployed_and_what_is_not_wished_is_deleted() -> None:
    todo = plan([app("a")], {}, {"b": RUNNING}, {})
    assert (todo.deploy, todo.delete) == ((app("a"),), ("b",))


def test_what_runs_as_wished_is_left_alone() -> None:
    todo = plan([app("a")], {"a": app("a")}, {"a": RUNNING}, {})
    assert (todo.deploy, todo.delete) == ((), ())


def test_what_runs_otherwise_is_deployed_anew() -> None:
    assert plan([app("a", 2)], {"a": app("a")}, {"a": RUNNING}, {}).deploy == (app("a", 2),)


def test_after_a_restart_everything_is_handed_to_serve_again() -> None:
    assert plan([app("a")], {}, {"a": RUNNING}, {}).deploy == (app("a"),)


def test_a_failed_application_is_not_tried_again() -> None:
    failed = Observed(ServeState.FAILED, LOAD_ERROR)
    assert plan([app("a")], {"a": app("a")}, {"a": failed}, {}).deploy == ()


def test_what_is_being_deleted_is_neither_deployed_nor_deleted_again() -> None:
    leaving = Observed(ServeState.DELETING)
    todo = plan([app("a")], {}, {"a": leaving, "b": leaving}, {})
    assert (todo.deploy, todo.delete) == ((), ())


def test_what_was_given_up_is_removed_and_not_deployed() -> None:
    todo = plan([app("a")], {"a": app("a")}, {"a": RUNNING}, {"a": Refusal(app("a"), "no")})
    assert (todo.deploy, todo.delete) == ((), ("a",))


def test_the_old_version_goes_on_when_its_successor_is_refused() -> None:
    refused = {"a": Refusal(app("a", 2), "digest")}
    todo = plan([app("a", 2)], {"a": app("a")}, {"a": RUNNING}, refused)
    assert (todo.deploy, todo.delete) == ((), ())
    (status,) = report("http://x", [app("a", 2)], {"a": RUNNING}, refused).apps
    assert (status.state, status.message, status.ready_replicas) == (AppState.FAILED, "digest", 1)


keys = st.sets(st.sampled_from("abcd"))


@given(keys, keys, keys, keys)
def test_no_application_is_both_deployed_and_deleted_and_the_plan_settles(
    wished: set[str], known: set[str], seen: set[str], refused: set[str]
) -> None:
    wish = [app(key) for key in sorted(wished)]
    deployed = {key: app(key) for key in known}
    refusals = {key: Refusal(app(key), "no") for key in refused & wished}
    todo = plan(wish, deployed, dict.fromkeys(seen, RUNNING), refusals)
    assert not {item.key for item in todo.deploy} & set(todo.delete)
    deployed |= {item.key: item for item in todo.deploy}
    after = dict.fromkeys((seen - set(todo.delete)) | {item.key for item in todo.deploy}, RUNNING)
    assert plan(wish, {key: deployed[key] for key in deployed if key in after}, after, refusals).deploy == ()


def test_a_load_error_is_given_up_at_once_also_after_a_first_success() -> None:
    assert hopeless(Observed(ServeState.UNHEALTHY, LOAD_ERROR), 0) == "a weight is missing"
    assert hopeless(Observed(ServeState.STARTING, LOAD_ERROR), 0) == "a weight is missing"


def test_a_replica_that_dies_for_another_reason_gets_its_time() -> None:
    killed = Observed(ServeState.UNHEALTHY, "Error:\nThe worker was killed: out of memory")
    assert hopeless(killed, PATIENCE_SECONDS) is None
    assert hopeless(killed, PATIENCE_SECONDS + 1) == "The worker was killed: out of memory"


def test_an_application_with_a_running_replica_is_never_given_up() -> None:
    assert hopeless(Observed(ServeState.UNHEALTHY, LOAD_ERROR, running=1), 1e9) is None


def test_the_reason_is_our_own_sentence_or_the_last_line() -> None:
    assert reason(LOAD_ERROR + "\nsomething after") == "a weight is missing"
    assert reason("first\n\n  last  \n") == "last"
    assert reason("") == ""
    assert len(reason("x" * 10_000)) == 500


def test_every_wished_application_has_a_status_and_no_other() -> None:
    observed = {
        "run": RUNNING,
        "load": Observed(ServeState.STARTING, "Deployment 'model' has 1 replicas that take more than 30s.\nA remark."),
        "bad": Observed(ServeState.FAILED, LOAD_ERROR),
        "gone": Observed(ServeState.DELETING),
        "other": RUNNING,
    }
    status = report("http://x", [app(key) for key in ("run", "load", "bad", "gone", "new")], observed, {})
    assert {item.key: (item.state, item.message) for item in status.apps} == {
        "run": (AppState.READY, ""),
        "load": (AppState.DEPLOYING, "the model is being loaded"),
        "bad": (AppState.FAILED, "a weight is missing"),
        "gone": (AppState.DEPLOYING, "waiting to be deployed"),
        "new": (AppState.DEPLOYING, "waiting to be deployed"),
    }
