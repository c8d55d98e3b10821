"""The catalogue of reason codes of jobs, versions and endpoints: who can act, and the meaning.

Quota codes are those of the scheduler (``windlass.domain.quota``), also in a cluster. ``ClusterCode`` are those of a
cluster. Codes are a public interface: a code is never reused with another meaning.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple

from windlass.domain.jobs import ActionOwner
from windlass.domain.quota.queue_decisions import QuotaCode


class ClusterCode(StrEnum):
    """Reason codes of a job or task in a cluster other than quota codes."""

    NOT_QUEUED = "not_queued"
    NOT_EVALUATED_YET = "not_evaluated_yet"
    MISCONFIGURED = "misconfigured"
    NO_MATCHING_NODES = "no_matching_nodes"
    PREEMPTED = "preempted"
    EVICTED = "evicted"
    DEACTIVATED = "deactivated"
    QUEUE_ON_HOLD = "queue_on_hold"
    WAITING_FOR_CHECKS = "waiting_for_checks"
    WAITING_FOR_PODS_READY = "waiting_for_pods_ready"
    PODS_STARTING = "pods_starting"
    PODS_NOT_READY = "pods_not_ready"
    UNSCHEDULABLE = "unschedulable"
    IMAGE_PULL_FAILED = "image_pull_failed"
    CONTAINER_CANNOT_START = "container_cannot_start"
    NODE_LOST = "node_lost"
    POD_EVICTED = "pod_evicted"
    OOM_KILLED = "oom_killed"
    CONTAINER_FAILED = "container_failed"
    PODS_NOT_CREATED = "pods_not_created"
    MAX_DURATION_EXCEEDED = "max_duration_exceeded"
    TRAINER_CRASHED = "trainer_crashed"
    RAY_CLUSTER_FAILED = "ray_cluster_failed"
    PIPELINE_STEP_NOT_STARTED = "pipeline_step_not_started"
    PIPELINE_STATE_UNKNOWN = "pipeline_state_unknown"
    PIPELINE_RUN_TERMINATED = "pipeline_run_terminated"
    UNKNOWN = "unknown"


class CatalogueEntry(NamedTuple):
    """Who can usually act, the meaning of a code, and what to do if that is always the same."""

    action_by: ActionOwner
    meaning: str
    action: str = ""


REDUCE_MEMORY: Final = "Reduce training.batch_size or training.max_length, or ask an admin for more memory per GPU"
_CHANGE_DATA: Final = "Change the dataset, and submit the job again"
_OTHER_BASE: Final = "Choose another base model, and submit the job again"
_TRAINING: Final[Mapping[str, CatalogueEntry]] = {
    "artifact_unsafe": CatalogueEntry(
        ActionOwner.USER, "The trained model would contain a type of file that is not allowed.", _OTHER_BASE
    ),
    "base_model_unusable": CatalogueEntry(ActionOwner.USER, "The base model cannot be loaded.", _OTHER_BASE),
    "input_damaged": CatalogueEntry(
        ActionOwner.ADMIN,
        "A file of the dataset or base model is damaged.",
        "Ask an admin to restore it",
    ),
    "loss_not_finite": CatalogueEntry(
        ActionOwner.USER,
        "The training loss became infinite or not a number.",
        "Reduce training.learning_rate, or train with fp32",
    ),
    "method_unsuitable": CatalogueEntry(
        ActionOwner.USER, "The method does not fit the base model.", "Choose another training method"
    ),
    "no_chat_template": CatalogueEntry(ActionOwner.USER, "The base model has no chat template.", _OTHER_BASE),
    "no_end_token": CatalogueEntry(ActionOwner.USER, "The base model has no token that ends an answer.", _OTHER_BASE),
    "no_held_out_rows": CatalogueEntry(ActionOwner.USER, "The dataset has no rows to evaluate on.", _CHANGE_DATA),
    "no_training_rows": CatalogueEntry(ActionOwner.USER, "The dataset has no complete rows to train on.", _CHANGE_DATA),
    "nothing_to_learn": CatalogueEntry(
        ActionOwner.USER, "No answer begins within the maximum length.", "Raise training.max_length"
    ),
    "out_of_memory": CatalogueEntry(
        ActionOwner.USER, "The trainer could not allocate memory on its GPU or its machine.", REDUCE_MEMORY
    ),
    "template_not_incremental": CatalogueEntry(
        ActionOwner.USER, "The chat template changes earlier turns when an answer follows.", _OTHER_BASE
    ),
    "template_refused": CatalogueEntry(
        ActionOwner.USER, "The chat template of the base model rejects a conversation.", _CHANGE_DATA
    ),
    "too_few_labels": CatalogueEntry(ActionOwner.USER, "Classification needs at least two labels.", _CHANGE_DATA),
    "unknown_label": CatalogueEntry(
        ActionOwner.USER, "A label occurs in held-out rows and not in training rows.", _CHANGE_DATA
    ),
}
"""Codes of the results of trainers."""


CATALOGUE: Mapping[str, CatalogueEntry] = {
    **_TRAINING,
    QuotaCode.WAITING_FOR_QUOTA: CatalogueEntry(
        ActionOwner.NONE, "The project's quota and the quota it may borrow are in use."
    ),
    QuotaCode.BEHIND_HEAD_OF_QUEUE: CatalogueEntry(
        ActionOwner.NONE,
        "Jobs start in order, and a job ahead of it waits. `user` when that job can never start.",
    ),
    QuotaCode.WAITING_FOR_PREEMPTED: CatalogueEntry(
        ActionOwner.NONE, "Jobs are being preempted for it and have not stopped yet."
    ),
    QuotaCode.BORROWING_LIMIT_REACHED: CatalogueEntry(
        ActionOwner.ADMIN, "Quota is idle, but the project has reached its borrowing limit."
    ),
    QuotaCode.EXCEEDS_MAX_QUOTA: CatalogueEntry(
        ActionOwner.USER, "It requests more GPUs than the quota can ever allow."
    ),
    QuotaCode.NO_QUOTA_IN_POOL: CatalogueEntry(ActionOwner.ADMIN, "The project has no quota in the pool."),
    QuotaCode.UNKNOWN_POOL: CatalogueEntry(ActionOwner.USER, "The pool does not exist."),
    QuotaCode.EXCEEDS_POOL_CAPACITY: CatalogueEntry(ActionOwner.USER, "It requests more GPUs than the pool has."),
    QuotaCode.EXCEEDS_JOB_LIMIT: CatalogueEntry(
        ActionOwner.USER, "It requests more GPUs than the pool's limit per job."
    ),
    QuotaCode.QUEUE_STOPPED: CatalogueEntry(ActionOwner.ADMIN, "An admin stopped the project's queue."),
    ClusterCode.NOT_QUEUED: CatalogueEntry(
        ActionOwner.NONE, "Kueue has not created a Workload for it yet. `admin` when an event reports that it cannot."
    ),
    ClusterCode.NOT_EVALUATED_YET: CatalogueEntry(ActionOwner.NONE, "Kueue has not evaluated its Workload yet."),
    ClusterCode.MISCONFIGURED: CatalogueEntry(
        ActionOwner.ADMIN, "A queue, flavor, namespace or limit is missing or conflicts with it."
    ),
    ClusterCode.NO_MATCHING_NODES: CatalogueEntry(
        ActionOwner.ADMIN, "Its pods cannot run on the pool's nodes because of taints or labels."
    ),
    ClusterCode.PREEMPTED: CatalogueEntry(
        ActionOwner.NONE, "Another job preempted it; it is stopping, or queued and resumes automatically."
    ),
    ClusterCode.EVICTED: CatalogueEntry(ActionOwner.NONE, "Kueue evicted it for another cause; it is queued again."),
    ClusterCode.DEACTIVATED: CatalogueEntry(
        ActionOwner.USER, "It was deactivated, by a user or by a limit, and is not queued again."
    ),
    ClusterCode.QUEUE_ON_HOLD: CatalogueEntry(
        ActionOwner.ADMIN, "An admission gate or StopPolicy Hold keeps it out of the queue."
    ),
    ClusterCode.WAITING_FOR_CHECKS: CatalogueEntry(
        ActionOwner.ADMIN, "Its quota is reserved, but an admission check has not passed."
    ),
    ClusterCode.WAITING_FOR_PODS_READY: CatalogueEntry(
        ActionOwner.NONE, "Pods of jobs admitted earlier are not ready yet."
    ),
    ClusterCode.PODS_STARTING: CatalogueEntry(ActionOwner.NONE, "It is admitted; its pods are starting."),
    ClusterCode.PODS_NOT_READY: CatalogueEntry(
        ActionOwner.ADMIN, "Its pods were not ready in time, so its quota was given back; it is admitted again later."
    ),
    ClusterCode.UNSCHEDULABLE: CatalogueEntry(ActionOwner.ADMIN, "It is admitted, but its pods fit no node."),
    ClusterCode.IMAGE_PULL_FAILED: CatalogueEntry(
        ActionOwner.ADMIN, "It is admitted, but a node cannot pull its image."
    ),
    ClusterCode.CONTAINER_CANNOT_START: CatalogueEntry(
        ActionOwner.ADMIN, "It is admitted, but a container does not start or exits."
    ),
    ClusterCode.NODE_LOST: CatalogueEntry(ActionOwner.ADMIN, "A node that it runs on is not ready or was deleted."),
    ClusterCode.POD_EVICTED: CatalogueEntry(
        ActionOwner.ADMIN, "A pod of it was evicted from its node, or the node rejected it."
    ),
    ClusterCode.OOM_KILLED: CatalogueEntry(ActionOwner.USER, "A container of it exceeded its memory limit."),
    ClusterCode.CONTAINER_FAILED: CatalogueEntry(ActionOwner.ADMIN, "A container of it ended with an error."),
    ClusterCode.PODS_NOT_CREATED: CatalogueEntry(
        ActionOwner.ADMIN, "It is admitted, but the cluster rejects its pods, as for a ResourceQuota or a policy."
    ),
    ClusterCode.MAX_DURATION_EXCEEDED: CatalogueEntry(
        ActionOwner.USER,
        "It ran longer than its maximum duration.",
        "Raise max_duration_seconds, or train less, and retry",
    ),
    ClusterCode.TRAINER_CRASHED: CatalogueEntry(
        ActionOwner.USER, "The trainer ended without a result; the message has its exception and exit code."
    ),
    ClusterCode.RAY_CLUSTER_FAILED: CatalogueEntry(
        ActionOwner.ADMIN, "KubeRay or Ray ended it before its trainer had ended."
    ),
    ClusterCode.PIPELINE_STEP_NOT_STARTED: CatalogueEntry(
        ActionOwner.ADMIN, "The pod of its run on the Kubeflow Pipelines server does not start."
    ),
    ClusterCode.PIPELINE_STATE_UNKNOWN: CatalogueEntry(
        ActionOwner.ADMIN, "The Kubeflow Pipelines server reports a state of its run that Windlass does not know."
    ),
    ClusterCode.PIPELINE_RUN_TERMINATED: CatalogueEntry(
        ActionOwner.USER, "Its run was terminated on the Kubeflow Pipelines server."
    ),
    ClusterCode.UNKNOWN: CatalogueEntry(ActionOwner.ADMIN, "Kueue reports a cause that Windlass does not know."),
    "deploy_failed": CatalogueEntry(
        ActionOwner.USER, "Its version is registered, but cannot be deployed to the endpoint."
    ),
    "gates_failed": CatalogueEntry(ActionOwner.USER, "A version did not pass its evaluation gates."),
    "storage_limit_reached": CatalogueEntry(
        ActionOwner.USER, "The files of its project exceed the limit, so it is not trained or not registered."
    ),
    "replica_failed": CatalogueEntry(ActionOwner.USER, "A model server of the endpoint failed."),
    "rollout_failed": CatalogueEntry(
        ActionOwner.USER, "The rollout failed; the endpoint still serves its previous versions."
    ),
    "result_rejected": CatalogueEntry(
        ActionOwner.USER, "The control plane rejected the result of its training; the message has the cause."
    ),
    "run_failed": CatalogueEntry(ActionOwner.USER, "Its pipeline failed."),
    "run_not_reconciled": CatalogueEntry(
        ActionOwner.ADMIN, "The worker cannot reconcile its run, or cannot store the last reports of the ended run."
    ),
    "runs_lost": CatalogueEntry(ActionOwner.ADMIN, "Its processes were lost too often."),
    "endpoint_not_owned": CatalogueEntry(
        ActionOwner.ADMIN,
        "A ModelEndpoint of this name exists, and this control plane has not created it.",
    ),
    "service_rejected": CatalogueEntry(ActionOwner.ADMIN, "The cluster rejects the model server of the endpoint."),
    "serving_unavailable": CatalogueEntry(ActionOwner.ADMIN, "The serving back end is not available."),
    "start_failed": CatalogueEntry(
        ActionOwner.ADMIN, "It is admitted, but its run cannot be started; the worker retries."
    ),
    "starting": CatalogueEntry(ActionOwner.NONE, "The endpoint's model server is starting."),
    "training_failed": CatalogueEntry(ActionOwner.USER, "Training ended with an error."),
}
"""``action_by`` is the usual case; a Reason has the value for its job."""
