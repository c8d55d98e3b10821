# Generated from _async/platform.py by docs/generate_sync_sdk.py; do not edit.
"""Server information, API keys, pools and quotas."""

from collections.abc import Mapping, Sequence
from typing import Any

from windlass.domain.errors import ConflictError
from windlass.domain.projects import Permission
from windlass.sdk._protocol import Request, decode_as, path, validate_body
from windlass.sdk._sync.pages import CursorPage
from windlass.sdk._sync.resource import Resource
from windlass.sdk.arguments import as_body
from windlass.wire.base import ClusterSyncOut, DeletionOut, ServerOut, WhoamiOut
from windlass.wire.projects import (
    KeyIn,
    KeyOut,
    NewKeyOut,
    PlatformRole,
    PoolIn,
    PoolOut,
    PoolPatch,
    QuotaChangeOut,
    QuotaIn,
    QuotaOut,
)


class Server(Resource):
    """The server and the caller's identity."""

    def info(self) -> ServerOut:
        """Get the server's name, version and mode."""
        return self._get("/v1", ServerOut)

    def cluster_sync(self) -> ClusterSyncOut:
        """Read the status of the cluster sync.

        Raises:
            NotFoundError: the server has no cluster.
        """
        return self._get(path("cluster-sync"), ClusterSyncOut)

    def whoami(self) -> WhoamiOut:
        """Get the user, projects and roles of the API key."""
        return self._get(path("whoami"), WhoamiOut)


class Keys(Resource):
    """API keys."""

    def create(
        self,
        user: str,
        *,
        name: str = "",
        platform_role: PlatformRole | None = None,
        project: str | None = None,
        permissions: Sequence[Permission | str] | None = None,
        expires_in_days: int | None = None,
    ) -> NewKeyOut:
        """Create an API key of one's own, as a platform admin of any user. Only this response contains its secret."""
        body = validate_body(
            KeyIn,
            user=user,
            name=name,
            platform_role=platform_role,
            project=project,
            permissions=permissions,
            expires_in_days=expires_in_days,
        )
        return self._post(path("keys"), NewKeyOut, body)

    def renew(self, key: str) -> NewKeyOut:
        """Replace a key by one with the same rights and lifetime; the old one expires after an hour."""
        request = Request("POST", path("keys", key) + ":renew", retry=False)  # a second one would be another key
        return decode_as(NewKeyOut)(self._transport.send(request))

    def list(self) -> CursorPage[KeyOut]:
        """List the user's API keys; for admins all keys."""
        return self._list(path("keys"), KeyOut)

    def revoke(self, key: str, *, force: bool = False, dry_run: bool = False) -> DeletionOut:
        """Revoke an API key; ``force`` allows to revoke the key in use and the last admin key."""
        query = {"force": force or None, "dry_run": dry_run or None}
        return self._delete_with_result(path("keys", key), DeletionOut, query)


class Pools(Resource):
    """Pools of accelerators."""

    def create(
        self,
        name: str,
        capacity: int,
        *,
        gpu_type: str = "",
        max_gpus_per_job: int | None = None,
        price_per_gpu_hour: float = 0.0,
        gpu_memory_bytes: int | None = None,
    ) -> PoolOut:
        """Create a pool of ``capacity`` GPUs (or CPU slots)."""
        body = validate_body(
            PoolIn,
            name=name,
            capacity=capacity,
            gpu_type=gpu_type,
            max_gpus_per_job=max_gpus_per_job,
            price_per_gpu_hour=price_per_gpu_hour,
            gpu_memory_bytes=gpu_memory_bytes,
        )
        return self._post(path("pools"), PoolOut, body)

    def list(self) -> CursorPage[PoolOut]:
        """List the pools."""
        return self._list(path("pools"), PoolOut)

    def get(self, name: str) -> PoolOut:
        """Get a pool."""
        return self._get(path("pools", name), PoolOut)

    def update(self, name: str, change: PoolPatch | Mapping[str, Any], *, if_match: int | None = None) -> PoolOut:
        """Change the fields that are set in ``change``."""
        return self._patch(path("pools", name), PoolOut, as_body(PoolPatch, change), if_match)

    def delete(self, name: str, *, if_match: int | None = None, dry_run: bool = False) -> DeletionOut:
        """Delete an unused pool."""
        return self._delete(path("pools", name), if_match, dry_run=dry_run)


class Quotas(Resource):
    """Quotas of the project; ``all`` lists the quotas of all projects."""

    def all(self) -> CursorPage[QuotaOut]:
        """List the quotas of all projects in all pools."""
        return self._list(path("quotas"), QuotaOut)

    def list(self) -> CursorPage[QuotaOut]:
        """List the project's quotas: nominal, used, borrowed and lent GPUs per pool."""
        return self._list(self._path("quotas"), QuotaOut)

    def check(
        self,
        pool: str,
        nominal: int | None,
        *,
        borrowing_limit: int | None = None,
        lending_limit: int | None = None,
    ) -> QuotaChangeOut:
        """Preview a quota change without storing it: returns the jobs that it would preempt or start.

        ``nominal`` None previews the deletion of the quota.

        Raises:
            ConflictError: another field manager owns the quota in the cluster.
        """
        url, query = self._path("quotas", pool), {"dry_run": "true"}
        if nominal is None:
            return self._delete_with_result(url, QuotaChangeOut, query)
        body = validate_body(QuotaIn, nominal=nominal, borrowing_limit=borrowing_limit, lending_limit=lending_limit)
        return self._put(url, QuotaChangeOut, body, query)

    def set(
        self,
        pool: str,
        nominal: int,
        *,
        borrowing_limit: int | None = None,
        lending_limit: int | None = None,
        timeout: float | None = 60.0,
    ) -> QuotaOut:
        """Set the project's quota in a pool and wait until it is in effect. A limit of None means no limit.

        Raises:
            ConflictError: another field manager owns the quota in the cluster.
            WaitTimeoutError: the change is still pending after ``timeout`` seconds.
        """
        body = validate_body(QuotaIn, nominal=nominal, borrowing_limit=borrowing_limit, lending_limit=lending_limit)
        self._wait_for_change(self._put(self._path("quotas", pool), QuotaChangeOut, body), timeout)
        desired = body.model_dump()

        def read() -> QuotaOut | None:
            for quota in self.list():
                if quota.pool == pool:
                    return quota
            return None

        def is_applied(quota: QuotaOut | None) -> bool:
            return quota is not None and quota.model_dump(include={*desired}) == desired

        quota = self._poll(read, is_applied, timeout, f"the quota of pool {pool}")
        assert quota is not None  # noqa: S101 - see is_applied
        return quota

    def delete(self, pool: str, *, timeout: float | None = 60.0) -> QuotaChangeOut:
        """Delete the project's quota in a pool. Raises the errors of ``set``."""
        change = self._delete_with_result(self._path("quotas", pool), QuotaChangeOut)
        return self._wait_for_change(change, timeout)

    def change(self, change: str) -> QuotaChangeOut:
        """Get the state of a quota change."""
        return self._get(self._path("quota-changes", change), QuotaChangeOut)

    def _wait_for_change(self, change: QuotaChangeOut, timeout: float | None) -> QuotaChangeOut:
        """Wait until a quota change has succeeded or failed."""
        if change.state == "pending" and change.id is not None:
            change_id = change.id
            change = self._poll(
                lambda: self.change(change_id),
                lambda change: change.state != "pending",
                timeout,
                f"quota change {change_id}",
            )
        if change.state == "refused":
            raise ConflictError(f"the cluster rejected the change: {change.problem}")
        return change
