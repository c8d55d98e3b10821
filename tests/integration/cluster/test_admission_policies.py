"""Attempts to bypass the admission policies by users whom RBAC allows everything, and the valid object for each.

What must hold: a tenant makes no Ray resources, Jobs or pods; and were the control plane tricked into making one for
it, neither another queue, more GPUs than are counted, another run's secret nor a higher priority is to be had.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from tests.integration.cluster.admission_bypass_cases import (
    GPU,
    MIG,
    NAME,
    NAMESPACE,
    POD_BYPASS_CASES,
    PRIORITY,
    QUEUE,
    RAY_JOB_BYPASS_CASES,
    main,
    pod,
    projected,
    ray_job,
    secret_env,
    worker_spec,
)
from tests.integration.cluster.installed import RIGHTS, WORKER, admin_client, grant, queued_job, restricted
from tests.integration.cluster.waiting import eventually
from tests.testcluster.cluster_api import apply, kubectl
from tests.testcluster.errors import LocalClusterError
from tests.testcluster.layout import LocalCluster
from tests.unit.operators.desired_objects import endpoint_spec, served_version

from windlass.kube.client import KubeClient
from windlass.kube.errors import KubeApiError, KubeForbiddenError, KubeInvalidError
from windlass.kube.objects import Kind, Ref
from windlass.kube.resources import GPUPool, ModelEndpoint, Project
from windlass_operators.render import gpu_pool, model_endpoint, namespace, queues
from windlass_operators.render.network import PlatformNetwork

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
POLICIES_PROJECT = Project.model_validate(
    {"metadata": {"name": "policies", "uid": "u"}, "spec": {"quotas": QUOTAS, "jobs": {"priorityCeiling": 10}}}
)


@pytest.fixture(scope="module")
def policy_cluster(installed: LocalCluster) -> LocalCluster:
    """A project namespace as the operators create it, and users with full RBAC rights."""
    apply(
        installed,
        [
            *(one for pool in POOLS.values() for one in gpu_pool.objects(pool)),
            *namespace.objects(POLICIES_PROJECT, POOLS, PlatformNetwork()),
            *queues.objects(POLICIES_PROJECT, POOLS),
            *(one for user in (TENANT, KUBERAY, JOB_CONTROLLER) for one in grant(user, f"test-{user[-7:]}", *RIGHTS)),
            *grant(ADMIN, "test-admin", *RIGHTS, ("admissionregistration.k8s.io", "validatingadmissionpolicies")),
        ],
    )
    # policies take effect a moment after they are stored
    eventually(lambda: refusal(as_user(installed, TENANT), ray_job()) != "", "the policies are in force")
    return installed


def as_user(cluster: LocalCluster, user: str) -> KubeClient:
    return admin_client(cluster, impersonate=user)


def refusal(client: KubeClient, desired: Json) -> str:
    """The API server's refusal of an object, empty if it admits the object."""
    try:
        client.create(desired, manager="test", dry_run=True)
    except (KubeForbiddenError, KubeInvalidError) as refused:
        return refused.message
    return ""


@pytest.mark.parametrize("name", RAY_JOB_BYPASS_CASES)
def test_the_worker_account_cannot_submit_bypassing_objects(policy_cluster: LocalCluster, name: str) -> None:
    mutate, message = RAY_JOB_BYPASS_CASES[name]
    desired = ray_job()
    mutate(desired)
    assert message in refusal(as_user(policy_cluster, WORKER), desired)


def test_a_valid_job_with_its_own_secret_is_admitted(policy_cluster: LocalCluster) -> None:
    desired = ray_job()
    assert refusal(as_user(policy_cluster, WORKER), desired) == ""
    main(worker_spec(desired))["env"] = [secret_env(NAME), secret_env(f"{NAME}-store")]
    worker_spec(desired)["volumes"] = [{"name": "s", "secret": {"secretName": f"{NAME}-token"}}, projected(NAME)]
    assert refusal(as_user(policy_cluster, WORKER), desired) == ""


def test_a_valid_job_without_workers_trains_in_its_head(policy_cluster: LocalCluster) -> None:
    desired = ray_job()
    cluster = desired["spec"]["rayClusterSpec"]
    [group] = cluster.pop("workerGroupSpecs")
    cluster["headGroupSpec"]["template"] = group["template"]
    assert refusal(as_user(policy_cluster, WORKER), desired) == ""


NAMESAKES = [
    f"system:serviceaccount:{name}"
    for name in ("wl-policies:kuberay-operator", "team-x:kuberay-operator", "team-x:windlass-worker")
]


