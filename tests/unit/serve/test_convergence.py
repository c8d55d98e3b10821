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
    Trouble,
    failure,
    plan,
    reason,
    report,
    trouble,
)

RUNNING = Observed(ServeState.RUNNING, running=1)
LOAD_ERROR = "\x1b[36mray::x\x1b[39m\n  File x\nwindlass_pipelines.serve.loading.ModelLoadError: a weight is missing\n"
NO_MEMORY = "A replica failed to start.\nwindlass_pipelines.serve.artifact.ModelMemoryError: no free memory\n"


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


def complaint(seen: Observed, seconds: float = 0) -> tuple[str, bool] | None:
    found = failure(seen, seconds)
    return None if found is None else (found.reason, found.lasting)


def test_an_artifact_that_cannot_be_loaded_is_given_up_at_once_also_after_a_first_success() -> None:
    for state in (ServeState.UNHEALTHY, ServeState.STARTING, ServeState.FAILED):
        assert complaint(Observed(state, LOAD_ERROR)) == ("a weight is missing", True)


def test_a_lack_of_memory_passes_also_on_the_first_start() -> None:
    for state in (ServeState.UNHEALTHY, ServeState.STARTING, ServeState.FAILED):
        assert complaint(Observed(state, NO_MEMORY)) == ("no free memory", False)


def test_a_replica_that_dies_for_another_reason_gets_its_time_and_then_a_pause() -> None:
    killed = Observed(ServeState.UNHEALTHY, "Error:\nThe worker was killed: out of memory")
    assert complaint(killed, PATIENCE_SECONDS) is None
    assert complaint(killed, PATIENCE_SECONDS + 1) == ("The worker was killed: out of memory", False)
    assert complaint(Observed(ServeState.FAILED)) == ("it failed without a message", False)


def test_an_application_with_a_running_replica_is_never_stopped() -> None:
    for message in (LOAD_ERROR, NO_MEMORY):
        assert failure(Observed(ServeState.UNHEALTHY, message, running=1), 1e9) is None


def test_pauses_double_up_to_a_limit_and_begin_anew_after_a_good_time() -> None:
    found: Trouble | None = None
    now, pauses = 0.0, []
    for _ in range(9):
        found = trouble(app("a"), found, now)
        pauses.append(found.until - now)
        now = found.until + 1
    assert pauses == [5, 10, 20, 40, 80, 160, 300, 300, 300]
    assert trouble(app("a"), found, now + 1000).times == 1
    assert trouble(app("a", 2), found, now).times == 1


def test_a_refusal_holds_until_its_time_or_until_something_else_is_asked() -> None:
    for_good, for_now = Refusal(app("a"), "no"), Refusal(app("a"), "not now", until=10.0)
    assert for_good.holds(app("a"), 1e9)
    assert not for_good.holds(app("a", 2), 0)
    assert not for_good.holds(None, 0)
    assert for_now.holds(app("a"), 9.9)
    assert not for_now.holds(app("a"), 10.0)


def test_the_reason_is_our_own_sentence_or_the_last_line() -> None:
    assert reason(LOAD_ERROR + "\nsomething after") == "a weight is missing"
    assert reason("first\n\n  last  \n") == "last"
    assert reason("") == ""
    assert len(reason("x" * 10_000)) == 500


def test_every_wished_application_has_a_status_and_so_has_what_still_leaves() -> None:
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
        "other": (AppState.LEAVING, "it is being stopped"),
    }
