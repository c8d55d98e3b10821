"""The operators on a real cluster: quotas and usage, drift, refusals, deletion."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from tests.integration.cluster.installed import WORKER, admin_client, guide, queued_job, restricted, valid_ray_job
from tests.integration.cluster.objects import namespace
from tests.integration.cluster.operator_process import OperatorProcess, desired, pool, project, ready, wait_for_reason
from tests.integration.cluster.relaxed_schema import relaxed_schema
from tests.integration.cluster.waiting import eventually
from tests.testcluster.cluster_api import apply, kubectl
from tests.testcluster.errors import LocalClusterError
from tests.unit.operators.desired_objects import endpoint_spec, served_version

from windlass.kube.client import KubeClient
from windlass.kube.errors import KubeForbiddenError
from windlass.kube.names import ADOPT_ANNOTATION, MANAGED_BY, OWNER
from windlass.kube.objects import Kind, Ref
from windlass_operators.kinds import CLUSTER_QUEUE, COHORT, ENDPOINT, LOCAL_QUEUE, NAMESPACE, POOL, PROJECT, RAY_SERVICE

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(2400)]
Json = dict[str, Any]
JOB, POLICY = Kind("batch/v1", "Job"), Kind("networking.k8s.io/v1", "NetworkPolicy")
NAMES = ("search", "ranking", "speech")


@pytest.fixture(scope="module")
def lab(operator: OperatorProcess) -> Iterator[OperatorProcess]:
    """The guide's pools and projects, ready."""
    apply(operator.cluster, [*guide("pools.yaml"), *guide("projects.yaml")])
    for name in NAMES:
        wait_for_reason(operator.client, project(name), "Reconciled")
    yield operator
    assert operator.exit_code is None, operator.log.read_text()[-4000:]


@pytest.fixture
def worker(lab: OperatorProcess) -> KubeClient:
    return admin_client(lab.cluster, impersonate=WORKER)


def rows(client: KubeClient, name: str) -> dict[str, Json]:
    return {row["pool"]: row for row in client.get(project(name))["status"]["quotas"]}


def delete_jobs(client: KubeClient) -> None:
    for name in NAMES:
        for one in client.list(JOB, f"wl-{name}").items:
            client.delete(Ref.of(one))
    eventually(lambda: all(client.get(project(n))["status"]["used"] == 0 for n in NAMES), "all is given back")


def lends(client: KubeClient, lender: str, gpus: int) -> bool:
    return bool(rows(client, lender)["a100"]["lentTo"] == [{"project": "search", "gpus": gpus}])


def test_kubectl_shows_quota_usage_borrowing_and_lending(lab: OperatorProcess, worker: KubeClient) -> None:
    client = lab.client
    worker.create(queued_job("search", "wide", 20), manager="test")
    eventually(lambda: rows(client, "search")["a100"]["used"] == 20, "the job holds its GPUs")
    eventually(lambda: bool(rows(client, "ranking")["a100"].get("lentTo")), "the lender's status says so")
    borrowed = {loan["project"]: loan["gpus"] for loan in rows(client, "search")["a100"]["borrowedFrom"]}
    assert sum(borrowed.values()) == 4
    for lender, gpus in borrowed.items():
        eventually(partial(lends, client, lender, gpus), f"the status of {lender} says so")
    worker.create(queued_job("search", "too-much", 8), manager="test")
    eventually(lambda: rows(client, "search")["a100"]["pending"] == 1, "the next one waits")
    eventually(lambda: client.get(pool("a100"))["status"]["inUse"] == 20, "the pool counts it")
    assert client.get(pool("a100"))["status"]["usedBy"] == [{"project": "search", "gpus": 20}]
    shown = kubectl(lab.cluster, "get", "projects,gpupools")
    [line] = [line for line in shown.splitlines() if "/search" in line]
    assert line.split()[1:6] == ["lab", "16", "20", "1", "True"]
    [line] = [line for line in shown.splitlines() if "/a100" in line]
    assert line.split()[-6:-1] == ["4", "32", "32", "20", "True"]
    delete_jobs(client)
    eventually(lambda: rows(client, "search")["a100"]["borrowedFrom"] == [], "the loans are over")


