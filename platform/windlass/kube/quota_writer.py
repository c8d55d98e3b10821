"""Changes quotas in Project resources with server-side apply without force, as one of several field managers.

Apply removes fields that its manager applied before and omits now. The manifest therefore contains all fields that we
own, with one quota changed, and the resourceVersion that was read, so that a concurrent change causes a retry.
"""

import random
import re
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from windlass.domain import errors as domain
from windlass.domain.cluster_sync import QuotaChange, QuotaSpec, id_of
from windlass.kube.client import KubeClient
from windlass.kube.errors import (
    KubeApiError,
    KubeConflictError,
    KubeForbiddenError,
    KubeInvalidError,
    KubeNotFoundError,
    NoKindMatchError,
)
from windlass.kube.kinds import PROJECT
from windlass.kube.objects import Object, Ref
from windlass.kube.ownership import API_MANAGER, applied_by, managed_by

_MAX_ATTEMPTS: Final = 6
_MIN_BACKOFF: Final = 0.05
"""Seconds after the first conflict; doubles with each further one."""
_FIELDS: Final = {"nominal": "nominal", "borrowingLimit": "borrowing_limit", "lendingLimit": "lending_limit"}
"""Field names of a quota: in the resource, and in the domain."""
_MANAGER_NAME = re.compile(r'conflict with "([^"]+)"')
_VALUE = re.compile(r'^Invalid value: (?:(?:"(?:[^"\\]|\\.)*"|[-0-9.]+|true|false|null): )?', re.DOTALL)
"""The prefix of a cause's message."""
_DENIED: Final = "denied"
"""In messages of admission policies and webhooks; RBAC says ``is forbidden``."""
_MANAGED_ELSEWHERE_HINT: Final = (
    "Change the quota where it is managed: with kubectl, Helm or in the Git repository;"
    " or remove it there first, then set it here"
)


class ProjectQuotaWriter:
    """Implements ``windlass.ports.ProjectResources``. Thread-safe."""

    def __init__(self, client: KubeClient, sleep: Callable[[float], None] = time.sleep) -> None:
        self._client, self._sleep = client, sleep

    def exists(self, uid: str, name: str) -> bool:
        """Return whether the project with this id still exists; reads from the API server.

        Raises:
            UnavailableError: the API server cannot be reached, or forbids the request.
        """
        try:
            return id_of("prj", self._client.get(Ref(PROJECT, name))["metadata"]["uid"]) == uid
        except NoKindMatchError as error:
            raise domain.UnavailableError(error.message) from error
        except KubeNotFoundError:
            return False
        except KubeApiError as error:
            raise domain.UnavailableError(f"Cannot determine whether project {name} exists: {error.message}") from error

    def check(self, change: QuotaChange) -> None:
        """Validate the change with a dry run.

        Raises:
            ConflictError: another manager owns the quota; the message and ``context["managers"]`` name it.
            InvalidError: a validation rule or an admission policy rejects the change.
            NotFoundError: the project does not exist any more.
            UnavailableError: the API server cannot be reached, or forbids the request.
        """
        self._apply_with_retry(change, dry_run=True)

    def apply(self, change: QuotaChange) -> None:
        """Apply the change; idempotent. Raises the same errors as ``check``."""
        self._apply_with_retry(change, dry_run=False)

    def _apply_with_retry(self, change: QuotaChange, *, dry_run: bool) -> None:
        try:
            for delay in _backoff_schedule():
                if self._try_apply(change, dry_run=dry_run):
                    return
                self._sleep(delay)
        except NoKindMatchError as error:
            raise domain.UnavailableError(error.message) from error
        except KubeNotFoundError as error:
            raise _not_found(change) from error
        except KubeApiError as error:
            raise domain.UnavailableError(f"The cluster did not change the quota: {error.message}") from error
        raise domain.UnavailableError(f"Project {change.name} is modified concurrently; try again")

    def _try_apply(self, change: QuotaChange, *, dry_run: bool) -> bool:
        """Apply the change to the current version; False if the version changed meanwhile."""
        live = self._client.get(Ref(PROJECT, change.name))
        if id_of("prj", live["metadata"]["uid"]) != change.project:
            raise _not_found(change)
        if quota_spec_of(live, change.pool) == change.spec:
            return True
        others = managed_by(live, change.pool)
        if change.spec is None and others:
            # removing the list entry would also remove the fields in it that others own
            raise _managed_elsewhere(others, change)
        try:
            # omitting a field does not remove it if others own it too
            desired = desired_project(live, change.pool, change.spec)
            result = self._client.apply(desired, manager=API_MANAGER, dry_run=True)
            if quota_spec_of(result, change.pool) != change.spec:
                raise _managed_elsewhere(others, change)
            if not dry_run:
                self._client.apply(desired, manager=API_MANAGER)
        except KubeApiError as error:
            return _handle_error(error, live, change)
        return True


