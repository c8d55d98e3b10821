"""Objects as Windlass and KubeRay make them in a project's namespace, and what an attacker would change in them."""

from collections.abc import Callable
from typing import Any

from tests.integration.cluster.installed import honest_ray_job, restricted

Json = dict[str, Any]
Attack = Callable[[Json], object]
SPACE, NAME = "wl-walls", "job-1-r1"
GPU, MIG = "nvidia.com/gpu", "nvidia.com/mig-1g.10gb"
QUEUE, PRIORITY = "kueue.x-k8s.io/queue-name", "kueue.x-k8s.io/priority-class"


def ray_job() -> Json:
    return honest_ray_job("walls", NAME, "windlass-10")


def worker_spec(job: Json) -> Json:
    found: Json = job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["template"]["spec"]
    return found


def main(spec: Json) -> Json:
    found: Json = spec["containers"][0]
    return found


def resources(requests: Json, limits: Json) -> Attack:
    def attack(job: Json) -> None:
        amounts = main(worker_spec(job))["resources"]
        for name, given in (("requests", requests), ("limits", limits)):
            amounts[name] = {key: value for key, value in amounts[name].items() if key != GPU} | given

    return attack


def label(name: str, value: str | None) -> Attack:
    def attack(job: Json) -> None:
        job["metadata"]["labels"].pop(name)
        job["metadata"]["labels"] |= {} if value is None else {name: value}

    return attack


def spec(**fields: Any) -> Attack:
    return lambda job: worker_spec(job).update(fields)


def container(**fields: Any) -> Attack:
    return lambda job: main(worker_spec(job)).update(fields)


def secret_env(name: str) -> Json:
    return {
        "name": f"FROM_{name.upper().replace('-', '_')}",
        "valueFrom": {"secretKeyRef": {"name": name, "key": "token"}},
    }


def projected(secret: str) -> Json:
    return {"name": "p", "projected": {"sources": [{"secret": {"name": secret}}]}}


CLAIM = {"name": "device", "resourceClaimName": "device"}
RAY_ATTACKS: dict[str, tuple[Attack, str]] = {
    "no queue": (label(QUEUE, None), "must name one of the queues"),
    "an empty queue": (label(QUEUE, ""), "must name one of the queues"),
    "a queue of another project": (label(QUEUE, "h100"), "must name one of the queues"),
    "no priority class": (label(PRIORITY, None), "must be a class of Windlass"),
    "a class of others": (label(PRIORITY, "system-cluster-critical"), "must be a class of Windlass"),
    "a class above the ceiling": (label(PRIORITY, "windlass-100"), "above the ceiling of this project, 10"),
    "a pod priority": (spec(priorityClassName="system-node-critical"), "not by priorityClassName"),
    "another one's cluster": (
        lambda job: job["spec"].update(clusterSelector={"ray.io/cluster": "big"}),
        "clusterSelector is not allowed",
    ),
    "no GPUs": (resources({}, {}), "every group of workers must ask for GPUs"),
    "zero GPUs": (resources({GPU: "0"}, {GPU: "0"}), "more than none"),
    "GPUs by request alone": (resources({GPU: "1"}, {}), "must ask for GPUs"),
    "GPUs by limit alone": (resources({}, {GPU: "1"}), "equal requests and limits"),
    "a lower request than limit": (resources({GPU: "1"}, {GPU: "8"}), "equal requests and limits"),
    "GPUs in an init container": (
        spec(initContainers=[{"name": "i", "image": "i", "resources": {"limits": {GPU: "1"}, "requests": {GPU: "1"}}}]),
        "init containers ask for no GPUs",
    ),
    "a part of a GPU that the queue does not count": (resources({MIG: "1"}, {MIG: "1"}), "does not count everything"),
    "a GPU of another queue": (resources({"amd.com/gpu": "1"}, {"amd.com/gpu": "1"}), "does not count everything"),
    "a device by claim": (spec(resourceClaims=[CLAIM]), "resourceClaims is not allowed"),
    "all devices by environment": (
        container(env=[{"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"}]),
        "must not name devices",
    ),
    "another account": (spec(serviceAccountName="builder"), "run as windlass-trainer"),
    "a mounted secret": (
        spec(volumes=[{"name": "s", "secret": {"secretName": "job-2-r1"}}]),
        "secrets that it uses must be its own",
    ),
    "a secret of a run whose name goes on": (container(env=[secret_env("job-1-r10")]), "must be its own"),
    "a secret in a projected volume": (spec(volumes=[projected("job-2-r1")]), "must be its own"),
    "a secret in an init container": (
        spec(initContainers=[{"name": "i", "image": "i", "env": [secret_env("job-2-r1")]}]),
        "must be its own",
    ),
    "all of a secret": (container(envFrom=[{"secretRef": {"name": NAME}}]), "not by envFrom"),
    "a library to load": (container(env=[{"name": "LD_PRELOAD", "value": "x.so"}]), "nor libraries to load"),
}


