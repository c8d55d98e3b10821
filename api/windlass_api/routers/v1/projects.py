"""Routes of projects, members and a project's quotas."""

from typing import Annotated, Any

from fastapi import Response

from windlass.domain.cluster_sync import ChangeState, QuotaSpec
from windlass.domain.projects import Permission, Role, SubjectKind
from windlass.services.cascades import CascadeDeletions
from windlass.services.projects import Members, Projects
from windlass.services.quotas import Quotas
from windlass.wire.base import DeletionOut, Page
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
from windlass_api import routing
from windlass_api.dependencies import IfMatch, RequestContext, require_global, require_project
from windlass_api.mapping import deletion_out, member_out, project_out, quota_change_out, quota_out, set_etag
from windlass_api.paging import paginate, paginate_items
from windlass_api.parameters import (
    Cascade,
    CursorText,
    DryRun,
    GroupParameter,
    Limit,
    NewUser,
    PoolName,
    ProjectName,
    QuotaChangeId,
    UserParameter,
)

router = routing.router(prefix="/v1/projects")

_ACCEPTED: dict[int | str, dict[str, Any]] = {
    202: {"model": QuotaChangeOut, "description": "accepted; pending in the cluster"}
}


@router.post("", status_code=201, operation_id="createProject", tags=["projects"])
def create_project(
    body: ProjectIn, response: Response, ctx: Annotated[RequestContext, require_global(Permission.PROJECTS_WRITE)]
) -> ProjectOut:
    """Create a project; the caller becomes its admin."""
    created = ctx.service(Projects).create(body.name, body.display_name, body.cohort, body.priority_ceiling)
    response.headers["Location"] = f"/v1/projects/{created.name}"
    return project_out(created, response)


@router.get("", operation_id="listProjects", tags=["projects"])
def list_projects(
    ctx: Annotated[RequestContext, require_global(Permission.WHOAMI)], limit: Limit = 50, cursor: CursorText = None
) -> Page[ProjectOut]:
    """List the projects that the caller can read."""
    return paginate(ctx.service(Projects).page, limit, cursor, lambda project: project.id, project_out)


@router.get("/{project}", operation_id="getProject", tags=["projects"])
def get_project(
    project: ProjectName, response: Response, ctx: Annotated[RequestContext, require_project(Permission.PROJECTS_READ)]
) -> ProjectOut:
    """Get a project."""
    return project_out(ctx.project, response)


@router.patch("/{project}", operation_id="updateProject", tags=["projects"])
def update_project(
    project: ProjectName,
    body: ProjectPatch,
    response: Response,
    version: IfMatch,
    ctx: Annotated[RequestContext, require_project(Permission.PROJECT_UPDATE)],
) -> ProjectOut:
    """Update a project. Only admins can change cohort and priority ceiling, since they affect other projects."""
    changes = body.model_dump(exclude_unset=True)
    if not changes.keys().isdisjoint({"cohort", "priority_ceiling"}):
        ctx.app.access_control.require_permission(ctx.caller.principal, Permission.QUOTAS_WRITE)
    return project_out(ctx.service(Projects).update(ctx.project.id, version, changes), response)


@router.delete("/{project}", operation_id="deleteProject", tags=["projects"])
def delete_project(
    project: ProjectName,
    version: IfMatch,
    ctx: Annotated[RequestContext, require_project(Permission.PROJECTS_WRITE)],
    dry_run: DryRun = False,
    cascade: Cascade = False,
) -> DeletionOut:
    """Delete a project with all its data; a conflict while it has active jobs or endpoints."""
    if cascade:
        deletions = ctx.project_service(CascadeDeletions)
        return deletion_out(deletions.delete_project(ctx.project.name, version, dry_run=dry_run))
    return deletion_out(ctx.service(Projects).delete(ctx.project.id, version, dry_run=dry_run))


@router.get("/{project}/members", operation_id="listMembers", tags=["members"])
def list_members(
    project: ProjectName,
    ctx: Annotated[RequestContext, require_project(Permission.MEMBERS_READ)],
    limit: Limit = 50,
    cursor: CursorText = None,
) -> Page[MemberOut]:
    """List the groups, then the users, with their roles."""
    return paginate_items(
        ctx.project_service(Members).all(), limit, cursor, lambda member: f"{member.kind}/{member.name}", member_out
    )


