"""The GPU time of endpoints: what Kueue reserved for their model servers, its cost, and what budgets do with it."""

import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.fakes.cluster import MemoryView, make_pool, make_project, make_quota
from tests.fakes.harness import ControlPlaneHarness

from windlass.domain.cluster_sync import ObservedReservation
from windlass.domain.served_gpus import model_server_key

pytestmark = pytest.mark.database("sqlite", "postgresql")
OURS = make_project("ours", 11, make_quota(8), make_quota(4, "h100"), cohort=None)
POOLS = [make_pool().model_copy(update={"price_per_gpu_hour": 3.6}), make_pool("h100", number=2)]
URL = "/v1/projects/ours/endpoints"
MONTH = "2026-01"


@pytest.fixture
def view() -> MemoryView:
    return MemoryView()


@pytest.fixture
def cluster(tmp_path: Path, view: MemoryView) -> Iterator[ControlPlaneHarness]:
    view.set_state([OURS], pools=POOLS)
    built = ControlPlaneHarness(tmp_path, cluster=view, trains=True, serves=True)
    with built.client:
        built.cluster_sync.step()
        built.create_base_model()
        built.create_dataset("ours")
        job = built.submit("ours", key="trained", resources={"pool": "a100"})
        built.run_worker_once(2)
        run = built.simulated_run(job)
        run.acquire_attempt()
        assert run.finish(1).status_code == 200
        yield built
    built.close()


def spec(**more: Any) -> dict[str, Any]:
    traffic = [{"model": "classifier", "version": 1, "weight": 100}]
    return {"traffic": traffic, "gpus": 1, "pool": "a100", "replicas": {"min": 1, "max": 4}, **more}


class Served:
    """A model server of an endpoint, and the Workloads of its RayService. Times are seconds after its creation."""

    def __init__(self, harness: ControlPlaneHarness, view: MemoryView, name: str = "live") -> None:
        self.harness, self.view, self.start = harness, view, harness.clock.now()
        reply = harness.client.post(URL, json={"name": name, "spec": spec()})
        assert reply.status_code == 202, reply.text
        rollouts = harness.worker.rollouts
        assert rollouts is not None
        rollouts.step()
        [self.app] = [app.key for app in harness.serving.apps.values() if app.endpoint == name]

    def at(self, seconds: float | None) -> datetime | None:
        return None if seconds is None else self.start + timedelta(seconds=seconds)

    def workload(
        self, name: str, reserved: float | None, gpus: int, released: float | None = None, **more: Any
    ) -> ObservedReservation:
        held = {} if reserved is None else {"pool": "a100", "gpus": gpus, "reserved_at": self.at(reserved)}
        key = {"workload": name, "job": model_server_key("service"), "app": self.app}
        key |= {"namespace_project": OURS.project.id}
        return ObservedReservation.model_validate({**key, "released_at": self.at(released), **held, **more})

    def observe(self, now: float, *reservations: ObservedReservation) -> None:
        """Let the control plane observe the Workloads at a time."""
        self.harness.clock.advance((self.start + timedelta(seconds=now) - self.harness.clock.now()).total_seconds())
        state = self.view.set_state([OURS], pools=POOLS)
        self.view.state = state.model_copy(update={"reservations": reservations})
        self.harness.cluster_sync.step()

    def groups(self, *dimensions: str) -> list[dict[str, Any]]:
        month = self.harness.clock.now().strftime("%Y-%m")
        url = f"/v1/projects/ours/usage/months/{month}"
        reply = self.harness.client.get(url, params={"group_by": dimensions or ("kind",)})
        assert reply.status_code == 200, reply.text
        items: list[dict[str, Any]] = reply.json()["items"]
        return items

    @property
    def gpu_seconds(self) -> float:
        found = [item for item in self.groups() if item["kind"] == "endpoint"]
        return float(sum(item["gpu_seconds"] for item in found))

    def settle(self) -> None:
        self.harness.clock.advance(121)
        self.harness.worker.metering.step()


@pytest.fixture
def served(cluster: ControlPlaneHarness, view: MemoryView) -> Served:
    return Served(cluster, view)


def test_replicas_count_while_they_hold_quota(served: Served) -> None:
    served.observe(5)
    assert served.gpu_seconds == 0
    served.observe(12, served.workload("w1", 10, 2))
    served.observe(40, served.workload("w1", 10, 2))
    assert served.gpu_seconds == 2 * 30
    served.observe(70, served.workload("w1", 10, 2, released=60))
    served.observe(90)
    assert served.gpu_seconds == 2 * 50
    served.settle()
    assert served.gpu_seconds == 2 * 50