@pytest.mark.parametrize("user", [TENANT, "system:admin", *NAMESAKES])
def test_other_accounts_cannot_create_ray_jobs_clusters_pods_or_jobs(policy_cluster: LocalCluster, user: str) -> None:
    apply(policy_cluster, grant(user, f"test-{user.replace(':', '-')}", *RIGHTS))
    client = as_user(policy_cluster, user)
    assert "only Windlass writes Ray resources" in refusal(client, ray_job())
    assert "only Windlass writes Ray resources" in refusal(client, cluster_of(ray_job(), with_owner=False))
    assert "only Ray clusters and queued Jobs create pods" in refusal(client, pod())
    assert "only Windlass writes Jobs" in refusal(client, queued_job("policies", "mine", 2))


def cluster_of(job: Json, *, with_owner: bool) -> Json:
    uid = job["metadata"].get("uid", "u")
    owner = {"apiVersion": "ray.io/v1", "kind": "RayJob", "name": NAME, "uid": uid, "controller": True}
    metadata = {"name": f"{NAME}-abcde", "namespace": NAMESPACE} | ({"ownerReferences": [owner]} if with_owner else {})
    spec = copy.deepcopy(job["spec"]["rayClusterSpec"])
    return {"apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": metadata, "spec": spec}


def test_only_kuberay_creates_clusters_and_only_for_a_job(policy_cluster: LocalCluster) -> None:
    kuberay, worker, tenant = (
        as_user(policy_cluster, KUBERAY),
        as_user(policy_cluster, WORKER),
        as_user(policy_cluster, TENANT),
    )
    assert "only Windlass writes" in refusal(kuberay, ray_job())
    job = worker.create(ray_job(), manager="test")
    try:
        assert "only Windlass writes" in refusal(tenant, cluster_of(job, with_owner=True))
        assert "must be controlled by a RayJob" in refusal(kuberay, cluster_of(job, with_owner=False))
        assert refusal(kuberay, cluster_of(job, with_owner=True)) == ""
    finally:
        worker.delete(Ref.of(job))
    eventually(lambda: worker.find(Ref.of(job)) is None, "the job is gone")


def endpoint(**version: Any) -> Json:
    spec = endpoint_spec(served_version(**version))
    desired = ModelEndpoint.model_validate({"metadata": {"name": "live", "namespace": NAMESPACE}, "spec": spec})
    [service] = model_endpoint.objects(desired, POLICIES_PROJECT, POOLS)
    return service


def test_an_endpoints_ray_service_is_admitted_and_needs_a_queue_for_gpus(policy_cluster: LocalCluster) -> None:
    worker = as_user(policy_cluster, "system:serviceaccount:windlass-system:windlass-operators")
    apply(policy_cluster, grant("system:serviceaccount:windlass-system:windlass-operators", "test-operators", *RIGHTS))
    queued = endpoint(gpus=1, pool="a100")
    assert refusal(worker, queued) == ""
    assert refusal(worker, endpoint()) == ""
    del queued["metadata"]["labels"][QUEUE]
    assert "must name one of the queues" in refusal(worker, queued)
    assert "only Windlass writes" in refusal(as_user(policy_cluster, TENANT), endpoint())
    service = worker.create(endpoint(), manager="test")
    try:
        with pytest.raises(KubeInvalidError, match="must name one of the queues"):
            worker.patch(Ref.of(service), {"spec": queued["spec"]}, manager="test")
        worker.patch(Ref.of(service), {"metadata": {"annotations": {"note": "slow"}}}, manager="test")
    finally:
        worker.delete(Ref.of(service))


def test_a_jobs_queue_is_immutable_and_its_priority_stays_below_the_ceiling(policy_cluster: LocalCluster) -> None:
    worker, kind = as_user(policy_cluster, WORKER), Kind("ray.io/v1", "RayJob")
    ref = Ref(kind, NAME, NAMESPACE)
    worker.create(ray_job(), manager="test")
    try:
        for labels, message in (
            ({QUEUE: "h100"}, "is immutable"),
            ({QUEUE: None}, "is immutable"),
            ({PRIORITY: "windlass-1000"}, "exceeds the priority ceiling"),
        ):
            with pytest.raises(KubeApiError, match=message):
                worker.patch(ref, {"metadata": {"labels": labels}}, manager="test")
        worker.patch(ref, {"metadata": {"labels": {PRIORITY: "windlass-1"}}}, manager="test")
        with pytest.raises(KubeForbiddenError, match="only Windlass writes"):
            as_user(policy_cluster, TENANT).patch(ref, {"spec": {"suspend": False}}, manager="test")
    finally:
        worker.delete(ref)
    eventually(lambda: worker.find(ref) is None, "a policy keeps nothing from being deleted")


