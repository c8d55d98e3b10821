"""Other numbers of replicas of a running RayService; pure.

Ray Serve and KubeRay each get a number, of replicas and of pods, and neither knows which ones the other removes. So
there are first fewer replicas: Serve lets one finish its requests, and the proxy of its pod ends, so that the pod is
not ready any more. Then this pod is deleted by its name. Meanwhile it is counted as draining.
"""

from windlass.kube.resources.model_endpoint import MAX_REMOVED_PODS, ServedVersion
from windlass.kube.serving.status import ObservedVersion, is_ready


def resized(desired: ServedVersion, current: ServedVersion, observed: ObservedVersion) -> ServedVersion:
    """Return the desired version with the pods that drain, and those that are removed.

    Args:
        desired: the version with its new number of replicas.
        current: the version as it was written last.
        observed: its RayService and pods.
    """
    draining = current.replicas + current.draining - desired.replicas
    if desired.replicas == 0 or draining < 0 or not observed.serves:
        return desired  # nothing can drain, or all pods are needed
    if draining == 0:
        return desired.model_copy(update={"removed_pods": current.removed_pods})
    pods = observed.replica_pods
    ready = sum(is_ready(pod) for pod in pods)
    idle = sorted(pod.metadata.name for pod in pods if not is_ready(pod))
    removed = tuple(idle[: min(draining, MAX_REMOVED_PODS)]) if ready == desired.replicas else ()
    if not removed:
        return desired.model_copy(update={"draining": draining, "removed_pods": current.removed_pods})
    terminating = {pod.metadata.name for pod in observed.pods} - {pod.metadata.name for pod in pods}
    before = tuple(name for name in current.removed_pods if name in terminating)[:MAX_REMOVED_PODS]
    return desired.model_copy(update={"draining": draining - len(removed), "removed_pods": (*before, *removed)})