def test_the_usage_has_endpoint_model_pool_and_cost(cluster: ControlPlaneHarness, served: Served) -> None:
    served.observe(0, served.workload("w1", 0, 2))
    served.observe(100, served.workload("w1", 0, 2))
    [group] = [each for each in served.groups("kind", "pool", "model", "endpoint") if each["kind"] == "endpoint"]
    assert (group["pool"], group["model"], group["endpoint"]) == ("a100", "classifier", "live")
    assert (group["gpu_seconds"], group["cost"]) == (200, 0.2)
    assert group["split"] | {"serving": 0} == dict.fromkeys(group["split"], 0)
    assert group["split"]["serving"] == 200
    url = f"/v1/projects/ours/usage/months/{MONTH}/export"
    titles, *lines = cluster.client.get(url, params={"format": "csv"}).text.splitlines()
    [line] = [line.split(",") for line in lines if ",endpoint," in line]
    shown = dict(zip(titles.split(","), line, strict=True))
    assert (shown["endpoint"], shown["gpu_seconds"], shown["serving_gpu_seconds"]) == (
        "live",
        "200.000000",
        "200.000000",
    )
    items = cluster.client.get(url, params={"format": "json"}).json()["items"]
    [exported] = [each for each in items if each["kind"] == "endpoint"]
    assert (exported["endpoint"], exported["gpu_seconds"]) == ("live", 200)


def test_more_replicas_are_counted_once(served: Served) -> None:
    """A Workload with all replicas takes the place of the old one, which Kueue finishes a moment later."""
    served.observe(0, served.workload("w1", 0, 1))
    served.observe(20, served.workload("w1", 0, 1), served.workload("w2", 20, 3))
    served.observe(21, served.workload("w2", 20, 3), served.workload("w1", 0, 1, released=21))
    served.observe(50, served.workload("w2", 20, 3))
    assert served.gpu_seconds == 20 + 3 * 30


def test_fewer_replicas_count_from_their_observation(served: Served) -> None:
    served.observe(0, served.workload("w1", 0, 4))
    served.observe(30, served.workload("w1", 0, 2))
    served.observe(40, served.workload("w1", 0, 2))
    served.observe(60, served.workload("w1", 0, 1))
    served.observe(70, served.workload("w1", 0, 1, released=70))
    assert served.gpu_seconds == 4 * 30 + 2 * 30 + 10
    served.settle()
    assert served.gpu_seconds == 4 * 30 + 2 * 30 + 10


def test_an_eviction_and_a_readmission_are_two_reservations(served: Served) -> None:
    served.observe(0, served.workload("w1", 0, 2))
    served.observe(35, served.workload("w1", None, 0, released=30))
    served.observe(90, served.workload("w1", 80, 2))
    assert served.gpu_seconds == 2 * (30 + 10)


def test_a_restart_of_the_worker_counts_nothing_twice(cluster: ControlPlaneHarness, served: Served) -> None:
    served.observe(0, served.workload("w1", 0, 2))
    cluster.cluster_sync.release()
    cluster.cluster_sync = cluster.add_cluster_sync("worker-2")
    served.observe(100, served.workload("w1", 0, 2))
    assert served.gpu_seconds == 200


def test_a_gap_of_observation_keeps_what_kueue_shows_and_ends_the_rest_at_the_next_observation(served: Served) -> None:
    """While no worker runs: a Workload is replaced and deleted, the next one is deleted, a third one holds GPUs."""
    served.observe(0, served.workload("w1", 0, 2))
    served.observe(1000, served.workload("w3", 600, 4))
    assert served.gpu_seconds == 2 * 600 + 4 * 400
    served.observe(2000)
    assert served.gpu_seconds == 2 * 600 + 4 * 1400
    served.observe(3000)
    assert served.gpu_seconds == 2 * 600 + 4 * 1400


def test_a_ray_service_that_is_read_later_than_its_workload_counts_from_the_reservation(served: Served) -> None:
    served.observe(10, served.workload("w1", 5, 2, app=""))
    assert served.gpu_seconds == 0
    served.observe(20, served.workload("w1", 5, 2))
    assert served.gpu_seconds == 2 * 15
    served.observe(30, served.workload("w1", 5, 2, app=""))
    assert served.gpu_seconds == 2 * 25