@pytest.mark.parametrize("name", POD_BYPASS_CASES)
def test_an_invalid_pod_is_refused(policy_cluster: LocalCluster, name: str) -> None:
    mutate, message = POD_BYPASS_CASES[name]
    desired = pod()
    apply(
        policy_cluster,
        [{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "other", "namespace": NAMESPACE}}],
    )
    mutate(desired)
    assert message in refusal(as_user(policy_cluster, KUBERAY), desired)


def test_valid_pods_are_admitted(policy_cluster: LocalCluster) -> None:
    kuberay, jobs = as_user(policy_cluster, KUBERAY), as_user(policy_cluster, JOB_CONTROLLER)
    assert refusal(kuberay, pod()) == ""
    desired = pod()
    main(desired["spec"])["env"] = [secret_env(f"{NAME}-abcde"), secret_env(f"{NAME}-store")]
    assert refusal(kuberay, desired) == ""
    assert refusal(jobs, pod(owner=("batch/v1", "Job"))) == ""


def test_a_tenant_cannot_create_a_pod_that_looks_like_a_ray_pod(policy_cluster: LocalCluster) -> None:
    assert "only Ray clusters and queued Jobs create pods" in refusal(as_user(policy_cluster, TENANT), pod())
    assert "only Ray clusters and queued Jobs create pods" in refusal(as_user(policy_cluster, TENANT), pod(gpus=0))


@contextmanager
def stored_pod(cluster: LocalCluster, name: str) -> Iterator[Json]:
    """A pod of KubeRay. It has a finalizer because the garbage collector deletes it: its owner is not there."""
    desired = pod()
    desired["metadata"] |= {"name": name, "finalizers": ["windlass.dev/test"]}
    kuberay = as_user(cluster, KUBERAY)
    created = kuberay.create(desired, manager="test")
    try:
        yield created
    finally:
        as_user(cluster, TENANT).patch(pod_ref(name), {"metadata": {"finalizers": None}}, manager="test")
        kuberay.delete(pod_ref(name))


def pod_ref(name: str) -> Ref:
    return Ref(Kind("v1", "Pod"), name, NAMESPACE)


def test_ephemeral_containers_are_refused(policy_cluster: LocalCluster) -> None:
    tenant = as_user(policy_cluster, TENANT)
    with stored_pod(policy_cluster, "debugged"):
        for extra, message in (
            ({"resources": {"limits": {GPU: "1"}}}, "cannot be set for an Ephemeral Container"),
            ({"targetContainerName": "main"}, "ephemeral containers are not allowed"),
            ({}, "ephemeral containers are not allowed"),
        ):
            probe = main(restricted({})) | {"name": "probe", "resources": {}} | extra
            fields = {"spec": {"ephemeralContainers": [probe]}}
            with pytest.raises(KubeApiError, match=message):
                tenant.patch(pod_ref("debugged"), fields, manager="test", subresource="ephemeralcontainers")


def connect(cluster: LocalCluster, how: str, user: str) -> str:
    """The API server's refusal of an exec or attach request."""
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/held/{how}?command=true&stdout=true"
    with pytest.raises(
        LocalClusterError
    ) as refused:  # kubectl speaks no protocol of streams here: an admin fails later
        kubectl(cluster, "--as", user, "create", "--raw", path, "-f", "-", given="{}")
    return str(refused.value)


def test_a_pods_cluster_and_image_are_immutable(policy_cluster: LocalCluster) -> None:
    kuberay, tenant = as_user(policy_cluster, KUBERAY), as_user(policy_cluster, TENANT)
    ref = pod_ref("held")
    with stored_pod(policy_cluster, "held") as created:
        containers = created["spec"]["containers"]
        containers[0]["image"] = "somebody-elses"
        attacks: list[Json] = [
            {"metadata": {"ownerReferences": None}},
            {"metadata": {"labels": {"ray.io/cluster": None}}},
            {"spec": {"containers": containers}},
        ]
        for fields in attacks:
            with pytest.raises(KubeForbiddenError, match="labels, ownerReferences and spec of a pod are immutable"):
                tenant.patch(ref, fields, manager="test")
        tenant.patch(ref, {"metadata": {"annotations": {"note": "slow"}}}, manager="test")
        kuberay.patch(ref, {"metadata": {"labels": {"ray.io/serve": "true"}}}, manager="test")
        for how in ("exec", "attach", "portforward", "proxy"):
            assert "exec, attach, port-forward and proxies are not allowed" in connect(policy_cluster, how, TENANT)
            assert "exec, attach, port-forward and proxies are not allowed" not in connect(policy_cluster, how, ADMIN)