def test_drift_of_children_is_corrected(lab: OperatorProcess) -> None:
    client = lab.client
    policy = Ref(POLICY, "windlass-deny", "wl-search")
    client.delete(policy)
    eventually(lambda: client.find(policy) is not None, "the wall stands again")
    queue = Ref(CLUSTER_QUEUE, "search.a100")
    groups = client.get(queue)["spec"]["resourceGroups"]
    groups[0]["flavors"][0]["resources"][0] |= {"nominalQuota": 1000, "lendingLimit": 0}
    client.patch(queue, {"spec": {"resourceGroups": groups, "stopPolicy": "Hold"}}, manager="mallory")

    def repaired() -> bool:
        spec = client.get(queue)["spec"]
        [resource] = spec["resourceGroups"][0]["flavors"][0]["resources"]
        return str(resource["nominalQuota"]) == "16" and "lendingLimit" not in resource and spec["stopPolicy"] == "None"

    eventually(repaired, "the quota is what the project says")
    space = Ref(NAMESPACE, "wl-search")
    level = "pod-security.kubernetes.io/enforce"
    client.patch(space, {"metadata": {"labels": {level: "privileged"}}}, manager="mallory")
    eventually(lambda: client.get(space)["metadata"]["labels"][level] == "restricted", "pods are restricted again")


def carries_our_label(client: KubeClient, ref: Ref) -> bool:
    return bool(client.get(ref)["metadata"]["labels"].get(MANAGED_BY) == OWNER)


def test_a_child_without_its_label_is_corrected_and_tracked(lab: OperatorProcess) -> None:
    client = lab.client
    for kind, name, space in ((CLUSTER_QUEUE, "search.a100", None), (POLICY, "windlass-deny", "wl-search")):
        ref = Ref(kind, name, space)
        fields: Json = {"metadata": {"labels": {MANAGED_BY: None}}}
        if kind == POLICY:
            fields["spec"] = {"ingress": [{}]}
        client.patch(ref, fields, manager="mallory")
        eventually(partial(carries_our_label, client, ref), "it is ours again")
        if kind == POLICY:
            assert not client.get(ref)["spec"].get("ingress"), "and closed"
    wait_for_reason(client, project("search"), "Reconciled")


def test_a_changed_quota_is_applied_and_a_removed_one_deletes_its_queue(lab: OperatorProcess) -> None:
    client = lab.client
    before = client.get(project("speech"))["spec"]
    spec = before | {"quotas": [{"pool": "a100", "nominal": 4, "borrowingLimit": 2}]}
    client.patch(project("speech"), {"spec": spec}, manager="test")
    eventually(lambda: client.find(Ref(CLUSTER_QUEUE, "speech.h100")) is None, "the queue of the removed quota is gone")
    eventually(lambda: client.find(Ref(LOCAL_QUEUE, "h100", "wl-speech")) is None, "and the one for jobs")
    group, _ = client.get(Ref(CLUSTER_QUEUE, "speech.a100"))["spec"]["resourceGroups"]
    [resource] = group["flavors"][0]["resources"]
    assert (str(resource["nominalQuota"]), str(resource["borrowingLimit"])) == ("4", "2")
    client.patch(project("speech"), {"spec": before}, manager="test")
    wait_for_reason(client, project("speech"), "Reconciled")
    eventually(lambda: client.find(Ref(CLUSTER_QUEUE, "speech.h100")) is not None, "and back")


def test_a_foreign_object_is_refused_until_it_is_adopted(lab: OperatorProcess) -> None:
    client = lab.client
    theirs = namespace("wl-taken")
    theirs["metadata"]["labels"] = {"team": "other"}
    apply(lab.cluster, [theirs, desired(PROJECT, "taken", {"quotas": [{"pool": "a100", "nominal": 0}]})])
    message = wait_for_reason(client, project("taken"), "NotOwned")
    assert "Namespace wl-taken exists and is managed by testcluster" in message
    assert f"{ADOPT_ANNOTATION}=Project/taken" in message
    assert client.find(Ref(POLICY, "windlass-deny", "wl-taken")) is None
    assert "windlass.dev/project" not in client.get(Ref(NAMESPACE, "wl-taken"))["metadata"].get("labels", {})
    kubectl(lab.cluster, "annotate", "namespace", "wl-taken", f"{ADOPT_ANNOTATION}=Project/taken")
    wait_for_reason(client, project("taken"), "Reconciled", 40)
    assert client.find(Ref(POLICY, "windlass-deny", "wl-taken")) is not None
    client.delete(project("taken"))
    eventually(lambda: client.find(project("taken")) is None, "the project is gone")


