"""Endpoints of a project: their specs. The worker rolls them out (``rollouts``)."""

from dataclasses import dataclass

from windlass.domain.capabilities import Capability
from windlass.domain.endpoints import Endpoint, EndpointSpec, EndpointState, TrafficTarget
from windlass.domain.errors import ConflictError, FieldProblem, InvalidError, LimitReachedError
from windlass.domain.jobs import UNFINISHED_STATES
from windlass.domain.limits import ProjectLimits
from windlass.domain.models import Decision, ModelVersion, common_purposes
from windlass.domain.projects import Pool, StoredQuota
from windlass.domain.records import Deletion
from windlass.domain.specs import Task
from windlass.ports import ReadProjectData, ReadUnitOfWork, UnitOfWork
from windlass.services.base import ProjectService, ServiceDependencies
from windlass.services.budgets import check_endpoint_budget
from windlass.services.projects import check_version


@dataclass(frozen=True)
class Endpoints(ProjectService):
    """Create, read, update and delete endpoints of one project."""

    def page(self, limit: int, after: str | None) -> list[Endpoint]:
        """List endpoints, newest first."""
        with self.deps.database.read() as uow:
            return uow.project(self.project).endpoints.page(limit, after, newest_first=True)

    def get(self, name: str) -> Endpoint:
        """Return the endpoint of this name."""
        with self.deps.database.read() as uow:
            return uow.project(self.project).endpoints.get({"name": name})

    def purposes(self, endpoint: Endpoint) -> tuple[str, ...]:
        """Return what all models that an endpoint serves may be used for; empty: anything."""
        with self.deps.database.read() as uow:
            ids = [target.model_version for target in endpoint.live]
            versions = uow.project(self.project).model_versions.all({"id": ids}) if ids else []
        return common_purposes(version.purposes for version in versions) or ()

    def create(self, name: str, spec: EndpointSpec) -> Endpoint:
        """Create an endpoint.

        Raises:
            ConflictError: the name is taken.
            InvalidError: it names a version that does not exist or was rejected, mixes tasks, or has too many replicas.
            LimitReachedError: the project has too many endpoints or replicas.
            BudgetExceededError: it is to hold more GPUs than before, and the project has used its budget.
            CapabilityMissingError: this server serves no endpoints.
        """
        self.deps.require(Capability.SERVING)
        with self.deps.database.write() as uow:
            if uow.project(self.project).endpoints.find({"name": name}):
                raise ConflictError(f"an endpoint {name} exists already", hint="change it, or choose another name")
            endpoint = set_endpoint_spec(self.deps, uow, self.project, name, spec, self.caller.principal.user)
            self.audit(uow, "endpoint.create", endpoint.id, name, self.project, after=endpoint)
        return endpoint

    def update(self, name: str, version: int, spec: EndpointSpec) -> Endpoint:
        """Change the spec; the live targets keep serving until the new ones are healthy."""
        with self.deps.database.write() as uow:
            current = _current(uow.project(self.project), name, version)
            saved = set_endpoint_spec(self.deps, uow, self.project, name, spec, self.caller.principal.user)
            self.audit(uow, "endpoint.update", saved.id, name, self.project, before=current, after=saved)
        return saved

    def delete(self, name: str, version: int, *, dry_run: bool = False) -> Deletion:
        """Delete the endpoint; its row is removed after its applications have stopped. ``dry_run`` changes nothing."""
        with self.deps.database.read() as uow:
            repos = uow.project(self.project)
            deletion = _deletion(repos, _current(repos, name, version))
        if not dry_run:
            with self.deps.database.write() as uow:
                endpoints = uow.project(self.project).endpoints
                endpoint = _current(uow.project(self.project), name, version)
                update = {"state": EndpointState.DELETING, "changed_at": self.deps.clock.now()}
                endpoints.save(endpoint.model_copy(update=update))
                self.audit(uow, "endpoint.delete", endpoint.id, name, self.project, before=endpoint)
        return deletion


def _current(repos: ReadProjectData, name: str, version: int) -> Endpoint:
    """Return an endpoint.

    Raises:
        PreconditionFailedError: it has another version.
    """
    endpoint = repos.endpoints.get({"name": name})
    check_version("endpoint", endpoint.version, version)
    return endpoint


