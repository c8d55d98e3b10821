"""What platform admins hold: API keys, pools, quotas, audit; and what every caller may ask about server and self."""

from windlass.domain.errors import NotFoundError
from windlass.sdk._bind import AsyncResource, Resource, async_call, async_listing, call, listing
from windlass.sdk._core import (
    Flow,
    Listing,
    Request,
    Scope,
    built,
    delete,
    get,
    listed,
    nothing,
    patch,
    path,
    post,
    put,
)
from windlass.sdk._core import call as ask
from windlass.wire.base import AuditOut, ServerOut, UsageOut, WhoamiOut
from windlass.wire.projects import (
    KeyIn,
    KeyOut,
    NewKeyOut,
    PoolIn,
    PoolOut,
    PoolPatch,
    QuotaIn,
    QuotaOut,
)


def server(scope: Scope) -> Flow[ServerOut]:
    """Read what answers: name, version, mode."""
    del scope
    return get("/v1", ServerOut)


def whoami(scope: Scope) -> Flow[WhoamiOut]:
    """Read who the key is."""
    del scope
    return get(path("whoami"), WhoamiOut)


def create_key(
    scope: Scope,
    user: str,
    *,
    name: str = "",
    admin: bool = False,
    project: str | None = None,
    expires_in_days: int | None = None,
) -> Flow[NewKeyOut]:
    """Make an API key; its secret is in the answer, this once."""
    del scope
    body = built(KeyIn, user=user, name=name, admin=admin, project=project, expires_in_days=expires_in_days)
    return post(path("keys"), NewKeyOut, body)


def list_keys(scope: Scope) -> Listing[KeyOut]:
    """Iterate over the keys."""
    del scope
    return listed(path("keys"), KeyOut)


def revoke_key(scope: Scope, key: str) -> Flow[None]:
    """Make a key worthless at once."""
    del scope
    return ask(Request("DELETE", path("keys", key)), nothing)


def create_pool(
    scope: Scope,
    name: str,
    capacity: int,
    *,
    gpu_type: str = "",
    max_gpus_per_job: int | None = None,
    price_per_gpu_hour: float = 0.0,
) -> Flow[PoolOut]:
    """Create a pool of ``capacity`` GPUs (or CPU slots)."""
    del scope
    body = built(
        PoolIn,
        name=name,
        capacity=capacity,
        gpu_type=gpu_type,
        max_gpus_per_job=max_gpus_per_job,
        price_per_gpu_hour=price_per_gpu_hour,
    )
    return post(path("pools"), PoolOut, body)


def list_pools(scope: Scope) -> Listing[PoolOut]:
    """Iterate over the pools."""
    del scope
    return listed(path("pools"), PoolOut)


def get_pool(scope: Scope, name: str) -> Flow[PoolOut]:
    """Read a pool."""
    del scope
    return get(path("pools", name), PoolOut)


def update_pool(scope: Scope, name: str, change: PoolPatch, *, if_match: int | None = None) -> Flow[PoolOut]:
    """Change what ``change`` sets."""
    del scope
    return patch(path("pools", name), PoolOut, change, if_match)


def delete_pool(scope: Scope, name: str, *, if_match: int | None = None) -> Flow[None]:
    """Delete a pool that nobody uses."""
    del scope
    return delete(path("pools", name), if_match)


def list_all_quotas(scope: Scope) -> Listing[QuotaOut]:
    """Iterate over every line of the ledger."""
    del scope
    return listed(path("quotas"), QuotaOut)


def list_quotas(scope: Scope) -> Listing[QuotaOut]:
    """Iterate over the project's lines: what it has, uses, borrows and lends in each pool."""
    return listed(scope.path("quotas"), QuotaOut)


def set_quota(
    scope: Scope,
    pool: str,
    nominal: int,
    *,
    borrowing_limit: int | None = None,
    lending_limit: int | None = None,
) -> Flow[QuotaOut]:
    """Set the project's share of a pool; a limit of None means unlimited."""
    body = built(QuotaIn, nominal=nominal, borrowing_limit=borrowing_limit, lending_limit=lending_limit)
    return put(scope.path("quotas", pool), QuotaOut, body)


def delete_quota(scope: Scope, pool: str, *, if_match: int | None = None) -> Flow[None]:
    """Take the project's share of a pool away."""

    def current() -> Flow[str]:
        for line in (yield from list_quotas(scope).all()):
            if line.pool == pool:
                return f'"{line.version}"'
        raise NotFoundError(f"project {scope.project} has no quota in pool {pool}")

    return delete(scope.path("quotas", pool), if_match, current)


def list_usage(scope: Scope) -> Listing[UsageOut]:
    """Iterate over what the project's jobs have used."""
    return listed(scope.path("usage"), UsageOut)


def list_audit(scope: Scope) -> Listing[AuditOut]:
    """Iterate over the accepted mutations."""
    del scope
    return listed(path("audit"), AuditOut)


class Keys(Resource):
    """API keys."""

    create = call(create_key)
    list = listing(list_keys)
    revoke = call(revoke_key)


class AsyncKeys(AsyncResource):
    """API keys."""

    create = async_call(create_key)
    list = async_listing(list_keys)
    revoke = async_call(revoke_key)


class Pools(Resource):
    """Pools of accelerators."""

    create = call(create_pool)
    list = listing(list_pools)
    get = call(get_pool)
    update = call(update_pool)
    delete = call(delete_pool)


class AsyncPools(AsyncResource):
    """Pools of accelerators."""

    create = async_call(create_pool)
    list = async_listing(list_pools)
    get = async_call(get_pool)
    update = async_call(update_pool)
    delete = async_call(delete_pool)


class Quotas(Resource):
    """The project's shares of the pools; ``all`` is the ledger of every project."""

    all = listing(list_all_quotas)
    list = listing(list_quotas)
    set = call(set_quota)
    delete = call(delete_quota)


class AsyncQuotas(AsyncResource):
    """The project's shares of the pools; ``all`` is the ledger of every project."""

    all = async_listing(list_all_quotas)
    list = async_listing(list_quotas)
    set = async_call(set_quota)
    delete = async_call(delete_quota)


class Usage(Resource):
    """What the project's jobs have used."""

    list = listing(list_usage)


class AsyncUsage(AsyncResource):
    """What the project's jobs have used."""

    list = async_listing(list_usage)


class Audit(Resource):
    """The accepted mutations."""

    list = listing(list_audit)


class AsyncAudit(AsyncResource):
    """The accepted mutations."""

    list = async_listing(list_audit)


class Server(Resource):
    """What answers, and who asks."""

    info = call(server)
    whoami = call(whoami)


class AsyncServer(AsyncResource):
    """What answers, and who asks."""

    info = async_call(server)
    whoami = async_call(whoami)
