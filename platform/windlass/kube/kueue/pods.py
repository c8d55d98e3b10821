"""Why an admitted workload does not run: read from its pods, their nodes and events. Quota is not the cause then."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from windlass.domain.jobs import Reason
from windlass.domain.reasons import CATALOGUE, ClusterCode
from windlass.kube.kueue.facts import ContainerStatus, Event, Node, Pod

_PULLING = frozenset(
    {"ErrImageNeverPull", "ErrImagePull", "ImageInspectError", "ImagePullBackOff", "InvalidImageName"}
    | {"RegistryUnavailable", "SignatureValidationFailed"}
)
_FAILING = frozenset({"CrashLoopBackOff", "CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
_NODE_GONE = frozenset({"DeletionByPodGC", "DeletionByTaintManager"})
"""Reasons of a pod's condition DisruptionTarget that mean its node."""
_LONGEST = 500
"""Characters of somebody else's message that a Reason quotes."""


def reason_of(code: ClusterCode, message: str, action: str = "", **facts: Any) -> Reason:
    """Return a Reason of the cluster, with the owner that the catalogue names."""
    return Reason(code=code.value, message=message, owner=CATALOGUE[code].owner, action=action, facts=facts)


def quoted(text: str) -> str:
    """Return the words of another program on one line, without control codes, no longer than a Reason may be."""
    words = "".join(letter for letter in " ".join(text.split()) if letter.isprintable())
    return words if len(words) <= _LONGEST else f"{words[:_LONGEST]}..."


def lacks_image(pod: Pod) -> bool:
    """Tell whether a container of the pod waits for an image that the node cannot get."""
    return any(_containers([pod], _PULLING))


def explain_pods(
    pods: Sequence[Pod], nodes: Mapping[str, Node] | None = None, events: Sequence[Event] = ()
) -> Reason | None:
    """Return why pods do not run, the gravest first; None when all of them run or have ended.

    ``nodes`` by name; None when they could not be read. A node that is not among them is gone.
    """
    live = [pod for pod in pods if pod.status.phase not in {"Succeeded", "Failed"}]
    for found in (
        _lost(live, nodes),
        _not_pulled(live, events),
        _failing(live),
        _unschedulable(live),
    ):
        if found is not None:
            return found
    if pods and all(pod.status.phase == "Running" for pod in live):
        return None
    starting = sum(pod.status.phase != "Running" for pod in live)
    words = f"{starting} of {len(pods)} pods are starting" if pods else "Its pods are being made"
    return reason_of(ClusterCode.PODS_STARTING, f"Admitted; {words[:1].lower()}{words[1:]}", pods=len(pods))


def _lost(pods: Iterable[Pod], nodes: Mapping[str, Node] | None) -> Reason | None:
    for pod in pods:
        name, target = pod.spec.node_name, pod.condition("DisruptionTarget")
        gone = target is not None and target.true and target.reason in _NODE_GONE
        silent = nodes is not None and name != "" and (name not in nodes or not nodes[name].ready)
        if gone or silent or pod.status.reason == "NodeLost":
            return reason_of(
                ClusterCode.NODE_LOST,
                f"Node {name} does not answer or is gone; pod {pod.metadata.name} was on it",
                "Wait: the pods are made again elsewhere; an admin looks after the node",
                node=name,
                pod=pod.metadata.name,
            )
    return None


def _containers(pods: Iterable[Pod], reasons: frozenset[str]) -> Iterator[tuple[Pod, ContainerStatus, str, str]]:
    for pod in pods:
        for one in pod.containers:
            waiting = one.state.waiting
            if waiting is not None and waiting.reason in reasons:
                yield pod, one, waiting.reason, waiting.message


def _not_pulled(pods: Iterable[Pod], events: Sequence[Event]) -> Reason | None:
    for pod, container, _, message in _containers(pods, _PULLING):
        told = quoted(_pull_error(pod, events) or message)
        return reason_of(
            ClusterCode.IMAGE_PULL_FAILED,
            f"Node {pod.spec.node_name} cannot get image {quoted(container.image)}: {told}",
            "Ask an admin to mend the image's name or the access to its registry",
            image=quoted(container.image),
            pod=pod.metadata.name,
            node=pod.spec.node_name,
            detail=told,
        )
    return None


def _pull_error(pod: Pod, events: Sequence[Event]) -> str:
    """Return what the kubelet said when it failed; the pod itself soon tells of nothing but the back-off."""
    told = [
        one
        for one in events
        if one.regarding.name == pod.metadata.name
        and one.regarding.uid in {"", pod.metadata.uid}
        and one.warning
        and "pull image" in one.message
    ]
    return max(told, key=lambda one: str(one.when)).message if told else ""


def _failing(pods: Iterable[Pod]) -> Reason | None:
    for pod, container, reason, message in _containers(pods, _FAILING):
        return reason_of(
            ClusterCode.CONTAINER_CANNOT_START,
            f"Container {container.name} of pod {pod.metadata.name} does not stay up ({reason}): {quoted(message)}",
            "Read the job's log; ask an admin when it holds nothing",
            pod=pod.metadata.name,
            container=container.name,
            cause=reason,
            restarts=container.restart_count,
            detail=quoted(message),
        )
    return None


def _unschedulable(pods: Sequence[Pod]) -> Reason | None:
    stuck = [
        (pod, found)
        for pod in pods
        if (found := pod.condition("PodScheduled")) is not None
        and found.status == "False"
        and found.reason == "Unschedulable"
    ]
    if not stuck:
        return None
    _, told = stuck[0]
    return reason_of(
        ClusterCode.UNSCHEDULABLE,
        f"Admitted, but no node has room for {len(stuck)} of {len(pods)} pods: {quoted(told.message)}",
        "Ask an admin to look at the pool's nodes: they are fewer, fuller or other than the quotas say",
        pods=len(pods),
        unschedulable=len(stuck),
        detail=quoted(told.message),
    )
