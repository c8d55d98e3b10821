"""Global routes: server, identity, API keys, pools, quotas."""

from typing import Annotated

from fastapi import Query, Request, Response

import windlass
from windlass.domain.projects import ApiKey, Permission, PlatformRole, Pool
from windlass.services.cluster_sync import ClusterSyncReader
from windlass.services.keys import Keys
from windlass.services.pools import Pools
from windlass.services.projects import Projects
from windlass.services.quotas import Ledger
from windlass.wire.base import ClusterSyncOut, DeletionOut, Page, ServerOut, WhoamiOut
from windlass.wire.projects import KeyIn, KeyOut, NewKeyOut, PoolIn, PoolOut, PoolPatch, QuotaOut
from windlass_api import routing
from windlass_api.dependencies import IfMatch, RequestContext, get_app_context, require_global
from windlass_api.mapping import deletion_out, key_out, pool_out, quota_out
from windlass_api.paging import paginate, paginate_items
from windlass_api.parameters import CursorText, DryRun, KeyId, Limit, PoolName

router = routing.router(prefix="/v1")

Force = Annotated[bool, Query(description="revoke the key of this request, or the last admin key, too")]


@router.get("", operation_id="getServer", tags=["server"])
def get_server(request: Request) -> ServerOut:
    """Get name, version, mode and worker state of the server; needs no credential."""
    app = get_app_context(request)
    return ServerOut(
        name="windlass",
        version=windlass.__version__,
        mode=app.mode,
        capabilities=sorted(app.deps.capabilities),
        worker_problem=app.worker_problem(),
    )


@router.get("/whoami", operation_id="getWhoami", tags=["server"])
def get_whoami(ctx: Annotated[RequestContext, require_global(Permission.WHOAMI)]) -> WhoamiOut:
    """Get the user, the platform role, the project roles and the permissions of the credential."""
    principal = ctx.caller.principal
    roles = ctx.service(Projects).memberships()
    return WhoamiOut(
        user=principal.user,
        platform_role=principal.platform_role,
        key=principal.credential,
        projects={name: role.value for name, role in roles.items()},
        permissions=[each for each in Permission if principal.may(each)],
        project_permissions={
            name: [each for each in Permission if principal.may(each, role)] for name, role in roles.items()
        },
    )


@router.post("/keys", status_code=201, operation_id="createKey", tags=["keys"])
def create_key(body: KeyIn, ctx: Annotated[RequestContext, require_global(Permission.KEYS_OWN)]) -> NewKeyOut:
    """Create an API key of one's own, as a platform admin of any user. Only this response contains its secret."""
    keys = ctx.service(Keys)
    key, secret = keys.create(
        body.user,
        name=body.name,
        platform_role=PlatformRole(body.platform_role) if body.platform_role else None,
        project=body.project,
        permissions=body.permissions,
        days=body.expires_in_days,
    )
    return _new_key_out(keys, key, secret)


@router.post("/keys/{key}:renew", status_code=201, operation_id="renewKey", tags=["keys"])
def renew_key(key: KeyId, ctx: Annotated[RequestContext, require_global(Permission.KEYS_OWN)]) -> NewKeyOut:
    """Replace an own key by one with the same rights and lifetime; the old one expires after an hour.

    Admins renew every key. Only this response contains the new secret.
    """
    keys = ctx.service(Keys)
    return _new_key_out(keys, *keys.renew(key))


def _new_key_out(keys: Keys, key: ApiKey, secret: str) -> NewKeyOut:
    return NewKeyOut(**key_out(key, keys.project_names()).model_dump(), secret=secret)


@router.get("/keys", operation_id="listKeys", tags=["keys"])
def list_keys(
    ctx: Annotated[RequestContext, require_global(Permission.KEYS_OWN)], limit: Limit = 50, cursor: CursorText = None
) -> Page[KeyOut]:
    """List the own API keys, newest first, without secrets; admins list all keys."""
    keys = ctx.service(Keys)
    names = keys.project_names()
    return paginate(keys.page, limit, cursor, _id, lambda key: key_out(key, names))


