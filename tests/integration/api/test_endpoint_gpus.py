"""Endpoints on GPUs: what is refused at once, and what reaches the serving back end."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.cluster import MemoryView, make_pool, make_project, make_quota
from tests.fakes.harness import ControlPlaneHarness

URL = "/v1/projects/ours/endpoints"


def train(harness: ControlPlaneHarness, key: str = "trained", **resources: Any) -> None:
    job = harness.submit("ours", key=key, **resources)
    harness.run_worker_once(2)
    run = harness.simulated_run(job)
    run.acquire_attempt()
    assert run.finish(1).status_code == 200


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ControlPlaneHarness]:
    view = MemoryView()
    view.set_state(
        [make_project("ours", 11, make_quota(2), cohort=None)], pools=[make_pool(), make_pool("h100", number=2)]
    )
    built = ControlPlaneHarness(tmp_path, cluster=view, trains=True, serves=True)
    with built.client:
        built.cluster_sync.step()
        built.create_base_model()
        built.create_dataset("ours")
        train(built, resources={"pool": "a100"})
        yield built
    built.close()


def create(harness: ControlPlaneHarness, **spec: Any) -> Any:
    traffic = [{"model": "classifier", "version": 1, "weight": 100}]
    return harness.client.post(URL, json={"name": "live", "spec": {"traffic": traffic, **spec}})


def test_the_back_end_gets_the_gpus_of_the_served_spec(cluster: ControlPlaneHarness) -> None:
    assert create(cluster, gpus=1, pool="a100").status_code == 202
    rollouts = cluster.worker.rollouts
    assert rollouts is not None
    rollouts.step()
    [app] = cluster.serving.apps.values()
    assert (app.gpus, app.pool) == (1, "a100")
    shown = cluster.client.get(f"{URL}/live").json()["spec"]
    assert (shown["gpus"], shown["pool"]) == (1, "a100")


def test_the_replicas_are_scaled_to_what_the_quota_can_admit(cluster: ControlPlaneHarness) -> None:
    """Operators apply nothing of an endpoint that exceeds the quota, also not the replicas within it."""
    assert create(cluster, gpus=1, pool="a100", replicas={"min": 1, "max": 4}).status_code == 202
    rollouts = cluster.worker.rollouts
    assert rollouts is not None
    rollouts.step()
    rollouts.step()
    with cluster.database.write() as uow:
        uow.request_loads.record("api-1", dict.fromkeys(cluster.serving.apps, 100.0))
    rollouts.step()
    assert list(cluster.serving.replicas.values()) == [2]


@pytest.mark.parametrize(
    ("spec", "pointer", "message"),
    [
        ({"gpus": 1}, "/spec", "gpus needs pool"),
        ({"pool": "a100"}, "/spec", "pool needs gpus"),
        ({"gpus": 2, "pool": "a100"}, "/spec/gpus", "must be at most 1"),
        ({"gpus": 1, "pool": "t4"}, "/spec/pool", "there is no pool t4; the pools are: a100, h100"),
        ({"gpus": 1, "pool": "h100"}, "/spec/pool", "the project has no quota in pool h100"),
        (
            {"gpus": 1, "pool": "a100", "replicas": {"min": 3, "max": 3}},
            "/spec/replicas/min",
            "the replicas need 3 GPUs, the project's quota in pool a100 allows at most 2",
        ),
    ],
)
def test_gpus_that_the_project_can_never_get_are_refused(
    cluster: ControlPlaneHarness, spec: dict[str, Any], pointer: str, message: str
) -> None:
    reply = create(cluster, **spec)
    assert reply.status_code == 422, reply.text
    [problem] = reply.json()["errors"]
    assert problem["pointer"] == pointer
    assert message in problem["detail"]
    assert cluster.client.get(URL).json()["items"] == []


def test_a_server_on_one_machine_serves_on_cpus(ready: ControlPlaneHarness) -> None:
    train(ready)
    reply = create(ready, gpus=1, pool="local")
    assert (reply.status_code, reply.json()["code"]) == (409, "capability_missing")
    assert "leave out `gpus` and `pool`" in reply.json()["hint"]
    assert create(ready).status_code == 202
