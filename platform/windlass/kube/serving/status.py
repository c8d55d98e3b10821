"""The status of applications, from ModelEndpoints, RayServices and pods; pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from windlass.domain.endpoints import AppState, AppStatus
from windlass.domain.jobs import ActionOwner, Reason
from windlass.kube.kueue.cluster_objects import Pod
from windlass.kube.kueue.pods import explain_pods, quoted
from windlass.kube.names import APPLICATION_ANNOTATION
from windlass.kube.objects import Object, condition_status
from windlass.kube.resources.model_endpoint import ServedVersion
from windlass.kube.serving.names import REPLICA_CONTAINER, url_of
from windlass.serving.failures import NO_MESSAGE, load_failure, reason

_PROGRESS: Final = frozenset({"Starting", "Serving", "Terminating"})
"""Reasons of a ModelEndpoint that are no problem."""
_WORD = re.compile(r"(?<=[a-z])(?=[A-Z])")


@dataclass(frozen=True)
class ObservedVersion:
    """A version of a ModelEndpoint with its RayService and pods; ``service`` is None until it exists."""

    version: ServedVersion
    namespace: str
    service: Object | None = None
    pods: Sequence[Pod] = ()

    @property
    def replica_pods(self) -> tuple[Pod, ...]:
        """Return the pods of replicas that are not being deleted."""
        return tuple(
            pod
            for pod in self.pods
            if pod.metadata.deletion_timestamp is None
            and any(container.name == REPLICA_CONTAINER for container in pod.spec.containers)
        )

    @property
    def endpoints(self) -> int:
        """Return the pods that accept requests, one for each replica."""
        if self.service is None or condition_status(self.service, "Ready") != "True":
            return 0
        return int(_status(self.service).get("numServeEndpoints") or 0)

    @property
    def application(self) -> tuple[str, str]:
        """Return status and message of the application as KubeRay reports them; empty before Serve has it."""
        if self.service is None:
            return "", ""
        status = _status(self.service)
        for part in ("pendingServiceStatus", "activeServiceStatus"):
            applications = (status.get(part) or {}).get("applicationStatuses") or {}
            if found := applications.get(self.version.key):
                deployments = (found.get("serveDeploymentStatuses") or {}).values()
                messages = [str(each.get("message") or "") for each in deployments]
                return str(found.get("status", "")), next(filter(None, messages), str(found.get("message") or ""))
        return "", ""

    @property
    def serves(self) -> bool:
        """Return whether it answers requests.

        A service keeps its endpoints while replicas are added or restarted. With one replica a restart is an outage.
        """
        status, _ = self.application
        return self.endpoints > 0 and (status != "UNHEALTHY" or self.version.replicas > 1)


def is_ready(pod: Pod) -> bool:
    """Return whether a pod of a replica answers: its proxy runs only while there is a replica."""
    return any(container.ready for container in pod.containers if container.name == REPLICA_CONTAINER)


def app_status(revisions: Sequence[ObservedVersion], problem: Reason | None) -> AppStatus:
    """Return the status of one application.

    ``revisions``: its versions with different images, the desired one first; an earlier one serves until the desired
    one does. ``problem``: why the ModelEndpoint cannot be served.
    """
    desired = revisions[0]
    serving = next((revision for revision in revisions if revision.serves), None)
    key, replicas = desired.version.key, desired.version.replicas
    if replicas == 0:
        return AppStatus(key=key, state=AppState.READY, message="scaled to zero")
    if serving is not None:
        return AppStatus(
            key=key,
            state=AppState.READY,
            url=url_of(serving.version.service, serving.namespace, key),
            waits=(problem or _surge_problem(serving)) if serving.endpoints < replicas else None,
            ready_replicas=serving.endpoints,
            desired_replicas=replicas,
        )
    status, message = desired.application
    # Serve answers, so the time to load the model begins.
    url = url_of(desired.version.service, desired.namespace, key) if status else ""
    failure = load_failure(message)
    if status == "DEPLOY_FAILED" or (failure is not None and failure.permanent):
        return AppStatus(
            key=key,
            state=AppState.FAILED,
            url=url,
            message=reason(message) or NO_MESSAGE,
            transient=failure is not None and not failure.permanent,
            desired_replicas=replicas,
        )
    waits = problem or _service_problem(desired)
    progress = "loading the model" if status else "the pods of the model server are starting"
    return AppStatus(
        key=key,
        state=AppState.DEPLOYING,
        url=url,
        message=waits.message if waits else progress,
        waits=waits,
        desired_replicas=replicas,
    )


def terminating_status(service: Object) -> AppStatus | None:
    """Return the status of an application whose RayService is not desired any more; None if it is not ours."""
    key = (service["metadata"].get("annotations") or {}).get(APPLICATION_ANNOTATION)
    return None if key is None else AppStatus(key=key, state=AppState.TERMINATING, message="stopping")


def endpoint_problem(endpoint: Mapping[str, Any]) -> Reason | None:
    """Return why the operators cannot serve a ModelEndpoint: a limit, a missing quota, a rejected object."""
    for condition in _status(endpoint).get("conditions") or ():
        if condition["type"] == "Ready" and condition["status"] != "True" and condition["reason"] not in _PROGRESS:
            code = _WORD.sub("_", condition["reason"]).lower()
            return Reason(code=code, message=quoted(condition["message"]), action_by=ActionOwner.ADMIN)
    return None


def _service_problem(revision: ObservedVersion) -> Reason | None:
    if revision.service is None:
        return None
    for condition in _status(revision.service).get("conditions") or ():
        if condition["type"] == "Ready" and condition["reason"] in {"ValidationFailed", "InitializingTimeout"}:
            message = f"KubeRay rejects the RayService: {quoted(condition['message'])}"
            return Reason(code="service_rejected", message=message, action_by=ActionOwner.ADMIN)
    version = revision.version
    if version.pool is not None and (revision.service.get("spec") or {}).get("rayClusterConfig", {}).get("suspend"):
        return _waiting_for_quota(version, version.replicas)
    return _pod_problem(revision.pods)


def _surge_problem(revision: ObservedVersion) -> Reason | None:
    """Return why additional replicas of a serving version do not run."""
    version = revision.version
    waiting = [pod for pod in revision.replica_pods if not is_ready(pod)]
    gated = sum(_is_gated(pod) for pod in waiting)
    return _waiting_for_quota(version, gated) if gated else _pod_problem(waiting)


def _is_gated(pod: Pod) -> bool:
    """Return whether Kueue has not admitted the pod."""
    scheduled = pod.condition("PodScheduled")
    return scheduled is not None and scheduled.status == "False" and scheduled.reason == "SchedulingGated"


def _waiting_for_quota(version: ServedVersion, waiting: int) -> Reason:
    replicas = "1 replica" if waiting == 1 else f"{waiting} replicas"
    message = f"the queue of pool {version.pool} has not admitted {replicas} with {version.gpus} GPU each"
    action = "free GPUs of the pool, or raise the quota: `windlass quota show` shows what is used"
    return Reason(code="waiting_for_quota", message=message, action_by=ActionOwner.ADMIN, action=action)


def _pod_problem(pods: Sequence[Pod]) -> Reason | None:
    found = explain_pods(pods)
    return None if found is None or found.code == "pods_starting" else found


def _status(subject: Mapping[str, Any]) -> Mapping[str, Any]:
    status = subject.get("status")
    return status if isinstance(status, dict) else {}
