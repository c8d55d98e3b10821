"""Projects and their members."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from windlass.domain.capabilities import Capability
from windlass.domain.datasets import VersionState
from windlass.domain.errors import ConflictError, PreconditionFailedError
from windlass.domain.jobs import UNFINISHED_STATES
from windlass.domain.projects import Member, Permission, Project, Role, SubjectKind
from windlass.domain.records import Deletion, Tombstone
from windlass.domain.storage_layout import project_prefix
from windlass.kit.numbers import count
from windlass.ports import ReadUnitOfWork, UnitOfWork
from windlass.services.access import memberships
from windlass.services.base import BaseService, ProjectService, stored_bytes
from windlass.services.object_limits import require_below_limit


def check_version(noun: str, stored: int, expected: int) -> None:
    """Check the version of an If-Match request.

    Raises:
        PreconditionFailedError: the stored object has another version.
    """
    if stored != expected:
        raise PreconditionFailedError(
            f"the {noun} is at version {stored}, not {expected}", hint="read it again and repeat the change"
        )


@dataclass(frozen=True)
class Projects(BaseService):
    """Create, list, change and delete tenants."""

    def create(self, name: str, display_name: str, cohort: str | None, priority_ceiling: int = 0) -> Project:
        """Create a project; the caller becomes its admin.

        Raises:
            ConflictError: the name is taken.
        """
        self.deps.require(Capability.PROJECT_WRITES)
        with self.deps.database.write() as uow:
            return self.add(uow, name, display_name, cohort, priority_ceiling)

    def add(
        self, uow: UnitOfWork, name: str, display_name: str, cohort: str | None, priority_ceiling: int = 0
    ) -> Project:
        """Create a project in the given transaction. Raises as ``create``."""
        project = Project(
            id=self.deps.new_id("prj"),
            name=name,
            display_name=display_name,
            cohort=cohort,
            priority_ceiling=priority_ceiling,
            created_at=self.deps.clock.now(),
        )
        members = uow.project(project.id).members
        uow.projects.add(project)
        if self.deps.data_keys is not None:
            self.deps.data_keys.create(uow, project.id)
        members.add(Member(project=project.id, name=self.caller.principal.user, role=Role.ADMIN))
        self.audit(uow, "project.create", project.id, name, project.id, after=project)
        return project

    def page(self, limit: int, after: str | None) -> list[Project]:
        """List the projects that the caller may read, by id. Ids sort by creation time, except those from a cluster."""
        principal = self.caller.principal
        with self.deps.database.read() as uow:
            if principal.may(Permission.PROJECTS_READ) and principal.project is None:
                uow.platform()
                return uow.projects.page(limit, after)
            return uow.projects.page(limit, after, {"id": list(memberships(uow, principal))})

    def memberships(self) -> dict[str, Role]:
        """Return the caller's role by project name."""
        with self.deps.database.read() as uow:
            roles = memberships(uow, self.caller.principal)
            return {project.name: roles[project.id] for project in uow.projects.all({"id": list(roles)})}

    def update(self, uid: str, version: int, changes: dict[str, Any]) -> Project:
        """Change the display name, the cohort or the priority ceiling."""
        self.deps.require(Capability.PROJECT_WRITES)
        with self.deps.database.write() as uow:
            uow.project(uid)
            project = uow.projects.get({"id": uid})
            check_version("project", project.version, version)
            saved = uow.projects.save(project.model_copy(update=changes))
            self.audit(uow, "project.update", uid, project.name, uid, before=project, after=saved)
        return saved

    def delete(self, uid: str, version: int, *, dry_run: bool = False) -> Deletion:
        """Delete a project with its contents; ``dry_run`` only returns what that would remove.

        It is gone and its name is free at once; its rows and files go later.

        Raises:
            ConflictError: the project has live jobs or endpoints.
        """
        self.deps.require(Capability.PROJECT_WRITES)
        with self.deps.database.read() as uow:
            project = _deletable(uow, uid, version)
            contents = _contents(uow, uid)
        size = stored_bytes(self.deps.store, project_prefix(uid))
        deletion = Deletion(kind="project", id=uid, name=project.name, contains=contents, stored_bytes=size)
        if not dry_run:
            with self.deps.database.write() as uow:
                _deletable(uow, uid, version)
                discard_project(uow, uid, self.deps.clock.now())
                self.audit(uow, "project.delete", uid, project.name, uid, before=project)
        return deletion


