"""Projects and their members."""

from dataclasses import dataclass
from typing import Any

from windlass.domain.datasets import VersionState
from windlass.domain.errors import ConflictError, PreconditionFailedError
from windlass.domain.jobs import JobState
from windlass.domain.projects import Member, Principal, Project, Role
from windlass.ports import UnitOfWork
from windlass.services.backing import ProjectUseCases, UseCases

LIVE_JOBS = tuple(state for state in JobState if not state.terminal)


def check_version(noun: str, stored: int, expected: int) -> None:
    """Refuse a change that was made up against an older version (If-Match).

    Raises:
        PreconditionFailedError: the stored object has moved on.
    """
    if stored != expected:
        raise PreconditionFailedError(
            f"the {noun} is at version {stored}, not {expected}", hint="read it again and repeat the change"
        )


@dataclass(frozen=True)
class Projects(UseCases):
    """Create, list, change and delete tenants."""

    def create(self, name: str, display_name: str, cohort: str | None, priority_ceiling: int = 0) -> Project:
        """Make a project; the caller becomes its owner.

        Raises:
            ConflictError: the name is taken.
        """
        with self.backing.database.write() as work:
            return self.add(work, name, display_name, cohort, priority_ceiling)

    def add(
        self, work: UnitOfWork, name: str, display_name: str, cohort: str | None, priority_ceiling: int = 0
    ) -> Project:
        """Make a project in a transaction of the caller's. Raises as ``create``."""
        project = Project(
            id=self.backing.new_id("prj"),
            name=name,
            display_name=display_name,
            cohort=cohort,
            priority_ceiling=priority_ceiling,
            created_at=self.backing.clock.now(),
        )
        work.projects.add(project)
        work.of(project.id).members.add(Member(project=project.id, user=self.caller.principal.user, role=Role.OWNER))
        self.audit(work, "project.create", project.id, project.id)
        return project

    def page(self, limit: int, after: str | None) -> list[Project]:
        """List the projects that the caller may see, by id: in order of creation, but for those of a cluster."""
        who = self.caller.principal
        with self.backing.database.read() as work:
            if who.admin and who.project is None:
                return work.projects.page(limit, after)
            return work.projects.page(limit, after, id=[member.project for member in _memberships(work, who)])

    def memberships(self) -> dict[str, Role]:
        """Return the caller's role by project name."""
        with self.backing.database.read() as work:
            roles = {member.project: member.role for member in _memberships(work, self.caller.principal)}
            return {project.name: roles[project.id] for project in work.projects.all(id=list(roles))}

    def update(self, uid: str, version: int, changes: dict[str, Any]) -> Project:
        """Change the display name, the cohort or the priority ceiling."""
        with self.backing.database.write() as work:
            project = work.projects.get(id=uid)
            check_version("project", project.version, version)
            saved = work.projects.save(project.model_copy(update=changes))
            self.audit(work, "project.update", uid, uid)
        return saved

    def delete(self, uid: str, version: int) -> None:
        """Remove a project with all that it holds.

        Raises:
            ConflictError: it has live jobs or endpoints; they must be ended first.
        """
        with self.backing.database.write() as work:
            project = work.projects.get(id=uid)
            check_version("project", project.version, version)
            inside = work.of(uid)
            jobs, endpoints = inside.jobs.all(state=LIVE_JOBS), inside.endpoints.all()
            if jobs or endpoints:
                raise ConflictError(
                    f"project {project.name} has {len(jobs)} live jobs and {len(endpoints)} endpoints",
                    hint="cancel the jobs and delete the endpoints first",
                )
            for unfinished in inside.dataset_versions.all(state=VersionState.PROCESSING):
                work.outbox.put("dataset.purge", uid, unfinished.id)  # ends the process that would go on writing
            work.projects.delete(id=uid)
            work.outbox.put("project.purge", uid, uid)
            self.audit(work, "project.delete", uid, uid)


def _memberships(work: UnitOfWork, who: Principal) -> list[Member]:
    mine = work.everywhere().members.all(user=who.user)
    return [member for member in mine if who.project in (None, member.project)]


@dataclass(frozen=True)
class Members(ProjectUseCases):
    """Who is in a project, with which role."""

    def all(self) -> list[Member]:
        """List the members by name."""
        with self.backing.database.read() as work:
            return work.of(self.project).members.all()

    def put(self, user: str, role: Role) -> Member:
        """Give a user a role, new or changed."""
        with self.backing.database.write() as work:
            members = work.of(self.project).members
            known = members.find(user=user)
            if known is None:
                member = Member(project=self.project, user=user, role=role)
                members.add(member)
            else:
                self._keep_an_owner(members.all(), user, role)
                member = members.save(known.model_copy(update={"role": role}))
            self.audit(work, "member.put", user, self.project)
        return member

    def remove(self, user: str) -> None:
        """Take a user out.

        Raises:
            ConflictError: the last owner stays.
        """
        with self.backing.database.write() as work:
            members = work.of(self.project).members
            members.get(user=user)
            self._keep_an_owner(members.all(), user, None)
            members.delete(user=user)
            self.audit(work, "member.remove", user, self.project)

    @staticmethod
    def _keep_an_owner(members: list[Member], user: str, role: Role | None) -> None:
        owners = {member.user for member in members if member.role is Role.OWNER}
        if owners == {user} and role is not Role.OWNER:
            raise ConflictError(f"{user} is the last owner", hint="make another member owner first")
