"""The view of a real cluster matches the operators' status and kubectl."""

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.integration.cluster.installed import WORKER, admin_client, control_plane_client, guide, queued_job
from tests.integration.cluster.operator_process import OperatorProcess, desired, pool, project, wait_for_reason
from tests.integration.cluster.waiting import eventually
from tests.testcluster.cluster_api import apply, kubectl

from windlass.domain.cluster_sync import ObservedClusterState, QuotaChange, QuotaSpec, id_of
from windlass.domain.jobs import Reason
from windlass.domain.projects import Role
from windlass.domain.quota import LedgerRow, ledger
from windlass.kit.boot_time import boot_seconds
from windlass.kube.client import KubeClient
from windlass.kube.cluster_view import REQUIRED_KINDS, InformerClusterView
from windlass.kube.kinds import CLUSTER_QUEUE, POOL, PROJECT, WORKLOAD
from windlass.kube.objects import Kind, Ref
from windlass.kube.quota_writer import ProjectQuotaWriter

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(2400)]
Json = dict[str, Any]
JOB = Kind("batch/v1", "Job")
NAMES = ("search", "ranking", "speech")


class Now:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return boot_seconds()


@pytest.fixture(scope="module")
def lab(operator: OperatorProcess) -> Iterator[OperatorProcess]:
    """The guide's pools and projects, ready, and a pool of the real node."""
    bare = desired(POOL, "real", {"nodeLabels": {"windlass.dev/pool": "real"}})
    tiny = desired(PROJECT, "tiny", {"quotas": [{"pool": "real", "nominal": 4}]})
    apply(operator.cluster, [*guide("pools.yaml"), bare, *guide("projects.yaml"), tiny])
    for name in (*NAMES, "tiny"):
        wait_for_reason(operator.client, project(name), "Reconciled")
    yield operator
    assert operator.exit_code is None, operator.log.read_text()[-4000:]


@pytest.fixture
def worker(lab: OperatorProcess) -> Iterator[KubeClient]:
    yield admin_client(lab.cluster, impersonate=WORKER)
    client = lab.client
    spaces = [f"wl-{name}" for name in (*NAMES, "tiny")]
    for ref in [Ref.of(one) for space in spaces for one in client.list(JOB, space).items]:
        client.delete(ref)
    eventually(lambda: not any(client.list(WORKLOAD, space).items for space in spaces), "all is given back", 60)


@pytest.fixture(scope="module")
def view(lab: OperatorProcess) -> Iterator[InformerClusterView]:
    """A view with the control plane's rights."""
    watching = InformerClusterView(control_plane_client(lab.cluster), Now())
    watching.start()
    yield watching
    began = time.monotonic()
    watching.stop()
    assert time.monotonic() - began < 3, "open watches end at once"


