"""RunContext -> RayJob: one Ray cluster for the trainer of a run; and the trainer's status from the RayJob.

A warm trainer is a RayJob too, which gets its run later: its labels are then those of the run.

The format is KubeRay's ray.io/v1 (1.6.2). KubeRay submits the trainer to the head's dashboard (``HTTPMode``), so no pod
is needed to submit it. Fields that Kueue writes are not set: ``suspend``, and the flavor's node selector and
tolerations.
"""

import hashlib
import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from windlass.domain.specs import ResourcesSpec
from windlass.domain.warm_trainers import WARM_TRAINER_GPUS, WARM_TRAINER_PRIORITY, Placement
from windlass.kube.explain_job import exit_code
from windlass.kube.jobs.pod_spec import (
    CONTEXT_PATH,
    WORKSPACE_PATH,
    RestrictedPod,
    cpu_threads,
    millicpus,
)
from windlass.kube.kinds import RAY_JOB
from windlass.kube.kueue.cluster_objects import RayJob
from windlass.kube.names import (
    CONTROL_PLANE_LABEL,
    JOB_LABEL,
    PRIORITY_LABEL,
    QUEUE_LABEL,
    RUN_LABEL,
    START_ANNOTATION,
    TRAINER_ACCOUNT,
    WARM_TRAINER_LABEL,
    labels,
    local_queue_of,
    namespace_of,
)
from windlass.kube.objects import Object
from windlass.kube.priority_classes import priority_class_name
from windlass.kube.ray_nodes import RAY_READINESS_PROBE, ray_resources
from windlass.ports.launcher import TrainerState, TrainerStatus
from windlass.runtime.context import (
    CONTEXT_NAME,
    CONTEXT_VARIABLE,
    DRAIN_VARIABLE,
    THREADS_VARIABLE,
    WARM_TRAINER_FILE,
    WARM_TRAINER_VARIABLE,
    WORKSPACE_VARIABLE,
    RunContext,
)

_STARTUP_SECONDS: Final = 3600
"""Time beyond the job's maximum duration after which KubeRay ends a RayJob whose pipeline run has disappeared."""
_KEPT_SECONDS: Final = 3600
"""How long an ended RayJob is kept if no pipeline run deletes it."""
_MAX_MESSAGE: Final = 1000
_DIGEST_DIGITS: Final = 16