def test_a_malformed_object_affects_no_other_and_has_a_condition(lab: OperatorProcess) -> None:
    """As after an upgrade with a stricter CRD than the stored objects."""
    client = lab.client
    broken = desired(PROJECT, "broken", {"quotas": [{"pool": "a100", "nominal": "many"}], "cohort": "lab"})
    with relaxed_schema(client, "projects.windlass.dev", broken):
        apply(lab.cluster, [broken])
        assert "quotas.0.nominal" in wait_for_reason(client, project("broken"), "Malformed")
        apply(lab.cluster, [desired(PROJECT, "fine", {"quotas": [{"pool": "a100", "nominal": 0}], "cohort": "lab"})])
        wait_for_reason(client, project("fine"), "Reconciled")
        assert ready(client, project("search"))[1] == "Reconciled"
        client.delete(project("broken"))
        client.delete(project("fine"))
    eventually(lambda: client.find(project("fine")) is None and client.find(project("broken")) is None, "both are gone")


def test_a_project_with_live_jobs_is_kept_until_cancelling_is_allowed(lab: OperatorProcess, worker: KubeClient) -> None:
    client = lab.client
    spec = {"quotas": [{"pool": "h100", "nominal": 2}], "cohort": "brief"}
    apply(lab.cluster, [desired(PROJECT, "brief", spec)])
    wait_for_reason(client, project("brief"), "Reconciled")
    worker.create(queued_job("brief", "runs", 2, "h100"), manager="test")
    eventually(lambda: client.get(project("brief"))["status"]["used"] == 2, "the job runs")
    client.delete(project("brief"))
    eventually(lambda: "set spec.whenDeleted to Cancel" in ready(client, project("brief"))[2], "it says what to do")
    assert client.find(Ref(JOB, "runs", "wl-brief")) is not None
    assert client.find(Ref(POLICY, "windlass-deny", "wl-brief")) is not None
    client.patch(project("brief"), {"spec": {"whenDeleted": "Cancel"}}, manager="test")
    eventually(lambda: client.find(project("brief")) is None, "the project is gone", 60)
    assert client.find(Ref(NAMESPACE, "wl-brief")) is None
    assert client.find(Ref(CLUSTER_QUEUE, "brief.h100")) is None
    eventually(lambda: client.find(Ref(COHORT, "windlass-brief")) is None, "the cohort goes with its last project")
    assert client.find(Ref(COHORT, "windlass-lab")) is not None
    apply(lab.cluster, [desired(PROJECT, "brief", spec)])
    wait_for_reason(client, project("brief"), "Reconciled")
    worker.create(queued_job("brief", "again", 2, "h100"), manager="test")
    eventually(lambda: client.get(project("brief"))["status"]["used"] == 2, "and works again")
    client.patch(project("brief"), {"spec": {"whenDeleted": "Cancel"}}, manager="test")
    client.delete(project("brief"))
    eventually(lambda: client.find(project("brief")) is None, "the project is gone again", 60)


def test_an_unseen_job_blocks_deletion_and_a_terminating_project_takes_no_jobs(
    lab: OperatorProcess, worker: KubeClient
) -> None:
    client = lab.client
    apply(lab.cluster, [desired(PROJECT, "quiet", {"quotas": [{"pool": "h100", "nominal": 1}]})])
    wait_for_reason(client, project("quiet"), "Reconciled")
    unseen = queued_job("quiet", "unseen", 1, "h100")
    del unseen["metadata"]["labels"]
    unseen["spec"]["template"]["spec"] = restricted({"cpu": "1", "memory": "1Gi"})
    worker.create(unseen, manager="test")
    client.delete(project("quiet"))
    eventually(lambda: "Job unseen" in ready(client, project("quiet"))[2], "the project waits for it")
    for late in (queued_job("quiet", "late", 1, "h100"), valid_ray_job("quiet", "late")):
        with pytest.raises(KubeForbiddenError, match="accepts no new jobs"):
            worker.create(late, manager="test")
    client.delete(Ref(JOB, "unseen", "wl-quiet"))
    eventually(lambda: client.find(project("quiet")) is None, "the project is gone", 60)


def test_cancelling_a_project_deletes_its_endpoint(lab: OperatorProcess) -> None:
    client = lab.client
    quotas = [{"pool": "h100", "nominal": 2}]
    apply(lab.cluster, [desired(PROJECT, "served", {"quotas": quotas, "whenDeleted": "Cancel"})])
    wait_for_reason(client, project("served"), "Reconciled")
    ref = serve(lab, "wl-served", replicas=2)
    eventually(lambda: rows(client, "served")["h100"]["used"] == 2, "its replicas hold quota", 60)
    client.delete(project("served"))
    eventually(lambda: client.find(project("served")) is None, "the project is gone", 90)
    assert client.find(ref) is None


