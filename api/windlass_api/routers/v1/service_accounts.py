"""Service accounts of a project and their API keys."""

from typing import Annotated

from fastapi import Response

from windlass.domain.identity import ServiceAccount, service_account_user
from windlass.domain.projects import ApiKey, Permission, Role
from windlass.services.keys import Keys
from windlass.services.service_accounts import ServiceAccounts
from windlass.wire.base import DeletionOut, Page
from windlass.wire.identity import ServiceAccountIn, ServiceAccountKeyIn, ServiceAccountOut, ServiceAccountPatch
from windlass.wire.projects import KeyOut, NewKeyOut
from windlass_api import routing
from windlass_api.dependencies import RequestContext, require_project
from windlass_api.mapping import deletion_out, key_out, set_etag
from windlass_api.paging import paginate, paginate_items
from windlass_api.parameters import CursorText, DryRun, KeyId, Limit, ProjectName, ServiceAccountName

router = routing.router(prefix="/v1/projects/{project}/service-accounts")

Reader = Annotated[RequestContext, require_project(Permission.SERVICE_ACCOUNTS_READ)]
Writer = Annotated[RequestContext, require_project(Permission.SERVICE_ACCOUNTS_WRITE)]


def _out(ctx: RequestContext, account: ServiceAccount, response: Response | None = None) -> ServiceAccountOut:
    set_etag(response, account.version)
    return ServiceAccountOut(
        name=account.name,
        user=service_account_user(ctx.project.name, account.name),
        role=account.role.value,
        description=account.description,
        created_at=account.created_at,
        version=account.version,
    )


@router.post("", status_code=201, operation_id="createServiceAccount", tags=["service-accounts"])
def create_service_account(
    project: ProjectName, body: ServiceAccountIn, response: Response, ctx: Writer
) -> ServiceAccountOut:
    """Create an account of a program, with a role in the project."""
    account = ctx.project_service(ServiceAccounts).create(body.name, Role(body.role), body.description)
    return _out(ctx, account, response)


@router.get("", operation_id="listServiceAccounts", tags=["service-accounts"])
def list_service_accounts(
    project: ProjectName, ctx: Reader, limit: Limit = 50, cursor: CursorText = None
) -> Page[ServiceAccountOut]:
    """List the service accounts of the project, oldest first."""
    accounts = ctx.project_service(ServiceAccounts).all()
    return paginate_items(accounts, limit, cursor, lambda account: account.id, lambda account: _out(ctx, account))


@router.patch("/{account}", operation_id="updateServiceAccount", tags=["service-accounts"])
def update_service_account(
    project: ProjectName, account: ServiceAccountName, body: ServiceAccountPatch, response: Response, ctx: Writer
) -> ServiceAccountOut:
    """Change the role of a service account."""
    return _out(ctx, ctx.project_service(ServiceAccounts).set_role(account, Role(body.role)), response)


@router.delete("/{account}", operation_id="deleteServiceAccount", tags=["service-accounts"])
def delete_service_account(
    project: ProjectName, account: ServiceAccountName, ctx: Writer, dry_run: DryRun = False
) -> DeletionOut:
    """Delete a service account with its keys; its jobs continue."""
    return deletion_out(ctx.project_service(ServiceAccounts).delete(account, dry_run=dry_run))


@router.post("/{account}/keys", status_code=201, operation_id="createServiceAccountKey", tags=["service-accounts"])
def create_service_account_key(
    project: ProjectName, account: ServiceAccountName, body: ServiceAccountKeyIn, ctx: Writer
) -> NewKeyOut:
    """Create an API key of a service account. Only this response contains its secret."""
    found = ctx.project_service(ServiceAccounts).get(account)
    key, secret = ctx.service(Keys).create_for_service_account(
        ctx.project, found, name=body.name, permissions=body.permissions, days=body.expires_in_days
    )
    return _new_key_out(ctx, key, secret)


def _new_key_out(ctx: RequestContext, key: ApiKey, secret: str) -> NewKeyOut:
    return NewKeyOut(**key_out(key, {ctx.project.id: ctx.project.name}).model_dump(), secret=secret)


@router.get("/{account}/keys", operation_id="listServiceAccountKeys", tags=["service-accounts"])
def list_service_account_keys(
    project: ProjectName, account: ServiceAccountName, ctx: Reader, limit: Limit = 50, cursor: CursorText = None
) -> Page[KeyOut]:
    """List the keys of a service account, newest first, without secrets."""
    found, keys = ctx.project_service(ServiceAccounts).get(account), ctx.service(Keys)
    names = {ctx.project.id: ctx.project.name}
    return paginate(
        lambda limit, after: keys.of_service_account(found, limit, after),
        limit,
        cursor,
        lambda key: key.id,
        lambda key: key_out(key, names),
    )


@router.post(
    "/{account}/keys/{key}:renew", status_code=201, operation_id="renewServiceAccountKey", tags=["service-accounts"]
)
def renew_service_account_key(project: ProjectName, account: ServiceAccountName, key: KeyId, ctx: Writer) -> NewKeyOut:
    """Replace a key of a service account by one with the same rights; the old one expires after an hour."""
    found = ctx.project_service(ServiceAccounts).get(account)
    return _new_key_out(ctx, *ctx.service(Keys).renew(key, found))


@router.delete("/{account}/keys/{key}", operation_id="revokeServiceAccountKey", tags=["service-accounts"])
def revoke_service_account_key(
    project: ProjectName, account: ServiceAccountName, key: KeyId, ctx: Writer, dry_run: DryRun = False
) -> DeletionOut:
    """Revoke a key of a service account."""
    found = ctx.project_service(ServiceAccounts).get(account)
    return deletion_out(ctx.service(Keys).revoke(key, found, force=True, dry_run=dry_run))
