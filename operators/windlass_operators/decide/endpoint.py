"""ModelEndpoint: whether it can be rendered, and its status."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from windlass.kube.names import namespace_of, project_of
from windlass.kube.objects import Object, condition_status
from windlass.kube.resources import GPUPool, ModelEndpoint, Project
from windlass_operators.children import ApplyFailure
from windlass_operators.decide import READY, ConditionResult, apply_failed, conditions
from windlass_operators.render.model_endpoint import gpus_by_pool


def project_for(endpoint: ModelEndpoint, projects: Mapping[str, Project]) -> Project | None:
    """Return the project of the endpoint's namespace, None if there is none."""
    project = projects.get(project_of(endpoint.metadata.namespace or "") or "")
    if project is None or namespace_of(project.metadata.name) != endpoint.metadata.namespace:
        return None
    return project


def blocker(
    endpoint: ModelEndpoint, project: Project | None, pools: Mapping[str, GPUPool], older: int = 0
) -> ConditionResult | None:
    """Return why the endpoint must not be rendered, None if it can; ``older``: older endpoints of the project."""
    if project is None or project.metadata.deletion_timestamp:
        message = f"{endpoint.metadata.namespace} is not the namespace of a project, or the project is being deleted"
        return _not_ready("NoProject", message)
    return (
        _too_many_endpoints(project, older)
        or _too_many_replicas(endpoint, project)
        or _quota_problem(endpoint, project, pools)
    )


def status(
    endpoint: ModelEndpoint,
    blocker: ConditionResult | None,
    failures: Sequence[ApplyFailure],
    services: Sequence[Object],
    now: datetime,
) -> Object:
    """Return the status. ``services``: the RayServices of the endpoint."""
    result = blocker or apply_failed(failures) or _serving_condition(endpoint, services)
    generation = endpoint.metadata.generation
    (ready,) = conditions(endpoint.status.conditions, {READY: result}, generation, now)
    replicas = sum(int(service.get("status", {}).get("numServeEndpoints") or 0) for service in services)
    return {"readyReplicas": replicas, "observedGeneration": generation, "conditions": [ready.wire()]}


def _serving_condition(endpoint: ModelEndpoint, services: Sequence[Object]) -> ConditionResult:
    ready = {service["metadata"]["name"] for service in services if condition_status(service, "Ready") == "True"}
    desired = [version for version in endpoint.spec.versions if version.replicas]
    waiting = [version for version in desired if version.service not in ready]
    if waiting:
        names = ", ".join(f"{version.service} ({version.model})" for version in waiting)
        return _not_ready("Starting", f"RayServices are not ready: {names}; a Workload shows whether one waits")
    if not desired:
        return ConditionResult(status=True, reason="ScaledToZero", message="a request starts its replicas")
    return ConditionResult(status=True, reason="Serving", message="every RayService is ready")


def _too_many_endpoints(project: Project, older: int) -> ConditionResult | None:
    limit = project.spec.endpoints.max_endpoints
    if older < limit:
        return None
    message = f"the project is limited to {limit} endpoints, and {older} are older than this one"
    return _not_ready("TooManyEndpoints", f"{message}: delete one, or raise spec.endpoints.maxEndpoints of the Project")


def _too_many_replicas(endpoint: ModelEndpoint, project: Project) -> ConditionResult | None:
    limit = project.spec.endpoints.max_replicas
    most = max(version.replicas for version in endpoint.spec.versions)
    if most > limit:
        return _not_ready("TooManyReplicas", f"{most} replicas of a version exceed the project's limit of {limit}")
    return None


def _quota_problem(endpoint: ModelEndpoint, project: Project, pools: Mapping[str, GPUPool]) -> ConditionResult | None:
    problems = (_pool_problem(pool, count, project, pools) for pool, count in sorted(gpus_by_pool(endpoint).items()))
    return next((problem for problem in problems if problem is not None), None)


def _pool_problem(pool: str, gpus: int, project: Project, pools: Mapping[str, GPUPool]) -> ConditionResult | None:
    quota = next((quota for quota in project.spec.quotas if quota.pool == pool), None)
    if quota is None:
        return _not_ready("NoQuota", f"project {project.metadata.name} has no quota in pool {pool}")
    if pool not in pools:
        return _not_ready("UnknownPool", f"GPUPool {pool} does not exist or is invalid")
    limit = None
    if project.spec.cohort is None:
        limit = quota.nominal
    elif quota.borrowing_limit is not None:
        limit = quota.nominal + quota.borrowing_limit
    if limit is not None and gpus > limit:
        message = f"the replicas request {gpus} GPUs; the quota of pool {pool} allows at most {limit}"
        return _not_ready("ExceedsMaxQuota", message)
    return None


def _not_ready(reason: str, message: str) -> ConditionResult:
    return ConditionResult(status=False, reason=reason, message=message)