def test_foreground_and_orphan_deletion_are_refused(lab: OperatorProcess) -> None:
    with pytest.raises(LocalClusterError, match="delete it without --cascade"):
        kubectl(lab.cluster, "delete", "project", "search", "--cascade=foreground", "--wait=false")
    path = "/apis/windlass.dev/v1alpha1/projects/search?orphanDependents=true"
    with pytest.raises(LocalClusterError, match="delete it without --cascade"):
        kubectl(lab.cluster, "delete", "--raw", path)
    assert ready(lab.client, project("search"))[1] == "Reconciled"


def test_a_pool_in_use_is_not_deleted_and_lists_its_users(lab: OperatorProcess) -> None:
    client = lab.client
    apply(lab.cluster, [desired(POOL, "spare", {"nodeLabels": {"windlass.dev/pool": "spare"}})])
    assert "no node has the labels" in wait_for_reason(client, pool("spare"), "NoNodes")
    apply(lab.cluster, [desired(PROJECT, "holder", {"quotas": [{"pool": "spare", "nominal": 1}]})])
    wait_for_reason(client, project("holder"), "Reconciled")
    client.delete(pool("spare"))
    assert "projects have quotas of this pool: holder" in wait_for_reason(client, pool("spare"), "Deleting")
    assert client.find(Ref(Kind("kueue.x-k8s.io/v1beta2", "ResourceFlavor"), "spare")) is not None
    client.delete(project("holder"))
    eventually(lambda: client.find(pool("spare")) is None, "the pool goes when nobody has a quota of it", 60)
    assert client.find(Ref(Kind("kueue.x-k8s.io/v1beta2", "ResourceFlavor"), "spare")) is None


def served_endpoint(space: str, *, replicas: int, pool: str = "h100", number: int = 1) -> Json:
    """An endpoint whose replicas have a GPU each."""
    spec = endpoint_spec(served_version(number, replicas=replicas, gpus=1, pool=pool))
    return {**desired(ENDPOINT, "live", spec), "metadata": {"name": "live", "namespace": space}}


def serve(lab: OperatorProcess, space: str, *, replicas: int) -> Ref:
    """Create an endpoint on h100, as the control plane does."""
    apply(lab.cluster, [served_endpoint(space, replicas=replicas)])
    ref = Ref(ENDPOINT, "live", space)
    wait_for_reason(lab.client, ref, "Starting")
    return ref


