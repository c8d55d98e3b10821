"""Objects as Windlass and KubeRay create them, and mutations that try to bypass the admission policies."""

from collections.abc import Callable
from typing import Any

from tests.integration.cluster.installed import restricted, valid_ray_job

Json = dict[str, Any]
Mutation = Callable[[Json], object]
NAMESPACE, NAME = "wl-policies", "job-1-r1"
GPU, MIG = "nvidia.com/gpu", "nvidia.com/mig-1g.10gb"
QUEUE, PRIORITY = "kueue.x-k8s.io/queue-name", "kueue.x-k8s.io/priority-class"


def ray_job() -> Json:
    return valid_ray_job("policies", NAME, "windlass-10")


def worker_spec(job: Json) -> Json:
    found: Json = job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["template"]["spec"]
    return found


def main(spec: Json) -> Json:
    found: Json = spec["containers"][0]
    return found


def resources(requests: Json, limits: Json) -> Mutation:
    def mutate(job: Json) -> None:
        amounts = main(worker_spec(job))["resources"]
        for name, given in (("requests", requests), ("limits", limits)):
            amounts[name] = {key: value for key, value in amounts[name].items() if key != GPU} | given

    return mutate


def label(name: str, value: str | None) -> Mutation:
    def mutate(job: Json) -> None:
        job["metadata"]["labels"].pop(name)
        job["metadata"]["labels"] |= {} if value is None else {name: value}

    return mutate


def spec(**fields: Any) -> Mutation:
    return lambda job: worker_spec(job).update(fields)


def container(**fields: Any) -> Mutation:
    return lambda job: main(worker_spec(job)).update(fields)


def secret_env(name: str) -> Json:
    return {
        "name": f"FROM_{name.upper().replace('-', '_')}",
        "valueFrom": {"secretKeyRef": {"name": name, "key": "token"}},
    }


def projected(secret: str) -> Json:
    return {"name": "p", "projected": {"sources": [{"secret": {"name": secret}}]}}


CLAIM = {"name": "device", "resourceClaimName": "device"}
RAY_JOB_BYPASS_CASES: dict[str, tuple[Mutation, str]] = {
    "no queue": (label(QUEUE, None), "must name one of the queues"),
    "an empty queue": (label(QUEUE, ""), "must name one of the queues"),
    "a queue of another project": (label(QUEUE, "h100"), "must name one of the queues"),
    "no priority class": (label(PRIORITY, None), "must be a priority class of Windlass"),
    "a class of others": (label(PRIORITY, "system-cluster-critical"), "must be a priority class of Windlass"),
    "a class above the ceiling": (label(PRIORITY, "windlass-100"), "exceeds the priority ceiling of this project, 10"),
    "a pod priority": (spec(priorityClassName="system-node-critical"), "priorityClassName is not allowed"),
    "another one's cluster": (
        lambda job: job["spec"].update(clusterSelector={"ray.io/cluster": "big"}),
        "clusterSelector is not allowed",
    ),
    "no GPUs": (resources({}, {}), "every worker group, or the head of a cluster without workers, must request GPUs"),
    "neither workers nor GPUs": (
        lambda job: job["spec"]["rayClusterSpec"].pop("workerGroupSpecs"),
        "the head of a cluster without workers, must request GPUs",
    ),
    "zero GPUs": (resources({GPU: "0"}, {GPU: "0"}), "greater than zero"),
    "GPUs by request alone": (resources({GPU: "1"}, {}), "must request GPUs"),
    "GPUs by limit alone": (resources({}, {GPU: "1"}), "requests and limits of GPUs must be equal"),
    "a lower request than limit": (resources({GPU: "1"}, {GPU: "8"}), "requests and limits of GPUs must be equal"),
    "GPUs in an init container": (
        spec(initContainers=[{"name": "i", "image": "i", "resources": {"limits": {GPU: "1"}, "requests": {GPU: "1"}}}]),
        "init containers must not request GPUs",
    ),
    "a GPU partition outside of the quota": (resources({MIG: "1"}, {MIG: "1"}), "does not count all resources"),
    "a GPU of another queue": (resources({"amd.com/gpu": "1"}, {"amd.com/gpu": "1"}), "does not count all resources"),
    "a device by claim": (spec(resourceClaims=[CLAIM]), "resourceClaims is not allowed"),
    "all devices by environment": (
        container(env=[{"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"}]),
        "PYTHON* and RAY_* are not allowed",
    ),
    "another account": (spec(serviceAccountName="builder"), "must be windlass-trainer"),
    "a mounted secret": (
        spec(volumes=[{"name": "s", "secret": {"secretName": "job-2-r1"}}]),
        "referenced secrets must belong to the object",
    ),
    "a secret of a run whose name goes on": (container(env=[secret_env("job-1-r10")]), "must belong to the object"),
    "a secret in a projected volume": (spec(volumes=[projected("job-2-r1")]), "must belong to the object"),
    "a secret in an init container": (
        spec(initContainers=[{"name": "i", "image": "i", "env": [secret_env("job-2-r1")]}]),
        "must belong to the object",
    ),
    "all of a secret": (container(envFrom=[{"secretRef": {"name": NAME}}]), "envFrom is not allowed"),
    "half a GPU": (resources({GPU: "0.5"}, {GPU: "0.5"}), "GPUs must be whole numbers"),
    "a module that replaces ours": (container(env=[{"name": "PYTHONPATH", "value": "/data"}]), "PYTHON* and RAY_*"),
    "a setting of Ray": (container(env=[{"name": "RAY_AUTH_MODE", "value": "disabled"}]), "PYTHON* and RAY_*"),
    "a library to load": (
        container(env=[{"name": "LD_PRELOAD", "value": "x.so"}]),
        "LD_*, PYTHON* and RAY_* are not allowed",
    ),
}


