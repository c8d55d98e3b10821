"""Attacks on a project's namespace, each by somebody whom RBAC lets through, and the honest object beside each.

What must hold: a tenant makes no Ray resources, Jobs or pods; and were the control plane tricked into making one for
it, neither another queue, more GPUs than are counted, another run's secret nor a higher priority is to be had.
"""

import copy
from typing import Any

import pytest
from tests.bed.cluster_api import apply, kubectl
from tests.bed.failures import BedError
from tests.bed.layout import Bed
from tests.integration.cluster.attacks import (
    GPU,
    MIG,
    NAME,
    POD_ATTACKS,
    PRIORITY,
    QUEUE,
    RAY_ATTACKS,
    SPACE,
    main,
    pod,
    projected,
    ray_job,
    secret_env,
    worker_spec,
)
from tests.integration.cluster.installed import RIGHTS, WORKER, admin_of, may, queued_job, restricted
from tests.integration.cluster.waiting import eventually

from windlass.kube.client import Client
from windlass.kube.errors import ClusterError, ForbiddenError, InvalidError
from windlass.kube.objects import Kind, Ref
from windlass.kube.resources import GPUPool, ModelEndpoint, Project
from windlass_operators.render import gpu_pool, model_endpoint, namespace, queues

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(2400)]
Json = dict[str, Any]
TENANT, ADMIN = "mallory", "root"
KUBERAY = "system:serviceaccount:ray-system:kuberay-operator"
JOB_CONTROLLER = "system:serviceaccount:kube-system:job-controller"
RESOURCES = {"a100": GPU, "mi300": "amd.com/gpu"}
POOLS = {
    name: GPUPool.model_validate(
        {"metadata": {"name": name}, "spec": {"nodeLabels": {"windlass.dev/pool": name}, "resourceName": resource}}
    )
    for name, resource in RESOURCES.items()
}
QUOTAS = [{"pool": name, "nominal": 16} for name in POOLS]
WALLS = Project.model_validate(
    {"metadata": {"name": "walls", "uid": "u"}, "spec": {"quotas": QUOTAS, "jobs": {"priorityCeiling": 10}}}
)


@pytest.fixture(scope="module")
def walls(installed: Bed) -> Bed:
    """A project's namespace as the operators make it, and users to whom RBAC forbids nothing."""
    apply(
        installed,
        [
            *(one for pool in POOLS.values() for one in gpu_pool.objects(pool)),
            *namespace.objects(WALLS, POOLS, "windlass-system"),
            *queues.objects(WALLS, POOLS),
            *(one for user in (TENANT, KUBERAY, JOB_CONTROLLER) for one in may(user, f"test-{user[-7:]}", *RIGHTS)),
            *may(ADMIN, "test-admin", *RIGHTS, ("admissionregistration.k8s.io", "validatingadmissionpolicies")),
        ],
    )
    # a policy is in force some moments after it is stored
    eventually(lambda: refusal(as_user(installed, TENANT), ray_job()) != "", "the policies are in force")
    return installed


def as_user(bed: Bed, user: str) -> Client:
    return admin_of(bed, impersonate=user)


def refusal(client: Client, wish: Json) -> str:
    """What the API server says against an object, the empty string when it would take it."""
    try:
        client.create(wish, manager="test", dry_run=True)
    except (ForbiddenError, InvalidError) as refused:
        return refused.message
    return ""


@pytest.mark.parametrize("name", RAY_ATTACKS)
def test_windlass_itself_cannot_be_made_to_submit(walls: Bed, name: str) -> None:
    attack, words = RAY_ATTACKS[name]
    wish = ray_job()
    attack(wish)
    assert words in refusal(as_user(walls, WORKER), wish)


def test_an_honest_job_passes_with_its_own_secret(walls: Bed) -> None:
    wish = ray_job()
    assert refusal(as_user(walls, WORKER), wish) == ""
    main(worker_spec(wish))["env"] = [secret_env(NAME), secret_env(f"{NAME}-store")]
    worker_spec(wish)["volumes"] = [{"name": "s", "secret": {"secretName": f"{NAME}-token"}}, projected(NAME)]
    assert refusal(as_user(walls, WORKER), wish) == ""


NAMESAKES = [
    f"system:serviceaccount:{name}"
    for name in ("wl-walls:kuberay-operator", "team-x:kuberay-operator", "team-x:windlass-worker")
]


