"""The features that cluster tests rely on, and that a stopped cluster leaves nothing behind."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.cluster import objects
from tests.integration.cluster.waiting import eventually
from tests.testcluster import cgroups, namespaces, processes
from tests.testcluster.cluster_api import ClusterApi, apply, available, condition, kubectl
from tests.testcluster.fake_nodes import POOLS
from tests.testcluster.fixture import command
from tests.testcluster.layout import NODE, REPOSITORY, LocalCluster
from tests.testcluster.node import GPU, GPUS, POOL_LABEL

# The first start on a machine builds everything.
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(2400)]
Json = dict[str, Any]


@pytest.fixture
def api(cluster: LocalCluster) -> Iterator[ClusterApi]:
    with ClusterApi(cluster) as client:
        yield client


@pytest.fixture
def clean(cluster: LocalCluster) -> Iterator[LocalCluster]:
    yield cluster
    ended = command(cluster, "reset")
    assert ended.returncode == 0, ended.stderr


def workload_of(api: ClusterApi, where: str, job: str) -> Json:
    for each in api.items(f"/apis/kueue.x-k8s.io/v1beta2/namespaces/{where}/workloads"):
        if each["metadata"]["ownerReferences"][0]["name"] == job:
            return each
    return {}


def test_the_real_node_is_ready_and_has_gpus(api: ClusterApi) -> None:
    node = api.read(f"/api/v1/nodes/{NODE}")
    assert node
    assert condition(node, "Ready")
    assert node["status"]["allocatable"][GPU] == str(GPUS)
    assert node["metadata"]["labels"][POOL_LABEL] == "real"


@pytest.mark.parametrize("pool", POOLS, ids=lambda pool: pool.name)
def test_a_pool_of_fake_nodes_is_ready_and_tainted(api: ClusterApi, pool: Any) -> None:
    nodes = api.items(f"/api/v1/nodes?labelSelector={POOL_LABEL}={pool.name}")
    assert [node["status"]["allocatable"][GPU] for node in nodes] == [str(pool.gpus)] * pool.nodes
    assert all(condition(node, "Ready") for node in nodes)
    assert all({taint["key"] for taint in node["spec"]["taints"]} >= {GPU} for node in nodes)


def test_a_pod_of_an_imported_image_runs_and_logs(clean: LocalCluster, api: ClusterApi) -> None:
    apply(
        clean,
        [objects.namespace("speakers"), objects.pod("speakers", objects.ECHO_IMAGE, ["/manager", "hello from a pod"])],
    )
    path = "/api/v1/namespaces/speakers/pods/runs"
    eventually(lambda: (api.read(path) or {})["status"].get("phase") == "Succeeded", "the pod ends")
    assert kubectl(clean, "-n", "speakers", "logs", "runs") == "hello from a pod\n"


def test_a_job_waits_in_the_queue_until_the_one_before_it_ends(clean: LocalCluster, api: ClusterApi) -> None:
    apply(clean, [objects.namespace("team"), *objects.queue("team", "a100", 8)])
    apply(clean, [objects.queued_job("team", "first", 8, "8s")])
    eventually(lambda: condition(workload_of(api, "team", "first"), "Admitted"), "the first is admitted")
    apply(clean, [objects.queued_job("team", "second", 8, "1s")])

    def has_waiting_message() -> bool:
        conditions = workload_of(api, "team", "second").get("status", {}).get("conditions", [])
        return any("insufficient unused quota for nvidia.com/gpu" in each["message"] for each in conditions)

    eventually(has_waiting_message, "the second job's message says why it waits")
    assert not condition(workload_of(api, "team", "second"), "Admitted")
    pod = next(iter(api.items("/api/v1/namespaces/team/pods")))
    assert pod["spec"]["nodeName"].startswith("a100-")
    eventually(lambda: condition(workload_of(api, "team", "second"), "Finished"), "the second had its turn")


def test_kueues_visibility_api_is_served_through_the_api_server(clean: LocalCluster, api: ClusterApi) -> None:
    """The API server reaches Kueue through a Service, by kube-proxy's rules."""
    apply(clean, [objects.namespace("seen"), *objects.queue("seen", "h100", 8)])
    path = "/apis/visibility.kueue.x-k8s.io/v1beta2/clusterqueues/seen/pendingworkloads"
    eventually(lambda: api.read(path) is not None, "Kueue says who waits")


def test_ray_crds_are_established(api: ClusterApi) -> None:
    found = {each["name"] for each in (api.read("/apis/ray.io/v1") or {})["resources"]}
    assert {"rayclusters", "rayjobs", "rayservices"} <= found


