"""States of jobs and tasks as Kubernetes 1.36, Kueue 0.19.2, KubeRay 1.6.2 and Ray 2.60 write them.

Each is a row of docs/reference/reasons-in-a-cluster.md.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

Json = dict[str, Any]
RUN = "job-0123456789abcdefghjkmnpqrs-r1"
CLUSTER = f"{RUN}-x7k2p"
IMAGE = "registry.example.com/windlass/ray@sha256:0f3c"
ENDED = {"startedAt": "2026-11-29T10:00:00Z", "finishedAt": "2026-11-29T10:04:11Z", "containerID": "containerd://8c1f"}


@dataclass(frozen=True)
class ExplainedState:
    """The objects of one situation. ``layer``: which explanation it is the input of."""

    situation: str
    code: str
    action_by: Literal["user", "admin", "none"]
    context: Json
    layer: Literal["waiting", "trainer failed", "task failed"]
    pods: list[Json] = field(default_factory=list)
    ray_job: Json = field(default_factory=dict)


def pod(
    kind: str,
    *containers: Json,
    phase: str = "Running",
    node: str = "gpu-1",
    conditions: tuple[Json, ...] = (),
    **status: Any,
) -> Json:
    """A pod of a container kind: ``ray-head``, ``ray-worker``, ``runner`` or ``data``."""
    role = kind.removeprefix("ray-")
    name = f"{CLUSTER}-{role}" if kind.startswith("ray-") else f"{RUN}-{role}"
    return {
        "metadata": {
            "name": name,
            "namespace": "wl-search" if kind.startswith("ray-") else "windlass-system",
            "uid": f"uid-{name}",
            "creationTimestamp": "2026-11-29T10:00:00Z",
            "labels": {"ray.io/cluster": CLUSTER, "ray.io/node-type": role, "kueue.x-k8s.io/podset": role},
            "annotations": {"kueue.x-k8s.io/workload": f"rayjob-{RUN}-1d2e3"},
        },
        "spec": {"nodeName": node} if node else {},
        "status": {
            "phase": phase,
            "conditions": list(conditions),
            "containerStatuses": [
                {"name": kind, "image": IMAGE, "imageID": "", "ready": False, "restartCount": 0, **container}
                for container in containers
            ],
            **status,
        },
    }


def waiting(reason: str, message: str, **last: Any) -> Json:
    return {"state": {"waiting": {"reason": reason, "message": message}}, "lastState": last}


def terminated(exit_code: int, reason: str) -> Json:
    return {"terminated": {"exitCode": exit_code, "reason": reason, **ENDED}}


def condition(kind: str, reason: str, message: str, *, status: str = "True") -> Json:
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastProbeTime": None,
        "lastTransitionTime": "2026-11-29T10:04:11Z",
    }


def unschedulable(message: str) -> Json:
    scheduled = condition("PodScheduled", "Unschedulable", message, status="False")
    return pod("ray-worker", phase="Pending", node="", conditions=(scheduled,))


def ray_job(*conditions: Json, **status: Any) -> Json:
    cluster = {"rayClusterStatus": {"conditions": list(conditions)}} if conditions else {}
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {
            "name": RUN,
            "namespace": "wl-search",
            "uid": "uid-ray-job",
            "annotations": {"windlass.dev/trainer-start": "2"},
        },
        "status": {"jobId": f"{RUN}-9z8y7", "rayClusterName": CLUSTER, **cluster, **status},
    }


def failed(message: str, reason: str = "AppFailed", **status: Any) -> Json:
    return ray_job(
        **{"jobDeploymentStatus": "Failed", "jobStatus": "FAILED", "reason": reason, "message": message} | status
    )


def output(exit_code: int, text: str) -> str:
    return (
        f"Job entrypoint command failed with exit code {exit_code}, last available logs (truncated to 20,000 chars):\n"
        f"{text}"
    )


TRACEBACK = """INFO windlass_pipelines.train.driver: connecting
\x1b[31mERROR windlass_pipelines.train.driver: the attempt is lost
Traceback (most recent call last):
  File "/opt/venv/lib/python3.11/site-packages/windlass_pipelines/train/driver.py", line 63, in main
    result = run_on_ray(environment, acquired)
             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  File "/opt/venv/lib/python3.11/site-packages/windlass_pipelines/train/driver.py", line 112, in run_on_ray
    raise ConnectionError(f"connection refused by Ray at {address}")
ConnectionError: connection refused by Ray at 10.244.1.7:6379\x1b[0m
INFO windlass.runtime.reporter: closed
"""
RAY_OUT_OF_MEMORY = """Traceback (most recent call last):
  File "/opt/venv/lib/python3.11/site-packages/ray/_private/worker.py", line 1019, in get_objects
    raise value
ray.exceptions.OutOfMemoryError: Task was killed due to the node running low on memory.
Memory on the node (IP: 10.244.1.8) was 23.30GB / 24.00GB (0.970833), which exceeds the memory usage threshold of 0.95.
"""
LOW_MEMORY = (
    "The node was low on resource: memory. Threshold quantity: 100Mi, available: 88204Ki. Container ray-worker was "
    "using 25165824Ki, request is 24Gi, has larger consumption of memory. "
)
REJECTED = (
    "Pod was rejected: Allocate failed due to requested number of devices unavailable for nvidia.com/gpu. "
    "Requested: 4, Available: 0, which is unexpected"
)
FULL = (
    "0/4 nodes are available: 1 node(s) had untolerated taint(s), 3 Insufficient nvidia.com/gpu. no new claims to "
    "deallocate, preemption: 0/4 nodes are available: 4 Preemption is not helpful for scheduling."
)
OVER_QUOTA = (
    f'FailedCreateWorkerPod\npods "{CLUSTER}-trainers-worker-h8s4d" is forbidden: exceeded quota: windlass, requested: '
    "requests.memory=24Gi, used: requests.memory=4Gi, limited: requests.memory=16Gi"
)
PULL = (
    f'failed to pull and unpack image "{IMAGE}": failed to resolve image: failed to authorize: failed to fetch '
    "anonymous token: unexpected status: 401 Unauthorized"
)

WAITING = (
    ExplainedState(
        "a container of it exceeds its memory limit and is started again",
        "oom_killed",
        "user",
        {"container": "ray-worker", "node": "gpu-1"},
        "waiting",
        [pod("ray-worker", waiting("CrashLoopBackOff", "back-off 10s restarting", **terminated(137, "OOMKilled")))],
    ),
    ExplainedState(
        "its image is in a registry that rejects the node",
        "image_pull_failed",
        "admin",
        {"image": IMAGE, "node": "gpu-1"},
        "waiting",
        [pod("ray-head", waiting("ImagePullBackOff", f'Back-off pulling image "{IMAGE}": {PULL}'), phase="Pending")],
    ),
    ExplainedState(
        "the name of its image is invalid",
        "image_pull_failed",
        "admin",
        {"node": "gpu-1"},
        "waiting",
        [
            pod(
                "ray-head",
                waiting("InvalidImageName", 'couldn\'t parse image name "a:::b": invalid reference format'),
                phase="Pending",
            )
        ],
    ),
    ExplainedState(
        "a container names what does not exist, or its image runs as root",
        "container_cannot_start",
        "admin",
        {"cause": "CreateContainerConfigError", "container": "ray-head"},
        "waiting",
        [
            pod(
                "ray-head",
                waiting(
                    "CreateContainerConfigError",
                    "container has runAsNonRoot and image will run as root "
                    f'(pod: "{CLUSTER}-head_wl-search(2b4f03d7)", container: ray-head)',
                ),
                phase="Pending",
            )
        ],
    ),
    ExplainedState(
        "a container ends again and again",
        "container_cannot_start",
        "admin",
        {"cause": "CrashLoopBackOff", "exit_code": 1},
        "waiting",
        [pod("ray-head", waiting("CrashLoopBackOff", "back-off 5m0s restarting", **terminated(1, "Error")))],
    ),
    ExplainedState(
        "its pods tolerate no taint of a free node, or the GPUs are free in pieces",
        "unschedulable",
        "admin",
        {"pods": 1, "unschedulable": 1, "detail": FULL},
        "waiting",
        [unschedulable(FULL)],
    ),
    ExplainedState(
        "its node is unreachable, and the cluster deletes its pods",
        "node_lost",
        "admin",
        {"node": "gpu-1"},
        "waiting",
        [
            pod(
                "ray-worker",
                {"state": {"running": {"startedAt": "2026-11-29T10:00:00Z"}}},
                conditions=(
                    condition("DisruptionTarget", "DeletionByTaintManager", "Taint manager: deleting due to taint"),
                ),
            )
        ],
    ),
    ExplainedState(
        "a pod was evicted, and the pod that replaces it is starting",
        "pod_evicted",
        "admin",
        {"node": "gpu-1", "cause": "Evicted"},
        "waiting",
        [
            pod(
                "ray-worker",
                phase="Failed",
                reason="Evicted",
                message=LOW_MEMORY,
                conditions=(condition("DisruptionTarget", "TerminationByKubelet", LOW_MEMORY),),
            ),
            pod("ray-worker", waiting("ContainerCreating", ""), phase="Pending"),
        ],
    ),
    ExplainedState(
        "the kubelet of its node rejects a pod",
        "pod_evicted",
        "admin",
        {"node": "gpu-1", "cause": "UnexpectedAdmissionError"},
        "waiting",
        [pod("ray-worker", phase="Failed", reason="UnexpectedAdmissionError", message=REJECTED)],
    ),
    ExplainedState(
        "a ResourceQuota or an admission policy rejects its pods",
        "pods_not_created",
        "admin",
        {"cause": "FailedCreateWorkerPod"},
        "waiting",
        [],
        ray_job(condition("ReplicaFailure", "FailedCreateWorkerPod", OVER_QUOTA), jobDeploymentStatus="Initializing"),
    ),
)

TRAINER_FAILED = (
    ExplainedState(
        "a container of its trainer exceeded its memory limit",
        "oom_killed",
        "user",
        {"container": "ray-worker", "exit_code": 1},
        "trainer failed",
        [
            pod("ray-head", {"ready": True, "state": {"running": {"startedAt": "2026-11-29T10:00:00Z"}}}),
            pod(
                "ray-worker",
                {"restartCount": 1, "state": {"running": {}}, "lastState": terminated(137, "OOMKilled")},
            ),
        ],
        failed(output(1, TRACEBACK)),
    ),
    ExplainedState(
        "Ray ended a process of its trainer that used too much memory",
        "oom_killed",
        "user",
        {"exit_code": 1},
        "trainer failed",
        [],
        failed(output(1, RAY_OUT_OF_MEMORY)),
    ),
    ExplainedState(
        "the Ray head of its trainer exceeded its memory limit",
        "oom_killed",
        "admin",
        {"container": "ray-head"},
        "trainer failed",
        [pod("ray-head", {"restartCount": 1, "state": {"running": {}}, "lastState": terminated(137, "OOMKilled")})],
        failed("Job supervisor actor died because its node died.", jobStatus="FAILED"),
    ),
    ExplainedState(
        "a pod of its trainer was evicted",
        "pod_evicted",
        "admin",
        {"cause": "Evicted", "exit_code": 1},
        "trainer failed",
        [pod("ray-worker", phase="Failed", reason="Evicted", message=LOW_MEMORY)],
        failed(output(1, TRACEBACK)),
    ),
    ExplainedState(
        "its trainer ended with an exception",
        "trainer_crashed",
        "user",
        {
            "exit_code": 1,
            "exception": "ConnectionError: connection refused by Ray at 10.244.1.7:6379 "
            "(train/driver.py:112 in run_on_ray)",
        },
        "trainer failed",
        [pod("ray-head", {"ready": True, "state": {"running": {}}})],
        failed(output(1, TRACEBACK)),
    ),
    ExplainedState(
        "its trainer ended without a message",
        "trainer_crashed",
        "user",
        {"exit_code": -11},
        "trainer failed",
        [],
        failed(output(-11, "")),
    ),
    ExplainedState(
        "it exceeded its maximum duration",
        "max_duration_exceeded",
        "user",
        {"cause": "DeadlineExceeded"},
        "trainer failed",
        [],
        failed(
            "The RayJob has passed the activeDeadlineSeconds. StartTime: 2026-11-29 10:00:00 +0000 UTC. "
            "ActiveDeadlineSeconds: 7200",
            "DeadlineExceeded",
            jobStatus="RUNNING",
        ),
    ),
    ExplainedState(
        "KubeRay rejects its RayJob",
        "ray_cluster_failed",
        "admin",
        {"cause": "ValidationFailed"},
        "trainer failed",
        [],
        failed(
            "backoffLimit must be a positive integer",
            "ValidationFailed",
            jobDeploymentStatus="ValidationFailed",
            jobStatus="",
        ),
    ),
    ExplainedState(
        "Ray lost the process that supervises its trainer",
        "ray_cluster_failed",
        "admin",
        {"cause": "AppFailed"},
        "trainer failed",
        [],
        failed("Unexpected error occurred: The actor died unexpectedly before finishing this task."),
    ),
)

TASK_FAILED = (
    ExplainedState(
        "the pod of its pipeline run exceeded its memory limit",
        "oom_killed",
        "admin",
        {"container": "runner"},
        "task failed",
        [pod("runner", {"state": terminated(137, "OOMKilled")}, phase="Failed")],
    ),
    ExplainedState(
        "the pod that processes a dataset exceeded its memory limit",
        "oom_killed",
        "admin",
        {"container": "data"},
        "task failed",
        [pod("data", {"state": terminated(137, "OOMKilled")}, phase="Failed")],
    ),
    ExplainedState(
        "the pod of a run or task ended with an error",
        "container_failed",
        "admin",
        {"container": "data", "exit_code": 2},
        "task failed",
        [pod("data", {"state": terminated(2, "Error")}, phase="Failed")],
    ),
)
STATES = (*WAITING, *TRAINER_FAILED, *TASK_FAILED)