def _deletable(uow: ReadUnitOfWork, uid: str, version: int) -> Project:
    """Return a project that may be deleted. Raises as ``Projects.delete``."""
    repos = uow.project(uid)
    project = uow.projects.get({"id": uid})
    check_version("project", project.version, version)
    jobs, endpoints = repos.jobs.count({"state": UNFINISHED_STATES}), repos.endpoints.count()
    if jobs or endpoints:
        raise ConflictError(
            f"project {project.name} has {count(jobs, 'active job')} and {count(endpoints, 'endpoint')}",
            hint="cancel the jobs and delete the endpoints first",
        )
    return project


def _contents(uow: ReadUnitOfWork, uid: str) -> dict[str, int]:
    repos = uow.project(uid)
    models = [model.id for model in repos.models.all()]
    contents = {
        "dataset": repos.datasets.count(),
        "dataset version": repos.dataset_versions.count(),
        "job": repos.jobs.count(),
        "model": len(models),
        "model version": repos.model_versions.count({"model": models}),
        "member": repos.members.count(),
        "quota": repos.quotas.count(),
        "key": uow.keys.count({"project": uid}),
    }
    return {kind: number for kind, number in contents.items() if number}


def discard_project(uow: UnitOfWork, uid: str, now: datetime) -> None:
    """Mark a project as deleted and remove what the worker's loops would act on; retention removes the rest."""
    repos = uow.project(uid)
    for version in repos.dataset_versions.all({"state": VersionState.PROCESSING}):
        uow.outbox.put("dataset.purge", uid, version.id)  # kills the process that writes its files
        repos.dataset_versions.delete({"id": version.id})
    for job in repos.jobs.all({"state": UNFINISHED_STATES}):
        uow.tombstones.mark(Tombstone(project=uid, job=job.id), now)
    uow.keys.delete({"project": uid})
    for rows in (
        repos.members,
        repos.service_accounts,
        repos.quotas,
        repos.quota_changes,
        repos.endpoints,
        repos.data_keys,
    ):
        rows.delete({})
    uow.tombstones.mark(Tombstone(project=uid), now)


@dataclass(frozen=True)
class Members(ProjectService):
    """The members of a project and their roles."""

    def all(self) -> list[Member]:
        """List the groups, then the users, each by name."""
        with self.deps.database.read() as uow:
            return uow.project(self.project).members.all()

    def put(self, kind: SubjectKind, name: str, role: Role) -> Member:
        """Set the role of a user or a group; add it if needed.

        Raises:
            ConflictError: the project would have no admin any more.
            LimitReachedError: the project has too many members.
        """
        self.deps.require(Capability.PROJECT_WRITES)
        with self.deps.database.write() as uow:
            members = uow.project(self.project).members
            existing = members.find({"kind": kind, "name": name})
            if existing is None:
                limit = self.deps.limits.members
                require_below_limit("members", "the project", members.count(), limit, "WINDLASS_LIMIT_MAX_MEMBERS")
                member = Member(project=self.project, kind=kind, name=name, role=role)
                members.add(member)
            else:
                self._require_an_admin(members.all(), existing, role)
                member = members.save(existing.model_copy(update={"role": role}))
            self.audit(uow, "member.put", f"{kind}:{name}", name, self.project, before=existing, after=member)
        return member

    def remove(self, kind: SubjectKind, name: str, *, dry_run: bool = False) -> Deletion:
        """Remove a member; ``dry_run`` changes nothing.

        Raises:
            NotFoundError: it is no member.
            ConflictError: the project would have no admin any more.
        """
        self.deps.require(Capability.PROJECT_WRITES)
        with self.deps.database.read() as uow:
            self._require_removable(uow, kind, name)
        if not dry_run:
            with self.deps.database.write() as uow:
                member = self._require_removable(uow, kind, name)
                uow.project(self.project).members.delete({"kind": kind, "name": name})
                self.audit(uow, "member.remove", f"{kind}:{name}", name, self.project, before=member)
        jobs = f"jobs of {name} continue" if kind is SubjectKind.USER else f"jobs of the users of {name} continue"
        return Deletion(kind="member", id=name, name=name, consequences=(jobs,))

    def _require_removable(self, uow: ReadUnitOfWork, kind: SubjectKind, name: str) -> Member:
        members = uow.project(self.project).members
        member = members.get({"kind": kind, "name": name})
        self._require_an_admin(members.all(), member, None)
        return member

    @staticmethod
    def _require_an_admin(members: list[Member], member: Member, role: Role | None) -> None:
        admins = [each for each in members if each.role is Role.ADMIN]
        if admins == [member] and role is not Role.ADMIN:
            raise ConflictError(f"{member.name} is the last admin", hint="make another member admin first")
