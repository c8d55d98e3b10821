"""Routes of projects, members and a project's quotas."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response

from windlass.domain.ids import Name
from windlass.domain.mirror import ChangeState, Share
from windlass.domain.projects import Permission, Role
from windlass.services.projects import Members, Projects
from windlass.services.quotas import Quotas
from windlass.services.usage import Usage
from windlass.wire.base import Page, UsageOut
from windlass.wire.projects import (
    MemberIn,
    MemberOut,
    ProjectIn,
    ProjectOut,
    ProjectPatch,
    QuotaChangeOut,
    QuotaIn,
    QuotaOut,
)
from windlass_api.dependencies import CursorText, IfMatch, Limit, Visit, inside, platform
from windlass_api.mapping import change_out, member_out, project_out, quota_out, tag
from windlass_api.paging import paged

router = APIRouter(prefix="/v1/projects")

_ACCEPTED: dict[int | str, dict[str, Any]] = {
    202: {"model": QuotaChangeOut, "description": "accepted; on its way to the cluster"}
}


@router.post("", status_code=201, operation_id="createProject", tags=["projects"])
def create_project(
    body: ProjectIn, response: Response, visit: Annotated[Visit, platform(Permission.PROJECTS_WRITE)]
) -> ProjectOut:
    """Create a project; you become its owner."""
    visit.wiring.refuse_in_cluster("project", "Project")
    made = visit.platform(Projects).create(body.name, body.display_name, body.cohort, body.priority_ceiling)
    response.headers["Location"] = f"/v1/projects/{made.name}"
    return project_out(made, response)


@router.get("", operation_id="listProjects", tags=["projects"])
def list_projects(
    visit: Annotated[Visit, platform(Permission.WHOAMI)], limit: Limit = 50, cursor: CursorText = None
) -> Page[ProjectOut]:
    """List the projects that you may see."""
    return paged(visit.platform(Projects).page, limit, cursor, lambda project: project.id, project_out)


@router.get("/{project}", operation_id="getProject", tags=["projects"])
def get_project(
    project: str, response: Response, visit: Annotated[Visit, inside(Permission.PROJECTS_READ)]
) -> ProjectOut:
    """Show a project."""
    return project_out(visit.inside, response)


@router.patch("/{project}", operation_id="updateProject", tags=["projects"])
def update_project(
    project: str,
    body: ProjectPatch,
    response: Response,
    version: IfMatch,
    visit: Annotated[Visit, inside(Permission.PROJECT_UPDATE)],
) -> ProjectOut:
    """Change a project. Its cohort and its priority ceiling are an admin's: other teams' GPUs depend on them."""
    visit.wiring.refuse_in_cluster("project", "Project")
    given = body.model_dump(exclude_unset=True)
    changes = {name: value for name, value in given.items() if name == "cohort" or value is not None}
    if not changes.keys().isdisjoint({"cohort", "priority_ceiling"}):
        visit.wiring.gatekeeper.require(visit.caller.principal, Permission.QUOTAS_WRITE)
    return project_out(visit.platform(Projects).update(visit.inside.id, version, changes), response)


@router.delete("/{project}", status_code=204, operation_id="deleteProject", tags=["projects"])
def delete_project(project: str, version: IfMatch, visit: Annotated[Visit, inside(Permission.PROJECTS_WRITE)]) -> None:
    """Remove a project without live jobs and endpoints, with all that it holds."""
    visit.wiring.refuse_in_cluster("project", "Project")
    visit.platform(Projects).delete(visit.inside.id, version)


@router.get("/{project}/members", operation_id="listMembers", tags=["members"])
def list_members(project: str, visit: Annotated[Visit, inside(Permission.MEMBERS_READ)]) -> Page[MemberOut]:
    """List members and their roles."""
    return Page(items=[member_out(member) for member in visit.use(Members).all()])


@router.put("/{project}/members/{user}", operation_id="putMember", tags=["members"])
def put_member(
    project: str,
    user: Annotated[Name, Path()],
    body: MemberIn,
    response: Response,
    visit: Annotated[Visit, inside(Permission.MEMBERS_WRITE)],
) -> MemberOut:
    """Give a user a role."""
    visit.wiring.refuse_in_cluster("project", "Project")
    member = visit.use(Members).put(user, Role(body.role))
    tag(response, member.version)
    return member_out(member)


@router.delete("/{project}/members/{user}", status_code=204, operation_id="removeMember", tags=["members"])
def remove_member(project: str, user: str, visit: Annotated[Visit, inside(Permission.MEMBERS_WRITE)]) -> None:
    """Take a user out; the last owner stays."""
    visit.wiring.refuse_in_cluster("project", "Project")
    visit.use(Members).remove(user)


@router.get("/{project}/quotas", operation_id="listQuotas", tags=["quotas"])
def list_quotas(project: str, visit: Annotated[Visit, inside(Permission.QUOTAS_READ)]) -> Page[QuotaOut]:
    """The project's lines of the ledger."""
    return Page(items=[quota_out(line) for line in visit.use(Quotas, truth=visit.wiring.quota_truth).all()])


DryRun = Annotated[bool, Query(description="only try it: say what it would do, and keep nothing")]


@router.put("/{project}/quotas/{pool}", operation_id="putQuota", tags=["quotas"], responses=_ACCEPTED)
def put_quota(
    project: str,
    pool: str,
    body: QuotaIn,
    response: Response,
    visit: Annotated[Visit, inside(Permission.QUOTAS_WRITE)],
    dry_run: DryRun = False,
) -> QuotaChangeOut:
    """Set the project's share of a pool. In a cluster it is accepted (202) once the API server has tried it."""
    return _change(visit, pool, Share(**body.model_dump()), response, dry_run=dry_run)


@router.delete("/{project}/quotas/{pool}", operation_id="deleteQuota", tags=["quotas"], responses=_ACCEPTED)
def delete_quota(
    project: str,
    pool: str,
    response: Response,
    visit: Annotated[Visit, inside(Permission.QUOTAS_WRITE)],
    dry_run: DryRun = False,
) -> QuotaChangeOut:
    """Take the project's share of a pool away."""
    return _change(visit, pool, None, response, dry_run=dry_run)


def _change(visit: Visit, pool: str, share: Share | None, response: Response, *, dry_run: bool) -> QuotaChangeOut:
    quotas = visit.use(Quotas, truth=visit.wiring.quota_truth)
    change, foreseen = quotas.change(pool, share, dry_run=dry_run)
    if change.state is ChangeState.PENDING and not dry_run:
        response.status_code = 202
        response.headers["Location"] = f"/v1/projects/{visit.inside.name}/quota-changes/{change.id}"
    return change_out(change, foreseen, checked=dry_run)


@router.get("/{project}/quota-changes/{change}", operation_id="getQuotaChange", tags=["quotas"])
def get_quota_change(
    project: str, change: str, visit: Annotated[Visit, inside(Permission.QUOTAS_WRITE)]
) -> QuotaChangeOut:
    """Show how far a change has come; for thirty days after its end."""
    return change_out(visit.use(Quotas, truth=visit.wiring.quota_truth).get_change(change))


@router.get("/{project}/usage", operation_id="listUsage", tags=["usage"])
def list_usage(
    project: str,
    visit: Annotated[Visit, inside(Permission.USAGE_READ)],
    limit: Limit = 50,
    cursor: CursorText = None,
) -> Page[UsageOut]:
    """GPU-seconds by job, newest first."""
    return paged(
        visit.use(Usage).page, limit, cursor, lambda line: line.job, lambda line: UsageOut(**line.model_dump())
    )