def test_a_model_server_of_another_control_plane_or_project_is_ignored(served: Served) -> None:
    other = served.app.replace("ep-", "ep-1")[:29] + served.app[29:]
    theirs = make_project("theirs", 12).project.id
    cases: list[dict[str, Any]] = [{"app": ""}, {"app": "foreign"}, {"app": other}, {"namespace_project": theirs}]
    for more in cases:
        served.observe(10, served.workload("w1", 5, 2, **more))
        assert served.gpu_seconds == 0


def test_a_deleted_endpoint_stays_in_the_usage(cluster: ControlPlaneHarness, served: Served) -> None:
    served.observe(0, served.workload("w1", 0, 2))
    etag = cluster.client.get(f"{URL}/live").headers["ETag"]
    assert cluster.client.delete(f"{URL}/live", headers={"If-Match": etag}).status_code in {200, 202}
    rollouts = cluster.worker.rollouts
    assert rollouts is not None
    for _ in range(3):
        rollouts.step()
    assert cluster.client.get(URL).json()["items"] == []
    served.observe(40, served.workload("w1", 0, 2))
    served.observe(60)
    served.settle()
    [group] = [each for each in served.groups("kind", "endpoint") if each["kind"] == "endpoint"]
    assert (group["endpoint"], group["gpu_seconds"]) == ("live", 120)


def test_an_observation_without_changes_writes_nothing(cluster: ControlPlaneHarness, served: Served) -> None:
    observed = served.workload("w1", 0, 1), served.workload("w2", 20, 3), served.workload("w0", 0, 3, job="foreign")
    served.observe(25, *observed)
    cluster.database.add_commit_hook(Refuse())
    served.observe(26, *reversed(observed))


class Refuse:
    """A commit hook that fails."""

    def prepare(self, uow: object, changes: object) -> None:
        raise AssertionError(f"{uow} writes {changes}")


class Timeline:
    """A RayService in a queue: what Kueue shows of its Workloads, and how many GPUs they hold together over time."""

    def __init__(self, served: Served) -> None:
        served.observe((served.harness.clock.now() - served.start).total_seconds())
        self.served = served
        served.start = served.harness.clock.now()
        self.before = served.gpu_seconds
        self.now = 0
        self.workloads: dict[str, tuple[int | None, int, int | None]] = {}
        self.expected = 0
        self.held = 0

    @property
    def live(self) -> str | None:
        holding = [name for name, (reserved, _, end) in self.workloads.items() if reserved is not None and end is None]
        return holding[-1] if holding else None

    def wait(self, seconds: int) -> None:
        self.now += seconds
        self.expected += seconds * self.held

    def change(self, kind: str, gpus: int) -> None:
        live = self.live
        if kind == "grow":
            self._admit(gpus + (self.workloads[live][1] if live else 0))
            if live is not None:  # finished a second later
                reserved, before, _ = self.workloads[live]
                self.workloads[live] = reserved, before, self.now + 1
        elif live is None:
            return
        elif kind == "shrink":
            reserved, before, _ = self.workloads[live]
            self.held = max(1, before - gpus)
            self.workloads[live] = reserved, self.held, None
        elif kind == "evict":
            self.workloads[live] = None, 0, self.now
            self.held = 0
        elif kind == "delete":
            self.workloads.clear()
            self.held = 0

    def _admit(self, gpus: int) -> None:
        self.workloads[self.served.harness.deps.new_id("w")] = self.now, gpus, None
        self.held = gpus

    def observe(self, order: random.Random) -> None:
        observed = [
            self.served.workload(name, reserved, gpus, end if end is None or end <= self.now else None)
            for name, (reserved, gpus, end) in self.workloads.items()
        ]
        observed += order.sample(observed, order.randint(0, len(observed)))
        order.shuffle(observed)
        self.served.observe(self.now, *observed)


STEPS = st.lists(
    st.tuples(
        st.integers(1, 400),
        st.sampled_from(["grow", "grow", "shrink", "shrink", "evict", "delete"]),
        st.integers(1, 3),
        st.sampled_from(["observe", "observe", "twice", "restart", "settle", "later"]),
    ),
    min_size=1,
    max_size=12,
)