def test_an_endpoint_becomes_a_ray_service_that_kueue_queues(lab: OperatorProcess) -> None:
    client = lab.client
    ref = serve(lab, "wl-ranking", replicas=3)
    service = Ref(RAY_SERVICE, "ep-live-1", "wl-ranking")
    assert client.get(service)["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "h100"
    eventually(lambda: rows(client, "ranking")["h100"]["used"] == 3, "its replicas count in the quota")
    before = client.get(service)["metadata"]["generation"]
    client.patch(Ref(NAMESPACE, "wl-ranking"), {"metadata": {"labels": {"look": "again"}}}, manager="test")
    wait_for_reason(client, ref, "Starting")
    assert client.get(service)["metadata"]["generation"] == before
    apply(lab.cluster, [served_endpoint("wl-ranking", replicas=3, pool="a100", number=2)])
    eventually(lambda: rows(client, "ranking")["a100"]["used"] == 3, "it has moved to another pool", 60)
    eventually(lambda: rows(client, "ranking")["h100"]["used"] == 0, "the quota of the first pool is free", 60)
    eventually(lambda: client.find(service) is None, "the first service is deleted")
    client.delete(ref)
    eventually(lambda: client.find(Ref(RAY_SERVICE, "ep-live-2", "wl-ranking")) is None, "its service is deleted too")
    eventually(lambda: rows(client, "ranking")["a100"]["used"] == 0, "its quota is free")


def test_more_replicas_are_admitted_beside_the_running_ones(lab: OperatorProcess) -> None:
    client = lab.client
    ref = serve(lab, "wl-ranking", replicas=1)
    service = Ref(RAY_SERVICE, "ep-live-1", "wl-ranking")
    eventually(lambda: rows(client, "ranking")["h100"]["used"] == 1, "the first replica is admitted")
    apply(lab.cluster, [served_endpoint("wl-ranking", replicas=3)])
    eventually(lambda: rows(client, "ranking")["h100"]["used"] == 3, "the others are admitted")
    assert not client.get(service)["spec"]["rayClusterConfig"].get("suspend"), "nothing was evicted"
    client.delete(ref)
    eventually(lambda: client.find(service) is None, "its service is deleted with it")


def test_a_ray_job_passes_the_policies_and_is_admitted_with_its_head(lab: OperatorProcess, worker: KubeClient) -> None:
    """The head requests no GPU: Kueue must admit both pod sets, and our policies KubeRay's pods."""
    client = lab.client
    job = worker.create(valid_ray_job("search", "job-1-r1"), manager="windlass-worker")
    pods = Kind("v1", "Pod")
    eventually(lambda: rows(client, "search")["a100"]["used"] == 2, "Kueue has admitted it", 60)
    eventually(
        lambda: len(client.list(pods, "wl-search", labels="ray.io/cluster").items) == 3, "its pods are there", 60
    )
    placed = {
        one["metadata"]["labels"]["ray.io/node-type"]: one["spec"].get("nodeSelector", {})
        for one in client.list(pods, "wl-search", labels="ray.io/cluster").items
    }
    assert placed["worker"] == {"windlass.dev/pool": "a100"}
    assert placed["head"] == {}
    worker.delete(Ref.of(job))
    eventually(lambda: rows(client, "search")["a100"]["used"] == 0, "its quota is free", 60)


def test_a_borrowing_ray_job_is_requeued_when_the_owner_reclaims(lab: OperatorProcess, worker: KubeClient) -> None:
    """Search owns 16 and borrows 8; ranking's own 8 are free; speech's 8 have to be reclaimed."""
    client = lab.client

    def used(name: str) -> Any:
        return rows(client, name)["a100"]["used"]

    def books_agree() -> bool:
        borrowed = {loan["project"]: loan["gpus"] for loan in rows(client, "search")["a100"].get("borrowedFrom", ())}
        return sum(borrowed.values()) == 8 and all(
            rows(client, lender)["a100"].get("lentTo") == [{"project": "search", "gpus": gpus}]
            for lender, gpus in borrowed.items()
        )

    wide = Ref.of(worker.create(valid_ray_job("search", "job-2-r1", workers=24), manager="windlass-worker"))
    eventually(lambda: used("search") == 24, "it is admitted", 60)
    eventually(books_agree, "both sides of each loan name the other", 60)
    clusters = Kind("ray.io/v1", "RayCluster")
    eventually(lambda: len(client.list(clusters, "wl-search").items) == 1, "KubeRay has made its cluster", 60)
    own = Ref.of(worker.create(valid_ray_job("ranking", "job-3-r1", workers=8), manager="windlass-worker"))
    eventually(lambda: used("ranking") == 8, "what ranking did not lend is free", 60)
    assert used("search") == 24
    back = Ref.of(worker.create(valid_ray_job("speech", "job-4-r1", workers=8), manager="windlass-worker"))
    eventually(lambda: used("speech") == 8, "the owner has its GPUs back", 60)
    eventually(lambda: client.get(wide)["spec"]["suspend"] is True, "the borrower is suspended", 60)
    eventually(lambda: client.list(clusters, "wl-search").items == [], "its cluster is gone", 120)
    eventually(lambda: (used("search"), rows(client, "search")["a100"]["pending"]) == (0, 1), "it waits", 60)
    worker.delete(own)
    worker.delete(back)
    eventually(lambda: used("search") == 24, "it is admitted again by itself", 120)
    worker.delete(wide)
    eventually(lambda: all(used(name) == 0 for name in NAMES), "all is given back", 60)


def test_events_are_recorded(lab: OperatorProcess) -> None:
    shown = kubectl(lab.cluster, "describe", "project", "search")
    assert "Reconciled" in shown
    assert "are ready" in shown


def test_health_and_metrics_are_served(lab: OperatorProcess) -> None:
    assert lab.ask("/healthz") == (200, "ok\n")
    assert lab.ask("/active") == (200, "active\n")
    _, text = lab.ask("/metrics")
    assert "windlass_operators_is_leader 1.0" in text
    assert 'windlass_reconciliations_total{kind="Project",outcome="ok"}' in text
    assert 'outcome="crashed"' not in text
