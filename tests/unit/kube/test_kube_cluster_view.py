"""The observed cluster state: contents, omissions, and when it is unavailable. No threads, no server."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from kubernetes.client import Configuration
from tests.unit.kube import kueue_objects as kueue

from windlass.domain.cluster_sync import ObservedClusterState, ProjectState, id_of
from windlass.domain.errors import UnavailableError
from windlass.domain.projects import Role
from windlass.domain.quota import ledger
from windlass.kube import projection
from windlass.kube.cache.informer import WatchStatus
from windlass.kube.cache.transform import transform
from windlass.kube.client import KubeClient
from windlass.kube.cluster_view import WATCH_TARGETS, InformerClusterView
from windlass.kube.kinds import CLUSTER_QUEUE, KUEUE, NODE, OWN, POD, PROJECT, WORKLOAD
from windlass.kube.kueue.cluster_objects import KubeEvent
from windlass.kube.kueue.workload import PendingWorkloads
from windlass.kube.names import namespace_of
from windlass.kube.objects import Kind, Object, ObjectList, Ref
from windlass.kube.quota_writer import ProjectQuotaWriter
from windlass.kube.resources import GPUPool, Project
from windlass.ports import ClusterView, ProjectResources
from windlass_operators.render import queues

Json = dict[str, Any]
ADAPTERS: tuple[type[ClusterView], type[ProjectResources]] = (InformerClusterView, ProjectQuotaWriter)
"""The type checker compares them with their ports."""
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
UIDS = {name: f"0f8fad5b-d9cb-469f-a165-{number:012}" for number, name in enumerate(("a100", "h100", "a", "b", "c"))}


class FixedClock:
    at = NOW

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return 0.0


class StubClusterView(InformerClusterView):
    """A view whose objects and watch status are set by the test."""

    def __init__(self) -> None:
        self.clock = FixedClock()
        super().__init__(KubeClient(Configuration()), self.clock)
        self.kinds = {
            one.kind: WatchStatus(synced=True, served=True, idle_seconds=0.0, error="") for one in WATCH_TARGETS
        }
        self.version = 0
        self._informer.status = lambda: self.kinds  # type: ignore[method-assign] # no thread reads them

    def put(self, kind: Kind, raw: Json) -> None:
        self.version += 1
        metadata = {"creationTimestamp": kueue.second(0), **raw["metadata"], "resourceVersion": str(self.version)}
        if self._store.put(raw | {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata}):
            self._changed.set()

    def delete(self, kind: Kind, namespace: str, name: str) -> None:
        change = self._store.delete(self._store.get(Ref(kind, name, namespace)) or {})
        assert change
        self._on_change(change)

    def pool(self, name: str, status: Json | None = None, **spec: Any) -> None:
        spec = {"nodeLabels": {"windlass.dev/pool": name}} | spec
        metadata = {"name": name, "uid": UIDS[name], "generation": 3}
        self.put(Kind(OWN, "GPUPool"), {"metadata": metadata, "spec": spec, "status": status or {}})

    def project(self, name: str, *quotas: Json, managed: list[Json] | None = None, **spec: Any) -> None:
        spec = {"cohort": "lab", "quotas": list(quotas)} | spec
        metadata = {"name": name, "uid": UIDS[name], "generation": 2, "managedFields": managed or []}
        self.put(PROJECT, {"metadata": metadata, "spec": spec})
        pools = {
            one["metadata"]["name"]: GPUPool.model_validate({"status": {}} | one)
            for one in self._store.all(Kind(OWN, "GPUPool"))
        }
        known = Project.model_validate({"metadata": {"name": name, "uid": UIDS[name]}, "spec": spec}, extra="ignore")
        for one in queues.objects(known, pools):
            self.put(Kind.of(one), one)

    def workload(self, raw: Json) -> None:
        self.put(WORKLOAD, raw)

    def pod(self, of: str, name: str, phase: str = "Running", **status: Any) -> None:
        note = {"kueue.x-k8s.io/workload": name}
        metadata = {"name": f"pod-{name}", "namespace": namespace_of(of), "uid": f"pod-{name}", "annotations": note}
        self.put(POD, {"metadata": metadata, "spec": {"nodeName": "n1"}, "status": {"phase": phase, **status}})


@pytest.fixture
def view() -> Iterator[StubClusterView]:
    view = StubClusterView()
    view.pool("a100", {"capacity": 8})
    view.put(NODE, {"metadata": {"name": "n1", "uid": "n1"}, "status": {"conditions": [kueue.condition("Ready")]}})
    yield view
    view.stop()


def project_of(state: ObservedClusterState, name: str) -> ProjectState:
    return next(one for one in state.projects if one.project.name == name)


def test_parses_a_pool(view: StubClusterView) -> None:
    wrong = kueue.condition("Ready", status=False, reason="NoNodes", message="no node has the labels")
    counts = {
        "capacity": 16,
        "nodes": 2,
        "readyNodes": 1,
        "allocatable": 7,
        "conditions": [wrong],
        "inUse": 3,
        "gpuMemory": "80Gi",
    }
    view.pool("h100", counts, gpuType="H100", pricePerGPUHour="2.50", maxGPUsPerJob=4)
    a100, h100 = view.observe().pools
    assert (a100.name, a100.capacity, a100.problem) == ("a100", 8, "")
    assert h100.id == id_of("pool", UIDS["h100"])
    assert (h100.capacity, h100.nodes, h100.ready_nodes, h100.allocatable) == (16, 2, 1, 7)
    assert (h100.gpu_type, h100.price_per_gpu_hour, h100.max_gpus_per_job) == ("H100", 2.5, 4)
    assert (a100.gpu_memory_bytes, h100.gpu_memory_bytes) == (None, 80 << 30)
    assert (h100.problem, h100.version) == ("no node has the labels", 3)
    assert h100.created_at == datetime(2026, 11, 22, 10, tzinfo=UTC)


def test_parses_a_project(view: StubClusterView) -> None:
    key = 'k:{"pool":"a100"}'
    fields: Json = {"f:spec": {"f:quotas": {key: {".": {}, "f:pool": {}, "f:nominal": {}}}}}
    members = [
        {"kind": "User", "name": "ada", "role": "admin"},
        {"kind": "Group", "name": "team", "role": "editor"},
        {"name": "bob", "role": "viewer"},
    ]
    managed = [{"manager": "helm", "operation": "Update", "fieldsV1": fields}]
    quota = {"pool": "a100", "nominal": 4, "borrowingLimit": 2}
    view.project(
        "a", quota, managed=managed, members=members, displayName="Team A", jobs={"priorityCeiling": 10}, later="field"
    )
    state = project_of(view.observe(), "a")
    uid = id_of("prj", UIDS["a"])
    assert state.project.model_dump() == {
        "id": uid,
        "name": "a",
        "display_name": "Team A",
        "cohort": "lab",
        "priority_ceiling": 10,
        "created_at": datetime(2026, 11, 22, 10, tzinfo=UTC),
        "version": 2,
    }
    assert [(one.project, one.kind, one.name, one.role) for one in state.members] == [
        (uid, "User", "ada", Role.ADMIN),
        (uid, "Group", "team", Role.EDITOR),
        (uid, "User", "bob", Role.VIEWER),
    ]
    [share] = state.quotas
    assert (share.project, share.pool, share.nominal, share.borrowing_limit) == (uid, "a100", 4, 2)
    assert (share.lending_limit, share.managed_by, share.version) == (None, "helm", 2)


def test_quota_and_reasons_come_from_kueue_objects(view: StubClusterView) -> None:
    view.project("a", {"pool": "a100", "nominal": 4})
    view.project("b", {"pool": "a100", "nominal": 4})
    view.workload(kueue.admitted("a", "runs", 6, at=1))
    view.pod("a", "runs")
    view.workload(kueue.pending_workload("b", "waits", 5, at=2))
    state = view.observe()
    rows = {row.project: row for row in ledger(state.snapshot)}
    assert (rows["a"].used, dict(rows["a"].borrowed_from), rows["b"].pending) == (6, {"b": 2}, 1)
    assert set(state.reasons) == {"wl-b/waits"}
    assert state.reasons["wl-b/waits"].context["position"] == 1
    assert state.notes == ()


def test_admitted_workload_is_explained_by_its_pods(view: StubClusterView, monkeypatch: pytest.MonkeyPatch) -> None:
    view.project("a", {"pool": "a100", "nominal": 4})
    view.workload(kueue.admitted("a", "typo", 1))
    assert view.observe().reasons["wl-a/typo"].code == "pods_starting"
    back_off = {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling"}}
    view.pod("a", "typo", "Pending", containerStatuses=[{"name": "m", "image": "none:v1", "state": back_off}])
    assert view.observe().reasons["wl-a/typo"].context["detail"] == "Back-off pulling"
    [requested] = view._events._entries
    assert (requested.namespace, requested.uid) == ("wl-a", "pod-typo")
    regarding = {"name": "pod-typo", "uid": "pod-typo"}
    event = {"type": "Warning", "message": "Failed to pull image: no such tag", "involvedObject": regarding}
    monkeypatch.setattr(view._events, "results", lambda: {requested: KubeEvent.parse_all([event])})
    assert view.observe().reasons["wl-a/typo"].context["detail"] == "Failed to pull image: no such tag"


def test_admitted_workload_has_no_reason_if_pods_are_unreadable(view: StubClusterView) -> None:
    view.project("a", {"pool": "a100", "nominal": 4})
    view.workload(kueue.admitted("a", "runs", 1))
    view.kinds[POD] = WatchStatus(synced=False, served=True, idle_seconds=1.0, error="forbidden")
    state = view.observe()
    assert state.reasons == {}
    assert state.notes == ("Pod cannot be read: forbidden",)


def test_pending_workloads_are_fetched_for_queues_with_pending_workloads(
    view: StubClusterView, monkeypatch: pytest.MonkeyPatch
) -> None:
    view.project("a", {"pool": "a100", "nominal": 1})
    view.project("b", {"pool": "a100", "nominal": 1})
    for number in range(2):
        view.workload(kueue.pending_workload("a", f"w{number}", 5, at=number))
    view.observe()
    assert view._pending_workloads._entries.keys() == {"a.a100"}
    items = [
        {"metadata": {"name": f"w{number}", "namespace": "wl-a"}, "positionInClusterQueue": 1 - number}
        for number in range(2)
    ]
    line = PendingWorkloads.model_validate({"items": items})
    monkeypatch.setattr(view._pending_workloads, "results", lambda: {"a.a100": line})
    found = view.observe().reasons
    assert {name: reason.context["position"] for name, reason in found.items()} == {"wl-a/w0": 2, "wl-a/w1": 1}


def test_invalid_object_is_reported_and_others_are_parsed(view: StubClusterView) -> None:
    view.project("a", {"pool": "a100", "nominal": 4})
    odd = {"metadata": {"name": "odd", "uid": UIDS["b"]}, "spec": {"quotas": [{"pool": "a100", "nominal": "many"}]}}
    view.put(PROJECT, odd)
    view.put(PROJECT, {"metadata": {"name": "worse", "uid": UIDS["c"]}, "spec": "none"})
    for name, amount in (("broken", "lots"), ("negative", "-1")):
        raw = kueue.admitted("a", name, 1)
        raw["status"]["admission"]["podSetAssignments"][0]["resourceUsage"] = {kueue.GPU: amount}
        view.workload(raw)
    queue = {"resourceGroups": [{"flavors": [{"name": "a100", "resources": [{"name": "x", "nominalQuota": "?"}]}]}]}
    view.put(CLUSTER_QUEUE, {"metadata": {"name": "strange"}, "spec": queue})
    view.workload(kueue.admitted("a", "runs", 2))
    state = view.observe()
    assert [one.project.name for one in state.projects] == ["a"]
    assert [demand.gpus for demand in state.snapshot.demands] == [2]
    named = " ".join(state.notes)
    for name in ("odd", "worse", "wl-a/broken", "wl-a/negative", "strange"):
        assert f"{name} is invalid and is ignored" in named
    assert "spec.quotas.0.nominal" in named


def test_unsupported_settings_are_noted(view: StubClusterView) -> None:
    view.put(Kind(KUEUE, "Cohort"), {"metadata": {"name": "theirs"}, "spec": {"parentName": "above"}})
    assert "cohort theirs has a parent" in view.observe().notes[0]


def test_unavailable_until_synced_and_when_stale(view: StubClusterView) -> None:
    view.kinds[WORKLOAD] = WatchStatus(synced=False, served=True, idle_seconds=1.0, error="forbidden: no rights")
    with pytest.raises(UnavailableError, match=r"Workload\S* is not synced yet: forbidden: no rights$"):
        view.observe()
    view.kinds[WORKLOAD] = WatchStatus(synced=True, served=True, idle_seconds=151.0, error="")
    with pytest.raises(UnavailableError, match="no data about Workload"):
        view.observe()
    view.kinds[WORKLOAD] = WatchStatus(synced=True, served=False, idle_seconds=1.0, error="")
    assert view.observe().notes == ("The cluster does not serve Workload.kueue.x-k8s.io",)
    view.kinds[PROJECT] = WatchStatus(synced=True, served=False, idle_seconds=1.0, error="")
    with pytest.raises(UnavailableError, match="CRDs are not installed"):
        view.observe()


def test_only_changed_objects_are_parsed_again(view: StubClusterView, monkeypatch: pytest.MonkeyPatch) -> None:
    view.project("a", {"pool": "a100", "nominal": 4})
    view.project("b", {"pool": "a100", "nominal": 4})
    read: list[str] = []

    def counted(raw: Object) -> ProjectState:
        read.append(raw["metadata"]["name"])
        return projection.parse_project(raw)

    monkeypatch.setattr(view._projects, "_parse_object", counted)
    view.observe()
    view.project("b", {"pool": "a100", "nominal": 5})
    assert project_of(view.observe(), "b").quotas[0].nominal == 5
    assert sorted(read) == ["a", "b", "b"]
    view._store.replace(PROJECT, ObjectList([], "99"))
    assert view.observe().projects == ()
    assert view._projects._cache == {}


def test_wait_returns_on_change_and_bursts_are_merged(view: StubClusterView) -> None:
    assert view.wait(0)
    view.observe()
    began = time.monotonic()
    assert not view.wait(0.05)
    assert time.monotonic() - began >= 0.05
    view.project("a", {"pool": "a100", "nominal": 4})
    assert view.wait(5)
    assert time.monotonic() - began >= 0.2, "the next look is a quarter of a second after the last one"
    view.observe()
    view.project("a", {"pool": "a100", "nominal": 4})
    assert not view.wait(0.05), "a new version of the same is no news"
    view.stop()
    assert not view.wait(5)


def test_change_of_an_unread_status_is_no_change(view: StubClusterView) -> None:
    view.observe()
    view.pool("a100", {"capacity": 8, "inUse": 3, "usedBy": [{"project": "a", "gpus": 3}]})
    node: Json = {"metadata": {"name": "n1", "uid": "n1"}, "status": {"conditions": [kueue.condition("Ready")]}}
    view.put(NODE, node | {"status": node["status"] | {"images": ["many"]}})
    assert not view.wait(0)
    view.pool("a100", {"capacity": 9})
    assert view.wait(0)


def test_pods_outside_projects_are_ignored() -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "kube-system"}}
    assert transform(pod) is None
    assert transform(pod | {"metadata": {"name": "p", "namespace": "wl-a"}}) is not None


def test_a_pool_has_the_free_gpus_of_its_nodes(view: StubClusterView) -> None:
    labels = {"windlass.dev/pool": "a100"}
    status = {"conditions": [kueue.condition("Ready")], "allocatable": {kueue.GPU: "8"}}
    view.put(NODE, {"metadata": {"name": "gpu-1", "uid": "g1", "labels": labels}, "status": status})
    view.put(NODE, {"metadata": {"name": "gpu-2", "uid": "g2", "labels": labels}, "status": status})
    container = {"name": "main", "image": "i", "resources": {"limits": {kueue.GPU: "5"}}}
    metadata = {"name": "p", "namespace": namespace_of("a"), "uid": "p"}
    spec = {"nodeName": "gpu-1", "containers": [container]}
    view.put(POD, {"metadata": metadata, "spec": spec, "status": {"phase": "Running"}})
    [a100] = view.observe().pools
    assert a100.free_gpus == (8, 3)
    view.kinds[POD] = WatchStatus(synced=False, served=True, idle_seconds=0.0, error="forbidden")
    [a100] = view.observe().pools
    assert a100.free_gpus is None


def test_a_deleted_workload_shows_for_some_minutes_when_it_released_its_quota(view: StubClusterView) -> None:
    view.project("a", {"pool": "a100", "nominal": 4})
    held = kueue.admitted("a", "w", 2, at=10)
    name = f"job-{'0' * 26}-r1"
    held["metadata"]["ownerReferences"] = [{"kind": "RayJob", "name": name, "uid": "u", "controller": True}]
    view.workload(held)
    [reservation] = view.observe().reservations
    assert (reservation.gpus, reservation.released_at) == (2, None)
    view.delete(WORKLOAD, "wl-a", "w")
    assert view.observe().reservations == (reservation.model_copy(update={"released_at": NOW}),)
    view.clock.at += timedelta(minutes=6)
    assert view.observe().reservations == ()