@router.put("/{project}/members/{user}", operation_id="putMember", tags=["members"])
def put_member(
    project: ProjectName,
    user: NewUser,
    body: MemberIn,
    response: Response,
    ctx: Annotated[RequestContext, require_project(Permission.MEMBERS_WRITE)],
) -> MemberOut:
    """Add a member or change a member's role."""
    member = ctx.project_service(Members).put(SubjectKind.USER, user, Role(body.role))
    set_etag(response, member.version)
    return member_out(member)


@router.delete("/{project}/members/{user}", operation_id="removeMember", tags=["members"])
def remove_member(
    project: ProjectName,
    user: UserParameter,
    ctx: Annotated[RequestContext, require_project(Permission.MEMBERS_WRITE)],
    dry_run: DryRun = False,
) -> DeletionOut:
    """Remove a member; the last admin cannot be removed."""
    return deletion_out(ctx.project_service(Members).remove(SubjectKind.USER, user, dry_run=dry_run))


@router.put("/{project}/groups/{group:path}", operation_id="putGroup", tags=["members"])
def put_group(
    project: ProjectName,
    group: GroupParameter,
    body: MemberIn,
    response: Response,
    ctx: Annotated[RequestContext, require_project(Permission.MEMBERS_WRITE)],
) -> MemberOut:
    """Give a role to all users of a group of the identity provider, or change it."""
    member = ctx.project_service(Members).put(SubjectKind.GROUP, group, Role(body.role))
    set_etag(response, member.version)
    return member_out(member)


@router.delete("/{project}/groups/{group:path}", operation_id="removeGroup", tags=["members"])
def remove_group(
    project: ProjectName,
    group: GroupParameter,
    ctx: Annotated[RequestContext, require_project(Permission.MEMBERS_WRITE)],
    dry_run: DryRun = False,
) -> DeletionOut:
    """Take the role from a group; its users keep the roles that they have themselves or by other groups."""
    return deletion_out(ctx.project_service(Members).remove(SubjectKind.GROUP, group, dry_run=dry_run))


@router.get("/{project}/quotas", operation_id="listQuotas", tags=["quotas"])
def list_quotas(
    project: ProjectName,
    ctx: Annotated[RequestContext, require_project(Permission.QUOTAS_READ)],
    limit: Limit = 50,
    cursor: CursorText = None,
) -> Page[QuotaOut]:
    """List the project's quotas, by pool."""
    entries = ctx.project_service(Quotas).all()
    return paginate_items(entries, limit, cursor, lambda entry: entry.quota.pool, quota_out)


@router.put("/{project}/quotas/{pool}", operation_id="putQuota", tags=["quotas"], responses=_ACCEPTED)
def put_quota(
    project: ProjectName,
    pool: PoolName,
    body: QuotaIn,
    response: Response,
    ctx: Annotated[RequestContext, require_project(Permission.QUOTAS_WRITE)],
    dry_run: DryRun = False,
) -> QuotaChangeOut:
    """Set the project's quota in a pool. In cluster mode: 202 after a successful dry run by the API server."""
    return _change_quota(ctx, pool, QuotaSpec(**body.model_dump()), response, dry_run=dry_run)


@router.delete("/{project}/quotas/{pool}", operation_id="deleteQuota", tags=["quotas"], responses=_ACCEPTED)
def delete_quota(
    project: ProjectName,
    pool: PoolName,
    response: Response,
    ctx: Annotated[RequestContext, require_project(Permission.QUOTAS_WRITE)],
    dry_run: DryRun = False,
) -> QuotaChangeOut:
    """Delete the project's quota in a pool."""
    return _change_quota(ctx, pool, None, response, dry_run=dry_run)


def _change_quota(
    ctx: RequestContext, pool: str, spec: QuotaSpec | None, response: Response, *, dry_run: bool
) -> QuotaChangeOut:
    quotas = ctx.project_service(Quotas)
    change, preview = quotas.change(pool, spec, dry_run=dry_run)
    if change.state is ChangeState.PENDING and not dry_run:
        response.status_code = 202
        response.headers["Location"] = f"/v1/projects/{ctx.project.name}/quota-changes/{change.id}"
    return quota_change_out(change, preview, checked=dry_run)


@router.get("/{project}/quota-changes/{change}", operation_id="getQuotaChange", tags=["quotas"])
def get_quota_change(
    project: ProjectName,
    change: QuotaChangeId,
    ctx: Annotated[RequestContext, require_project(Permission.QUOTAS_WRITE)],
) -> QuotaChangeOut:
    """Get the state of a quota change; kept for 30 days after its end."""
    return quota_change_out(ctx.project_service(Quotas).get_change(change))
