"""ModelEndpoint: whether it may be rendered, and what is said about it."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from windlass.kube.names import namespace_of, project_of
from windlass.kube.objects import Object
from windlass.kube.resources import GPUPool, ModelEndpoint, Project, condition
from windlass_operators.children import Refusal
from windlass_operators.decide import READY, Verdict, refused
from windlass_operators.decide.claims import condition as condition_of
from windlass_operators.render.model_endpoint import Serving, gpus, replicas


def project_for(endpoint: ModelEndpoint, projects: Mapping[str, Project]) -> Project | None:
    """Return the project whose namespace the endpoint is in, None elsewhere."""
    name = project_of(endpoint.metadata.namespace or "")
    found = projects.get(name or "")
    return found if found and namespace_of(found.metadata.name) == endpoint.metadata.namespace else None


def obstacle(
    endpoint: ModelEndpoint, project: Project | None, pools: Mapping[str, GPUPool], serving: Serving, older: int = 0
) -> Verdict | None:
    """Return why the endpoint must not be rendered, None when it may; ``older`` endpoints of its project come first."""
    if project is None or project.metadata.deletion_timestamp:
        return _no("NoProject", f"{endpoint.metadata.namespace} is not the namespace of a project that stays")
    if not serving.image:
        return _no("ServingNotConfigured", "the installation names no image to serve with (WINDLASS_OPERATORS_IMAGE)")
    return (
        _too_young(project, older)
        or _over(endpoint, project)
        or _pool(endpoint, project, pools)
        or _unresolved(endpoint)
    )


def conditions(
    endpoint: ModelEndpoint,
    obstacle: Verdict | None,
    refusals: Sequence[Refusal],
    service: Object | None,
    now: datetime,
) -> Object:
    """Return the part of the status that is the operators': ``resolved`` belongs to the control plane."""
    verdict = obstacle or refused(refusals) or _serving(endpoint, service)
    generation = endpoint.metadata.generation
    said = condition(
        endpoint.status.conditions,
        READY,
        status=verdict.status,
        reason=verdict.reason,
        message=verdict.message,
        generation=generation,
        now=now,
    )
    return {"observedGeneration": generation, "conditions": [said.wire()]}


def _serving(endpoint: ModelEndpoint, service: Object | None) -> Verdict:
    if not replicas(endpoint):
        return _no("Stopped", "no replica is wished" if not endpoint.spec.stopped else "spec.stopped is set")
    if service is None or condition_of(service, "Ready") != "True":
        return _no("Starting", "the RayService is not ready; its Workload says whether it waits for quota")
    return Verdict(status=True, reason="Serving", message="the RayService answers")


def _too_young(project: Project, older: int) -> Verdict | None:
    bound = project.spec.endpoints.max_endpoints
    if older < bound:
        return None
    said = f"the project may have {bound} endpoints, and {older} are older than this one"
    return _no("TooManyEndpoints", f"{said}: delete one, or have spec.endpoints.maxEndpoints of the Project raised")


def _over(endpoint: ModelEndpoint, project: Project) -> Verdict | None:
    bound = project.spec.endpoints.max_replicas
    if endpoint.spec.max_replicas > bound:
        said = f"maxReplicas {endpoint.spec.max_replicas} is above the project's bound of {bound}"
        return _no("TooManyReplicas", said)
    return None


def _pool(endpoint: ModelEndpoint, project: Project, pools: Mapping[str, GPUPool]) -> Verdict | None:
    pool = endpoint.spec.pool
    if pool is None:
        return None
    quota = next((quota for quota in project.spec.quotas if quota.pool == pool), None)
    if quota is None:
        return _no("NoQuota", f"project {project.metadata.name} has no quota of pool {pool}")
    if pool not in pools:
        return _no("UnknownPool", f"there is no GPUPool {pool}")
    most = None
    if project.spec.cohort is None:
        most = quota.nominal
    elif quota.borrowing_limit is not None:
        most = quota.nominal + quota.borrowing_limit
    if most is not None and gpus(endpoint) > most:
        return _no("NeverFits", f"its replicas ask for {gpus(endpoint)} GPUs, and the quota of {pool} allows {most}")
    return None


def _unresolved(endpoint: ModelEndpoint) -> Verdict | None:
    if endpoint.status.resolved:
        return None
    return _no("NotResolved", "the control plane has not said yet which model versions these are")


def _no(reason: str, message: str) -> Verdict:
    return Verdict(status=False, reason=reason, message=message)