def pod(gpus: int = 1, owner: tuple[str, str] = ("ray.io/v1", "RayCluster")) -> Json:
    """A pod as KubeRay creates it for a valid job."""
    version, kind = owner
    amounts = {"cpu": "1", "memory": "1Gi"} | ({GPU: str(gpus)} if gpus else {})
    reference = {"apiVersion": version, "kind": kind, "name": f"{NAME}-abcde", "uid": "u", "controller": True}
    labels = {"ray.io/cluster": f"{NAME}-abcde"}
    metadata = {"name": "p", "namespace": NAMESPACE, "labels": labels, "ownerReferences": [reference]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": restricted(amounts)}


POD_BYPASS_CASES: dict[str, tuple[Mutation, str]] = {
    "bare": (lambda one: one["metadata"].pop("ownerReferences"), "Ray clusters and queued Jobs create pods"),
    "of a ReplicaSet": (
        lambda one: one["metadata"]["ownerReferences"][0].update(apiVersion="apps/v1", kind="ReplicaSet"),
        "Ray clusters and queued Jobs create pods",
    ),
    "owned without being controlled": (
        lambda one: one["metadata"]["ownerReferences"][0].update(controller=False),
        "Ray clusters and queued Jobs create pods",
    ),
    "zero GPUs": (
        lambda one: main(one["spec"])["resources"].update(requests={GPU: "0"}, limits={GPU: "0"}),
        "greater than zero",
    ),
    "a module that replaces ours": (
        lambda one: main(one["spec"]).update(env=[{"name": "PYTHONSTARTUP", "value": "/data"}]),
        "PYTHON* and RAY_* are not allowed",
    ),
    "GPUs in an init container": (
        lambda one: one["spec"].update(initContainers=[main(restricted({GPU: "1"})) | {"name": "i"}]),
        "init and ephemeral containers must not request GPUs",
    ),
    "a part of a GPU that no queue counts": (
        lambda one: main(one["spec"])["resources"].update(requests={MIG: "1"}, limits={MIG: "1"}),
        f"no quota of {MIG}",
    ),
    "a device by claim": (lambda one: one["spec"].update(resourceClaims=[CLAIM]), "resourceClaims is not allowed"),
    "another account": (lambda one: one["spec"].update(serviceAccountName="other"), "must be windlass-trainer"),
    "a token of the cluster": (
        lambda one: one["spec"].update(automountServiceAccountToken=True),
        "service account tokens are not allowed",
    ),
    "another run's secret": (
        lambda one: one["spec"].update(volumes=[{"name": "s", "secret": {"secretName": "job-2-r1"}}]),
        "must belong to the run of the pod",
    ),
    "another run's secret in its environment": (
        lambda one: main(one["spec"]).update(env=[secret_env("job-2-r1")]),
        "must belong to the run of the pod",
    ),
    "another run's secret in a projected volume": (
        lambda one: one["spec"].update(volumes=[projected("job-2-r1")]),
        "must belong to the run of the pod",
    ),
    "another run's secret by a label of its template": (
        lambda one: (
            one["metadata"]["labels"].update({"batch.kubernetes.io/job-name": "job-2-r1"}),
            main(one["spec"]).update(env=[secret_env("job-2-r1")]),
        ),
        "must belong to the run of the pod",
    ),
    "another cluster's secret by a shorter name": (
        lambda one: one["spec"].update(volumes=[projected("job-1")]),
        "must belong to the run of the pod",
    ),
    "all devices by environment": (
        lambda one: main(one["spec"]).update(env=[{"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"}]),
        "PYTHON* and RAY_* are not allowed",
    ),
    "all devices in an init container": (
        lambda one: one["spec"].update(
            initContainers=[main(restricted({})) | {"name": "i", "env": [{"name": "NVIDIA_VISIBLE_DEVICES"}]}]
        ),
        "PYTHON* and RAY_* are not allowed",
    ),
    "an environment from elsewhere": (
        lambda one: main(one["spec"]).update(envFrom=[{"configMapRef": {"name": "devices"}}]),
        "envFrom is not allowed",
    ),
}
