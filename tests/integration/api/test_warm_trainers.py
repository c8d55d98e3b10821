"""Warm trainers: the control plane keeps those that projects want, and gives each to the run that claimed it."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.cluster import MemoryView, make_pool, make_project
from tests.fakes.harness import ControlPlaneHarness
from tests.integration.api.kueue_cluster import OURS, control_plane_of

from windlass.domain.cluster_sync import ObservedClusterState, ObservedReservation
from windlass.domain.errors import FencedError
from windlass.domain.jobs import Reason, Run, RunState
from windlass.domain.quota import ResourceDemand
from windlass.domain.warm_trainers import WarmTrainerState, new_warm_trainer_name, warm_trainer_key
from windlass.runtime.context import RunContext
from windlass.services.warm_trainers import WarmTrainerReconciler, assign_warm_trainer, attribute_warm_trainers

pytestmark = pytest.mark.database("sqlite", "postgresql")
WANTED = OURS.model_copy(update={"warm_trainers": {"a100": 1}})


@pytest.fixture
def view() -> MemoryView:
    return MemoryView()


@pytest.fixture
def harness(tmp_path: Path, view: MemoryView) -> Iterator[ControlPlaneHarness]:
    with control_plane_of(view, tmp_path) as built:
        yield built


def sync(harness: ControlPlaneHarness, view: MemoryView, *demands: ResourceDemand, wanted: bool = True) -> None:
    view.set_state([WANTED if wanted else OURS], *demands, pools=[make_pool()])
    harness.cluster_sync.step()


def reconcile(harness: ControlPlaneHarness) -> list[tuple[str, WarmTrainerState]]:
    reconciler(harness).step()
    return [(each.name, each.state) for each in harness.warm_trainers.trainers.values()]


def reconciler(harness: ControlPlaneHarness) -> WarmTrainerReconciler:
    assert harness.worker.warm_trainers
    return harness.worker.warm_trainers


def submitted_run(harness: ControlPlaneHarness, key: str = "1") -> Run:
    job = harness.submit("ours", key=key, resources={"pool": "a100"})["id"]
    harness.run_worker_once()
    with harness.database.read() as uow:
        [run] = uow.all_projects().runs.all({"job": job, "ended_at": None})
    return run


def ask(harness: ControlPlaneHarness, name: str, project: str = "ours", token: str | None = None) -> Any:
    """The reply to a warm trainer that asks for its run."""
    token = harness.deps.hasher.warm_trainer_token(project, name) if token is None else token
    headers = {"Authorization": f"Bearer {token}"}
    return harness.client.get(f"/internal/v1/warm-trainers/{project}/{name}/run", headers=headers)


# ---------------------------------------------------------------- how many there are


def test_one_is_kept_where_it_is_wanted(harness: ControlPlaneHarness, view: MemoryView) -> None:
    sync(harness, view)
    [(name, _)] = reconcile(harness)
    context = harness.warm_trainers.contexts[name]
    assert (context.project, context.name, context.api_url) == ("ours", name, "http://testserver")
    assert ask(harness, name, token=context.token + "x").status_code == 401
    harness.warm_trainers.set_state(name, WarmTrainerState.ADMITTED)
    assert reconcile(harness) == [(name, WarmTrainerState.ADMITTED)]
    harness.warm_trainers.set_state(name, WarmTrainerState.CLAIMED)
    assert len(reconcile(harness)) == 2
    sync(harness, view, wanted=False)
    assert reconcile(harness) == [(name, WarmTrainerState.CLAIMED)]


def test_nothing_is_asked_of_the_cluster_where_none_is_wanted(harness: ControlPlaneHarness, view: MemoryView) -> None:
    sync(harness, view, wanted=False)
    for _ in range(3):
        reconcile(harness)
    assert harness.warm_trainers.lists == 1


def test_one_that_was_preempted_or_fails_is_not_replaced_at_once(
    harness: ControlPlaneHarness, view: MemoryView
) -> None:
    sync(harness, view)
    [(name, _)] = reconcile(harness)
    harness.warm_trainers.set_state(name, WarmTrainerState.ENDED)
    assert reconcile(harness) == []
    harness.clock.advance(59)
    assert reconcile(harness) == []
    harness.clock.advance(2)
    assert len(reconcile(harness)) == 1


# ---------------------------------------------------------------- its run


def test_a_warm_trainer_gets_the_run_that_claimed_it(harness: ControlPlaneHarness) -> None:
    run, name = submitted_run(harness), new_warm_trainer_name()
    replies: list[Any] = []
    asking = threading.Thread(target=lambda: replies.append(ask(harness, name)))
    asking.start()
    headers = {"Authorization": f"Bearer {harness.deps.hasher.run_token(run.id)}"}
    path = f"/internal/v1/runs/{run.id}/warm-trainer"
    for _ in range(2):
        assert harness.client.put(path, json={"name": name}, headers=headers).status_code == 204
    asking.join(30)
    context = RunContext.model_validate_json(replies[0].content)
    assert context == harness.pipelines.contexts[run.name]
    assert harness.client.put(path, json={"name": "job-1"}, headers=headers).status_code == 422


def test_only_its_own_token_shows_its_run(harness: ControlPlaneHarness) -> None:
    run, name = submitted_run(harness), new_warm_trainer_name()
    assign_warm_trainer(harness.deps, run.id, name)
    other = harness.deps.hasher.warm_trainer_token("ours", new_warm_trainer_name())
    for token in ("", other, harness.deps.hasher.run_token(run.id), harness.deps.hasher.warm_trainer_token("x", name)):
        assert ask(harness, name, token=token).status_code == 401
    assert harness.client.get(f"/internal/v1/warm-trainers/ours/{name}/run").status_code == 401
    assert ask(harness, name).status_code == 200


def test_a_warm_trainer_of_another_project_gets_no_run(
    harness: ControlPlaneHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("windlass_api.routers.internal._WAIT_SECONDS", 0.0)
    run, name = submitted_run(harness), new_warm_trainer_name()
    assign_warm_trainer(harness.deps, run.id, name)
    assert ask(harness, name, project="theirs").status_code == 204


def test_a_warm_trainer_trains_one_run(harness: ControlPlaneHarness) -> None:
    first, second, name = submitted_run(harness), submitted_run(harness, "2"), new_warm_trainer_name()
    assign_warm_trainer(harness.deps, first.id, name)
    with pytest.raises(FencedError, match="another run"):
        assign_warm_trainer(harness.deps, second.id, name)


def test_a_run_that_ends_gets_no_warm_trainer(harness: ControlPlaneHarness) -> None:
    run, name = submitted_run(harness), new_warm_trainer_name()
    assign_warm_trainer(harness.deps, run.id, name)
    harness.client.post(f"/v1/projects/ours/jobs/{run.job}:cancel")
    reply = ask(harness, name)
    assert (reply.status_code, reply.json()["code"]) == (409, "fenced")
    with harness.database.write() as uow:
        stored = uow.all_projects().runs.get({"id": run.id})
        ended = stored.model_copy(update={"state": RunState.STOPPED, "ended_at": harness.clock.now()})
        uow.project(run.project).runs.save(ended)
    with pytest.raises(FencedError):
        assign_warm_trainer(harness.deps, run.id, new_warm_trainer_name())


# ---------------------------------------------------------------- what the cluster shows of it


def observed(harness: ControlPlaneHarness, key: str, *others: ResourceDemand) -> ObservedClusterState:
    now = harness.clock.now()
    demand = ResourceDemand(job=key, project="ours", pool="a100", gpus=1, queued_at=now, admitted_at=now)
    begun = now - timedelta(hours=1)
    reservation = ObservedReservation(workload="w", job=key, pool="a100", gpus=1, reserved_at=begun)
    state = MemoryView().set_state([OURS], demand, *others, pools=[make_pool()])
    reasons = {key: Reason(code="starting", message="it starts")}
    return state.model_copy(update={"reservations": (reservation,), "reasons": reasons})


def attributed(harness: ControlPlaneHarness, state: ObservedClusterState) -> ObservedClusterState:
    with harness.database.read() as uow:
        return attribute_warm_trainers(uow, state)


def test_what_a_run_has_claimed_is_that_of_its_job(harness: ControlPlaneHarness) -> None:
    run, name = submitted_run(harness), new_warm_trainer_name()
    assign_warm_trainer(harness.deps, run.id, name)
    state = attributed(harness, observed(harness, warm_trainer_key("ours", name)))
    [demand], [idle, reservation] = state.snapshot.demands, state.reservations
    assert (demand.job, list(state.reasons)) == (run.job, [run.job])
    assert (idle.job, idle.project, idle.released_at) == (name, run.project, run.created_at)
    assert (reservation.job, reservation.reserved_at) == (run.job, run.created_at)


@pytest.mark.parametrize("project", ["ours", "theirs"])
def test_what_no_run_has_claimed_is_no_jobs(harness: ControlPlaneHarness, project: str) -> None:
    key = warm_trainer_key(project, new_warm_trainer_name())
    if project == "theirs":
        assign_warm_trainer(harness.deps, submitted_run(harness).id, key.partition("/")[2])
    state = attributed(harness, observed(harness, key))
    assert [each.job for each in state.snapshot.demands] == [key]
    [reservation] = state.reservations
    assert reservation.released_at is None
    assert (reservation.job, bool(reservation.project)) == (key.partition("/")[2], project == "ours")


def test_the_next_trainer_of_a_run_is_beside_the_ended_one(harness: ControlPlaneHarness) -> None:
    run, name = submitted_run(harness), new_warm_trainer_name()
    assign_warm_trainer(harness.deps, run.id, name)
    key = warm_trainer_key("ours", name)
    other = ResourceDemand(job=run.job, project="ours", pool="a100", gpus=1, queued_at=run.created_at)
    state = attributed(harness, observed(harness, key, other))
    assert {each.job for each in state.snapshot.demands} == {key, run.job}


def test_another_state_is_unchanged(harness: ControlPlaneHarness) -> None:
    state = MemoryView().set_state([make_project("other", 12)])
    assert attributed(harness, state) is state