@pytest.mark.parametrize("user", [TENANT, "system:admin", *NAMESAKES])
def test_nobody_else_makes_ray_jobs_clusters_pods_or_jobs(walls: Bed, user: str) -> None:
    apply(walls, may(user, f"test-{user.replace(':', '-')}", *RIGHTS))
    client = as_user(walls, user)
    assert "only Windlass writes Ray resources" in refusal(client, ray_job())
    assert "only Windlass writes Ray resources" in refusal(client, cluster_of(ray_job(), owned=False))
    assert "made by Ray clusters and queued Jobs" in refusal(client, pod())
    assert "only Windlass writes Jobs" in refusal(client, queued_job("walls", "mine", 2))


def cluster_of(job: Json, *, owned: bool) -> Json:
    uid = job["metadata"].get("uid", "u")
    owner = {"apiVersion": "ray.io/v1", "kind": "RayJob", "name": NAME, "uid": uid, "controller": True}
    metadata = {"name": f"{NAME}-abcde", "namespace": SPACE} | ({"ownerReferences": [owner]} if owned else {})
    spec = copy.deepcopy(job["spec"]["rayClusterSpec"])
    return {"apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": metadata, "spec": spec}


def test_a_cluster_belongs_to_a_job_and_is_made_by_kuberay(walls: Bed) -> None:
    kuberay, worker, tenant = as_user(walls, KUBERAY), as_user(walls, WORKER), as_user(walls, TENANT)
    assert "only Windlass writes" in refusal(kuberay, ray_job())
    job = worker.create(ray_job(), manager="test")
    try:
        assert "only Windlass writes" in refusal(tenant, cluster_of(job, owned=True))
        assert "must be controlled by a RayJob" in refusal(kuberay, cluster_of(job, owned=False))
        assert refusal(kuberay, cluster_of(job, owned=True)) == ""
    finally:
        worker.delete(Ref.of(job))
    eventually(lambda: worker.find(Ref.of(job)) is None, "the job is gone")


def endpoint(**spec: Any) -> Json:
    resolved = {"model": "t", "number": 1, "weight": 100, "uri": "s3://m", "manifestSha256": "a" * 64}
    wish = ModelEndpoint.model_validate(
        {
            "metadata": {"name": "live", "namespace": SPACE},
            "spec": {"traffic": [{"model": "t", "version": 1}], **spec},
            "status": {"resolved": [resolved]},
        }
    )
    serving = model_endpoint.Serving("windlass/ray", "2.60.0")
    [service] = model_endpoint.objects(wish, WALLS, POOLS, serving)
    return service


def test_the_service_of_an_endpoint_passes_and_needs_its_queue_for_gpus(walls: Bed) -> None:
    worker = as_user(walls, "system:serviceaccount:windlass-system:windlass-operators")
    apply(walls, may("system:serviceaccount:windlass-system:windlass-operators", "test-operators", *RIGHTS))
    queued = endpoint(pool="a100", resources={"gpus": 1})
    assert refusal(worker, queued) == ""
    assert refusal(worker, endpoint()) == ""
    del queued["metadata"]["labels"][QUEUE]
    assert "must name one of the queues" in refusal(worker, queued)
    assert "only Windlass writes" in refusal(as_user(walls, TENANT), endpoint())
    service = worker.create(endpoint(), manager="test")
    try:
        with pytest.raises(InvalidError, match="must name one of the queues"):
            worker.patch(Ref.of(service), {"spec": queued["spec"]}, manager="test")
        worker.patch(Ref.of(service), {"metadata": {"annotations": {"note": "slow"}}}, manager="test")
    finally:
        worker.delete(Ref.of(service))


def test_the_queue_of_a_job_stays_and_its_priority_stays_below_the_ceiling(walls: Bed) -> None:
    worker, kind = as_user(walls, WORKER), Kind("ray.io/v1", "RayJob")
    ref = Ref(kind, NAME, SPACE)
    worker.create(ray_job(), manager="test")
    try:
        for labels, words in (
            ({QUEUE: "h100"}, "stays as it was"),
            ({QUEUE: None}, "stays as it was"),
            ({PRIORITY: "windlass-1000"}, "above the ceiling"),
        ):
            with pytest.raises(ClusterError, match=words):
                worker.patch(ref, {"metadata": {"labels": labels}}, manager="test")
        worker.patch(ref, {"metadata": {"labels": {PRIORITY: "windlass-1"}}}, manager="test")
        with pytest.raises(ForbiddenError, match="only Windlass writes"):
            as_user(walls, TENANT).patch(ref, {"spec": {"suspend": False}}, manager="test")
    finally:
        worker.delete(ref)
    eventually(lambda: worker.find(ref) is None, "a policy keeps nothing from being deleted")


