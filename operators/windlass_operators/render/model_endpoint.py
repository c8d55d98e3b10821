"""ModelEndpoint -> one RayService for each served version (ADR 0046).

The format is KubeRay's ray.io/v1 (1.6.2). Fields that Kueue writes are not set: ``suspend``, and the flavor's node
selector and tolerations. Ray's autoscaler is off: it needs a token of the API server in the namespace of a project.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence

from windlass.domain.endpoints import ReplicaRange, ServedApp
from windlass.kube.jobs.pod_spec import CONTEXT_PATH, WORKSPACE_PATH, RestrictedPod, cpu_threads
from windlass.kube.names import (
    APPLICATION_ANNOTATION,
    ENDPOINT_LABEL,
    PRIORITY_LABEL,
    QUEUE_LABEL,
    SERVER_ACCOUNT,
    SERVICE_LABEL,
    labels,
    local_queue_of,
)
from windlass.kube.priority_classes import priority_class_name
from windlass.kube.ray_nodes import RAY_READINESS_PROBE, ray_resources
from windlass.kube.resources import GPUPool, ModelEndpoint, Project
from windlass.kube.resources.model_endpoint import ReplicaResources, ServedVersion
from windlass.kube.serving.names import REPLICA_CONTAINER, SERVE_PORT, credentials_of
from windlass.runtime.context import TRANSFER_TOKEN_VARIABLE, TRANSFER_URL_VARIABLE
from windlass.serving.environment import (
    APPLICATION,
    CACHE_VARIABLE,
    CREDENTIALS_VARIABLE,
    DEPLOYMENT_NAME,
    TOKEN_FILE,
)
from windlass_operators.render import Object

ELASTIC_ANNOTATION = "kueue.x-k8s.io/elastic-job"
"""Kueue's annotation: another number of replicas is admitted beside the running ones, instead of evicting them."""
_WORKERS = "replicas"
_SERVE_PORTS = ({"name": "serve", "containerPort": SERVE_PORT},)
_PROXY_READINESS_PROBE: Object = {
    "httpGet": {"path": "/-/healthz", "port": SERVE_PORT},
    "periodSeconds": 2,
    "timeoutSeconds": 5,
    "failureThreshold": 2,
}
"""For a pod with a proxy of Ray Serve: KubeRay's own probe waits ten seconds first."""
_DRAIN_SECONDS = 10
"""How long a pod that is deleted still answers the requests that it has accepted."""
_GRACE_SECONDS = 30


def gpus_by_pool(endpoint: ModelEndpoint) -> Counter[str]:
    """Return the total number of GPUs that the endpoint requests of each pool."""
    total: Counter[str] = Counter()
    for version in endpoint.spec.versions:
        if version.pool is not None:
            total[version.pool] += version.gpus * (version.replicas + version.draining)
    return total


def objects(endpoint: ModelEndpoint, project: Project, pools: Mapping[str, GPUPool]) -> list[Object]:
    """Return the RayServices; a version that is scaled to zero has none, so that its head and quota are free."""
    return [_service(endpoint, version, project, pools) for version in endpoint.spec.versions if version.replicas]


def _service(endpoint: ModelEndpoint, version: ServedVersion, project: Project, pools: Mapping[str, GPUPool]) -> Object:
    pool, owner = version.pool, project.metadata.name
    metadata: Object = {
        "name": version.service,
        "namespace": endpoint.metadata.namespace,
        "labels": labels(owner, pool) | {ENDPOINT_LABEL: endpoint.metadata.name},
        "annotations": {APPLICATION_ANNOTATION: version.key},
    }
    if pool is not None:
        metadata["labels"] |= {
            QUEUE_LABEL: local_queue_of(pool),
            PRIORITY_LABEL: priority_class_name(min(0, project.spec.jobs.priority_ceiling)),
        }
        metadata["annotations"] |= {ELASTIC_ANNOTATION: "true"}
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": metadata,
        "spec": {
            # Another image is another RayService, which Kueue counts; it does not count a second cluster of this one.
            "upgradeStrategy": {"type": "None"},
            "excludeHeadPodFromServeSvc": True,
            "serveConfigV2": json.dumps(serve_config(endpoint, version), sort_keys=True),
            "rayClusterConfig": _cluster(endpoint, version, pools),
        },
    }