def test_resizing_a_running_container_is_refused(policy_cluster: LocalCluster) -> None:
    """In-place resizing would change a pod's resources after Kueue and the quota have counted them."""
    kuberay, tenant = as_user(policy_cluster, KUBERAY), as_user(policy_cluster, TENANT)
    ref = pod_ref("fixed")
    with stored_pod(policy_cluster, "fixed") as created:
        containers = created["spec"]["containers"]
        for amounts in containers[0]["resources"].values():
            amounts["cpu"] = "1100m"
        more = {"spec": {"containers": containers}}
        with pytest.raises(KubeForbiddenError, match="labels, ownerReferences and spec of a pod are immutable"):
            tenant.patch(ref, more, manager="test", subresource="resize")
        kuberay.patch(ref, more, manager="test", subresource="resize")


def test_only_windlass_creates_jobs_in_the_projects_queue(policy_cluster: LocalCluster) -> None:
    worker = as_user(policy_cluster, WORKER)
    assert refusal(worker, queued_job("policies", "valid", 2)) == ""
    assert "only Windlass writes Jobs" in refusal(as_user(policy_cluster, TENANT), queued_job("policies", "mine", 2))
    for labels in ({QUEUE: "h100"}, {QUEUE: ""}):
        desired = queued_job("policies", "other", 2)
        desired["metadata"]["labels"] |= labels
        assert "must name one of the queues" in refusal(worker, desired)
    desired = queued_job("policies", "part", 2)
    main(desired["spec"]["template"]["spec"])["resources"] = {"requests": {MIG: "1"}, "limits": {MIG: "1"}}
    assert "does not count all resources" in refusal(worker, desired)
    desired = queued_job("policies", "vip", 2)
    desired["metadata"]["labels"][PRIORITY] = "windlass-1000"
    assert "exceeds the priority ceiling" in refusal(worker, desired)


def test_a_job_without_a_queue_cannot_get_gpus_by_an_update(policy_cluster: LocalCluster) -> None:
    """Kubernetes allows changes to the resources of a suspended Job."""
    worker, tenant = as_user(policy_cluster, WORKER), as_user(policy_cluster, TENANT)
    desired = queued_job("policies", "plain", 1)
    for name in (QUEUE, PRIORITY):
        del desired["metadata"]["labels"][name]
    amounts = {"cpu": "1", "memory": "1Gi"}
    main(desired["spec"]["template"]["spec"])["resources"] = {"requests": amounts, "limits": amounts}
    ref = Ref.of(desired)
    job = worker.create(desired, manager="test")
    containers = job["spec"]["template"]["spec"]["containers"]
    for given in containers[0]["resources"].values():
        given[GPU] = "8"
    more = {"spec": {"template": {"spec": {"containers": containers}}}}
    try:
        eventually(lambda: bool(worker.get(ref)["status"].get("conditions")), "the Job is known to be suspended")
        with pytest.raises(KubeForbiddenError, match="only Windlass writes Jobs"):
            tenant.patch(ref, {"spec": {"suspend": False}}, manager="test")
        with pytest.raises(KubeForbiddenError, match="only Windlass writes Jobs"):
            tenant.patch(ref, more, manager="test")
        with pytest.raises(KubeInvalidError, match="must name one of the queues"):
            worker.patch(ref, more, manager="test")
        worker.patch(ref, {"metadata": {"annotations": {"note": "slow"}}}, manager="test")
    finally:
        worker.delete(ref)


def test_objects_without_a_queue_are_limited_to_zero_gpus(policy_cluster: LocalCluster) -> None:
    """ResourceQuota is the fallback of the policies: a Deployment with GPUs is rejected."""
    with pytest.raises(LocalClusterError, match="exceeded quota"):
        kubectl(policy_cluster, "-n", NAMESPACE, "create", "deployment", "web", "--image=web")


def test_policies_ignore_other_namespaces(policy_cluster: LocalCluster) -> None:
    apply(policy_cluster, [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "elsewhere"}}])
    desired = pod()
    desired["metadata"] = {"name": "p", "namespace": "elsewhere"}
    desired["spec"]["serviceAccountName"] = "default"
    eventually(
        lambda: refusal(as_user(policy_cluster, TENANT), desired) == "", "a pod elsewhere is nobody's business here"
    )