@pytest.mark.parametrize("name", POD_ATTACKS)
def test_a_pod_that_is_not_as_it_must_be_is_refused(walls: Bed, name: str) -> None:
    attack, words = POD_ATTACKS[name]
    wish = pod()
    apply(walls, [{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "other", "namespace": SPACE}}])
    attack(wish)
    assert words in refusal(as_user(walls, KUBERAY), wish)


def test_honest_pods_pass(walls: Bed) -> None:
    kuberay, jobs = as_user(walls, KUBERAY), as_user(walls, JOB_CONTROLLER)
    assert refusal(kuberay, pod()) == ""
    wish = pod()
    main(wish["spec"])["env"] = [secret_env(f"{NAME}-abcde"), secret_env(f"{NAME}-store")]
    assert refusal(kuberay, wish) == ""
    assert refusal(jobs, pod(owner=("batch/v1", "Job"))) == ""


def test_a_tenant_makes_no_pod_even_one_that_looks_like_a_rays(walls: Bed) -> None:
    assert "made by Ray clusters and queued Jobs" in refusal(as_user(walls, TENANT), pod())
    assert "made by Ray clusters and queued Jobs" in refusal(as_user(walls, TENANT), pod(gpus=0))


def test_nobody_looks_into_a_container_with_gpus(walls: Bed) -> None:
    kuberay, tenant = as_user(walls, KUBERAY), as_user(walls, TENANT)
    ref = Ref(Kind("v1", "Pod"), "p", SPACE)
    kuberay.create(pod(), manager="test")
    try:
        for extra, words in (
            ({"resources": {"limits": {GPU: "1"}}}, "cannot be set for an Ephemeral Container"),
            ({"targetContainerName": "main"}, "nobody joins containers"),
            ({}, "nobody joins containers"),
        ):
            probe = main(restricted({})) | {"name": "probe", "resources": {}} | extra
            fields = {"spec": {"ephemeralContainers": [probe]}}
            with pytest.raises(ClusterError, match=words):
                tenant.patch(ref, fields, manager="test", subresource="ephemeralcontainers")
    finally:
        kuberay.delete(ref)


def connect(bed: Bed, how: str, user: str) -> str:
    """What the API server says to somebody who wants to step into the container of a pod."""
    path = f"/api/v1/namespaces/{SPACE}/pods/held/{how}?command=true&stdout=true"
    with pytest.raises(BedError) as refused:  # kubectl speaks no protocol of streams here: an admin fails later
        kubectl(bed, "--as", user, "create", "--raw", path, "-f", "-", given="{}")
    return str(refused.value)


def test_a_pod_stays_with_its_cluster_and_runs_what_it_ran(walls: Bed) -> None:
    kuberay, tenant = as_user(walls, KUBERAY), as_user(walls, TENANT)
    ref, wish = Ref(Kind("v1", "Pod"), "held", SPACE), pod()
    wish["metadata"] |= {"name": "held", "finalizers": ["windlass.dev/test"]}  # its owner is not there
    containers = kuberay.create(wish, manager="test")["spec"]["containers"]
    containers[0]["image"] = "somebody-elses"
    attacks: list[Json] = [
        {"metadata": {"ownerReferences": None}},
        {"metadata": {"labels": {"ray.io/cluster": None}}},
        {"spec": {"containers": containers}},
    ]
    try:
        for fields in attacks:
            with pytest.raises(ForbiddenError, match="labels, owners and spec of a pod stay"):
                tenant.patch(ref, fields, manager="test")
        tenant.patch(ref, {"metadata": {"annotations": {"note": "slow"}}}, manager="test")
        kuberay.patch(ref, {"metadata": {"labels": {"ray.io/serve": "true"}}}, manager="test")
        for how in ("exec", "attach", "portforward"):
            assert "nobody joins a container" in connect(walls, how, TENANT)
            assert "nobody joins a container" not in connect(walls, how, ADMIN)
    finally:
        tenant.patch(ref, {"metadata": {"finalizers": None}}, manager="test")
        kuberay.delete(ref)