def pod(gpus: int = 1, owner: tuple[str, str] = ("ray.io/v1", "RayCluster")) -> Json:
    """A pod as KubeRay makes it of an honest job."""
    version, kind = owner
    amounts = {"cpu": "1", "memory": "1Gi"} | ({GPU: str(gpus)} if gpus else {})
    reference = {"apiVersion": version, "kind": kind, "name": f"{NAME}-abcde", "uid": "u", "controller": True}
    labels = {"ray.io/cluster": f"{NAME}-abcde"}
    metadata = {"name": "p", "namespace": SPACE, "labels": labels, "ownerReferences": [reference]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": restricted(amounts)}


POD_ATTACKS: dict[str, tuple[Attack, str]] = {
    "bare": (lambda one: one["metadata"].pop("ownerReferences"), "made by Ray clusters and queued Jobs"),
    "of a ReplicaSet": (
        lambda one: one["metadata"]["ownerReferences"][0].update(apiVersion="apps/v1", kind="ReplicaSet"),
        "made by Ray clusters and queued Jobs",
    ),
    "owned without being controlled": (
        lambda one: one["metadata"]["ownerReferences"][0].update(controller=False),
        "made by Ray clusters and queued Jobs",
    ),
    "zero GPUs": (
        lambda one: main(one["spec"])["resources"].update(requests={GPU: "0"}, limits={GPU: "0"}),
        "more than none",
    ),
    "GPUs in an init container": (
        lambda one: one["spec"].update(initContainers=[main(restricted({GPU: "1"})) | {"name": "i"}]),
        "init and ephemeral containers ask for no GPUs",
    ),
    "a part of a GPU that no queue counts": (
        lambda one: main(one["spec"])["resources"].update(requests={MIG: "1"}, limits={MIG: "1"}),
        f"no quota of {MIG}",
    ),
    "a device by claim": (lambda one: one["spec"].update(resourceClaims=[CLAIM]), "resourceClaims is not allowed"),
    "another account": (lambda one: one["spec"].update(serviceAccountName="other"), "run as windlass-trainer"),
    "a token of the cluster": (lambda one: one["spec"].update(automountServiceAccountToken=True), "get no token"),
    "another run's secret": (
        lambda one: one["spec"].update(volumes=[{"name": "s", "secret": {"secretName": "job-2-r1"}}]),
        "must be those of its own run",
    ),
    "another run's secret in its environment": (
        lambda one: main(one["spec"]).update(env=[secret_env("job-2-r1")]),
        "must be those of its own run",
    ),
    "another run's secret in a projected volume": (
        lambda one: one["spec"].update(volumes=[projected("job-2-r1")]),
        "must be those of its own run",
    ),
    "another run's secret by a label of its template": (
        lambda one: (
            one["metadata"]["labels"].update({"batch.kubernetes.io/job-name": "job-2-r1"}),
            main(one["spec"]).update(env=[secret_env("job-2-r1")]),
        ),
        "must be those of its own run",
    ),
    "another cluster's secret by a shorter name": (
        lambda one: one["spec"].update(volumes=[projected("job-1")]),
        "must be those of its own run",
    ),
    "all devices by environment": (
        lambda one: main(one["spec"]).update(env=[{"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"}]),
        "must not name devices",
    ),
    "all devices in an init container": (
        lambda one: one["spec"].update(
            initContainers=[main(restricted({})) | {"name": "i", "env": [{"name": "NVIDIA_VISIBLE_DEVICES"}]}]
        ),
        "must not name devices",
    ),
    "an environment from elsewhere": (
        lambda one: main(one["spec"]).update(envFrom=[{"configMapRef": {"name": "devices"}}]),
        "not by envFrom",
    ),
}
