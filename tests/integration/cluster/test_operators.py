"""The operators on a real cluster: quotas and use, drift, refusals, deletion."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from tests.bed.cluster_api import apply, kubectl
from tests.bed.failures import BedError
from tests.integration.cluster.installed import WORKER, admin_of, guide, honest_ray_job, queued_job, restricted
from tests.integration.cluster.loosened import loosened
from tests.integration.cluster.objects import namespace
from tests.integration.cluster.operating import Operators, becomes, pool, project, ready, wish
from tests.integration.cluster.waiting import eventually

from windlass.kube.client import Client
from windlass.kube.errors import InvalidError
from windlass.kube.names import ADOPT_ANNOTATION, MANAGED_BY, OWNER
from windlass.kube.objects import Kind, Ref
from windlass_operators.kinds import CLUSTER_QUEUE, COHORT, ENDPOINT, LOCAL_QUEUE, NAMESPACE, POOL, PROJECT, RAY_SERVICE

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(2400)]
Json = dict[str, Any]
JOB, POLICY = Kind("batch/v1", "Job"), Kind("networking.k8s.io/v1", "NetworkPolicy")
NAMES = ("search", "ranking", "speech")


@pytest.fixture(scope="module")
def lab(operator: Operators) -> Iterator[Operators]:
    """Pools and projects of the guide, ready."""
    apply(operator.bed, [*guide("pools.yaml"), *guide("projects.yaml")])
    for name in NAMES:
        becomes(operator.client, project(name), "Reconciled")
    yield operator
    assert operator.exit_code is None, operator.log.read_text()[-4000:]


@pytest.fixture
def worker(lab: Operators) -> Client:
    return admin_of(lab.bed, impersonate=WORKER)


def rows(client: Client, name: str) -> dict[str, Json]:
    return {row["pool"]: row for row in client.get(project(name))["status"]["quotas"]}


def delete_jobs(client: Client) -> None:
    for name in NAMES:
        for one in client.list(JOB, f"wl-{name}").items:
            client.delete(Ref.of(one))
    eventually(lambda: all(client.get(project(n))["status"]["used"] == 0 for n in NAMES), "all is given back")


def test_quotas_and_use_are_seen_with_kubectl_and_borrowed_and_lent_on_both_sides(
    lab: Operators, worker: Client
) -> None:
    client = lab.client
    worker.create(queued_job("search", "wide", 20), manager="test")
    eventually(lambda: rows(client, "search")["a100"]["used"] == 20, "the job holds its GPUs")
    eventually(lambda: bool(rows(client, "ranking")["a100"].get("lentTo")), "the lender's status says so")
    borrowed = {loan["project"]: loan["gpus"] for loan in rows(client, "search")["a100"]["borrowedFrom"]}
    assert sum(borrowed.values()) == 4
    for lender, gpus in borrowed.items():
        assert rows(client, lender)["a100"]["lentTo"] == [{"project": "search", "gpus": gpus}]
    worker.create(queued_job("search", "too-much", 8), manager="test")
    eventually(lambda: rows(client, "search")["a100"]["pending"] == 1, "the next one waits")
    eventually(lambda: client.get(pool("a100"))["status"]["inUse"] == 20, "the pool counts it")
    assert client.get(pool("a100"))["status"]["usedBy"] == [{"project": "search", "gpus": 20}]
    shown = kubectl(lab.bed, "get", "projects,gpupools")
    [line] = [line for line in shown.splitlines() if "/search" in line]
    assert line.split()[1:6] == ["lab", "16", "20", "1", "True"]
    [line] = [line for line in shown.splitlines() if "/a100" in line]
    assert line.split()[-6:-1] == ["4", "32", "32", "20", "True"]
    delete_jobs(client)
    assert rows(client, "search")["a100"]["borrowedFrom"] == []


def test_drift_of_children_is_repaired(lab: Operators) -> None:
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


def carries_our_label(client: Client, ref: Ref) -> bool:
    return bool(client.get(ref)["metadata"]["labels"].get(MANAGED_BY) == OWNER)


def test_a_child_whose_label_was_taken_away_is_repaired_and_known_again(lab: Operators) -> None:
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
    becomes(client, project("search"), "Reconciled")


def test_a_changed_quota_is_applied_and_a_removed_one_takes_its_queue_along(lab: Operators) -> None:
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
    becomes(client, project("speech"), "Reconciled")
    eventually(lambda: client.find(Ref(CLUSTER_QUEUE, "speech.h100")) is not None, "and back")


def test_an_object_that_others_made_is_refused_until_they_give_it_away(lab: Operators) -> None:
    client = lab.client
    theirs = namespace("wl-taken")
    theirs["metadata"]["labels"] = {"team": "other"}
    apply(lab.bed, [theirs, wish(PROJECT, "taken", {"quotas": [{"pool": "a100", "nominal": 0}]})])
    message = becomes(client, project("taken"), "NotOurs")
    assert "Namespace wl-taken exists and is written by bed" in message
    assert f"{ADOPT_ANNOTATION}=Project/taken" in message
    assert client.find(Ref(POLICY, "windlass-deny", "wl-taken")) is None
    assert "windlass.dev/project" not in client.get(Ref(NAMESPACE, "wl-taken"))["metadata"].get("labels", {})
    kubectl(lab.bed, "annotate", "namespace", "wl-taken", f"{ADOPT_ANNOTATION}=Project/taken")
    becomes(client, project("taken"), "Reconciled", 40)
    assert client.find(Ref(POLICY, "windlass-deny", "wl-taken")) is not None
    client.delete(project("taken"))
    eventually(lambda: client.find(project("taken")) is None, "the project is gone")


def test_a_malformed_object_fails_alone_and_says_so(lab: Operators) -> None:
    """As after an upgrade whose new definition is stricter than what is stored."""
    client = lab.client
    broken = wish(PROJECT, "broken", {"quotas": [{"pool": "a100", "nominal": "many"}], "cohort": "lab"})
    with loosened(client, "projects.windlass.dev", broken):
        apply(lab.bed, [broken])
        assert "quotas.0.nominal" in becomes(client, project("broken"), "Malformed")
        apply(lab.bed, [wish(PROJECT, "fine", {"quotas": [{"pool": "a100", "nominal": 0}], "cohort": "lab"})])
        becomes(client, project("fine"), "Reconciled")
        assert ready(client, project("search"))[1] == "Reconciled"
        client.delete(project("broken"))
        client.delete(project("fine"))
    eventually(lambda: client.find(project("fine")) is None and client.find(project("broken")) is None, "both are gone")


def test_a_project_with_live_jobs_stays_until_it_may_cancel_them_and_leaves_nothing(
    lab: Operators, worker: Client
) -> None:
    client = lab.client
    spec = {"quotas": [{"pool": "h100", "nominal": 2}], "cohort": "brief"}
    apply(lab.bed, [wish(PROJECT, "brief", spec)])
    becomes(client, project("brief"), "Reconciled")
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
    apply(lab.bed, [wish(PROJECT, "brief", spec)])
    becomes(client, project("brief"), "Reconciled")
    worker.create(queued_job("brief", "again", 2, "h100"), manager="test")
    eventually(lambda: client.get(project("brief"))["status"]["used"] == 2, "and works again")
    client.patch(project("brief"), {"spec": {"whenDeleted": "Cancel"}}, manager="test")
    client.delete(project("brief"))
    eventually(lambda: client.find(project("brief")) is None, "the project is gone again", 60)


def test_a_job_that_kueue_has_not_seen_keeps_its_project_and_a_closed_project_takes_no_other(
    lab: Operators, worker: Client
) -> None:
    client = lab.client
    apply(lab.bed, [wish(PROJECT, "quiet", {"quotas": [{"pool": "h100", "nominal": 1}]})])
    becomes(client, project("quiet"), "Reconciled")
    unseen = queued_job("quiet", "unseen", 1, "h100")
    del unseen["metadata"]["labels"]
    unseen["spec"]["template"]["spec"] = restricted({"cpu": "1", "memory": "1Gi"})
    worker.create(unseen, manager="test")
    client.delete(project("quiet"))
    eventually(lambda: "Job unseen" in ready(client, project("quiet"))[2], "the project waits for it")
    for late in (queued_job("quiet", "late", 1, "h100"), honest_ray_job("quiet", "late")):
        with pytest.raises(InvalidError, match="takes no new jobs"):
            worker.create(late, manager="test")
    client.delete(Ref(JOB, "unseen", "wl-quiet"))
    eventually(lambda: client.find(project("quiet")) is None, "the project is gone", 60)


def test_a_project_is_cancelled_with_its_endpoint(lab: Operators) -> None:
    client = lab.client
    quotas = [{"pool": "h100", "nominal": 2}]
    apply(lab.bed, [wish(PROJECT, "served", {"quotas": quotas, "whenDeleted": "Cancel"})])
    becomes(client, project("served"), "Reconciled")
    ref = serve(lab, "wl-served", gpus=1, replicas=2)
    eventually(lambda: rows(client, "served")["h100"]["used"] == 2, "its replicas hold quota", 60)
    client.delete(project("served"))
    eventually(lambda: client.find(project("served")) is None, "the project is gone", 90)
    assert client.find(ref) is None


def test_a_deletion_in_the_foreground_or_of_orphans_is_refused(lab: Operators) -> None:
    with pytest.raises(BedError, match="delete it without --cascade"):
        kubectl(lab.bed, "delete", "project", "search", "--cascade=foreground", "--wait=false")
    path = "/apis/windlass.dev/v1alpha1/projects/search?orphanDependents=true"
    with pytest.raises(BedError, match="delete it without --cascade"):
        kubectl(lab.bed, "delete", "--raw", path)
    assert ready(lab.client, project("search"))[1] == "Reconciled"


def test_a_pool_in_use_is_not_deleted_and_says_by_whom(lab: Operators) -> None:
    client = lab.client
    apply(lab.bed, [wish(POOL, "spare", {"nodeLabels": {"windlass.dev/pool": "spare"}})])
    assert "no node has the labels" in becomes(client, pool("spare"), "NoNodes")
    apply(lab.bed, [wish(PROJECT, "keeper", {"quotas": [{"pool": "spare", "nominal": 1}]})])
    becomes(client, project("keeper"), "Reconciled")
    client.delete(pool("spare"))
    assert "projects have quotas of it: keeper" in becomes(client, pool("spare"), "Deleting")
    assert client.find(Ref(Kind("kueue.x-k8s.io/v1beta2", "ResourceFlavor"), "spare")) is not None
    client.delete(project("keeper"))
    eventually(lambda: client.find(pool("spare")) is None, "the pool goes when nobody has a quota of it", 60)
    assert client.find(Ref(Kind("kueue.x-k8s.io/v1beta2", "ResourceFlavor"), "spare")) is None


RESOLVED = {"model": "tickets", "number": 1, "weight": 100, "uri": "s3://m/1", "manifestSha256": "a" * 64}


def serve(lab: Operators, space: str, *, gpus: int, replicas: int) -> Ref:
    """Make an endpoint on h100 and say what it serves, as the control plane does."""
    ref = Ref(ENDPOINT, "live", space)
    spec = {
        "traffic": [{"model": "tickets", "version": 1}],
        "pool": "h100",
        "resources": {"gpus": gpus},
        "minReplicas": replicas,
        "maxReplicas": replicas,
    }
    apply(lab.bed, [{**wish(ENDPOINT, "live", spec), "metadata": {"name": "live", "namespace": space}}])
    becomes(lab.client, ref, "NotResolved")
    lab.client.patch(ref, {"status": {"resolved": [RESOLVED]}}, manager="windlass-worker", subresource="status")
    becomes(lab.client, ref, "Starting")
    return ref


def test_an_endpoint_becomes_a_ray_service_that_kueue_queues(lab: Operators) -> None:
    client = lab.client
    ref = serve(lab, "wl-ranking", gpus=2, replicas=3)
    becomes(client, ref, "Starting")
    service = Ref(RAY_SERVICE, "ep-live", "wl-ranking")
    assert client.get(service)["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "h100"
    eventually(lambda: rows(client, "ranking")["h100"]["used"] == 6, "its replicas count in the quota")
    assert client.get(ref)["status"]["resolved"] == [RESOLVED]
    before = client.get(service)["metadata"]["generation"]
    client.patch(Ref(NAMESPACE, "wl-ranking"), {"metadata": {"labels": {"look": "again"}}}, manager="test")
    becomes(client, ref, "Starting")
    assert client.get(service)["metadata"]["generation"] == before
    client.patch(ref, {"spec": {"pool": "a100"}}, manager="test")
    eventually(lambda: rows(client, "ranking")["a100"]["used"] == 6, "it has moved to another pool", 60)
    assert rows(client, "ranking")["h100"]["used"] == 0
    client.patch(ref, {"spec": {"stopped": True, "maxReplicas": 1000}}, manager="test")
    eventually(lambda: client.find(service) is None, "stopped, it holds nothing, whatever else is wrong with it")
    becomes(client, ref, "TooManyReplicas")
    client.patch(ref, {"spec": {"maxReplicas": 3}}, manager="test")
    becomes(client, ref, "Stopped")
    eventually(lambda: rows(client, "ranking")["a100"]["used"] == 0, "its quota is free")
    client.delete(ref)


def test_a_ray_job_passes_the_policies_and_is_counted_with_its_head_beside_it(lab: Operators, worker: Client) -> None:
    """The head asks for no GPU: Kueue must admit both kinds of pods, and KubeRay make them against our policies."""
    client = lab.client
    job = worker.create(honest_ray_job("search", "job-1-r1"), manager="windlass-worker")
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


def test_a_ray_job_borrows_and_is_queued_again_when_the_owner_wants_its_gpus_back(
    lab: Operators, worker: Client
) -> None:
    """Search owns 16 and borrows 8; ranking still has room for its own 8; speech's 8 have to come back."""
    client = lab.client

    def used(name: str) -> Any:
        return rows(client, name)["a100"]["used"]

    def books_agree() -> bool:
        borrowed = {loan["project"]: loan["gpus"] for loan in rows(client, "search")["a100"].get("borrowedFrom", ())}
        return sum(borrowed.values()) == 8 and all(
            rows(client, lender)["a100"].get("lentTo") == [{"project": "search", "gpus": gpus}]
            for lender, gpus in borrowed.items()
        )

    wide = Ref.of(worker.create(honest_ray_job("search", "job-2-r1", workers=24), manager="windlass-worker"))
    eventually(lambda: used("search") == 24, "it is admitted", 60)
    eventually(books_agree, "both sides of each loan name the other", 60)
    clusters = Kind("ray.io/v1", "RayCluster")
    eventually(lambda: len(client.list(clusters, "wl-search").items) == 1, "KubeRay has made its cluster", 60)
    own = Ref.of(worker.create(honest_ray_job("ranking", "job-3-r1", workers=8), manager="windlass-worker"))
    eventually(lambda: used("ranking") == 8, "what ranking did not lend is free", 60)
    assert used("search") == 24
    back = Ref.of(worker.create(honest_ray_job("speech", "job-4-r1", workers=8), manager="windlass-worker"))
    eventually(lambda: used("speech") == 8, "the owner has its GPUs back", 60)
    eventually(lambda: client.get(wide)["spec"]["suspend"] is True, "the borrower is suspended", 60)
    eventually(lambda: client.list(clusters, "wl-search").items == [], "its cluster is gone", 120)
    eventually(lambda: (used("search"), rows(client, "search")["a100"]["pending"]) == (0, 1), "it waits", 60)
    worker.delete(own)
    worker.delete(back)
    eventually(lambda: used("search") == 24, "it is admitted again by itself", 120)
    worker.delete(wide)
    eventually(lambda: all(used(name) == 0 for name in NAMES), "all is given back", 60)


def test_events_tell_what_happened(lab: Operators) -> None:
    shown = kubectl(lab.bed, "describe", "project", "search")
    assert "Reconciled" in shown
    assert "take work" in shown


def test_health_and_metrics_are_served(lab: Operators) -> None:
    assert lab.ask("/healthz") == (200, "ok\n")
    assert lab.ask("/active") == (200, "active\n")
    _, text = lab.ask("/metrics")
    assert "windlass_operators_lease_held 1.0" in text
    assert 'windlass_reconciliations_total{kind="Project",outcome="ok"}' in text
    assert 'outcome="crashed"' not in text
