"""Enforces NetworkPolicies, which the bridge plugin ignores. Run as a program: ``network_policy_agent STATE CACHE``.

It runs outside of the cluster's namespaces, watches the API server, and replaces the rules in the cluster's network
namespace when they change. It ends with the cluster; the rules end with the namespace.
"""

import contextlib
import http.client
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.testcluster import processes
from tests.testcluster.cluster_api import ClusterApi, Json
from tests.testcluster.components import Component
from tests.testcluster.layout import NODE, NODE_ADDRESS, POD_RANGE, REPOSITORY, LocalCluster
from tests.testcluster.network_policies import TABLE, PolicyPod, pods_of, ruleset

NAME = "network-policies"
# CoreDNS runs beside the kubelet; policies select it as a pod with the usual label.
DNS = PolicyPod(
    "kube-system",
    {"k8s-app": "kube-dns"},
    NODE_ADDRESS,
    (("dns", "UDP", 53), ("dns-tcp", "TCP", 53)),
    shares_address=True,
)
POLICIES, PODS, NAMESPACES = "policies", "pods", "namespaces"
PATHS = {
    POLICIES: "/apis/networking.k8s.io/v1/networkpolicies?",
    PODS: f"/api/v1/pods?fieldSelector=spec.nodeName%3D{NODE}&",
    NAMESPACES: "/api/v1/namespaces?",
}
_WATCH_SECONDS = 240
_RETRY_SECONDS = 0.3
_COALESCE_SECONDS = 0.1
"""Changes within this time are applied together."""
Snapshot = tuple[str, Sequence[Json]]


def current_ruleset(objects: Mapping[str, Sequence[Json]]) -> str:
    """The rules for the objects of the cluster."""
    labels = {each["metadata"]["name"]: each["metadata"].get("labels", {}) for each in objects[NAMESPACES]}
    return ruleset(
        objects[POLICIES],
        pods_of(objects[PODS]),
        labels,
        pod_range=POD_RANGE,
        node_address=NODE_ADDRESS,
        services=[DNS],
    )


def snapshots(api: ClusterApi, path: str) -> Iterator[list[Json]]:
    """The objects of a path, first those that exist, then after each change, until the server ends the watch."""
    listed = api.read(path)
    if listed is None:
        return
    objects = {each["metadata"]["uid"]: each for each in listed["items"]}
    yield list(objects.values())
    version = listed["metadata"]["resourceVersion"]
    for event in api.watch(f"{path}watch=1&resourceVersion={version}&timeoutSeconds={_WATCH_SECONDS}"):
        if event["type"] == "ERROR":  # the version is too old: list again
            return
        changed = event["object"]
        if event["type"] == "DELETED":
            objects.pop(changed["metadata"]["uid"], None)
        else:
            objects[changed["metadata"]["uid"]] = changed
        yield list(objects.values())


def _follow(cluster: LocalCluster, kind: str, results: "queue.SimpleQueue[Snapshot | Exception]") -> None:
    """Put every snapshot of a kind, again from a list when a watch ends; put the error that ends this thread."""
    try:
        while True:
            with (
                contextlib.suppress(OSError, http.client.HTTPException, ValueError),
                ClusterApi(cluster, timeout_seconds=_WATCH_SECONDS + 10) as api,
            ):
                for objects in snapshots(api, PATHS[kind]):
                    results.put((kind, objects))
            time.sleep(_RETRY_SECONDS)
    except Exception as error:  # noqa: BLE001 - the main thread raises it
        results.put(error)


def _apply(cluster: LocalCluster, rules: str) -> None:
    command = processes.nsenter_command(cluster, ["nft", "-f", "-"])
    subprocess.run(command, input=rules, text=True, env=processes.ENVIRONMENT, check=True)


def main() -> None:
    """Apply the rules after every change, until killed."""
    cluster = LocalCluster(Path(sys.argv[1]), Path(sys.argv[2]))
    results: queue.SimpleQueue[Snapshot | Exception] = queue.SimpleQueue()
    for kind in PATHS:
        threading.Thread(target=_follow, args=(cluster, kind, results), daemon=True).start()
    objects: dict[str, Sequence[Json]] = {}
    applied = ""
    while True:
        changes = [results.get()]
        time.sleep(_COALESCE_SECONDS)
        while not results.empty():
            changes.append(results.get())
        for change in changes:
            if isinstance(change, Exception):
                raise change
            kind, found = change
            objects[kind] = found
        if objects.keys() == PATHS.keys() and (rules := current_ruleset(objects)) != applied:
            _apply(cluster, rules)
            applied = rules


def _start(cluster: LocalCluster) -> None:
    command = [sys.executable, "-m", "tests.testcluster.network_policy_agent", str(cluster.state), str(cluster.cache)]
    processes.start(cluster, NAME, command, in_namespaces=False, cwd=REPOSITORY)


def _ready(cluster: LocalCluster) -> bool:
    try:
        processes.run_inside(cluster, "nft", "list", "table", "inet", TABLE)
    except subprocess.CalledProcessError:
        return False
    return True


COMPONENT = Component(NAME, _start, _ready, depends_on=("kube-apiserver",))

if __name__ == "__main__":
    main()
