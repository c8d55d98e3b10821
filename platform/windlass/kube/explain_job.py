"""Explains a job or task of a cluster: one Reason from all layers; pure.

``explain_waiting_job``: why a job does not run now, from Kueue, its RayJob, its pods and their nodes.
``explain_trainer_failure``: why its trainer has failed, from its RayJob and pods.
"""

import re
from collections.abc import Sequence

from windlass.domain.jobs import Reason
from windlass.domain.reasons import CATALOGUE, REDUCE_MEMORY, ClusterCode
from windlass.kit.tracebacks import summarize_traceback
from windlass.kube.kueue.cluster_objects import Pod, RayJob
from windlass.kube.kueue.explain import WorkloadObservation, explain_pending
from windlass.kube.kueue.models import find_condition
from windlass.kube.kueue.pods import cluster_reason, explain_ended_pods, quoted

_EXIT_CODE = re.compile(r"failed with exit code (-?\d+)")
_NO_POD_PROBLEM = frozenset({ClusterCode.NOT_QUEUED, ClusterCode.PODS_STARTING})
"""Codes that say only that pods do not exist or run yet."""
_OUT_OF_MEMORY = "OutOfMemoryError"
"""Part of Ray's exceptions for a process that its memory monitor has killed, before the kernel kills the container."""
_DEADLINES = frozenset({"DeadlineExceeded", "PreRunningDeadlineExceeded"})
_CREATE_ERRORS = re.compile(r"^Failed(?:Create|Delete)[A-Za-z]*\s+")


def explain_waiting_job(observation: WorkloadObservation, ray_job: RayJob | None) -> Reason | None:
    """Return why a job does not run; None if it runs or has ended.

    KubeRay alone knows why pods cannot be created, so it is asked while Kueue and the pods have no other cause.
    """
    reason = explain_pending(observation)
    if reason is None or reason.code not in _NO_POD_PROBLEM or ray_job is None:
        return reason
    return _pods_not_created(ray_job) or reason


def explain_trainer_failure(ray_job: RayJob, pods: Sequence[Pod]) -> Reason | None:
    """Return why the trainer of a RayJob has failed; None if it has not.

    A pod that was killed or evicted is the cause of what the trainer and KubeRay report.
    """
    if not ray_job.failed:
        return None
    reported = _trainer_crashed(ray_job) or _ray_job_failed(ray_job)
    ended = explain_ended_pods(pods)
    if ended is None or ended.code == ClusterCode.CONTAINER_FAILED:
        return reported
    return ended.model_copy(update={"context": {**reported.context, **ended.context}})


def exit_code(ray_job: RayJob) -> int | None:
    """Return the exit code of a trainer that has failed; None if it is not known."""
    match = _EXIT_CODE.search(ray_job.status.message)
    return int(match[1]) if match else None


def _pods_not_created(ray_job: RayJob) -> Reason | None:
    failure = find_condition(ray_job.status.ray_cluster_status.conditions, "ReplicaFailure")
    if failure is None or not failure.true:
        return None
    detail = quoted(_CREATE_ERRORS.sub("", failure.message))
    return cluster_reason(
        ClusterCode.PODS_NOT_CREATED,
        f"Admitted, but the cluster rejects its pods: {detail}",
        "Ask an admin: the ResourceQuota of the project's namespace or an admission policy is too strict",
        cause=failure.reason,
        detail=detail,
    )


def _ray_job_failed(ray_job: RayJob) -> Reason:
    """Return what KubeRay reports about a RayJob that has failed."""
    status = ray_job.status
    cause = status.reason or status.job_status.lower() or status.job_deployment_status
    detail = quoted(status.message)
    context = {"cause": cause, "detail": detail}
    if status.reason in _DEADLINES:
        return cluster_reason(
            ClusterCode.MAX_DURATION_EXCEEDED,
            f"The trainer ran longer than the job's maximum duration: {detail}",
            CATALOGUE[ClusterCode.MAX_DURATION_EXCEEDED].action,
            **context,
        )
    return cluster_reason(
        ClusterCode.RAY_CLUSTER_FAILED,
        f"The Ray cluster ended the trainer: {': '.join(part for part in (cause, detail) if part)}",
        "Retry; ask an admin if it recurs",
        **context,
    )


def _trainer_crashed(ray_job: RayJob) -> Reason | None:
    """Return how the trainer ended; None if KubeRay or Ray ended it."""
    code = exit_code(ray_job)
    if code is None:
        return None
    summary = summarize_traceback(ray_job.status.message)
    cause = f"exit code {code}" if summary is None else quoted(str(summary))
    context = {"exit_code": code} | ({} if summary is None else {"exception": cause})
    if summary is not None and _OUT_OF_MEMORY in summary.exception:
        return cluster_reason(
            ClusterCode.OOM_KILLED, f"The trainer used too much memory: {cause}", REDUCE_MEMORY, **context
        )
    return cluster_reason(
        ClusterCode.TRAINER_CRASHED,
        f"The trainer ended without a result: {cause}",
        "Read the job's log, change the spec or the data, and retry",
        **context,
    )