def desired_project(live: Object, pool: str, spec: QuotaSpec | None) -> Object:
    """Return the manifest to apply: all fields that we own, with one quota changed or removed, for this version."""
    metadata = live["metadata"]
    owned = applied_by(API_MANAGER, live)
    owned_spec: Object = owned.get("spec", {})
    rest = [quota for quota in owned_spec.get("quotas", ()) if quota["pool"] != pool]
    quotas = rest if spec is None else [*rest, {"pool": pool, **_to_camel(spec)}]
    identity = {name: metadata[name] for name in ("name", "uid", "resourceVersion")}
    return owned | {
        "apiVersion": PROJECT.api_version,
        "kind": PROJECT.kind,
        "metadata": owned.get("metadata", {}) | identity,
        "spec": {name: value for name, value in owned_spec.items() if name != "quotas"}
        | ({"quotas": quotas} if quotas else {}),
    }


def quota_spec_of(project: Object, pool: str) -> QuotaSpec | None:
    """Return the quota of a pool in a Project resource, None without one."""
    for quota in project.get("spec", {}).get("quotas") or ():
        if quota["pool"] == pool:
            return QuotaSpec.model_validate(
                {domain_name: quota.get(camel_name) for camel_name, domain_name in _FIELDS.items()}
            )
    return None


def _to_camel(spec: QuotaSpec) -> dict[str, int]:
    values = {camel_name: getattr(spec, domain_name) for camel_name, domain_name in _FIELDS.items()}
    return {name: value for name, value in values.items() if value is not None}


def _backoff_schedule() -> Iterator[float]:
    """Yield the delay after each attempt: exponential with jitter."""
    for attempt in range(_MAX_ATTEMPTS):
        yield _MIN_BACKOFF * 2.0**attempt * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not cryptography


def _handle_error(error: KubeApiError, live: Object, change: QuotaChange) -> bool:
    """Return False for a version conflict, which is retried; raise the domain error otherwise."""
    if isinstance(error, KubeConflictError):
        if error.managers:
            raise _managed_elsewhere(", ".join(sorted(set(_MANAGER_NAME.findall(error.managers)))), change) from error
        return False
    if isinstance(error, KubeInvalidError) or (isinstance(error, KubeForbiddenError) and _DENIED in error.message):
        raise _invalid(error, live, change) from error
    raise error


def _not_found(change: QuotaChange) -> domain.NotFoundError:
    return domain.NotFoundError(f"Project {change.name} does not exist in the cluster any more")


def _managed_elsewhere(managers: str, change: QuotaChange) -> domain.ConflictError:
    names = managers or "another manager"
    return domain.ConflictError(
        f"The quota of project {change.name} in pool {change.pool} is managed by {names}",
        hint=_MANAGED_ELSEWHERE_HINT,
        context={"managers": [name for name in managers.split(", ") if name]},
    )


def _invalid(error: KubeApiError, live: Object, change: QuotaChange) -> domain.InvalidError:
    """Return the domain error with the server's messages, assigned to the fields of the request."""
    pools = [quota["pool"] for quota in live.get("spec", {}).get("quotas") or ()]
    path = f"spec.quotas[{pools.index(change.pool) if change.pool in pools else len(pools)}]"
    causes = [(cause.field, _VALUE.sub("", cause.message)) for cause in error.causes if cause.message]
    problems = [domain.FieldProblem(_pointer(field, message, path), message) for field, message in causes]
    summary = "; ".join(dict.fromkeys(problem.problem for problem in problems)) or error.message
    return domain.InvalidError(
        f"The cluster rejects this quota of project {change.name} in pool {change.pool}: {summary}",
        hint="Change the quota, or the rule that rejects it",
        fields=problems,
    )


def _pointer(field: str, message: str, path: str) -> str:
    """Return the JSON pointer of the invalid field: by the cause's path, else the first field named in its message."""
    names: list[Any] = [field.removeprefix(path + ".")] if field.startswith(path) else []
    for name in [*names, *re.findall(r"\w+", message)]:
        if name in _FIELDS:
            return f"/{_FIELDS[name]}"
    return ""