def _deletion(repos: ReadProjectData, endpoint: Endpoint) -> Deletion:
    consequences = [f"it stops serving {target.model}@{target.number}" for target in endpoint.live]
    consequences.append("its name is free when its replicas have stopped")
    consequences += [
        f"job {job.id} creates the endpoint again when it deploys its model"
        for job in repos.jobs.all({"state": UNFINISHED_STATES})
        if job.spec.deploy is not None and job.spec.deploy.endpoint == endpoint.name
    ]
    return Deletion(
        kind="endpoint",
        id=endpoint.id,
        name=endpoint.name,
        contains={"replica": endpoint.ready_replicas} if endpoint.ready_replicas else {},
        consequences=tuple(consequences),
    )


def set_endpoint_spec(
    deps: ServiceDependencies, uow: UnitOfWork, project: str, name: str, spec: EndpointSpec, user: str
) -> Endpoint:
    """Create an endpoint or set the spec of an existing one. Raises as ``Endpoints.create`` but for the name."""
    repos, now = uow.project(project), deps.clock.now()
    task = _task_of(repos, spec)
    existing = repos.endpoints.find({"name": name})
    _check_limits(deps.limits, repos, existing, spec)
    _check_gpus(deps, uow, project, spec)
    if spec.needs_more_gpus_than(existing.spec if existing is not None else None):
        check_endpoint_budget(uow, project, now)
    if existing is None:
        endpoint = Endpoint(
            id=deps.new_id("ep"),
            project=project,
            name=name,
            task=task,
            spec=spec,
            state=EndpointState.PENDING,
            created_by=user,
            created_at=now,
            changed_at=now,
        )
        repos.endpoints.add(endpoint)
        return endpoint
    if existing.state is EndpointState.DELETING:
        raise ConflictError(f"endpoint {name} is being deleted", hint="repeat the request when it is gone")
    if existing.task is not task:
        raise InvalidError.field("/spec/traffic", f"endpoint {name} serves {existing.task}, the new models do {task}")
    if existing.spec == spec and not existing.attempted_apps:
        return existing  # an unchanged spec is a no-op, unless its rollout failed: then it is retried
    update = {"spec": spec, "generation": existing.generation + 1, "changed_at": now, "attempted_apps": ()}
    return repos.endpoints.save(existing.model_copy(update=update))


def resolve(repos: ReadProjectData, target: TrafficTarget, pointer: str = "/spec/traffic") -> ModelVersion:
    """Resolve a traffic target to a model version.

    Raises:
        InvalidError: no such model, version or alias, or the version was rejected.
    """
    model = repos.models.find({"name": target.model})
    if model is None:
        raise InvalidError.field(pointer, f"there is no model {target.model}")
    number = target.version if target.version is not None else model.aliases.get(target.alias or "")
    if number is None:
        aliases = ", ".join(model.aliases) or "none"
        raise InvalidError.field(pointer, f"model {model.name} has no alias {target.alias}; it has: {aliases}")
    version = repos.model_versions.find({"model": model.id, "number": number})
    if version is None:
        raise InvalidError.field(pointer, f"model {model.name} has no version {number}")
    if version.decision is Decision.REJECTED:
        why = version.reason.message if version.reason else "it was rejected"
        raise InvalidError.field(pointer, f"{model.name}@{number} may not be served: {why}", hint="choose a candidate")
    return version


