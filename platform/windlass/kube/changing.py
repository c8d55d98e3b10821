"""Changes quotas of projects' resources beside kubectl, Helm and GitOps: applied without force, as one manager of many.

Apply takes away what its manager applied before and leaves out now. So what is sent is all that we own, read from the
object a moment ago, with the one quota changed; the version that it was read in is sent along, so that of two who do
this at once the second one reads again.
"""

import random
import re
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from windlass.domain import errors as domain
from windlass.domain.mirror import QuotaChange, Share, id_of
from windlass.kube.client import Client
from windlass.kube.errors import (
    ClusterError,
    ConflictError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    UnknownKindError,
)
from windlass.kube.kinds import PROJECT
from windlass.kube.objects import Object, Ref
from windlass.kube.ownership import API_MANAGER, applied_by, managed_by

_TRIES: Final = 6
_PAUSE: Final = 0.05
"""Seconds after the first lost race; twice as long after each further one."""
_FIELDS: Final = {"nominal": "nominal", "borrowingLimit": "borrowing_limit", "lendingLimit": "lending_limit"}
"""Of a share: by its name in the resource that in the domain."""
_NAMED = re.compile(r'conflict with "([^"]+)"')
_VALUE = re.compile(r'^Invalid value: (?:(?:"(?:[^"\\]|\\.)*"|[-0-9.]+|true|false|null): )?', re.DOTALL)
"""How a cause begins; of the value that follows only the simple ones are shown."""
_DENIED: Final = "denied"
"""What an admission policy or a webhook does; an account without the right ``is forbidden``."""
_CHANGE_THERE: Final = (
    "Change the quota where it is managed, with kubectl or Helm or in the Git repository;"
    " or take it out there first, and set it here then"
)


class AppliedProjects:
    """Implements ``windlass.ports.ProjectResources``. Threads may share it."""

    def __init__(self, client: Client, sleep: Callable[[float], None] = time.sleep) -> None:
        self._client, self._sleep = client, sleep

    def exists(self, uid: str, name: str) -> bool:
        """Ask the API server whether the project with this uid (of the control plane) is still there.

        Raises:
            UnavailableError: the API server cannot answer now, or we may not ask it.
        """
        try:
            return id_of("prj", self._client.get(Ref(PROJECT, name))["metadata"]["uid"]) == uid
        except UnknownKindError as error:
            raise domain.UnavailableError(error.message) from error
        except NotFoundError:
            return False
        except ClusterError as error:
            raise domain.UnavailableError(
                f"The cluster does not say whether {name} is there: {error.message}"
            ) from error

    def check(self, change: QuotaChange) -> None:
        """Let the API server try the change, and keep nothing of it.

        Raises:
            ConflictError: another manager owns the quota; the message and ``facts["managers"]`` name it.
            InvalidError: a rule of the resource, or of an admission policy, refuses the change.
            NotFoundError: there is no such project any more.
            UnavailableError: the API server cannot answer now, or we may not ask it.
        """
        self._bring(change, keep=False)

    def apply(self, change: QuotaChange) -> None:
        """Make the change; making it again changes nothing. Raises as ``check``."""
        self._bring(change, keep=True)

    def _bring(self, change: QuotaChange, *, keep: bool) -> None:
        try:
            for pause in _pauses():
                if self._try(change, keep=keep):
                    return
                self._sleep(pause)
        except UnknownKindError as error:
            raise domain.UnavailableError(error.message) from error
        except NotFoundError as error:
            raise _gone(change) from error
        except ClusterError as error:
            raise domain.UnavailableError(f"The cluster did not change the quota: {error.message}") from error
        raise domain.UnavailableError(f"Others change project {change.name} all the time; try again")

    def _try(self, change: QuotaChange, *, keep: bool) -> bool:
        """Make the change into the version that is there now; False when it was another one meanwhile."""
        live = self._client.get(Ref(PROJECT, change.name))
        if id_of("prj", live["metadata"]["uid"]) != change.project:
            raise _gone(change)
        if share_of(live, change.pool) == change.share:
            return True
        others = managed_by(live, change.pool)
        if change.share is None and others:
            # To the API server an entry goes with who made it, and takes the fields along that others own in it.
            raise _owned_by(others, change)
        try:
            # A limit that others own, or an entry that they made, too, does not go by our leaving it out.
            wish = wished(live, change.pool, change.share)
            tried = self._client.apply(wish, manager=API_MANAGER, dry_run=True)
            if share_of(tried, change.pool) != change.share:
                raise _owned_by(others, change)
            if keep:
                self._client.apply(wish, manager=API_MANAGER)
        except ClusterError as error:
            return _lost_race(error, live, change)
        return True