def test_the_clusters_kubectl_works_with_the_printed_environment(cluster: LocalCluster) -> None:
    environment = {
        "KUBECONFIG": str(cluster.kubeconfig),
        "PATH": str(cluster.bin),
        "HOME": str(cluster.run_dir / "home"),
    }
    ended = subprocess.run(
        ["kubectl", "get", "nodes", "-o", "json"], env=environment, capture_output=True, text=True, check=True
    )
    assert len(json.loads(ended.stdout)["items"]) == 1 + sum(pool.nodes for pool in POOLS)


def test_reset_deletes_only_what_tests_created(cluster: LocalCluster, api: ClusterApi) -> None:
    stuck = objects.namespace("stuck")
    config: Json = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "held", "namespace": "stuck"}}
    config["metadata"]["finalizers"] = ["windlass.dev/never-removed"]
    apply(cluster, [stuck, config, *objects.queue("stuck", "a100", 1)])
    kubectl(cluster, "label", "node", "a100-0", "windlass.dev/made-by=a-test")
    ended = command(cluster, "reset")
    assert ended.returncode == 0, ended.stderr
    assert api.read("/api/v1/namespaces/stuck") is None
    assert api.items("/apis/kueue.x-k8s.io/v1beta2/clusterqueues") == []
    node = api.read("/api/v1/nodes/a100-0")
    assert node
    assert "windlass.dev/made-by" not in node["metadata"]["labels"]
    assert available(api, "kueue-system", "kueue-controller-manager")


# Host files that a cluster must not change.
HOST_FILES = ("/var/lib/kubelet", "/var/lib/cni", "/run/containerd", "/run/netns/cni-*", "/opt/containerd")


def host() -> dict[str, object]:
    """Host state that a cluster must not change."""
    links = subprocess.run(["ip", "-brief", "link"], capture_output=True, text=True, check=True).stdout
    routes = subprocess.run(["ip", "route", "show", "table", "all"], capture_output=True, text=True, check=True).stdout
    settings = ("vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops", "net/ipv4/ip_forward")
    return {
        "links": [line.split()[0] for line in links.splitlines()],
        "routes": routes,
        "mounts": Path("/proc/self/mounts").read_text(),
        "settings": [Path("/proc/sys", name).read_text() for name in settings],
        "files": [str(path) for pattern in HOST_FILES for path in Path("/").glob(pattern.lstrip("/"))],
    }


def users_of(namespace_ids: set[str]) -> list[str]:
    """The processes in one of the namespaces."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if namespace_ids & {namespaces.identity(folder.name, kind) for kind in namespaces.KINDS}:
                found.append(folder.name)
    return found


@pytest.fixture
def second(cluster: LocalCluster, tmp_path: Path) -> Iterator[LocalCluster]:
    """A second cluster next to the running one, initially down; stopped at the end."""
    cluster = LocalCluster(tmp_path / "second", cluster.cache)
    yield cluster
    assert command(cluster, "down").returncode == 0


def namespace_ids_of(cluster: LocalCluster) -> set[str]:
    pid = processes.process_records(cluster)[processes.NAMESPACE_HOLDER].pid
    return {namespaces.identity(pid, kind) for kind in namespaces.KINDS}


def assert_gone(cluster: LocalCluster, pids: set[int], namespace_ids: set[str]) -> None:
    assert {pid for pid in pids if processes.start_ticks(pid) is not None} == set()
    assert users_of(namespace_ids) == []
    assert [folder for folder in cgroups.folders(cluster) if folder.exists()] == []
    assert command(cluster, "status").returncode == 3


def test_down_leaves_nothing_behind(second: LocalCluster) -> None:
    before = host()
    up = command(second, "up", "--bare")
    assert up.returncode == 0, up.stderr
    assert host() == before
    pids, namespace_ids = cgroups.process_ids(second), namespace_ids_of(second)
    assert len(pids) >= 10
    assert command(second, "status").returncode == 0
    assert command(second, "down").returncode == 0
    assert_gone(second, pids, namespace_ids)
    assert host() == before
    assert command(second, "down").returncode == 0


def test_down_stops_what_a_killed_start_left(second: LocalCluster) -> None:
    argv = [sys.executable, "-m", "tests.testcluster", "--state", str(second.state), "up", "--bare"]
    with subprocess.Popen(argv, cwd=REPOSITORY, stdout=subprocess.DEVNULL) as starter:
        eventually((second.records / "kube-apiserver.json").exists, "the start is half through")
        starter.kill()
    pids, namespace_ids = cgroups.process_ids(second), namespace_ids_of(second)
    # Also without the namespace holder, and without process records.
    os.kill(processes.process_records(second)[processes.NAMESPACE_HOLDER].pid, signal.SIGKILL)
    for record in second.records.glob("*.json"):
        record.unlink()
    assert command(second, "down").returncode == 0
    assert_gone(second, pids, namespace_ids)