def _check_limits(limits: ProjectLimits, repos: ReadProjectData, existing: Endpoint | None, spec: EndpointSpec) -> None:
    """Refuse a spec that needs more replicas than allowed; one that needs no more than before is always accepted."""
    before = existing.spec.max_replicas if existing else 0
    if spec.max_replicas > before and spec.max_replicas > limits.replicas_per_endpoint:
        raise InvalidError.field(
            "/spec/replicas/max",
            f"{spec.replicas.max} replicas for each of {len(spec.traffic)} versions are {spec.max_replicas}, "
            f"the limit of an endpoint is {limits.replicas_per_endpoint}",
            hint="lower it (`--max-replicas`), or ask an admin to raise WINDLASS_LIMIT_MAX_ENDPOINT_REPLICAS",
        )
    others = [endpoint for endpoint in repos.endpoints.all() if existing is None or endpoint.id != existing.id]
    if existing is None and len(others) >= limits.endpoints:
        raise LimitReachedError(
            f"the project has {len(others)} endpoints, the limit is {limits.endpoints}",
            hint="delete an endpoint, or ask an admin to raise WINDLASS_LIMIT_MAX_ENDPOINTS",
            context={"endpoints": len(others), "limit": limits.endpoints},
        )
    used = sum(endpoint.spec.max_replicas for endpoint in others)
    left = max(0, limits.replicas_per_project - used)
    if spec.max_replicas > before and spec.max_replicas > left:
        raise LimitReachedError(
            f"the other endpoints of the project may use {used} replicas, this one needs {spec.max_replicas}, "
            f"the limit of the project is {limits.replicas_per_project}",
            hint="lower `--max-replicas`, stop an endpoint (`windlass endpoint update NAME --stop`), "
            "or ask an admin to raise WINDLASS_LIMIT_MAX_PROJECT_REPLICAS",
            fields=[FieldProblem("/spec/replicas/max", f"the project has {left} replicas left")],
            context={"used": used, "requested": spec.max_replicas, "limit": limits.replicas_per_project},
        )


def _check_gpus(deps: ServiceDependencies, uow: UnitOfWork, project: str, spec: EndpointSpec) -> None:
    """Refuse GPUs that the project can never get. Whether they are free now is up to the queue of the pool."""
    if not spec.gpus:
        return
    deps.require(Capability.GPU_SERVING)
    pool = uow.pools.find({"name": spec.pool or ""})
    if pool is None:
        names = ", ".join(each.name for each in uow.pools.all()) or "none"
        raise InvalidError.field("/spec/pool", f"there is no pool {spec.pool}; the pools are: {names}")
    quota = uow.project(project).quotas.find({"pool": pool.name})
    if quota is None:
        hint = "choose a pool of `windlass quota show`, or ask an admin for a quota"
        raise InvalidError.field("/spec/pool", f"the project has no quota in pool {pool.name}", hint=hint)
    limit = _most_gpus(uow, pool, quota)
    owner = f"pool {pool.name} has" if limit == pool.capacity else f"the project's quota in pool {pool.name} allows"
    if spec.min_gpus > limit:
        raise InvalidError.field(
            "/spec/replicas/min",
            f"the replicas need {spec.min_gpus} GPUs, {owner} at most {limit}",
            hint="lower `--min-replicas`, serve fewer versions at once, or ask an admin for a higher quota",
        )


def most_gpus(uow: ReadUnitOfWork, project: str, pool_name: str) -> int:
    """Return the GPUs of a pool that a project can get at most; 0 without a quota."""
    pool, quota = uow.pools.find({"name": pool_name}), uow.project(project).quotas.find({"pool": pool_name})
    return 0 if pool is None or quota is None else _most_gpus(uow, pool, quota)


def _most_gpus(uow: ReadUnitOfWork, pool: Pool, quota: StoredQuota) -> int:
    limit = quota.nominal
    if uow.projects.get({"id": quota.project}).cohort is not None:
        limit = pool.capacity if quota.borrowing_limit is None else quota.nominal + quota.borrowing_limit
    return min(limit, pool.capacity)


def _task_of(repos: ReadProjectData, spec: EndpointSpec) -> Task:
    tasks, purposes = set(), []
    for number, target in enumerate(spec.traffic):
        purposes.append(resolve(repos, target, f"/spec/traffic/{number}").purposes)
        tasks.add(repos.models.get({"name": target.model}).task)
    if len(tasks) != 1:
        raise InvalidError.field("/spec/traffic", "the models of one endpoint must do the same task")
    if common_purposes(purposes) is None:
        raise InvalidError.field(
            "/spec/traffic", "the data of these models allows no purpose in common", hint="use an endpoint for each"
        )
    return tasks.pop()