def wished(live: Object, pool: str, share: Share | None) -> Object:
    """Return what is applied: all that we own of a project, with one quota as it is to be, into this very version."""
    metadata = live["metadata"]
    ours = applied_by(API_MANAGER, live)
    spec: Object = ours.get("spec", {})
    rest = [one for one in spec.get("quotas", ()) if one["pool"] != pool]
    quotas = rest if share is None else [*rest, {"pool": pool, **_wire(share)}]
    address = {name: metadata[name] for name in ("name", "uid", "resourceVersion")}
    return ours | {
        "apiVersion": PROJECT.api_version,
        "kind": PROJECT.kind,
        "metadata": ours.get("metadata", {}) | address,
        "spec": {name: value for name, value in spec.items() if name != "quotas"}
        | ({"quotas": quotas} if quotas else {}),
    }


def share_of(project: Object, pool: str) -> Share | None:
    """Return what a project's resource says of a pool."""
    for one in project.get("spec", {}).get("quotas") or ():
        if one["pool"] == pool:
            return Share.model_validate({ours: one.get(theirs) for theirs, ours in _FIELDS.items()})
    return None


def _wire(share: Share) -> dict[str, int]:
    values = {theirs: getattr(share, ours) for theirs, ours in _FIELDS.items()}
    return {name: value for name, value in values.items() if value is not None}


def _pauses() -> Iterator[float]:
    """Yield the pause after each try: never the same for two who met."""
    for number in range(_TRIES):
        yield _PAUSE * 2.0**number * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, hides nothing


def _lost_race(error: ClusterError, live: Object, change: QuotaChange) -> bool:
    """Return False when another version is there by now, which is to be read; raise what else stops the change."""
    if isinstance(error, ConflictError):
        if error.managers:
            raise _owned_by(", ".join(sorted(set(_NAMED.findall(error.managers)))), change) from error
        return False
    if isinstance(error, InvalidError) or (isinstance(error, ForbiddenError) and _DENIED in error.message):
        raise _invalid(error, live, change) from error
    raise error


def _gone(change: QuotaChange) -> domain.NotFoundError:
    return domain.NotFoundError(f"Project {change.name} is not in the cluster any more")


def _owned_by(managers: str, change: QuotaChange) -> domain.ConflictError:
    names = managers or "another manager"
    return domain.ConflictError(
        f"The quota of project {change.name} in pool {change.pool} is managed by {names}",
        hint=_CHANGE_THERE,
        facts={"managers": [name for name in managers.split(", ") if name]},
    )


def _invalid(error: ClusterError, live: Object, change: QuotaChange) -> domain.InvalidError:
    """Return what the server refuses in the words of the rule, at the field of the request that it is about."""
    pools = [one["pool"] for one in live.get("spec", {}).get("quotas") or ()]
    here = f"spec.quotas[{pools.index(change.pool) if change.pool in pools else len(pools)}]"
    causes = [(cause.field, _VALUE.sub("", cause.message)) for cause in error.causes if cause.message]
    found = [domain.FieldProblem(_pointer(field, said, here), said) for field, said in causes]
    said = "; ".join(dict.fromkeys(one.problem for one in found)) or error.message
    return domain.InvalidError(
        f"The cluster refuses this quota of project {change.name} in pool {change.pool}: {said}",
        hint="Change the numbers, or the rule",
        fields=found,
    )


def _pointer(field: str, said: str, here: str) -> str:
    """Return the field of a share that a refusal is about: as its path says, else the first that its words name."""
    words: list[Any] = [field.removeprefix(here + ".")] if field.startswith(here) else []
    for name in [*words, *re.findall(r"\w+", said)]:
        if name in _FIELDS:
            return f"/{_FIELDS[name]}"
    return ""