def serve_config(endpoint: ModelEndpoint, version: ServedVersion) -> Object:
    """Return Ray Serve's configuration; as JSON, which prevents YAML injection.

    The number of replicas is not an argument of the application: Serve restarts one whose arguments change.
    """
    resources = endpoint.spec.resources
    app = _app(endpoint, version).model_dump(mode="json", exclude={"desired_replicas"})
    arguments = {"app": app, "threads": cpu_threads(resources.cpu)}
    if version.gpus:
        arguments["gpus"] = version.gpus
    return {
        "proxy_location": "EveryNode",
        "http_options": {"host": "0.0.0.0", "port": SERVE_PORT},  # noqa: S104 - in its pod
        "logging_config": {"enable_access_log": False},
        "applications": [
            {
                "name": version.key,
                "route_prefix": f"/{version.key}",
                "import_path": APPLICATION,
                "args": arguments,
                "deployments": [{"name": DEPLOYMENT_NAME, "num_replicas": version.replicas}],
            }
        ],
    }


def _app(endpoint: ModelEndpoint, version: ServedVersion) -> ServedApp:
    return ServedApp(
        key=version.key,
        project=endpoint.spec.project,
        endpoint=endpoint.spec.endpoint,
        task=version.task,
        artifact_uri=version.uri,
        digest=version.digest,
        model_name=version.model,
        replicas=ReplicaRange(),
        max_batch_size=version.max_batch_size,
        batch_wait_ms=version.batch_wait_ms,
    )


def _cluster(endpoint: ModelEndpoint, version: ServedVersion, pools: Mapping[str, GPUPool]) -> Object:
    amounts = _resources(endpoint.spec.resources, version, pools)
    pods = version.replicas + version.draining
    # KubeRay would delete any pods, also those with the remaining replicas
    removed = {"scaleStrategy": {"workersToDelete": list(version.removed_pods)}} if version.removed_pods else {}
    return {
        "rayVersion": version.ray_version,
        "enableInTreeAutoscaling": False,
        "authOptions": {"mode": "token"},
        "headGroupSpec": {
            # the head runs no replicas, so that a model cannot exhaust its memory
            "rayStartParams": {"dashboard-host": "0.0.0.0", **ray_resources(cpus=0, gpus=0)},  # noqa: S104 - in its pod
            # without ports of its own, it gets KubeRay's: the operator needs the one of the dashboard
            "template": _template("ray-head", endpoint, version, endpoint.spec.head.wire(), RAY_READINESS_PROBE),
        },
        "workerGroupSpecs": [
            {
                "groupName": _WORKERS,
                "replicas": pods,
                "minReplicas": pods,
                "maxReplicas": pods,
                **removed,
                # one logical CPU: one replica for each pod
                "rayStartParams": ray_resources(cpus=1, gpus=version.gpus),
                "template": _template(
                    REPLICA_CONTAINER, endpoint, version, amounts, _PROXY_READINESS_PROBE, _SERVE_PORTS
                ),
            }
        ],
    }


def _resources(requests: ReplicaResources, version: ServedVersion, pools: Mapping[str, GPUPool]) -> dict[str, str]:
    amounts = {"cpu": requests.cpu, "memory": requests.memory}
    if version.pool is not None and version.gpus:
        amounts[pools[version.pool].spec.resource_name] = str(version.gpus)
    return amounts


def _template(
    container: str,
    endpoint: ModelEndpoint,
    version: ServedVersion,
    amounts: Mapping[str, str],
    probe: Object,
    ports: Sequence[Object] = (),
) -> Object:
    template = RestrictedPod(
        container=container,
        image=version.image,
        amounts=amounts,
        secret=credentials_of(version.service),
        service_account=SERVER_ACCOUNT,
        grace_seconds=_GRACE_SECONDS,
        readiness_probe=probe,
        variables={
            CREDENTIALS_VARIABLE: CONTEXT_PATH,
            CACHE_VARIABLE: WORKSPACE_PATH,
            TRANSFER_URL_VARIABLE: endpoint.spec.internal_url,
            TRANSFER_TOKEN_VARIABLE: f"{CONTEXT_PATH}/{TOKEN_FILE}",
        },
    )
    spec = template.spec()
    spec["containers"][0]["lifecycle"] = {"preStop": {"sleep": {"seconds": _DRAIN_SECONDS}}}
    if ports:
        spec["containers"][0]["ports"] = list(ports)
    return {"metadata": {"labels": {SERVICE_LABEL: version.service}}, "spec": spec}