@router.delete("/keys/{key}", operation_id="revokeKey", tags=["keys"])
def revoke_key(
    key: KeyId,
    ctx: Annotated[RequestContext, require_global(Permission.KEYS_OWN)],
    force: Force = False,
    dry_run: DryRun = False,
) -> DeletionOut:
    """Revoke an own API key, as an admin any key; other servers may accept it from their cache for up to a minute.

    A conflict for the key of the request and for the last admin key, unless ``force`` is set.
    """
    return deletion_out(ctx.service(Keys).revoke(key, force=force, dry_run=dry_run))


def _id(key: ApiKey) -> str:
    return key.id


@router.post("/pools", status_code=201, operation_id="createPool", tags=["pools"])
def create_pool(
    body: PoolIn, response: Response, ctx: Annotated[RequestContext, require_global(Permission.POOLS_WRITE)]
) -> PoolOut:
    """Create a pool of accelerators."""
    deps = ctx.deps
    pool = Pool(id=deps.new_id("pool"), created_at=deps.clock.now(), **body.model_dump())
    created = ctx.service(Pools).create(pool)
    response.headers["Location"] = f"/v1/pools/{created.pool.name}"
    return pool_out(created, response)


@router.get("/pools", operation_id="listPools", tags=["pools"])
def list_pools(
    ctx: Annotated[RequestContext, require_global(Permission.POOLS_READ)], limit: Limit = 50, cursor: CursorText = None
) -> Page[PoolOut]:
    """List pools with the GPUs in use."""
    return paginate(ctx.service(Pools).page, limit, cursor, lambda view: view.pool.id, pool_out)


@router.get("/pools/{pool}", operation_id="getPool", tags=["pools"])
def get_pool(
    pool: PoolName, response: Response, ctx: Annotated[RequestContext, require_global(Permission.POOLS_READ)]
) -> PoolOut:
    """Get a pool."""
    return pool_out(ctx.service(Pools).get(pool), response)


@router.patch("/pools/{pool}", operation_id="updatePool", tags=["pools"])
def update_pool(
    pool: PoolName,
    body: PoolPatch,
    response: Response,
    version: IfMatch,
    ctx: Annotated[RequestContext, require_global(Permission.POOLS_WRITE)],
) -> PoolOut:
    """Update a pool; running jobs keep their GPUs."""
    changes = body.model_dump(exclude_unset=True)
    return pool_out(ctx.service(Pools).update(pool, version, changes), response)


@router.delete("/pools/{pool}", operation_id="deletePool", tags=["pools"])
def delete_pool(
    pool: PoolName,
    version: IfMatch,
    ctx: Annotated[RequestContext, require_global(Permission.POOLS_WRITE)],
    dry_run: DryRun = False,
) -> DeletionOut:
    """Delete a pool; a conflict while a quota or an active job uses it."""
    return deletion_out(ctx.service(Pools).delete(pool, version, dry_run=dry_run))


@router.get("/quotas", operation_id="listAllQuotas", tags=["quotas"])
def list_all_quotas(
    ctx: Annotated[RequestContext, require_global(Permission.QUOTAS_READ_ALL)],
    limit: Limit = 50,
    cursor: CursorText = None,
) -> Page[QuotaOut]:
    """List the quotas of all projects in all pools, by project and pool."""
    entries = ctx.service(Ledger).all()
    return paginate_items(entries, limit, cursor, lambda entry: f"{entry.project.name}/{entry.quota.pool}", quota_out)


@router.get("/cluster-sync", operation_id="getClusterSync", tags=["server"])
def get_cluster_sync(ctx: Annotated[RequestContext, require_global(Permission.QUOTAS_READ_ALL)]) -> ClusterSyncOut:
    """Status of the cluster sync; 404 without a cluster."""
    cluster_sync_status, pending = ctx.service(ClusterSyncReader).get()
    fields = cluster_sync_status.model_dump(include={"holder", "synced_at", "notes"})
    return ClusterSyncOut.model_validate({**fields, "pending_changes": pending})
