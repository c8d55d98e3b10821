"""Explains why an admitted workload does not run, from its pods, their nodes and events. Quota is not the cause."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from windlass.domain.jobs import ActionOwner, Reason
from windlass.domain.reasons import CATALOGUE, REDUCE_MEMORY, ClusterCode
from windlass.kube.kueue.cluster_objects import (
    ContainerStateTerminated,
    ContainerStatus,
    KubeEvent,
    Node,
    Pod,
)

IMAGE_REASONS = frozenset(
    {"ErrImageNeverPull", "ErrImagePull", "ImageInspectError", "ImagePullBackOff", "InvalidImageName"}
    | {"RegistryUnavailable", "SignatureValidationFailed"}
)
"""Reasons of a container whose image the node cannot pull."""
_START_REASONS = frozenset(
    {"CrashLoopBackOff", "CreateContainerConfigError", "CreateContainerError", "RunContainerError"}
)
_EVICTED_REASONS = frozenset({"Evicted", "NodeShutdown", "Preempting", "Terminated"})
"""Reasons of a pod that its kubelet ended."""
_REJECTED_REASONS = frozenset({"NodeAffinity", "UnexpectedAdmissionError"})
"""Reasons of a pod that its kubelet did not accept, besides ``OutOf<resource>``."""
_NODE_REASONS = frozenset({"DeletionByPodGC", "DeletionByTaintManager"})
"""Reasons of a pod's condition DisruptionTarget that are caused by its node."""
_OUT_OF_MEMORY = "OOMKilled"
_MORE_MEMORY: Mapping[str, str] = {
    "data": "WINDLASS_CLUSTER_DATA_MEMORY_MIB",
    "import": "WINDLASS_CLUSTER_DATA_MEMORY_MIB",
    "ray-head": "WINDLASS_CLUSTER_RAY_HEAD_MEMORY_MIB",
    "runner": "WINDLASS_CLUSTER_RUNNER_MEMORY_MIB",
}
"""Setting of an admin for the memory of a container, where no field of a job or dataset changes what it needs."""
_SIGNALLED, _MAX_SIGNAL = 128, 64
"""A container that a signal has killed reports 128 plus the number of the signal as its exit code."""
_MAX_QUOTE = 500
"""Characters of a foreign message that a Reason quotes."""


def cluster_reason(code: ClusterCode, message: str, action: str = "", **context: Any) -> Reason:
    """Return a Reason with the ``action_by`` of the catalogue."""
    return Reason(code=code.value, message=message, action_by=CATALOGUE[code].action_by, action=action, context=context)


def quoted(text: str) -> str:
    """Return a foreign message on one line, without control characters, truncated to 500 characters."""
    printable = _one_line(text)
    return printable if len(printable) <= _MAX_QUOTE else f"{printable[:_MAX_QUOTE]}..."


def _one_line(text: str) -> str:
    return "".join(character for character in " ".join(text.split()) if character.isprintable())


def _quoted_end(text: str) -> str:
    """Return the end of a foreign message, as ``quoted``: the last lines of a log name the cause."""
    printable = _one_line(text)
    return printable if len(printable) <= _MAX_QUOTE else f"...{printable[-_MAX_QUOTE:]}"


def lacks_image(pod: Pod) -> bool:
    """Return whether a container of the pod waits for an image that the node cannot pull."""
    return any(_waiting_containers([pod], IMAGE_REASONS))


