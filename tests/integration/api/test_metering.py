"""The ledger of GPU time: what it was used for, its cost, and that nothing changes it afterwards."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.fakes.cluster import MemoryView, make_pool
from tests.fakes.harness import ControlPlaneHarness, SimulatedRun
from tests.integration.api.kueue_cluster import OURS, control_plane_of

from windlass.domain.cluster_sync import ObservedReservation
from windlass.domain.usage import UsageParts, month_interval
from windlass.domain.warm_trainers import new_warm_trainer_name, warm_trainer_key
from windlass.ports import BackendState
from windlass.services.warm_trainers import assign_warm_trainer

pytestmark = pytest.mark.database("sqlite", "postgresql")
MONTH = "2026-01"


def start_job(harness: ControlPlaneHarness, key: str, **spec: Any) -> tuple[str, SimulatedRun]:
    """Return a job and its run, which has just been admitted."""
    job = harness.submit("ours", key=key, **spec)
    harness.run_worker_once(2)
    return job["id"], harness.simulated_run(job)


def end(harness: ControlPlaneHarness, run: SimulatedRun, state: BackendState = BackendState.SUCCEEDED) -> None:
    harness.pipelines.end(run.name, state, "gone")
    harness.run_worker_once()


def phases(**seconds: float) -> dict[str, Any]:
    return {"type": "phases", "seconds": seconds}


def report(run: SimulatedRun, *items: dict[str, Any], attempt: int = 1) -> None:
    """Send a report; phases have no time."""
    run.sequence += 1
    now = run.harness.clock.now().isoformat()
    stamped = [item if item["type"] == "phases" else {"time": now, **item} for item in items]
    body = {"source": "rank0", "sequence": run.sequence, "items": stamped}
    reply = run.post(f"attempts/{attempt}/reports", body)
    assert reply.status_code == 200, reply.text


def checkpoint(harness: ControlPlaneHarness, run: SimulatedRun, attempt: int, step: int) -> dict[str, Any]:
    manifest = harness.write_artifact(run.checkpoint(attempt, step)).model_dump()
    return {"type": "checkpoint", "step": step, "manifest": manifest}


def month(harness: ControlPlaneHarness, name: str = MONTH, **query: Any) -> list[dict[str, Any]]:
    reply = harness.client.get(f"/v1/projects/ours/usage/months/{name}", params=query)
    assert reply.status_code == 200, reply.text
    items: list[dict[str, Any]] = reply.json()["items"]
    return items


def settle(harness: ControlPlaneHarness) -> None:
    harness.clock.advance(121)
    harness.worker.metering.step()
    with harness.database.read() as uow:
        held = uow.all_projects().gpu_reservations.all({"settlement": None})
    assert all(each.released_at is None for each in held)


def test_gpu_time_is_split_by_what_the_trainer_reported(ready: ControlPlaneHarness) -> None:
    job, run = start_job(ready, "1")
    ready.clock.advance(10)
    run.acquire_attempt()
    ready.clock.advance(100)
    report(run, phases(training=40, data_wait=15, loading=20, evaluation=5))
    [item] = ready.client.get("/v1/projects/ours/usage").json()["items"]
    assert (item["job"], item["gpu_seconds"]) == (job, 110)
    expected = {"productive": 40, "data_wait": 15, "loading": 20, "evaluation": 5, "lost": 0, "serving": 0, "idle": 30}
    assert item["split"] == expected
    [group] = month(ready)
    assert (group["split"], group["kind"], group["pool"], group["model"]) == (expected, "", "local", "classifier")


def test_work_after_the_last_checkpoint_of_a_lost_trainer_is_lost(ready: ControlPlaneHarness) -> None:
    _, run = start_job(ready, "1")
    run.acquire_attempt()
    ready.clock.advance(100)
    report(run, phases(training=30), checkpoint(ready, run, 1, 2))
    report(run, phases(training=70))
    end(ready, run, BackendState.LOST)
    ready.run_worker_once(2)
    again = ready.simulated_run({"id": run.harness.client.get("/v1/projects/ours/jobs").json()["items"][0]["id"]})
    ready.clock.advance(5)
    again.acquire_attempt("t2")
    ready.clock.advance(50)
    report(again, phases(training=40, loading=10), attempt=2)
    assert again.finish(2).status_code == 200
    end(ready, again)
    [item] = ready.client.get("/v1/projects/ours/usage").json()["items"]
    assert item["gpu_seconds"] == 155
    assert item["split"] == {
        "productive": 70,
        "data_wait": 0,
        "loading": 10,
        "evaluation": 0,
        "lost": 40,
        "serving": 0,
        "idle": 35,
    }
    before = month(ready)
    settle(ready)
    assert month(ready) == before
    assert ready.client.get("/v1/projects/ours/usage").json()["items"] == [item]


def test_a_result_has_the_last_phases(ready: ControlPlaneHarness) -> None:
    _, run = start_job(ready, "1")
    run.acquire_attempt()
    ready.clock.advance(60)
    report(run, phases(training=10))
    manifest = ready.write_artifact(run.artifact(1)).model_dump()
    result = {"type": "result", "outcome": "succeeded", "manifest": manifest, "evaluation": {"accuracy": 1}}
    report(run, {**result, "phases": {"training": 30, "evaluation": 20}})
    report(run, phases(training=11), {"type": "log", "text": "late\n"})
    [item] = ready.client.get("/v1/projects/ours/usage").json()["items"]
    assert (item["split"]["productive"], item["split"]["evaluation"], item["split"]["idle"]) == (30, 20, 10)


def test_the_price_that_held_at_the_time_counts(ready: ControlPlaneHarness) -> None:
    def set_price(price: float) -> None:
        etag = ready.client.get("/v1/pools/local").headers["ETag"]
        body = {"price_per_gpu_hour": price}
        assert ready.client.patch("/v1/pools/local", json=body, headers={"If-Match": etag}).status_code == 200

    set_price(2)
    _, run = start_job(ready, "1")
    ready.clock.advance(1800)
    set_price(6)
    ready.clock.advance(600)
    [item] = ready.client.get("/v1/projects/ours/usage").json()["items"]
    assert item["cost"] == 1 + 1
    end(ready, run)
    ready.clock.advance(3600)
    set_price(100)
    settle(ready)
    [item] = ready.client.get("/v1/projects/ours/usage").json()["items"]
    assert item["cost"] == month(ready)[0]["cost"] == 2


def test_a_reservation_over_the_end_of_a_month_counts_in_both(ready: ControlPlaneHarness) -> None:
    turn = datetime(2026, 2, 1, tzinfo=UTC)
    ready.clock.advance((turn - ready.clock.now()).total_seconds() - 30)
    _, run = start_job(ready, "1")
    ready.clock.advance(100)
    for _ in range(2):
        assert [item["gpu_seconds"] for name in ("2026-01", "2026-02") for item in month(ready, name)] == [30, 70]
        end(ready, run)
        settle(ready)
    assert month(ready, "2025-12") == month(ready, "2026-03") == []


def test_a_deleted_job_stays_in_the_usage_of_its_month(ready: ControlPlaneHarness) -> None:
    job, run = start_job(ready, "1")
    run.acquire_attempt()
    ready.clock.advance(50)
    report(run, phases(training=20))
    assert ready.client.post(f"/v1/projects/ours/jobs/{job}:cancel").status_code == 200
    end(ready, run, BackendState.STOPPED)
    before = month(ready)
    assert before[0]["gpu_seconds"] == 50
    assert ready.client.delete(f"/v1/projects/ours/jobs/{job}").status_code == 200
    assert month(ready) == before
    ready.delete_expired()
    with ready.database.read() as uow:
        assert uow.all_projects().gpu_reservations.count() == 0
        assert uow.all_projects().attempts.count() == 0
    assert month(ready) == before
    settle(ready)
    assert month(ready) == before


def test_a_deleted_project_stays_in_the_usage_of_all(ready: ControlPlaneHarness) -> None:
    _, run = start_job(ready, "1")
    ready.clock.advance(50)
    end(ready, run, BackendState.FAILED)
    uid = ready.client.get("/v1/projects/ours").json()["uid"]
    etag = ready.client.get("/v1/projects/ours").headers["ETag"]
    assert ready.client.delete("/v1/projects/ours", headers={"If-Match": etag}).status_code == 200
    ready.delete_expired()
    [group] = ready.client.get(f"/v1/usage/months/{MONTH}").json()["items"]
    assert (group["project"], group["gpu_seconds"]) == (uid, 50)


def grow(harness: ControlPlaneHarness, gpus: int) -> None:
    assert harness.client.put("/v1/projects/ours/quotas/local", json={"nominal": gpus}).status_code == 200
    etag = harness.client.get("/v1/pools/local").headers["ETag"]
    reply = harness.client.patch("/v1/pools/local", json={"capacity": gpus}, headers={"If-Match": etag})
    assert reply.status_code == 200


def test_usage_is_grouped_by_what_is_asked_for(ready: ControlPlaneHarness) -> None:
    grow(ready, 3)
    made = ready.client.post("/v1/keys", json={"user": "ada", "name": "laptop"}).json()
    ready.client.put("/v1/projects/ours/members/ada", json={"role": "editor"})
    ada = ready.client_for_key(made["secret"])
    ready.submit("ours", key="1", client=ada)
    ready.submit("ours", key="2", client=ada, model="other")
    ready.submit("ours", key="3")
    ready.run_worker_once(2)
    ready.clock.advance(10)
    by_key = {item["key"]: item for item in month(ready, group_by="key")}
    assert (by_key[made["id"]]["gpu_seconds"], by_key[made["id"]]["key_label"]) == (20, "ada (laptop)")
    assert by_key[made["id"]]["model"] == ""
    assert {item["model"]: item["gpu_seconds"] for item in month(ready, group_by="model")} == {
        "classifier": 20,
        "other": 10,
    }
    first = ready.client.get(f"/v1/projects/ours/usage/months/{MONTH}", params={"limit": 2}).json()
    rest = ready.client.get(
        f"/v1/projects/ours/usage/months/{MONTH}", params={"limit": 2, "cursor": first["next_cursor"]}
    ).json()
    assert [*first["items"], *rest["items"]] == month(ready)
    assert rest["next_cursor"] is None


def test_members_see_their_project_and_admins_all(ready: ControlPlaneHarness) -> None:
    ready.client.put("/v1/projects/ours/members/eve", json={"role": "viewer"})
    eve = ready.client_for_user("eve")
    for path in (f"usage/months/{MONTH}", f"usage/months/{MONTH}/export", "budget"):
        assert eve.get(f"/v1/projects/ours/{path}").status_code == 200
        assert ready.client_for_user("stranger").get(f"/v1/projects/ours/{path}").status_code == 404
    for path in (f"/v1/usage/months/{MONTH}", f"/v1/usage/months/{MONTH}/export", "/v1/budgets"):
        assert eve.get(path).status_code == 403
        assert ready.client.get(path).status_code == 200
    for wrong in ("2026-13", "2026-1", "202601", "9999-12", "0000-01"):
        assert ready.client.get(f"/v1/usage/months/{wrong}").status_code == 422


def test_exports_are_one_document_without_formulas(ready: ControlPlaneHarness) -> None:
    made = ready.client.post(
        "/v1/keys", json={"user": "admin", "name": "=1+2", "platform_role": "platform-admin"}
    ).json()
    ready.submit("ours", key="1", client=ready.client_for_key(made["secret"]))
    with ready.database.write() as uow:
        key = uow.keys.get({"id": made["id"]})
        uow.keys.save(key.model_copy(update={"user": "=HYPERLINK"}))
    ready.run_worker_once(2)
    ready.clock.advance(36)
    url = f"/v1/projects/ours/usage/months/{MONTH}/export"
    reply = ready.client.get(url)
    assert reply.headers["content-type"].startswith("text/csv")
    assert f"usage-ours-{MONTH}.csv" in reply.headers["content-disposition"]
    titles, row = (line.split(",") for line in reply.text.splitlines())
    values = dict(zip(titles, row, strict=True))
    assert values["key_label"].startswith("'=HYPERLINK")
    assert (values["gpu_seconds"], values["idle_gpu_seconds"], values["requests"]) == ("36.000000", "36.000000", "0")
    [item] = ready.client.get(url, params={"format": "json"}).json()["items"]
    assert item["key_label"].startswith("=HYPERLINK")
    assert ready.client.get(url, params={"format": "xml"}).status_code == 422


# ---------------------------------------------------------------- in a cluster


@pytest.fixture
def view() -> MemoryView:
    return MemoryView()


@pytest.fixture
def cluster(tmp_path: Path, view: MemoryView) -> Iterator[ControlPlaneHarness]:
    with control_plane_of(view, tmp_path) as built:
        yield built


def observe(harness: ControlPlaneHarness, view: MemoryView, *reservations: ObservedReservation) -> None:
    state = view.set_state([OURS], pools=[make_pool()])
    view.state = state.model_copy(update={"reservations": reservations})
    harness.cluster_sync.step()


def test_a_warm_trainer_is_idle_until_a_job_claims_it(cluster: ControlPlaneHarness, view: MemoryView) -> None:
    name, begun = new_warm_trainer_name(), cluster.clock.now()
    held = ObservedReservation(workload="w", job=warm_trainer_key("ours", name), pool="a100", gpus=1, reserved_at=begun)
    observe(cluster, view, held)
    cluster.clock.advance(100)
    observe(cluster, view, held)
    kinds = {item["kind"]: item for item in month(cluster, group_by="kind")}
    assert kinds["warm-trainer"]["split"]["idle"] == kinds["warm-trainer"]["gpu_seconds"] == 100

    job = cluster.submit("ours", key="1", resources={"pool": "a100"})
    cluster.run_worker_once()
    run = cluster.simulated_run(job)
    assign_warm_trainer(cluster.deps, run.run, name)
    cluster.clock.advance(7)
    assert run.acquire_attempt().status_code == 200
    report(run, phases(training=5))
    observe(cluster, view, held)
    cluster.clock.advance(13)
    observe(cluster, view, held.model_copy(update={"released_at": cluster.clock.now()}))
    kinds = {item["kind"]: item for item in month(cluster, group_by="kind")}
    assert kinds["warm-trainer"]["gpu_seconds"] == 100
    assert (kinds["job"]["gpu_seconds"], kinds["job"]["split"]["productive"]) == (20, 5)


def test_a_settled_reservation_that_shows_again_is_counted_once(cluster: ControlPlaneHarness, view: MemoryView) -> None:
    job, begun = cluster.submit("ours", key="1", resources={"pool": "a100"}), cluster.clock.now()
    cluster.run_worker_once()
    held = ObservedReservation(workload="w", job=job["id"], pool="a100", gpus=1, reserved_at=begun)
    observe(cluster, view, held)
    cluster.clock.advance(10)
    observe(cluster, view)
    assert month(cluster)[0]["gpu_seconds"] == 10
    settle(cluster)
    assert month(cluster)[0]["gpu_seconds"] == 10
    observe(cluster, view, held)
    assert month(cluster)[0]["gpu_seconds"] == 10 + 121
    observe(cluster, view, held.model_copy(update={"released_at": begun + timedelta(seconds=50)}))
    settle(cluster)
    assert month(cluster)[0]["gpu_seconds"] == 50


def test_a_reservation_with_a_live_attempt_is_settled_after_its_end(
    cluster: ControlPlaneHarness, view: MemoryView
) -> None:
    job, begun = cluster.submit("ours", key="1", resources={"pool": "a100"}), cluster.clock.now()
    cluster.run_worker_once()
    run = cluster.simulated_run(job)
    held = ObservedReservation(workload="w", job=job["id"], pool="a100", gpus=1, reserved_at=begun)
    observe(cluster, view, held)
    assert run.acquire_attempt().status_code == 200
    report(run, phases(training=30))
    cluster.clock.advance(40)
    observe(cluster, view, held.model_copy(update={"released_at": cluster.clock.now()}))
    cluster.clock.advance(121)
    cluster.worker.metering.step()
    with cluster.database.read() as uow:
        [stored] = uow.all_projects().gpu_reservations.all()
    assert stored.settlement is None, "whether its work is lost is not known"
    assert run.post("attempts/1:lost").status_code in (200, 204)
    settle(cluster)
    assert (month(cluster)[0]["split"]["lost"], month(cluster)[0]["split"]["idle"]) == (30, 10)


@settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    st.lists(
        st.tuples(st.integers(0, 4000), st.integers(0, 3000), st.sampled_from(["succeed", "lose", "keep"])),
        min_size=1,
        max_size=4,
    )
)
@pytest.mark.database("sqlite")
def test_settling_changes_no_sum(ready: ControlPlaneHarness, jobs: list[tuple[int, int, str]]) -> None:
    """Whatever jobs do, the sums of all months are the reserved time, before and after each settlement."""
    grow(ready, 1000)
    for held, trained, then in jobs:
        _, run = start_job(ready, ready.deps.new_id("key"))
        if run.acquire_attempt().status_code == 200:
            report(run, phases(training=trained, loading=trained / 3))
        ready.clock.advance(held)
        if then != "keep":
            end(ready, run, BackendState.SUCCEEDED if then == "succeed" else BackendState.FAILED)
        before = month(ready, group_by="kind")
        ready.worker.metering.step()
        assert month(ready, group_by="kind") == before
    with ready.database.read() as uow:
        now, repos = ready.clock.now(), uow.all_projects()
        reserved = sum(each.gpu_seconds(now) for each in repos.gpu_reservations.all())
    total = month(ready, group_by="kind")
    assert sum(item["gpu_seconds"] for item in total) == pytest.approx(reserved)
    for item in total:
        assert sum(item["split"].values()) == pytest.approx(item["gpu_seconds"])
        assert set(item["split"]) == set(UsageParts.model_fields)
    assert month_interval(MONTH).start <= now
