"""Routes outside of projects: server, identity, keys, pools, ledger, audit."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

import windlass
from windlass.domain.projects import ApiKey, Permission, Pool
from windlass.services.access import Keys
from windlass.services.audit import AuditTrail
from windlass.services.mirroring import MirrorView
from windlass.services.pools import Pools
from windlass.services.projects import Projects
from windlass.services.quotas import Ledger
from windlass.wire.base import AuditOut, MirrorOut, Page, ServerOut, WhoamiOut
from windlass.wire.projects import KeyIn, KeyOut, NewKeyOut, PoolIn, PoolOut, PoolPatch, QuotaOut
from windlass_api.dependencies import CursorText, IfMatch, Limit, Visit, platform, wiring_of
from windlass_api.mapping import key_out, pool_out, quota_out
from windlass_api.paging import paged

router = APIRouter(prefix="/v1")


@router.get("", operation_id="getServer", tags=["server"])
def get_server(request: Request) -> ServerOut:
    """What answers here; needs no credential."""
    return ServerOut.model_validate(
        {"name": "windlass", "version": windlass.__version__, "mode": wiring_of(request).mode}
    )


@router.get("/whoami", operation_id="getWhoami", tags=["server"])
def get_whoami(visit: Annotated[Visit, platform(Permission.WHOAMI)]) -> WhoamiOut:
    """Who the credential is."""
    who = visit.caller.principal
    roles = {name: role.value for name, role in visit.platform(Projects).memberships().items()}
    return WhoamiOut(user=who.user, admin=who.admin, key=who.key, projects=roles)


@router.post("/keys", status_code=201, operation_id="createKey", tags=["keys"])
def create_key(body: KeyIn, visit: Annotated[Visit, platform(Permission.KEYS_WRITE)]) -> NewKeyOut:
    """Make an API key; its secret is in this reply and nowhere else."""
    keys = visit.platform(Keys, pepper=visit.wiring.gatekeeper.pepper)
    made, secret = keys.create(
        body.user, name=body.name, admin=body.admin, project=body.project, days=body.expires_in_days
    )
    return NewKeyOut(**key_out(made).model_dump(), secret=secret)


@router.get("/keys", operation_id="listKeys", tags=["keys"])
def list_keys(
    visit: Annotated[Visit, platform(Permission.KEYS_WRITE)], limit: Limit = 50, cursor: CursorText = None
) -> Page[KeyOut]:
    """List keys, newest first, without secrets."""
    keys = visit.platform(Keys, pepper=visit.wiring.gatekeeper.pepper)
    return paged(keys.page, limit, cursor, _id, key_out)


@router.delete("/keys/{key}", status_code=204, operation_id="revokeKey", tags=["keys"])
def revoke_key(key: str, visit: Annotated[Visit, platform(Permission.KEYS_WRITE)]) -> None:
    """Make a key useless; other servers forget it within a minute."""
    visit.platform(Keys, pepper=visit.wiring.gatekeeper.pepper).revoke(key)


def _id(fact: ApiKey) -> str:
    return fact.id


@router.post("/pools", status_code=201, operation_id="createPool", tags=["pools"])
def create_pool(body: PoolIn, response: Response, visit: Annotated[Visit, platform(Permission.POOLS_WRITE)]) -> PoolOut:
    """Create a pool of accelerators."""
    visit.wiring.refuse_in_cluster("pool", "GPUPool")
    backing = visit.backing
    pool = Pool(id=backing.new_id("pool"), created_at=backing.clock.now(), **body.model_dump())
    made = visit.platform(Pools).create(pool)
    response.headers["Location"] = f"/v1/pools/{made.pool.name}"
    return pool_out(made, response)


@router.get("/pools", operation_id="listPools", tags=["pools"])
def list_pools(
    visit: Annotated[Visit, platform(Permission.POOLS_READ)], limit: Limit = 50, cursor: CursorText = None
) -> Page[PoolOut]:
    """List pools with what is in use now."""
    return paged(visit.platform(Pools).page, limit, cursor, lambda view: view.pool.id, pool_out)


@router.get("/pools/{pool}", operation_id="getPool", tags=["pools"])
def get_pool(pool: str, response: Response, visit: Annotated[Visit, platform(Permission.POOLS_READ)]) -> PoolOut:
    """Show a pool."""
    return pool_out(visit.platform(Pools).get(pool), response)


@router.patch("/pools/{pool}", operation_id="updatePool", tags=["pools"])
def update_pool(
    pool: str,
    body: PoolPatch,
    response: Response,
    version: IfMatch,
    visit: Annotated[Visit, platform(Permission.POOLS_WRITE)],
) -> PoolOut:
    """Change a pool; jobs keep what they hold."""
    visit.wiring.refuse_in_cluster("pool", "GPUPool")
    changes = body.model_dump(exclude_unset=True)
    return pool_out(visit.platform(Pools).update(pool, version, changes), response)


@router.delete("/pools/{pool}", status_code=204, operation_id="deletePool", tags=["pools"])
def delete_pool(pool: str, version: IfMatch, visit: Annotated[Visit, platform(Permission.POOLS_WRITE)]) -> None:
    """Remove a pool that no quota and no live job names."""
    visit.wiring.refuse_in_cluster("pool", "GPUPool")
    visit.platform(Pools).delete(pool, version)


@router.get("/quotas", operation_id="listAllQuotas", tags=["quotas"])
def list_all_quotas(visit: Annotated[Visit, platform(Permission.QUOTAS_READ_ALL)]) -> Page[QuotaOut]:
    """The whole ledger: every project's line in every pool."""
    return Page(items=[quota_out(line) for line in visit.platform(Ledger).all()])


@router.get("/mirror", operation_id="getMirror", tags=["server"])
def get_mirror(visit: Annotated[Visit, platform(Permission.QUOTAS_READ_ALL)]) -> MirrorOut:
    """How well this server knows its cluster; 404 where it works for none."""
    mirrored, pending = visit.platform(MirrorView).get()
    shown = mirrored.model_dump(include={"holder", "read_at", "notes"})
    return MirrorOut.model_validate({**shown, "pending_changes": pending})


@router.get("/audit", operation_id="listAudit", tags=["audit"])
def list_audit(
    visit: Annotated[Visit, platform(Permission.AUDIT_READ)],
    limit: Limit = 50,
    cursor: CursorText = None,
    project: Annotated[str | None, Query(max_length=60, description="uid of a project")] = None,
) -> Page[AuditOut]:
    """Accepted mutations, newest first."""
    trail = visit.platform(AuditTrail)
    return paged(
        lambda count, after: trail.page(count, after, project),
        limit,
        cursor,
        lambda entry: entry.id,
        lambda entry: AuditOut(**entry.model_dump()),
    )
