"""What ends before a control plane is uninstalled: its worker, then its own jobs and model servers."""

import threading
from collections.abc import Iterator

import pytest
from tests.fakes.kube_api import KubeApiServer, serve_kube_api

from windlass.domain.errors import UnavailableError
from windlass.kube import workloads
from windlass.kube.jobs.pod_spec import owner_references
from windlass.kube.kinds import BATCH_JOB, DEPLOYMENT, ENDPOINT, NAMESPACE, POD, RAY_JOB, RAY_SERVICE, SECRET
from windlass.kube.names import (
    BATCH_JOB_LABEL,
    CONTROL_PLANE_LABEL,
    PROJECT_LABEL,
    RUN_LABEL,
    TASK_LABEL,
    WARM_TRAINER_LABEL,
)
from windlass.kube.objects import Kind, Object, Ref
from windlass.kube.workloads import ControlPlaneWorkloads, EndedWorkloads

SYSTEM, PROJECT = "windlass-system", "wl-ours"
WORKER_LABELS = dict(part.split("=") for part in workloads.WORKER_SELECTOR.split(","))


@pytest.fixture
def server() -> Iterator[KubeApiServer]:
    kinds = [BATCH_JOB, DEPLOYMENT, ENDPOINT, NAMESPACE, POD, RAY_JOB, RAY_SERVICE, SECRET]
    with serve_kube_api(kinds, [NAMESPACE]) as running:
        yield running


def add(server: KubeApiServer, kind: Kind, namespace: str, name: str, **metadata: object) -> Object:
    manifest = {"apiVersion": kind.api_version, "kind": kind.kind, "spec": {}}
    return server.api.create(manifest | {"metadata": {"name": name, "namespace": namespace, **metadata}})


def add_task(server: KubeApiServer, kind: str, name: str) -> None:
    """A Job with its pod and its Secret."""
    job = add(server, BATCH_JOB, SYSTEM, name, labels={TASK_LABEL: kind, PROJECT_LABEL: "ours"})
    owners = owner_references(job)
    add(server, POD, SYSTEM, f"{name}-x", labels={TASK_LABEL: kind, BATCH_JOB_LABEL: name}, ownerReferences=owners)
    add(server, SECRET, SYSTEM, name, ownerReferences=owners)


def add_endpoint(server: KubeApiServer, name: str, control_plane: str) -> None:
    endpoint = add(server, ENDPOINT, PROJECT, name, labels={CONTROL_PLANE_LABEL: control_plane})
    add(server, RAY_SERVICE, PROJECT, f"ep-{name}", ownerReferences=owner_references(endpoint))


def names(server: KubeApiServer) -> set[str]:
    return {f"{ref.kind.kind} {ref.name}" for ref in server.api.objects}


def test_the_worker_is_stopped_before_the_jobs_and_endpoints_of_this_control_plane_are_deleted(
    server: KubeApiServer,
) -> None:
    add(server, DEPLOYMENT, SYSTEM, workloads.WORKER_DEPLOYMENT)
    add(server, POD, SYSTEM, "worker", labels=WORKER_LABELS)
    add_task(server, "run", "job-a-r1")
    add(server, RAY_JOB, PROJECT, "job-a-r1", labels={RUN_LABEL: "job-a-r1"})
    add_task(server, "data", "dsv-b")
    add_endpoint(server, "live", "this")
    add(server, BATCH_JOB, SYSTEM, "windlass-uninstall")
    add(server, RAY_JOB, PROJECT, "of-others")
    add(server, RAY_JOB, PROJECT, "warm-ours", labels={WARM_TRAINER_LABEL: "digest", CONTROL_PLANE_LABEL: "this"})
    add(server, RAY_JOB, PROJECT, "warm-theirs", labels={WARM_TRAINER_LABEL: "digest", CONTROL_PLANE_LABEL: "another"})
    add_endpoint(server, "theirs", "another")
    before = names(server)
    ended: list[EndedWorkloads] = []
    end = threading.Thread(
        target=lambda: ended.append(ControlPlaneWorkloads(server.client(), SYSTEM, "this").end()), daemon=True
    )
    end.start()
    worker = Ref(DEPLOYMENT, workloads.WORKER_DEPLOYMENT, SYSTEM)
    with server.api.changed:
        assert server.api.changed.wait_for(lambda: server.api.get(worker)["spec"].get("replicas") == 0, 20)
    assert names(server) == before, "the worker still runs, and would start them again"
    server.api.delete(Ref(POD, "worker", SYSTEM))
    end.join(60)
    assert ended == [EndedWorkloads(tasks=2, endpoints=1)]
    assert names(server) == {
        f"Deployment {workloads.WORKER_DEPLOYMENT}",
        "Job windlass-uninstall",
        "RayJob of-others",
        "RayJob warm-theirs",
        "ModelEndpoint theirs",
        "RayService ep-theirs",
    }


def test_a_repetition_finds_nothing(server: KubeApiServer) -> None:
    for _ in range(2):
        assert ControlPlaneWorkloads(server.client(), SYSTEM, "this").end() == EndedWorkloads(0, 0)


def test_a_worker_that_does_not_end_is_an_error_and_nothing_is_deleted(
    server: KubeApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workloads, "_SECONDS", 0.0)
    add(server, DEPLOYMENT, SYSTEM, workloads.WORKER_DEPLOYMENT)
    add(server, POD, SYSTEM, "worker", labels=WORKER_LABELS)
    add_task(server, "run", "job-a-r1")
    add_endpoint(server, "live", "this")
    before = names(server)
    with pytest.raises(UnavailableError, match="the pods of the worker do not end"):
        ControlPlaneWorkloads(server.client(), SYSTEM, "this").end()
    assert names(server) == before
