"""ModelEndpoint -> RayService: one Ray Serve application for each version that the control plane has resolved.

The format is KubeRay's ray.io/v1 (1.6.2). What Kueue writes is not ours to own: ``suspend``, and the node selector and
tolerations of the flavor. Ray's own autoscaler stays off: Kueue admits a fixed number of pods, and more of them only by
a new admission.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from windlass.kube.names import ENDPOINT_LABEL, QUEUE_LABEL, SERVER_ACCOUNT, labels, local_queue_of
from windlass.kube.priorities import class_of
from windlass.kube.resources import GPUPool, ModelEndpoint, Project
from windlass.kube.resources.model_endpoint import ReplicaResources, ResolvedVersion
from windlass_operators.render import Object

PRIORITY_LABEL = "kueue.x-k8s.io/priority-class"
APPLICATION = "windlass_pipelines.serve.application:build"
"""What Ray Serve imports. No user's word is ever part of it."""
_HEAD: Mapping[str, str] = {"cpu": "1", "memory": "4Gi"}
_WORKERS = "replicas"


@dataclass(frozen=True, slots=True)
class Serving:
    """What the installation serves with."""

    image: str
    ray_version: str


def service_name(endpoint: str) -> str:
    """Return the RayService of an endpoint: with the endpoint's 40 characters within KubeRay's 47."""
    return f"ep-{endpoint}"


def replicas(endpoint: ModelEndpoint) -> int:
    """Return how many replicas each served version has."""
    return 0 if endpoint.spec.stopped else endpoint.spec.min_replicas


def gpus(endpoint: ModelEndpoint) -> int:
    """Return how many GPUs the endpoint asks for in all."""
    return endpoint.spec.resources.gpus * replicas(endpoint) * len(endpoint.status.resolved)


def objects(endpoint: ModelEndpoint, project: Project, pools: Mapping[str, GPUPool], serving: Serving) -> list[Object]:
    """Return the RayService, or nothing where the endpoint is stopped, asleep or not resolved yet."""
    if not endpoint.status.resolved or not replicas(endpoint):
        return []
    name, owner = endpoint.metadata.name, project.metadata.name
    marks = labels(owner, endpoint.spec.pool) | {ENDPOINT_LABEL: name}
    if endpoint.spec.pool is not None:
        marks |= {
            QUEUE_LABEL: local_queue_of(endpoint.spec.pool),
            PRIORITY_LABEL: class_of(min(0, project.spec.jobs.priority_ceiling)),
        }
    return [
        {
            "apiVersion": "ray.io/v1",
            "kind": "RayService",
            "metadata": {"name": service_name(name), "namespace": endpoint.metadata.namespace, "labels": marks},
            "spec": {
                # a second cluster beside the first is nothing that Kueue counts
                "upgradeStrategy": {"type": "None"},
                "serveConfigV2": json.dumps(_serve_config(endpoint), sort_keys=True),
                "rayClusterConfig": _cluster(endpoint, pools, serving),
            },
        }
    ]


def _serve_config(endpoint: ModelEndpoint) -> Object:
    """Return Ray Serve's own configuration; JSON is the part of YAML in which nothing can be smuggled in."""
    return {
        "proxy_location": "EveryNode",
        "applications": [_application(endpoint, version) for version in endpoint.status.resolved],
    }


def _application(endpoint: ModelEndpoint, version: ResolvedVersion) -> Object:
    key = f"{version.model}-v{version.number}"
    return {
        "name": key,
        "route_prefix": f"/{key}",
        "import_path": APPLICATION,
        "args": {
            "key": key,
            "uri": version.uri,
            "manifest_sha256": version.manifest_sha256,
            "model_name": endpoint.metadata.name,
            "replicas": replicas(endpoint),
            "target_ongoing_requests": endpoint.spec.target_ongoing_requests,
            "max_batch_size": endpoint.spec.max_batch_size,
        },
    }


def _cluster(endpoint: ModelEndpoint, pools: Mapping[str, GPUPool], serving: Serving) -> Object:
    wanted = endpoint.spec.resources
    pool = pools[endpoint.spec.pool] if endpoint.spec.pool is not None else None
    each = _resources(wanted, pool)
    count = replicas(endpoint) * len(endpoint.status.resolved)
    return {
        "rayVersion": serving.ray_version,
        "enableInTreeAutoscaling": False,
        "authOptions": {"mode": "token"},
        "headGroupSpec": {
            # the head runs no replica, so that no model can take the cluster's memory from it
            "rayStartParams": {"dashboard-host": "0.0.0.0", "num-cpus": "0", "num-gpus": "0"},  # noqa: S104 - in its pod
            "template": _pod("ray-head", serving.image, dict(_HEAD)),
        },
        "workerGroupSpecs": [
            {
                "groupName": _WORKERS,
                "replicas": count,
                "minReplicas": count,
                "maxReplicas": count,
                "rayStartParams": {},
                "template": _pod("ray-worker", serving.image, each),
            }
        ],
    }


def _resources(wanted: ReplicaResources, pool: GPUPool | None) -> dict[str, str]:
    found = {"cpu": wanted.cpu, "memory": wanted.memory}
    if pool is not None and wanted.gpus:
        found[pool.spec.resource_name] = str(wanted.gpus)
    return found


def _pod(container: str, image: str, amounts: dict[str, str]) -> Object:
    """Return a pod template that the *restricted* level of Pod Security takes."""
    return {
        "spec": {
            "serviceAccountName": SERVER_ACCOUNT,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": container,
                    "image": image,
                    "resources": {"requests": dict(amounts), "limits": dict(amounts)},
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                        "runAsNonRoot": True,
                    },
                }
            ],
        }
    }
