"""Endpoints: wishes of a project. The worker rolls them out (``rollouts``)."""

from dataclasses import dataclass

from windlass.domain.endpoints import Endpoint, EndpointSpec, EndpointState, TrafficTarget
from windlass.domain.errors import ConflictError, InvalidError
from windlass.domain.models import Decision, ModelVersion
from windlass.domain.specs import Task
from windlass.ports import ProjectData, UnitOfWork
from windlass.services.backing import Backing, ProjectUseCases
from windlass.services.projects import check_version


@dataclass(frozen=True)
class Endpoints(ProjectUseCases):
    """The use cases of endpoints."""

    def page(self, limit: int, after: str | None) -> list[Endpoint]:
        """List endpoints, newest first."""
        with self.backing.database.read() as work:
            return work.of(self.project).endpoints.page(limit, after, newest_first=True)

    def get(self, name: str) -> Endpoint:
        """Return the endpoint of this name."""
        with self.backing.database.read() as work:
            return work.of(self.project).endpoints.get(name=name)

    def create(self, name: str, spec: EndpointSpec) -> Endpoint:
        """Wish a new endpoint.

        Raises:
            ConflictError: the name is taken.
            InvalidError: it names a version that does not exist or was rejected, or mixes tasks.
        """
        with self.backing.database.write() as work:
            if work.of(self.project).endpoints.find(name=name):
                raise ConflictError(f"an endpoint {name} exists already", hint="change it, or choose another name")
            endpoint = wish_endpoint(self.backing, work, self.project, name, spec, self.caller.principal.user)
            self.audit(work, "endpoint.create", endpoint.id, self.project)
        return endpoint

    def update(self, name: str, version: int, spec: EndpointSpec) -> Endpoint:
        """Wish another spec; what is live goes on answering until the new one is healthy."""
        with self.backing.database.write() as work:
            endpoint = work.of(self.project).endpoints.get(name=name)
            check_version("endpoint", endpoint.version, version)
            saved = wish_endpoint(self.backing, work, self.project, name, spec, self.caller.principal.user)
            self.audit(work, "endpoint.update", saved.id, self.project)
        return saved

    def delete(self, name: str, version: int) -> Endpoint:
        """Wish the endpoint away; the row goes when its applications are gone."""
        with self.backing.database.write() as work:
            endpoints = work.of(self.project).endpoints
            endpoint = endpoints.get(name=name)
            check_version("endpoint", endpoint.version, version)
            gone = {"state": EndpointState.DELETING, "changed_at": self.backing.clock.now()}
            saved = endpoints.save(endpoint.model_copy(update=gone))
            self.audit(work, "endpoint.delete", endpoint.id, self.project)
        return saved


def wish_endpoint(
    backing: Backing, work: UnitOfWork, project: str, name: str, spec: EndpointSpec, user: str
) -> Endpoint:
    """Store a wish for an endpoint, new or known. Raises as ``Endpoints.create`` but for a name that exists."""
    inside, now = work.of(project), backing.clock.now()
    task = _task_of(inside, spec)
    known = inside.endpoints.find(name=name)
    if known is None:
        endpoint = Endpoint(
            id=backing.new_id("ep"),
            project=project,
            name=name,
            task=task,
            spec=spec,
            state=EndpointState.PENDING,
            created_by=user,
            created_at=now,
            changed_at=now,
        )
        inside.endpoints.add(endpoint)
        return endpoint
    if known.state is EndpointState.DELETING:
        raise ConflictError(f"endpoint {name} is being deleted", hint="repeat the request when it is gone")
    if known.task is not task:
        raise InvalidError.field("/spec/traffic", f"endpoint {name} serves {known.task}, the new models do {task}")
    if known.spec == spec and not known.tried:
        return known  # the same wish again is a no-op, unless it failed: then it is the wish to try again
    wish = {"spec": spec, "generation": known.generation + 1, "changed_at": now, "tried": ()}
    return inside.endpoints.save(known.model_copy(update=wish))


def resolve(inside: ProjectData, target: TrafficTarget, pointer: str = "/spec/traffic") -> ModelVersion:
    """Return the version that a target means now.

    Raises:
        InvalidError: no such model, version or alias, or the version was rejected.
    """
    model = inside.models.find(name=target.model)
    if model is None:
        raise InvalidError.field(pointer, f"there is no model {target.model}")
    number = target.version if target.version is not None else model.aliases.get(target.alias or "")
    if number is None:
        known = ", ".join(model.aliases) or "none"
        raise InvalidError.field(pointer, f"model {model.name} has no alias {target.alias}; it has: {known}")
    version = inside.model_versions.find(model=model.id, number=number)
    if version is None:
        raise InvalidError.field(pointer, f"model {model.name} has no version {number}")
    if version.decision is Decision.REJECTED:
        why = version.reason.message if version.reason else "it was rejected"
        raise InvalidError.field(pointer, f"{model.name}@{number} may not be served: {why}", hint="choose a candidate")
    return version


def _task_of(inside: ProjectData, spec: EndpointSpec) -> Task:
    tasks = set()
    for number, target in enumerate(spec.traffic):
        resolve(inside, target, f"/spec/traffic/{number}")
        tasks.add(inside.models.get(name=target.model).task)
    if len(tasks) != 1:
        raise InvalidError.field("/spec/traffic", "the models of one endpoint must do the same task")
    return tasks.pop()
