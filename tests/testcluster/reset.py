"""Resets a cluster to its state right after ``up``, without knowledge of what the tests created.

``up`` writes a baseline; ``reset`` deletes every namespace and every cluster-scoped object that is not in it, and
restores the labels and taints of the nodes.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.testcluster import fake_nodes
from tests.testcluster.cluster_api import ClusterApi, Json
from tests.testcluster.errors import LocalClusterError
from tests.testcluster.layout import LocalCluster

DEFAULT = "default"
# Written by the cluster all the time, or derived from other objects.
_IGNORED = {
    *("apiservices", "certificatesigningrequests", "events", "nodes", "namespaces"),
    *("endpoints", "endpointslices", "ipaddresses"),
}
_FINALIZER_TIMEOUT_SECONDS = 8.0
"""After this time finalizers are removed: the operators under test, which own them, may have stopped."""
_MERGE = "application/merge-patch+json"
_AT_ONCE = {"propagationPolicy": "Background", "gracePeriodSeconds": 0}
_NAMESPACES = "/api/v1/namespaces/"
_CRDS = "/customresourcedefinitions/"
"""CRDs keep their finalizer: without it their objects would stay in etcd and reappear with the CRD."""


@dataclass(frozen=True)
class ResourceType:
    """A resource type and its API paths."""

    base: str
    name: str
    namespaced: bool

    def path(self, subject: Json) -> str:
        namespace = subject["metadata"].get("namespace")
        within = f"/namespaces/{namespace}" if namespace else ""
        return f"{self.base}{within}/{self.name}/{subject['metadata']['name']}"


def _kinds(api: ClusterApi) -> Iterator[ResourceType]:
    """Every type with the verbs list and delete."""
    groups = (api.read("/apis") or {})["groups"]
    bases = ["/api/v1", *(f"/apis/{group['preferredVersion']['groupVersion']}" for group in groups)]
    for base in bases:
        for resource in (api.read(base) or {}).get("resources", []):
            if {"list", "delete"} <= set(resource["verbs"]) and resource["name"] not in _IGNORED:
                yield ResourceType(base, resource["name"], resource["namespaced"])


def _objects(api: ClusterApi) -> dict[str, Json]:
    """Cluster-scoped objects and those of the default namespace, by path."""
    objects = {}
    for kind in _kinds(api):
        within = f"/namespaces/{DEFAULT}" if kind.namespaced else ""
        for each in api.items(f"{kind.base}{within}/{kind.name}"):
            objects[kind.path(each)] = each
    for each in api.items("/api/v1/namespaces"):
        objects[f"/api/v1/namespaces/{each['metadata']['name']}"] = each
    return objects


def _node_fields(node: Json) -> dict[str, Any]:
    spec = node["spec"]
    return {
        "labels": node["metadata"].get("labels", {}),
        "annotations": sorted(node["metadata"].get("annotations", {})),
        "taints": spec.get("taints"),
        "unschedulable": spec.get("unschedulable"),
    }


def write_baseline(cluster: LocalCluster) -> None:
    """Write the baseline: the existing objects, and the fields of the nodes."""
    with ClusterApi(cluster) as api:
        nodes = {node["metadata"]["name"]: _node_fields(node) for node in api.items("/api/v1/nodes")}
        _write(cluster, {"objects": sorted(_objects(api)), "nodes": nodes})


def add_to_baseline(cluster: LocalCluster, path: str) -> None:
    """Keep one more object, e.g. a namespace that ``up`` added to a running cluster."""
    baseline = _read(cluster)
    _write(cluster, baseline | {"objects": sorted({*baseline["objects"], path})})


def _read(cluster: LocalCluster) -> Json:
    baseline: Json = json.loads((cluster.run_dir / "baseline.json").read_text("utf-8"))
    return baseline


def _write(cluster: LocalCluster, baseline: Json) -> None:
    draft = cluster.run_dir / "baseline.draft"
    draft.write_text(json.dumps(baseline), "utf-8")
    draft.rename(cluster.run_dir / "baseline.json")


def reset(cluster: LocalCluster) -> int:
    """Delete what was created since the baseline, and return the number of objects without namespace contents.

    Raises:
        LocalClusterError: an object cannot be deleted.
    """
    baseline = _read(cluster)
    with ClusterApi(cluster) as api:
        known = set(baseline["objects"])
        deleted: set[str] = set()
        began = time.monotonic()
        while extra := {path: each for path, each in _objects(api).items() if path not in known}:
            elapsed = time.monotonic() - began
            if elapsed > 4 * _FINALIZER_TIMEOUT_SECONDS:
                raise LocalClusterError(f"cannot delete: {', '.join(sorted(extra))}")
            for path in extra.keys() - deleted:
                api.call("DELETE", path, _AT_ONCE)
                if path.startswith(_NAMESPACES):  # else its pods take their grace period
                    api.call("DELETE", f"{path}/pods", _AT_ONCE)
                deleted.add(path)
            if elapsed > _FINALIZER_TIMEOUT_SECONDS:
                _remove_finalizers(api, extra)
            time.sleep(0.2)
        _restore_nodes(api, baseline["nodes"])
        fake_nodes.patch_capacity(api)
    return len(deleted)


def _remove_finalizers(api: ClusterApi, extra: dict[str, Json]) -> None:
    """Remove the finalizers of the objects that are being deleted, also in namespaces."""
    ending = {each["metadata"]["name"] for path, each in extra.items() if path.startswith("/api/v1/namespaces/")}
    for kind in _kinds(api):
        if kind.namespaced:
            extra |= {
                kind.path(e): e for name in ending for e in api.items(f"{kind.base}/namespaces/{name}/{kind.name}")
            }
    for path, each in extra.items():
        if each["metadata"].get("finalizers") and _CRDS not in path:
            api.call("PATCH", path, {"metadata": {"finalizers": None}}, _MERGE)


def _restore_nodes(api: ClusterApi, known: dict[str, Json]) -> None:
    for node in api.items("/api/v1/nodes"):
        name, now = node["metadata"]["name"], _node_fields(node)
        path = f"/api/v1/nodes/{name}"
        if name not in known:
            api.call("DELETE", path)
        elif now != known[name]:
            then = known[name]
            labels = dict.fromkeys(now["labels"]) | then["labels"]
            annotations = dict.fromkeys(set(now["annotations"]) - set(then["annotations"]))
            spec = {"taints": then["taints"], "unschedulable": then["unschedulable"]}
            api.call("PATCH", path, {"metadata": {"labels": labels, "annotations": annotations}, "spec": spec}, _MERGE)