@settings(
    max_examples=8,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],  # the database and the clock go on, so that no example is repeated
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(STEPS, st.randoms(use_true_random=False))
def test_the_gpu_time_is_the_integral_of_the_replicas_over_time(
    cluster: ControlPlaneHarness, served: Served, steps: list[tuple[int, str, int, str]], order: random.Random
) -> None:
    """In any order of observations, with repeated ones, restarts of the worker, and settlements between them."""
    timeline = Timeline(served)
    for seconds, kind, gpus, then in steps:
        timeline.wait(seconds)
        if kind != "grow":
            timeline.observe(order)  # Kueue shows only for growing model servers what was before
        timeline.change(kind, gpus)
        if then == "later" and kind == "grow":
            continue
        timeline.observe(order)
        if then == "twice":
            timeline.observe(order)
        elif then == "restart":
            cluster.cluster_sync.release()
            cluster.cluster_sync = cluster.add_cluster_sync(cluster.deps.new_id("w"))
        elif then == "settle":
            timeline.wait(121)
            served.settle()
    timeline.wait(50)
    timeline.observe(order)
    for _ in range(2):
        assert served.gpu_seconds - timeline.before == timeline.expected
        timeline.change("delete", 0)
        timeline.observe(order)
        timeline.wait(121)
        served.settle()


def set_budget(harness: ControlPlaneHarness, gpu_hours: float) -> None:
    url = "/v1/projects/ours/budget"
    etag = harness.client.get(url).headers["ETag"]
    reply = harness.client.put(url, json={"gpu_hours": gpu_hours, "cost": None}, headers={"If-Match": etag})
    assert reply.status_code == 200, reply.text


def update(harness: ControlPlaneHarness, **changes: Any) -> Any:
    etag = harness.client.get(f"{URL}/live").headers["ETag"]
    return harness.client.patch(f"{URL}/live", json={"spec": spec(**changes)}, headers={"If-Match": etag})


def test_endpoints_use_the_budget(cluster: ControlPlaneHarness, served: Served) -> None:
    set_budget(cluster, 1)
    metering = cluster.worker.metering
    served.observe(0, served.workload("w1", 0, 2))
    for seconds, state, alerts in ((1439, "ok", []), (1440, "warning", [80]), (1800, "exhausted", [80, 100])):
        served.observe(seconds, served.workload("w1", 0, 2))
        metering.step()
        shown = cluster.client.get("/v1/projects/ours/budget").json()
        assert (shown["state"], [alert["percent"] for alert in shown["alerts"]]) == (state, alerts)
    body = {"task": "text-classification", "base_model": "tiny", "dataset": "reviews", "model": "m"}
    headers = {"Idempotency-Key": "next"}
    reply = cluster.client.post(
        "/v1/projects/ours/jobs", json={"spec": body | {"resources": {"pool": "a100"}}}, headers=headers
    )
    assert reply.json()["code"] == "budget_exceeded"


def test_an_exhausted_budget_refuses_more_gpus_of_endpoints(cluster: ControlPlaneHarness, served: Served) -> None:
    set_budget(cluster, 0)
    refused = cluster.client.post(URL, json={"name": "other", "spec": spec()})
    assert (refused.status_code, refused.json()["code"]) == (409, "budget_exceeded")
    assert "windlass budget set --project ours" in refused.json()["hint"]
    more = {"replicas": {"min": 1, "max": 5}}, {"replicas": {"min": 2, "max": 4}}, {"pool": "h100"}
    for changes in more:
        assert update(cluster, **changes).json()["code"] == "budget_exceeded", changes
    cluster.cluster_sync.step()
    rollouts = cluster.worker.rollouts
    assert rollouts is not None
    rollouts.step()
    assert served.app in cluster.serving.apps, "what serves is not stopped"


def test_an_exhausted_budget_accepts_what_needs_no_more_gpus(cluster: ControlPlaneHarness, served: Served) -> None:
    set_budget(cluster, 0)
    no_more = (
        {"max_batch_size": 8},
        {"replicas": {"min": 1, "max": 2}},
        {"gpus": 0, "pool": None},
        {"stopped": True},
    )
    del served
    for changes in no_more:
        assert update(cluster, **changes).status_code == 202, changes
    assert update(cluster).json()["code"] == "budget_exceeded", "it was stopped"
    free = {"traffic": spec()["traffic"], "replicas": {"min": 1, "max": 2}}
    assert cluster.client.post(URL, json={"name": "cpu", "spec": free}).status_code == 202
    set_budget(cluster, 10)
    assert update(cluster).status_code == 202
