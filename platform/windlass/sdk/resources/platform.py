"""What platform admins hold: API keys, pools, quotas, audit; and what every caller may ask about server and self."""

from windlass.domain.errors import ConflictError
from windlass.sdk._bind import AsyncResource, Resource, async_call, async_listing, call, listing
from windlass.sdk._core import (
    Flow,
    Listing,
    Request,
    Scope,
    built,
    delete,
    get,
    into,
    listed,
    nothing,
    pairs,
    patch,
    path,
    poll,
    post,
    put,
)
from windlass.sdk._core import call as ask
from windlass.wire.base import AuditOut, MirrorOut, ServerOut, UsageOut, WhoamiOut
from windlass.wire.projects import (
    KeyIn,
    KeyOut,
    NewKeyOut,
    PoolIn,
    PoolOut,
    PoolPatch,
    QuotaChangeOut,
    QuotaIn,
    QuotaOut,
)


def server(scope: Scope) -> Flow[ServerOut]:
    """Read what answers: name, version, mode."""
    del scope
    return get("/v1", ServerOut)


def mirror(scope: Scope) -> Flow[MirrorOut]:
    """Read how well the server knows its cluster.

    Raises:
        NotFoundError: it works for none.
    """
    del scope
    return get("/v1/mirror", MirrorOut)


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


def check_quota(
    scope: Scope,
    pool: str,
    nominal: int | None,
    *,
    borrowing_limit: int | None = None,
    lending_limit: int | None = None,
) -> Flow[QuotaChangeOut]:
    """Try a change and keep nothing: returns the jobs that it would preempt, and those that it would let start.

    ``nominal`` None tries to take the quota away.

    Raises:
        ConflictError: somebody else manages the quota in the cluster.
    """
    where, query = scope.path("quotas", pool), {"dry_run": "true"}
    if nominal is None:
        return ask(Request("DELETE", where, query=pairs(query)), into(QuotaChangeOut))
    body = built(QuotaIn, nominal=nominal, borrowing_limit=borrowing_limit, lending_limit=lending_limit)
    return put(where, QuotaChangeOut, body, query)


def set_quota(
    scope: Scope,
    pool: str,
    nominal: int,
    *,
    borrowing_limit: int | None = None,
    lending_limit: int | None = None,
    timeout: float | None = 60.0,
) -> Flow[QuotaOut]:
    """Set the project's share of a pool, and return its line when the change stands; a limit of None: no limit.

    Raises:
        ConflictError: somebody else manages the quota in the cluster.
        WaitTimeoutError: the cluster has not taken the change in ``timeout`` seconds; it still will.
    """
    body = built(QuotaIn, nominal=nominal, borrowing_limit=borrowing_limit, lending_limit=lending_limit)
    yield from _settled(scope, (yield from put(scope.path("quotas", pool), QuotaChangeOut, body)), timeout)
    wished = body.model_dump()

    def line() -> Flow[QuotaOut | None]:
        lines = yield from list_quotas(scope).all()
        return next((one for one in lines if one.pool == pool), None)

    def stands(seen: QuotaOut | None) -> bool:
        return seen is not None and seen.model_dump(include=set(wished)) == wished

    found = yield from poll(line, stands, timeout, f"the quota of pool {pool}")
    assert found is not None  # noqa: S101 - what stands is there
    return found


def delete_quota(scope: Scope, pool: str, *, timeout: float | None = 60.0) -> Flow[QuotaChangeOut]:
    """Take the project's share of a pool away. Raises as ``set``."""
    made = yield from ask(Request("DELETE", scope.path("quotas", pool)), into(QuotaChangeOut))
    return (yield from _settled(scope, made, timeout))


def get_quota_change(scope: Scope, change: str) -> Flow[QuotaChangeOut]:
    """Read how far a change has come."""
    return get(scope.path("quota-changes", change), QuotaChangeOut)


def _settled(scope: Scope, change: QuotaChangeOut, timeout: float | None) -> Flow[QuotaChangeOut]:
    """Wait until a change has ended."""
    if change.state == "pending" and change.id is not None:
        known = change.id
        change = yield from poll(
            lambda: get_quota_change(scope, known), lambda seen: seen.state != "pending", timeout, f"change {known}"
        )
    if change.state == "refused":
        raise ConflictError(f"the cluster refused the change: {change.problem}")
    return change


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
    check = call(check_quota)
    set = call(set_quota)
    delete = call(delete_quota)
    change = call(get_quota_change)


class AsyncQuotas(AsyncResource):
    """The project's shares of the pools; ``all`` is the ledger of every project."""

    all = async_listing(list_all_quotas)
    list = async_listing(list_quotas)
    check = async_call(check_quota)
    set = async_call(set_quota)
    delete = async_call(delete_quota)
    change = async_call(get_quota_change)


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
    mirror = call(mirror)
    whoami = call(whoami)


class AsyncServer(AsyncResource):
    """What answers, and who asks."""

    info = async_call(server)
    mirror = async_call(mirror)
    whoami = async_call(whoami)