def until(
    view: InformerClusterView, there: Callable[[ObservedClusterState], bool], what: str, seconds: float = 30
) -> ObservedClusterState:
    """Observe after each change until the state is as expected."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        view.wait(1)
        if all(one.synced for kind, one in view.status().items() if kind in REQUIRED_KINDS) and there(
            seen := view.observe()
        ):
            return seen
    raise AssertionError(f"not within {seconds} s: {what}; {view.status()}")


def account(state: ObservedClusterState, name: str, of: str = "a100") -> LedgerRow:
    return next(row for row in ledger(state.snapshot) if (row.project, row.pool) == (name, of))


def row_of(client: KubeClient, name: str, of: str = "a100") -> Json:
    return next(dict(row) for row in client.get(project(name))["status"]["quotas"] if row["pool"] == of)


def loans(rows: list[Json]) -> dict[str, int]:
    return {row["project"]: row["gpus"] for row in rows}


def agrees(state: ObservedClusterState, client: KubeClient, name: str) -> bool:
    """Whether the view's usage is the one in the operators' status."""
    mine, theirs = account(state, name), row_of(client, name)
    return (mine.nominal, mine.used, mine.pending, mine.reclaimable, mine.borrowed_from, mine.lent_to) == (
        theirs["nominal"],
        theirs["used"],
        theirs["pending"],
        theirs["reclaimable"],
        loans(theirs["borrowedFrom"]),
        loans(theirs["lentTo"]),
    )


def reason(state: ObservedClusterState, job: str) -> Reason | None:
    return state.reasons.get(job)


def test_pools_and_projects_match_their_resources(lab: OperatorProcess, view: InformerClusterView) -> None:
    state = until(view, lambda seen: len(seen.projects) == 4, "all projects are seen")
    raw = lab.client.get(pool("a100"))
    [a100] = [one for one in state.pools if one.name == "a100"]
    assert a100.id == id_of("pool", raw["metadata"]["uid"])
    assert (a100.capacity, a100.nodes, a100.ready_nodes, a100.allocatable) == tuple(
        raw["status"][name] for name in ("capacity", "nodes", "readyNodes", "allocatable")
    )
    assert (a100.capacity, a100.problem, a100.version) == (32, "", raw["metadata"]["generation"])
    raw = lab.client.get(project("search"))
    [search] = [one for one in state.projects if one.project.name == "search"]
    assert search.project.id == id_of("prj", raw["metadata"]["uid"])
    assert search.project.cohort == "lab"
    members = {(one["kind"], one["name"]): Role(one["role"]) for one in raw["spec"].get("members", ())}
    assert {(one.kind, one.name): one.role for one in search.members} == members
    quotas = {one["pool"]: one["nominal"] for one in raw["spec"]["quotas"]}
    assert {one.pool: one.nominal for one in search.quotas} == quotas
    assert {one.managed_by for one in search.quotas} == {"testcluster"}
    assert state.notes == ()


def test_borrowing_is_the_same_in_the_view_in_status_and_in_kubectl(
    lab: OperatorProcess, view: InformerClusterView, worker: KubeClient
) -> None:
    client = lab.client
    worker.create(queued_job("search", "wide", 20), manager="test")
    until(view, lambda seen: account(seen, "search").used == 20, "the job holds its GPUs")
    worker.create(queued_job("search", "too-much", 8), manager="test")
    state = until(view, lambda seen: account(seen, "search").pending == 1, "the next one waits")
    state = until(view, lambda seen: all(agrees(seen, client, name) for name in NAMES), "the operators say the same")
    mine = account(state, "search")
    assert (mine.borrowed, sum(mine.borrowed_from.values())) == (4, 4)
    shown = kubectl(lab.cluster, "get", "projects")
    [line] = [line for line in shown.splitlines() if line.startswith("search")]
    total = [row for row in ledger(state.snapshot) if row.project == "search"]
    assert line.split()[1:5] == [
        "lab",
        *(str(sum(getattr(row, name) for row in total)) for name in ("nominal", "used", "pending")),
    ]
    state = until(view, lambda seen: "wl-search/too-much" in seen.reasons, "somebody says why it waits")
    waits = reason(state, "wl-search/too-much")
    assert waits is not None
    assert waits.code == "borrowing_limit_reached"
    assert (waits.context["position"], waits.context["needed"], waits.context["limit"]) == (1, 8, 8)
    assert reason(state, "wl-search/wide") is None, "what runs needs no reason"


def test_the_queue_position_is_kueues(lab: OperatorProcess, view: InformerClusterView, worker: KubeClient) -> None:
    worker.create(queued_job("speech", "blocks", 100), manager="test")
    time.sleep(1.1)  # objects of the same second are ordered by uid
    for number in range(3):
        worker.create(queued_job("speech", f"next-{number}", 1), manager="test")
    waiting = {f"wl-speech/next-{number}" for number in range(3)} | {"wl-speech/blocks"}
    state = until(
        view,
        lambda seen: waiting <= set(seen.reasons) and bool(view._pending_workloads.results()),
        "all of them have a reason",
    )
    pending = next(pending for queue, pending in view._pending_workloads.results().items() if queue == "speech.a100")
    assert len(pending.items) == 4
    places = {key: state.reasons[key].context["position"] for key in waiting}
    assert sorted(places.values()) == [1, 2, 3, 4]
    assert places["wl-speech/blocks"] == 1
    assert state.reasons["wl-speech/blocks"].code == "exceeds_max_quota"
    assert state.reasons["wl-speech/next-0"].code == "behind_head_of_queue"


def test_an_admitted_job_that_does_not_run_has_its_pods_reason(
    lab: OperatorProcess, view: InformerClusterView, worker: KubeClient
) -> None:
    worker.create(queued_job("tiny", "no-image", 1, pool="real"), manager="test")

    def has_reason(seen: ObservedClusterState) -> bool:
        found = reason(seen, "wl-tiny/no-image")
        return found is not None and found.code == "image_pull_failed" and "no-node-pulls-it" in found.context["detail"]

    state = until(view, has_reason, "the kubelet cannot get the image", 90)
    assert state.reasons["wl-tiny/no-image"].context["node"] == "testcluster"


def test_only_changes_wake_the_view(lab: OperatorProcess, view: InformerClusterView) -> None:
    until(view, lambda seen: len(seen.projects) == 4, "everything is read")
    while view.wait(2):
        view.observe()
    assert not view.wait(0.5)
    began = time.monotonic()
    lab.client.patch(project("tiny"), {"spec": {"displayName": f"Tiny {began}"}}, manager="test")
    assert view.wait(10)
    assert time.monotonic() - began < 2
    [tiny] = [one.project for one in view.observe().projects if one.project.name == "tiny"]
    assert tiny.display_name == f"Tiny {began}"


def test_an_expired_watch_lists_again_and_misses_nothing(lab: OperatorProcess, view: InformerClusterView) -> None:
    until(view, lambda seen: len(seen.projects) == 4, "everything is read")
    reflector = view._informer._reflectors[CLUSTER_QUEUE]
    reflector._version = "1"  # older than the server's cache of this kind
    reflector.interrupt()
    eventually(lambda: int(reflector._version or 0) > 1, "it has listed again")
    apply(lab.cluster, [desired(PROJECT, "late", {"quotas": [{"pool": "a100", "nominal": 1}]})])
    try:
        state = until(view, lambda seen: any(one.project == "late" for one in seen.snapshot.quotas), "the new queue")
        assert account(state, "late").nominal == 1
    finally:
        lab.client.delete(project("late"))
    until(view, lambda seen: all(one.project.name != "late" for one in seen.projects), "it is gone", 60)


def test_a_terminating_project_still_counts(
    lab: OperatorProcess, view: InformerClusterView, worker: KubeClient
) -> None:
    client = lab.client
    apply(lab.cluster, [desired(PROJECT, "leaving", {"cohort": "lab", "quotas": [{"pool": "a100", "nominal": 1}]})])
    wait_for_reason(client, project("leaving"), "Reconciled")
    worker.create(queued_job("leaving", "last", 1), manager="test")
    until(view, lambda seen: any(one.project == "leaving" for one in seen.snapshot.demands), "its job is seen")
    client.delete(project("leaving"))
    time.sleep(1)
    state = view.observe()
    assert "leaving" in {one.project.name for one in state.projects}
    assert account(state, "leaving").used == 1
    client.patch(project("leaving"), {"spec": {"whenDeleted": "Cancel"}}, manager="test")
    until(view, lambda seen: all(one.project.name != "leaving" for one in seen.projects), "it is gone", 90)


def test_a_change_is_observed_with_its_field_manager(lab: OperatorProcess, view: InformerClusterView) -> None:
    resources = ProjectQuotaWriter(control_plane_client(lab.cluster))
    uid = lab.client.get(project("tiny"))["metadata"]["uid"]
    change = QuotaChange(
        id="qc_1",
        project=id_of("prj", uid),
        name="tiny",
        pool="h100",
        spec=QuotaSpec(nominal=2),
        created_by="ada",
        created_at=datetime.now(UTC),
    )
    resources.apply(change)

    def quotas(seen: ObservedClusterState) -> dict[str, tuple[int, str]]:
        [tiny] = [one for one in seen.projects if one.project.name == "tiny"]
        return {one.pool: (one.nominal, one.managed_by) for one in tiny.quotas}

    until(view, lambda seen: quotas(seen) == {"real": (4, "testcluster"), "h100": (2, "")}, "both quotas")
    until(view, lambda seen: any((one.project, one.pool) == ("tiny", "h100") for one in seen.snapshot.quotas), "queue")
    resources.apply(change.model_copy(update={"spec": None}))
    until(view, lambda seen: quotas(seen) == {"real": (4, "testcluster")}, "one is gone")
    by_hand = {"apiVersion": PROJECT.api_version, "kind": "Project", "metadata": {"name": "tiny"}}
    by_hand["spec"] = {"quotas": [{"pool": "h100", "nominal": 1}]}
    kubectl(lab.cluster, "apply", "--server-side", "-f", "-", given=json.dumps(by_hand))
    until(view, lambda seen: quotas(seen) == {"real": (4, "testcluster"), "h100": (1, "kubectl")}, "another one's")