class RayJobSettings(BaseModel):
    """The installation's settings for trainers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: str
    ray_version: str
    head_cpu: str
    head_memory_mib: int
    worker_cpu: str
    """For each GPU of a worker; like all amounts of CPU in thousandths, as ``4000m``."""
    worker_memory_mib: int
    """For each GPU of a worker."""
    shared_memory_mib: int
    """For each GPU of a worker: the processes of its GPUs exchange gradients there."""
    drain_seconds: float
    """How long a trainer waits for the control plane to accept its last reports before it exits without them."""
    entrypoint: tuple[str, ...] = ("python", "-m", "windlass_pipelines.train")
    warm_entrypoint: tuple[str, ...] = ("python", "-m", "windlass_pipelines.train.warm")
    control_plane: str = ""
    """Id of the control plane: a run claims only its warm trainers."""
    managed_by: str = ""
    """The controller of the RayJobs if it is not KubeRay (RayJob's ``spec.managedBy``)."""
    labels: Mapping[str, str] = {}
    """Further labels of the RayJobs of runs."""


def ray_job(context: RunContext, start: int, resource: str, settings: RayJobSettings) -> Object:
    """Return the RayJob for the ``start``-th start of a run's trainer. ``resource``: what the pool's queue counts."""
    identity = context.identity
    pods = _PodSettings(secret_name(identity.name, start), f"{CONTEXT_PATH}/{CONTEXT_NAME}", {}, resource, settings)
    manifest = _manifest(identity.project, identity.name, settings.entrypoint, context.spec.resources, pods)
    claim = claim_fields(context, start, settings)
    manifest["metadata"]["labels"] |= claim["metadata"]["labels"]
    manifest["metadata"]["annotations"] = claim["metadata"]["annotations"]
    manifest["spec"] |= claim["spec"]
    return manifest


def warm_ray_job(place: Placement, name: str, resource: str, settings: RayJobSettings) -> Object:
    """Return the RayJob of a warm trainer. It has no deadline: that begins when a run claims it."""
    resources = ResourcesSpec(pool=place.pool, workers=1, gpus_per_worker=WARM_TRAINER_GPUS)
    variables = {WARM_TRAINER_VARIABLE: f"{CONTEXT_PATH}/{WARM_TRAINER_FILE}"}
    context_file = f"{WORKSPACE_PATH}/{CONTEXT_NAME}"  # written by the program when it gets its run
    pods = _PodSettings(secret_name(name, 1), context_file, variables, resource, settings)
    manifest = _manifest(place.project, name, settings.warm_entrypoint, resources, pods)
    manifest["metadata"]["labels"] |= labels(place.project, place.pool) | {
        CONTROL_PLANE_LABEL: settings.control_plane,
        WARM_TRAINER_LABEL: warm_trainer_digest(resource, settings),
        PRIORITY_LABEL: priority_class_name(WARM_TRAINER_PRIORITY),
    }
    return manifest


def warm_trainer_digest(resource: str, settings: RayJobSettings) -> str:
    """Return the value of ``WARM_TRAINER_LABEL``: it changes with the image and the other settings of all trainers."""
    content = f"{resource}\0{settings.model_dump_json(exclude={'labels'})}"
    return hashlib.sha256(content.encode()).hexdigest()[:_DIGEST_DIGITS]


def can_be_warm(context: RunContext) -> bool:
    """Return whether a warm trainer can train a run."""
    resources = context.spec.resources
    return resources.workers == 1 and resources.gpus_per_worker == WARM_TRAINER_GPUS


def claim_fields(context: RunContext, start: int, settings: RayJobSettings, age_seconds: float = 0.0) -> Object:
    """Return the fields that a RayJob has because it trains a run.

    ``age_seconds``: of a RayJob that a run claims; KubeRay counts the deadline from its creation.
    """
    return {
        "metadata": {
            "labels": {
                **settings.labels,
                **run_labels(context),
                PRIORITY_LABEL: priority_class_name(context.spec.priority),
            },
            "annotations": {START_ANNOTATION: str(start)},
        },
        "spec": {
            "activeDeadlineSeconds": context.spec.max_duration_seconds + _STARTUP_SECONDS + math.ceil(age_seconds)
        },
    }


@dataclass(frozen=True)
class _PodSettings:
    """What the pods of a RayJob get. ``resource``: what the pool's queue counts."""

    secret: str
    context_file: str
    variables: Mapping[str, str]
    resource: str
    settings: RayJobSettings


def _manifest(
    project: str, name: str, entrypoint: tuple[str, ...], resources: ResourcesSpec, pods: _PodSettings
) -> Object:
    manifest: Object = {
        "apiVersion": RAY_JOB.api_version,
        "kind": RAY_JOB.kind,
        "metadata": {
            "name": name,
            "namespace": namespace_of(project),
            "labels": {QUEUE_LABEL: local_queue_of(resources.pool)},
        },
        "spec": {
            "entrypoint": shlex.join(entrypoint),
            "submissionMode": "HTTPMode",
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": _KEPT_SECONDS,
            "backoffLimit": 0,
            "rayClusterSpec": _cluster(resources, pods),
        },
    }
    if pods.settings.managed_by:
        manifest["spec"]["managedBy"] = pods.settings.managed_by
    return manifest


def run_labels(context: RunContext) -> dict[str, str]:
    """Return the labels of the objects of a run."""
    identity = context.identity
    job = identity.job.replace("_", "-")
    return labels(identity.project, context.spec.resources.pool) | {RUN_LABEL: identity.name, JOB_LABEL: job}


def secret_name(run_name: str, start: int) -> str:
    """Return the name of the Secret of a start; the admission policies require the prefix."""
    return f"{run_name}-context-{start}"


def _cluster(resources: ResourcesSpec, pods: _PodSettings) -> Object:
    """Return the Ray cluster. The only worker of a job trains in the head pod: no second pod must start first."""
    settings, gpus = pods.settings, resources.gpus_per_worker
    trainer = _Amounts(millicpus(settings.worker_cpu) * gpus, settings.worker_memory_mib * gpus)
    head = _Amounts(millicpus(settings.head_cpu), settings.head_memory_mib)
    # A training process for each GPU. The head has the variable too: the driver sends it to the workers.
    render = partial(_template, gpus=gpus, pods=pods)
    gpu_amounts = {pods.resource: str(gpus)}
    cluster: Object = {
        "rayVersion": settings.ray_version,
        "enableInTreeAutoscaling": False,
        "authOptions": {"mode": "token"},
    }
    if resources.workers == 1:
        both = _Amounts(trainer.millicpus + head.millicpus, trainer.memory_mib + head.memory_mib)
        template = render("trainer", both.requests | gpu_amounts)
        return cluster | {"headGroupSpec": _head(template, cpus=1, gpus=gpus)}
    worker_group = {
        "groupName": "trainers",
        "replicas": resources.workers,
        "minReplicas": resources.workers,
        "maxReplicas": resources.workers,
        "rayStartParams": ray_resources(cpus=1, gpus=gpus),
        "template": render("ray-worker", trainer.requests | gpu_amounts),
    }
    # the head runs the trainer's driver and no workers
    head_group = _head(render("ray-head", head.requests), cpus=0, gpus=0)
    return cluster | {"headGroupSpec": head_group, "workerGroupSpecs": [worker_group]}


@dataclass(frozen=True)
class _Amounts:
    """CPU in thousandths and memory of a pod."""

    millicpus: int
    memory_mib: int

    @property
    def requests(self) -> dict[str, str]:
        return {"cpu": f"{self.millicpus}m", "memory": f"{self.memory_mib}Mi"}


def _head(template: Object, *, cpus: int, gpus: int) -> Object:
    parameters = {"dashboard-host": "0.0.0.0", **ray_resources(cpus=cpus, gpus=gpus)}  # noqa: S104 - in its pod
    return {"rayStartParams": parameters, "template": template}


def _template(container: str, amounts: Mapping[str, str], gpus: int, pods: _PodSettings) -> Object:
    settings = pods.settings
    template = RestrictedPod(
        container=container,
        image=settings.image,
        amounts=amounts,
        secret=pods.secret,
        shared_memory=f"{settings.shared_memory_mib * gpus}Mi",
        readiness_probe=RAY_READINESS_PROBE,
        service_account=TRAINER_ACCOUNT,
        variables={
            CONTEXT_VARIABLE: pods.context_file,
            WORKSPACE_VARIABLE: WORKSPACE_PATH,
            DRAIN_VARIABLE: f"{settings.drain_seconds:g}",
            # Ray would set it to the logical CPUs of a task, which are one at most and not those of the pod.
            THREADS_VARIABLE: str(cpu_threads(settings.worker_cpu)),
            **pods.variables,
        },
    )
    return {"spec": template.spec()}


def start_of(subject: Mapping[str, Any]) -> int:
    """Return which start of the trainer a RayJob is, 0 if it has none."""
    value = str((subject["metadata"].get("annotations") or {}).get(START_ANNOTATION, ""))
    return int(value) if value.isdecimal() else 0


def trainer_status(subject: Mapping[str, Any]) -> TrainerStatus:
    """Return the status of the trainer from its RayJob.

    ``jobDeploymentStatus`` is KubeRay's view of the cluster, ``jobStatus`` Ray's view of the trainer. A stopped Ray job
    is *Complete*, so both are needed.
    """
    parsed, start = RayJob.parse(subject), start_of(subject)
    status = parsed.status
    if parsed.failed:
        code = exit_code(parsed)
        cause = f"exit code {code}" if code is not None else " ".join(status.message.split())[:_MAX_MESSAGE]
        parts = (status.reason or status.job_status.lower(), cause)
        return TrainerStatus(
            state=TrainerState.FAILED,
            start=start,
            exit_code=code,
            message=": ".join(part for part in parts if part) or "it ended for an unknown cause",
        )
    if status.job_deployment_status == "Complete":
        return TrainerStatus(state=TrainerState.SUCCEEDED, start=start, exit_code=0, message="exit code 0")
    state = TrainerState.RUNNING if status.job_status == "RUNNING" else TrainerState.PENDING
    return TrainerStatus(state=state, start=start)
