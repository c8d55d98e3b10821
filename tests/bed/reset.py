"""Takes a cluster back to how it was when it had just come up, in seconds and without knowing what tests make.

What stands after ``up`` is noted; ``reset`` deletes every namespace and every cluster-wide object that is not on the
list, and gives the nodes back their labels and taints.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.bed import fake_nodes
from tests.bed.cluster_api import ClusterApi, Json
from tests.bed.failures import BedError
from tests.bed.layout import Bed

DEFAULT = "default"
# Written by the cluster itself all the time, or following from other objects.
_IGNORED = {"apiservices", "certificatesigningrequests", "events", "nodes", "endpoints", "endpointslices", "namespaces"}
_PATIENCE = 8.0
"""Seconds that finalizers get; then their owners are taken for gone, as the operators under test may be."""
_MERGE = "application/merge-patch+json"
_DEFINITIONS = "/customresourcedefinitions/"
"""Their finalizer is the API server's: without it the objects would stay in etcd, and come back with the definition."""


@dataclass(frozen=True)
class Kind:
    """A resource type: where its objects are listed, and how one in a namespace is reached."""

    base: str
    name: str
    namespaced: bool

    def path(self, subject: Json) -> str:
        namespace = subject["metadata"].get("namespace")
        within = f"/namespaces/{namespace}" if namespace else ""
        return f"{self.base}{within}/{self.name}/{subject['metadata']['name']}"


def _kinds(api: ClusterApi) -> Iterator[Kind]:
    """Every type whose objects can be listed and deleted."""
    groups = (api.read("/apis") or {})["groups"]
    bases = ["/api/v1", *(f"/apis/{group['preferredVersion']['groupVersion']}" for group in groups)]
    for base in bases:
        for resource in (api.read(base) or {}).get("resources", []):
            if {"list", "delete"} <= set(resource["verbs"]) and resource["name"] not in _IGNORED:
                yield Kind(base, resource["name"], resource["namespaced"])


def _objects(api: ClusterApi) -> dict[str, Json]:
    """Cluster-wide objects and those of the default namespace, by path."""
    found = {}
    for kind in _kinds(api):
        within = f"/namespaces/{DEFAULT}" if kind.namespaced else ""
        for each in api.items(f"{kind.base}{within}/{kind.name}"):
            found[kind.path(each)] = each
    for each in api.items("/api/v1/namespaces"):
        found[f"/api/v1/namespaces/{each['metadata']['name']}"] = each
    return found


def _furniture(node: Json) -> dict[str, Any]:
    spec = node["spec"]
    return {
        "labels": node["metadata"].get("labels", {}),
        "annotations": sorted(node["metadata"].get("annotations", {})),
        "taints": spec.get("taints"),
        "unschedulable": spec.get("unschedulable"),
    }


def take_note(bed: Bed) -> None:
    """Write down what stands now."""
    with ClusterApi(bed) as api:
        nodes = {node["metadata"]["name"]: _furniture(node) for node in api.items("/api/v1/nodes")}
        note = {"objects": sorted(_objects(api)), "nodes": nodes}
    draft = bed.life / "baseline.draft"
    draft.write_text(json.dumps(note), "utf-8")
    draft.rename(bed.life / "baseline.json")


def reset(bed: Bed) -> int:
    """Delete what was made since, and return how many objects that were, contents of namespaces not counted.

    Raises:
        BedError: something stays.
    """
    note = json.loads((bed.life / "baseline.json").read_text("utf-8"))
    with ClusterApi(bed) as api:
        known = set(note["objects"])
        deleted: set[str] = set()
        began = time.monotonic()
        while extra := {path: each for path, each in _objects(api).items() if path not in known}:
            late = time.monotonic() - began
            if late > 4 * _PATIENCE:
                raise BedError(f"these objects stay: {', '.join(sorted(extra))}")
            for path in extra.keys() - deleted:
                api.call("DELETE", path, {"propagationPolicy": "Background", "gracePeriodSeconds": 0})
                deleted.add(path)
            if late > _PATIENCE:
                _strip(api, extra)
            time.sleep(0.2)
        _restore_nodes(api, note["nodes"])
        fake_nodes.give_capacity(api)
    return len(deleted)


def _strip(api: ClusterApi, extra: dict[str, Json]) -> None:
    """Take the finalizers off what is being deleted, in namespaces too."""
    ending = {each["metadata"]["name"] for path, each in extra.items() if path.startswith("/api/v1/namespaces/")}
    for kind in _kinds(api):
        if kind.namespaced:
            extra |= {
                kind.path(e): e for name in ending for e in api.items(f"{kind.base}/namespaces/{name}/{kind.name}")
            }
    for path, each in extra.items():
        if each["metadata"].get("finalizers") and _DEFINITIONS not in path:
            api.call("PATCH", path, {"metadata": {"finalizers": None}}, _MERGE)


def _restore_nodes(api: ClusterApi, known: dict[str, Json]) -> None:
    for node in api.items("/api/v1/nodes"):
        name, now = node["metadata"]["name"], _furniture(node)
        path = f"/api/v1/nodes/{name}"
        if name not in known:
            api.call("DELETE", path)
        elif now != known[name]:
            then = known[name]
            labels = dict.fromkeys(now["labels"]) | then["labels"]
            annotations = dict.fromkeys(set(now["annotations"]) - set(then["annotations"]))
            spec = {"taints": then["taints"], "unschedulable": then["unschedulable"]}
            api.call("PATCH", path, {"metadata": {"labels": labels, "annotations": annotations}, "spec": spec}, _MERGE)
