"""A batch Job of the control plane, which runs one program to its end: its manifest, and its state from its pods."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from windlass.domain.jobs import Reason
from windlass.kube.jobs.pod_spec import RestrictedPod
from windlass.kube.kinds import BATCH_JOB
from windlass.kube.kueue.cluster_objects import Pod
from windlass.kube.kueue.pods import explain_ended_pods, explain_pods
from windlass.kube.names import MANAGED_BY, OWNER, PAUSED_ANNOTATION, TASK_LABEL
from windlass.kube.objects import Object, condition_status

_RETRIES: Final = 3
"""How often a pod is replaced that failed by itself; pods that the cluster has evicted are replaced without limit."""


def task_job(
    kind: str, name: str, namespace: str, template: RestrictedPod, labels: Mapping[str, str] | None = None
) -> Object:
    """Return the Job that runs ``template``. There is at most one pod at a time, also while a node does not answer."""
    all_labels = {MANAGED_BY: OWNER, **(labels or {}), TASK_LABEL: kind}
    return {
        "apiVersion": BATCH_JOB.api_version,
        "kind": BATCH_JOB.kind,
        "metadata": {"name": name, "namespace": namespace, "labels": all_labels},
        "spec": {
            "backoffLimit": _RETRIES,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {
                "rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]
            },
            "template": {
                "metadata": {"labels": all_labels},
                "spec": {**template.spec(), "restartPolicy": "Never"},
            },
        },
    }


class TaskState(StrEnum):
    """The state of a task."""

    RUNNING = "running"
    """It runs, or waits for its pod."""
    ENDED = "ended"
    """Its program has ended with exit code 0."""
    FAILED = "failed"
    """Its program has failed, and is not started again."""
    PAUSED = "paused"
    """It is suspended until it is resumed."""
    STOPPED = "stopped"
    """It was stopped before its program had ended."""


@dataclass(frozen=True)
class TaskJob:
    """A Job and its pods as observed."""

    job: Object
    pods: Sequence[Pod]

    @property
    def state(self) -> TaskState:
        """The state of the task."""
        if condition_status(self.job, "Complete") == "True":
            return TaskState.ENDED
        if condition_status(self.job, "Failed") == "True":
            return TaskState.FAILED
        if self.ended_pod is not None:
            return TaskState.ENDED  # its Job is not complete yet
        if not self.job["spec"].get("suspend"):
            return TaskState.RUNNING
        is_paused = PAUSED_ANNOTATION in self.job["metadata"].get("annotations", {})
        return TaskState.PAUSED if is_paused else TaskState.STOPPED

    @property
    def ended_pod(self) -> Pod | None:
        """The pod whose program has ended with exit code 0; None while it runs, and when that pod is gone."""
        for pod in self.pods:
            ended = [each.state.terminated for each in pod.status.container_statuses]
            if ended and all(each is not None and each.exit_code == 0 for each in ended):
                return pod
        return None

    @property
    def message(self) -> str | None:
        """The termination message of the ended program; None while it runs, and when its pod is gone."""
        pod = self.ended_pod
        ended = pod.status.container_statuses[0].state.terminated if pod is not None else None
        return ended.message if ended is not None else None

    @property
    def failure(self) -> str:
        """Why it has failed."""
        if self.reason is not None:
            return self.reason.message
        conditions: Sequence[Mapping[str, Any]] = self.job.get("status", {}).get("conditions", ())
        messages = (str(each.get("message", "")) for each in conditions if each["type"] == "Failed")
        return next(messages, "its pod is gone")

    @property
    def reason(self) -> Reason | None:
        """Why it does not run or has failed; None if it runs, if its pods are just starting, and if it is not known."""
        if self.state is TaskState.FAILED:
            return explain_ended_pods(self.pods)
        reason = explain_pods(self.pods) if self.state is TaskState.RUNNING else None
        return None if reason is None or reason.code == "pods_starting" else reason
