"""From what was read to the Mirror: what it says, what it leaves out, when it is refused. No threads, no server."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from kubernetes.client import Configuration
from tests.unit.kube import kueue_objects as kueue

from windlass.domain.errors import UnavailableError
from windlass.domain.mirror import Mirror, ProjectState, id_of
from windlass.domain.projects import Role
from windlass.domain.quota import ledger
from windlass.kube import mirroring
from windlass.kube.changing import AppliedProjects
from windlass.kube.client import Client
from windlass.kube.kinds import CLUSTER_QUEUE, KUEUE, NODE, OWN, POD, PROJECT, WORKLOAD
from windlass.kube.kueue.facts import Event
from windlass.kube.kueue.workload import PendingWorkloads
from windlass.kube.names import namespace_of
from windlass.kube.objects import Kind, Listing, Object
from windlass.kube.resources import GPUPool, Project
from windlass.kube.slimming import slim
from windlass.kube.view import SOURCES, WatchedCluster
from windlass.kube.watching import Health
from windlass.ports import ClusterView, ProjectResources
from windlass_operators.render import queues

Json = dict[str, Any]
ADAPTERS: tuple[type[ClusterView], type[ProjectResources]] = (WatchedCluster, AppliedProjects)
"""The type checker compares them with their ports."""
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
UIDS = {name: f"0f8fad5b-d9cb-469f-a165-{number:012}" for number, name in enumerate(("a100", "h100", "a", "b", "c"))}


class Noon:
    def now(self) -> datetime:
        return NOW


class Seen(WatchedCluster):
    """A view that is told what there is."""

    def __init__(self) -> None:
        super().__init__(Client(Configuration()), Noon())
        self.kinds = {one.kind: Health(read=True, served=True, silent=0.0, problem="") for one in SOURCES}
        self.version = 0
        self._keeper.health = lambda: self.kinds  # type: ignore[method-assign] # no thread reads them

    def put(self, kind: Kind, raw: Json) -> None:
        self.version += 1
        metadata = {"creationTimestamp": kueue.second(0), **raw["metadata"], "resourceVersion": str(self.version)}
        if self._store.put(raw | {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata}):
            self._news.set()

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
def seen() -> Iterator[Seen]:
    view = Seen()
    view.pool("a100", {"capacity": 8})
    view.put(NODE, {"metadata": {"name": "n1", "uid": "n1"}, "status": {"conditions": [kueue.condition("Ready")]}})
    yield view
    view.stop()


def project_of(mirror: Mirror, name: str) -> ProjectState:
    return next(one for one in mirror.projects if one.project.name == name)


def test_a_pool_is_as_its_resource_says(seen: Seen) -> None:
    wrong = kueue.condition("Ready", status=False, reason="NoNodes", message="no node has the labels")
    counts = {"capacity": 16, "nodes": 2, "readyNodes": 1, "allocatable": 7, "conditions": [wrong], "inUse": 3}
    seen.pool("h100", counts, gpuType="H100", pricePerGPUHour="2.50", maxGPUsPerJob=4)
    a100, h100 = seen.look().pools
    assert (a100.name, a100.capacity, a100.problem) == ("a100", 8, "")
    assert h100.id == id_of("pool", UIDS["h100"])
    assert (h100.capacity, h100.nodes, h100.ready_nodes, h100.allocatable) == (16, 2, 1, 7)
    assert (h100.gpu_type, h100.price_per_gpu_hour, h100.max_gpus_per_job) == ("H100", 2.5, 4)
    assert (h100.problem, h100.version) == ("no node has the labels", 3)
    assert h100.created_at == datetime(2026, 11, 22, 10, tzinfo=UTC)


def test_a_project_is_as_its_resource_says(seen: Seen) -> None:
    key = 'k:{"pool":"a100"}'
    fields: Json = {"f:spec": {"f:quotas": {key: {".": {}, "f:pool": {}, "f:nominal": {}}}}}
    members = [
        {"kind": "User", "name": "ada", "role": "owner"},
        {"kind": "Group", "name": "team", "role": "editor"},
        {"name": "bob", "role": "viewer"},
    ]
    managed = [{"manager": "helm", "operation": "Update", "fieldsV1": fields}]
    quota = {"pool": "a100", "nominal": 4, "borrowingLimit": 2}
    seen.project(
        "a", quota, managed=managed, members=members, displayName="Team A", jobs={"priorityCeiling": 10}, later="field"
    )
    state = project_of(seen.look(), "a")
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
    assert [(one.project, one.user, one.role) for one in state.members] == [
        (uid, "ada", Role.OWNER),
        (uid, "bob", Role.VIEWER),
    ]
    [share] = state.quotas
    assert (share.project, share.pool, share.nominal, share.borrowing_limit) == (uid, "a100", 4, 2)
    assert (share.lending_limit, share.managed_by, share.version) == (None, "helm", 2)


def test_quota_and_reasons_come_from_kueues_objects(seen: Seen) -> None:
    seen.project("a", {"pool": "a100", "nominal": 4})
    seen.project("b", {"pool": "a100", "nominal": 4})
    seen.workload(kueue.holding("a", "runs", 6, at=1))
    seen.pod("a", "runs")
    seen.workload(kueue.wanting("b", "waits", 5, at=2))
    mirror = seen.look()
    rows = {row.project: row for row in ledger(mirror.snapshot)}
    assert (rows["a"].used, dict(rows["a"].borrowed_from), rows["b"].pending) == (6, {"b": 2}, 1)
    assert set(mirror.reasons) == {"wl-b/waits"}
    assert mirror.reasons["wl-b/waits"].facts["position"] == 1
    assert mirror.notes == ()


def test_what_is_admitted_is_explained_by_its_pods(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    seen.project("a", {"pool": "a100", "nominal": 4})
    seen.workload(kueue.holding("a", "typo", 1))
    assert seen.look().reasons["wl-a/typo"].code == "pods_starting"
    back_off = {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling"}}
    seen.pod("a", "typo", "Pending", containerStatuses=[{"name": "m", "image": "none:v1", "state": back_off}])
    assert seen.look().reasons["wl-a/typo"].facts["detail"] == "Back-off pulling"
    [asked] = seen._events._cases
    assert (asked.namespace, asked.uid) == ("wl-a", "pod-typo")
    regarding = {"name": "pod-typo", "uid": "pod-typo"}
    told = {"type": "Warning", "message": "Failed to pull image: no such tag", "involvedObject": regarding}
    monkeypatch.setattr(seen._events, "answers", lambda: {asked: Event.parse_all([told])})
    assert seen.look().reasons["wl-a/typo"].facts["detail"] == "Failed to pull image: no such tag"


def test_without_pods_nothing_is_said_of_what_is_admitted(seen: Seen) -> None:
    seen.project("a", {"pool": "a100", "nominal": 4})
    seen.workload(kueue.holding("a", "runs", 1))
    seen.kinds[POD] = Health(read=False, served=True, silent=1.0, problem="forbidden")
    mirror = seen.look()
    assert mirror.reasons == {}
    assert mirror.notes == ("Pod cannot be read: forbidden",)


def test_the_line_is_asked_for_where_somebody_waits_and_believed(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    seen.project("a", {"pool": "a100", "nominal": 1})
    seen.project("b", {"pool": "a100", "nominal": 1})
    for number in range(2):
        seen.workload(kueue.wanting("a", f"w{number}", 5, at=number))
    seen.look()
    assert seen._lines._cases.keys() == {"a.a100"}
    items = [
        {"metadata": {"name": f"w{number}", "namespace": "wl-a"}, "positionInClusterQueue": 1 - number}
        for number in range(2)
    ]
    line = PendingWorkloads.model_validate({"items": items})
    monkeypatch.setattr(seen._lines, "answers", lambda: {"a.a100": line})
    found = seen.look().reasons
    assert {name: reason.facts["position"] for name, reason in found.items()} == {"wl-a/w0": 2, "wl-a/w1": 1}


def test_one_object_that_cannot_be_read_hides_no_other_and_is_named(seen: Seen) -> None:
    seen.project("a", {"pool": "a100", "nominal": 4})
    odd = {"metadata": {"name": "odd", "uid": UIDS["b"]}, "spec": {"quotas": [{"pool": "a100", "nominal": "many"}]}}
    seen.put(PROJECT, odd)
    seen.put(PROJECT, {"metadata": {"name": "worse", "uid": UIDS["c"]}, "spec": "none"})
    for name, amount in (("broken", "lots"), ("negative", "-1")):
        raw = kueue.holding("a", name, 1)
        raw["status"]["admission"]["podSetAssignments"][0]["resourceUsage"] = {kueue.GPU: amount}
        seen.workload(raw)
    queue = {"resourceGroups": [{"flavors": [{"name": "a100", "resources": [{"name": "x", "nominalQuota": "?"}]}]}]}
    seen.put(CLUSTER_QUEUE, {"metadata": {"name": "strange"}, "spec": queue})
    seen.workload(kueue.holding("a", "runs", 2))
    mirror = seen.look()
    assert [one.project.name for one in mirror.projects] == ["a"]
    assert [claim.gpus for claim in mirror.snapshot.claims] == [2]
    named = " ".join(mirror.notes)
    for name in ("odd", "worse", "wl-a/broken", "wl-a/negative", "strange"):
        assert f"{name} cannot be read and is left out" in named
    assert "spec.quotas.0.nominal" in named


def test_settings_that_predictions_do_not_know_are_noted(seen: Seen) -> None:
    seen.put(Kind(KUEUE, "Cohort"), {"metadata": {"name": "theirs"}, "spec": {"parentName": "above"}})
    assert "cohort theirs has a parent" in seen.look().notes[0]


def test_it_is_refused_until_everything_was_read_and_when_nothing_is_heard(seen: Seen) -> None:
    seen.kinds[WORKLOAD] = Health(read=False, served=True, silent=1.0, problem="forbidden: no rights")
    with pytest.raises(UnavailableError, match=r"Workload\S* is missing: forbidden: no rights$"):
        seen.look()
    seen.kinds[WORKLOAD] = Health(read=True, served=True, silent=151.0, problem="")
    with pytest.raises(UnavailableError, match="said nothing of Workload"):
        seen.look()
    seen.kinds[WORKLOAD] = Health(read=True, served=False, silent=1.0, problem="")
    assert seen.look().notes == ("The cluster does not serve Workload.kueue.x-k8s.io",)
    seen.kinds[PROJECT] = Health(read=True, served=False, silent=1.0, problem="")
    with pytest.raises(UnavailableError, match="definitions are not installed"):
        seen.look()


def test_only_what_changed_is_read_again(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    seen.project("a", {"pool": "a100", "nominal": 4})
    seen.project("b", {"pool": "a100", "nominal": 4})
    read: list[str] = []

    def counted(raw: Object) -> ProjectState:
        read.append(raw["metadata"]["name"])
        return mirroring.read_project(raw)

    monkeypatch.setattr(seen._projects, "_read", counted)
    seen.look()
    seen.project("b", {"pool": "a100", "nominal": 5})
    assert project_of(seen.look(), "b").quotas[0].nominal == 5
    assert sorted(read) == ["a", "b", "b"]
    seen._store.replace(PROJECT, Listing([], "99"))
    assert seen.look().projects == ()
    assert seen._projects._known == {}


def test_news_is_waited_for_and_swarms_are_one(seen: Seen) -> None:
    assert seen.wait(0)
    seen.look()
    began = time.monotonic()
    assert not seen.wait(0.05)
    assert time.monotonic() - began >= 0.05
    seen.project("a", {"pool": "a100", "nominal": 4})
    assert seen.wait(5)
    assert time.monotonic() - began >= 0.2, "the next look is a quarter of a second after the last one"
    seen.look()
    seen.project("a", {"pool": "a100", "nominal": 4})
    assert not seen.wait(0.05), "a new version of the same is no news"
    seen.stop()
    assert not seen.wait(5)


def test_a_status_that_is_not_read_is_no_news(seen: Seen) -> None:
    seen.look()
    seen.pool("a100", {"capacity": 8, "inUse": 3, "usedBy": [{"project": "a", "gpus": 3}]})
    node: Json = {"metadata": {"name": "n1", "uid": "n1"}, "status": {"conditions": [kueue.condition("Ready")]}}
    seen.put(NODE, node | {"status": node["status"] | {"images": ["many"]}})
    assert not seen.wait(0)
    seen.pool("a100", {"capacity": 9})
    assert seen.wait(0)


def test_pods_of_no_project_are_not_kept() -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "kube-system"}}
    assert slim(pod) is None
    assert slim(pod | {"metadata": {"name": "p", "namespace": "wl-a"}}) is not None