def explain_pods(
    pods: Sequence[Pod], nodes: Mapping[str, Node] | None = None, events: Sequence[KubeEvent] = ()
) -> Reason | None:
    """Return why pods do not run, the most severe cause first; None if all of them run or have ended.

    ``nodes`` by name, None if they cannot be read. A node that is missing was removed.
    """
    live = [pod for pod in pods if pod.status.phase not in {"Succeeded", "Failed"}]
    for reason in (
        _oom_killed(live, stopped=True),
        _node_lost(live, nodes),
        _image_pull_failed(live, events),
        _container_cannot_start(live),
        _unschedulable(live),
    ):
        if reason is not None:
            return reason
    running = all(pod.status.phase == "Running" for pod in live)
    if pods and running and live:
        return None
    # the pod that replaces it does not run yet
    if (evicted := _evicted(pod for pod in pods if pod.status.phase == "Failed")) is not None:
        return evicted
    if pods and running:
        return None
    starting = sum(pod.status.phase != "Running" for pod in live)
    progress = f"{starting} of {len(pods)} pods are starting" if pods else "its pods are being created"
    return cluster_reason(ClusterCode.PODS_STARTING, f"Admitted; {progress}", pods=len(pods))


def explain_ended_pods(pods: Sequence[Pod]) -> Reason | None:
    """Return why a container or pod was ended or ended with an error; None if none was or did.

    A container that exceeded its memory limit comes first: others may fail as a consequence.
    """
    for explain in (_oom_killed, _evicted, _container_failed):
        if (reason := explain(pods)) is not None:
            return reason
    return None


def _evicted(pods: Iterable[Pod]) -> Reason | None:
    for pod in pods:
        target, cause = pod.condition("DisruptionTarget"), pod.status.reason
        disrupted = target is not None and target.true
        rejected = cause in _REJECTED_REASONS or cause.startswith("OutOf")
        if not disrupted and not rejected and cause not in _EVICTED_REASONS:
            continue
        name, node = pod.metadata.name, pod.spec.node_name
        detail = quoted((target.message if target is not None else "") or pod.status.message or cause)
        what = f"Node {node} rejected pod {name}" if rejected else f"Pod {name} was evicted from node {node}"
        return cluster_reason(
            ClusterCode.POD_EVICTED,
            f"{what}: {detail}",
            "Wait: it restarts by itself, from its last checkpoint; an admin checks the node if it recurs",
            pod=name,
            node=node,
            cause=cause or (target.reason if target is not None else ""),
            detail=detail,
        )
    return None


def _terminated(
    pods: Iterable[Pod], *, stopped: bool = False
) -> Iterator[tuple[Pod, ContainerStatus, ContainerStateTerminated]]:
    """Yield the containers that have ended, the restarted ones included; ``stopped``: only those that do not run."""
    for pod in pods:
        for container in pod.containers:
            if stopped and container.state.waiting is None and container.state.terminated is None:
                continue
            for state in (container.state, container.last_state):
                if state.terminated is not None:
                    yield pod, container, state.terminated


def _oom_killed(pods: Iterable[Pod], *, stopped: bool = False) -> Reason | None:
    for pod, container, ended in _terminated(pods, stopped=stopped):
        if ended.reason == _OUT_OF_MEMORY:
            setting = _MORE_MEMORY.get(container.name)
            reason = cluster_reason(
                ClusterCode.OOM_KILLED,
                f"Container {container.name} of pod {pod.metadata.name} exceeded its memory limit and was killed",
                REDUCE_MEMORY if setting is None else f"Ask an admin to raise {setting}",
                pod=pod.metadata.name,
                container=container.name,
                node=pod.spec.node_name,
            )
            return reason if setting is None else reason.model_copy(update={"action_by": ActionOwner.ADMIN})
    return None


def _container_failed(pods: Iterable[Pod]) -> Reason | None:
    for pod, container, ended in _terminated(pods):
        if ended.exit_code != 0:
            name, detail = pod.metadata.name, _quoted_end(ended.message or ended.reason)
            return cluster_reason(
                ClusterCode.CONTAINER_FAILED,
                f"Container {container.name} of pod {name} {_exit(ended.exit_code)}: {detail}",
                "Read the job's log; if it is empty, ask an admin",
                pod=pod.metadata.name,
                container=container.name,
                exit_code=ended.exit_code,
                detail=detail,
            )
    return None