def test_nobody_gives_a_running_container_more(walls: Bed) -> None:
    """Resizing in place changes what a pod takes after Kueue and the quota have counted it."""
    kuberay, tenant = as_user(walls, KUBERAY), as_user(walls, TENANT)
    ref, wish = Ref(Kind("v1", "Pod"), "fixed", SPACE), pod()
    wish["metadata"] |= {"name": "fixed", "finalizers": ["windlass.dev/test"]}  # its owner is not there
    containers = kuberay.create(wish, manager="test")["spec"]["containers"]
    for amounts in containers[0]["resources"].values():
        amounts["cpu"] = "1100m"
    more = {"spec": {"containers": containers}}
    try:
        with pytest.raises(ForbiddenError, match="labels, owners and spec of a pod stay"):
            tenant.patch(ref, more, manager="test", subresource="resize")
        kuberay.patch(ref, more, manager="test", subresource="resize")
    finally:
        tenant.patch(ref, {"metadata": {"finalizers": None}}, manager="test")
        kuberay.delete(ref)


def test_jobs_are_made_by_windlass_in_the_projects_queue(walls: Bed) -> None:
    worker = as_user(walls, WORKER)
    assert refusal(worker, queued_job("walls", "honest", 2)) == ""
    assert "only Windlass writes Jobs" in refusal(as_user(walls, TENANT), queued_job("walls", "mine", 2))
    for labels in ({QUEUE: "h100"}, {QUEUE: ""}):
        wish = queued_job("walls", "other", 2)
        wish["metadata"]["labels"] |= labels
        assert "must name one of the queues" in refusal(worker, wish)
    wish = queued_job("walls", "part", 2)
    main(wish["spec"]["template"]["spec"])["resources"] = {"requests": {MIG: "1"}, "limits": {MIG: "1"}}
    assert "does not count everything" in refusal(worker, wish)
    wish = queued_job("walls", "vip", 2)
    wish["metadata"]["labels"][PRIORITY] = "windlass-1000"
    assert "above the ceiling" in refusal(worker, wish)


def test_a_job_without_a_queue_gets_no_gpus_later_either(walls: Bed) -> None:
    """Kubernetes lets the resources of a suspended Job be changed."""
    worker, tenant = as_user(walls, WORKER), as_user(walls, TENANT)
    wish = queued_job("walls", "plain", 1)
    for name in (QUEUE, PRIORITY):
        del wish["metadata"]["labels"][name]
    amounts = {"cpu": "1", "memory": "1Gi"}
    main(wish["spec"]["template"]["spec"])["resources"] = {"requests": amounts, "limits": amounts}
    ref = Ref.of(wish)
    job = worker.create(wish, manager="test")
    containers = job["spec"]["template"]["spec"]["containers"]
    for given in containers[0]["resources"].values():
        given[GPU] = "8"
    more = {"spec": {"template": {"spec": {"containers": containers}}}}
    try:
        eventually(lambda: bool(worker.get(ref)["status"].get("conditions")), "the Job is known to be suspended")
        with pytest.raises(ForbiddenError, match="only Windlass writes Jobs"):
            tenant.patch(ref, {"spec": {"suspend": False}}, manager="test")
        with pytest.raises(ForbiddenError, match="only Windlass writes Jobs"):
            tenant.patch(ref, more, manager="test")
        with pytest.raises(InvalidError, match="must name one of the queues"):
            worker.patch(ref, more, manager="test")
        worker.patch(ref, {"metadata": {"annotations": {"note": "slow"}}}, manager="test")
    finally:
        worker.delete(ref)


def test_what_has_no_queue_at_all_is_bounded_to_none(walls: Bed) -> None:
    """ResourceQuota, behind the policies: a Deployment of bare pods is not even stored."""
    with pytest.raises(BedError, match="exceeded quota"):
        kubectl(walls, "-n", SPACE, "create", "deployment", "web", "--image=web")


def test_namespaces_of_others_are_not_touched(walls: Bed) -> None:
    apply(walls, [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "elsewhere"}}])
    wish = pod()
    wish["metadata"] = {"name": "p", "namespace": "elsewhere"}
    wish["spec"]["serviceAccountName"] = "default"
    eventually(lambda: refusal(as_user(walls, TENANT), wish) == "", "a pod elsewhere is nobody's business here")