def _exit(code: int) -> str:
    if _SIGNALLED < code <= _SIGNALLED + _MAX_SIGNAL:
        return f"was killed by signal {code - _SIGNALLED}"
    return f"ended with exit code {code}"


def _node_lost(pods: Iterable[Pod], nodes: Mapping[str, Node] | None) -> Reason | None:
    for pod in pods:
        name, target = pod.spec.node_name, pod.condition("DisruptionTarget")
        disrupted = target is not None and target.true and target.reason in _NODE_REASONS
        not_ready = nodes is not None and name != "" and (name not in nodes or not nodes[name].ready)
        if disrupted or not_ready or pod.status.reason == "NodeLost":
            return cluster_reason(
                ClusterCode.NODE_LOST,
                f"Node {name} of pod {pod.metadata.name} is not ready or was removed",
                "Wait: the pods are recreated on another node; an admin checks the node",
                node=name,
                pod=pod.metadata.name,
            )
    return None


def _waiting_containers(
    pods: Iterable[Pod], reasons: frozenset[str]
) -> Iterator[tuple[Pod, ContainerStatus, str, str]]:
    for pod in pods:
        for container in pod.containers:
            waiting = container.state.waiting
            if waiting is not None and waiting.reason in reasons:
                yield pod, container, waiting.reason, waiting.message


def _image_pull_failed(pods: Iterable[Pod], events: Sequence[KubeEvent]) -> Reason | None:
    for pod, container, _, message in _waiting_containers(pods, IMAGE_REASONS):
        detail = quoted(_pull_error(pod, events) or message)
        return cluster_reason(
            ClusterCode.IMAGE_PULL_FAILED,
            f"Node {pod.spec.node_name} cannot pull image {quoted(container.image)}: {detail}",
            "Ask an admin to fix the image's name or the access to its registry",
            image=quoted(container.image),
            pod=pod.metadata.name,
            node=pod.spec.node_name,
            detail=detail,
        )
    return None


def _pull_error(pod: Pod, events: Sequence[KubeEvent]) -> str:
    """Return the kubelet's error from the events; the pod's own status soon shows only the back-off."""
    pulls = [
        event
        for event in events
        if event.regarding.name == pod.metadata.name
        and event.regarding.uid in {"", pod.metadata.uid}
        and event.warning
        and "pull image" in event.message
    ]
    return max(pulls, key=lambda event: str(event.when)).message if pulls else ""


def _container_cannot_start(pods: Iterable[Pod]) -> Reason | None:
    for pod, container, reason, message in _waiting_containers(pods, _START_REASONS):
        before = container.last_state.terminated
        cause = reason if before is None else f"{reason}, exit code {before.exit_code}"
        return cluster_reason(
            ClusterCode.CONTAINER_CANNOT_START,
            f"Container {container.name} of pod {pod.metadata.name} does not start ({cause}): {quoted(message)}",
            "Ask an admin: the image or the settings of the installation do not fit the pod"
            if before is None
            else "Read the job's log; if it is empty, ask an admin",
            pod=pod.metadata.name,
            container=container.name,
            cause=reason,
            restarts=container.restart_count,
            detail=quoted(message),
            **({} if before is None else {"exit_code": before.exit_code}),
        )
    return None


def _unschedulable(pods: Sequence[Pod]) -> Reason | None:
    conditions = [
        condition
        for pod in pods
        if (condition := pod.condition("PodScheduled")) is not None
        and condition.status == "False"
        and condition.reason == "Unschedulable"
    ]
    if not conditions:
        return None
    detail = quoted(conditions[0].message)
    return cluster_reason(
        ClusterCode.UNSCHEDULABLE,
        f"Admitted, but no node has room for {len(conditions)} of {len(pods)} pods: {detail}",
        "Ask an admin to check the pool's nodes: they provide less than the quotas promise",
        pods=len(pods),
        unschedulable=len(conditions),
        detail=detail,
    )
