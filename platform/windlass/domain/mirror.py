"""What a cluster says of pools, projects and who waits, in the words of this house; and changes to be made there.

In a cluster the custom resources own pools, projects and quotas. The database mirrors them, so that the API answers
from one place in both modes, and keeps each change that was accepted until the cluster has it (docs/adr/0021).
"""

import uuid
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum

from pydantic import Field

from windlass.domain.ids import encode_id
from windlass.domain.jobs import Fact, Reason
from windlass.domain.projects import Member, Pool, Project, StoredQuota
from windlass.domain.quota import Claim, Quota, Snapshot


def id_of(kind: str, uid: str) -> str:
    """Return the id of what the cluster calls by this uid (RFC 4122): the same 128 bits, so that nobody keeps a table.

    Raises:
        ValueError: it is no UUID.
    """
    bits = uuid.UUID(uid).int
    return encode_id(kind, bits >> 80, bits & (2**80 - 1))


class ProjectState(Fact):
    """A project as its resource says it."""

    project: Project
    members: tuple[Member, ...] = ()
    quotas: tuple[StoredQuota, ...] = ()


class Mirror(Fact):
    """One state of the cluster. The snapshot also holds queues that Windlass has not made, as ``queue:NAME``."""

    pools: tuple[Pool, ...] = ()
    projects: tuple[ProjectState, ...] = ()
    snapshot: Snapshot = Snapshot(pools=())
    reasons: Mapping[str, Reason] = Field(default_factory=dict)
    """By the claim's ``job``: why it does not run."""
    notes: tuple[str, ...] = ()
    """What makes predictions unsure: settings of the cluster that the rules of quotas do not know."""


class Share(Fact):
    """What a project is to have of a pool; None: no limit."""

    nominal: int = Field(ge=0)
    borrowing_limit: int | None = Field(default=None, ge=0)
    lending_limit: int | None = Field(default=None, ge=0)


class QueueQuota(Quota):
    """A quota as the cluster's queue holds it, which may lag behind the wish; also of queues that are no project's."""

    cohort: str | None = None


class StoredClaim(Claim):
    """A claim as the mirror keeps it."""

    reason: Reason | None = None
    """Why it does not run."""


MIRROR = "cluster"
"""The name of the one mirror that there is."""


class Mirrored(Fact):
    """Who mirrors the cluster, and how the mirror is. Whoever writes it saves this row too: the version fences."""

    name: str = MIRROR
    holder: str
    read_at: datetime | None = None
    """When the mirror was last known to be right."""
    notes: tuple[str, ...] = ()
    version: int = 1


class ChangeState(StrEnum):
    """How far a change has come. The last two are final."""

    PENDING = "pending"
    APPLIED = "applied"
    REFUSED = "refused"


class QuotaChange(Fact):
    """A wish to change one quota of a project's resource: accepted here, then applied there."""

    id: str
    project: str
    """Uid of the project."""
    name: str
    """Name of the project."""
    pool: str
    share: Share | None
    """None takes the quota away."""
    state: ChangeState = ChangeState.PENDING
    problem: str = ""
    """Why the cluster refused what it had accepted when it was asked first."""
    created_by: str
    created_at: datetime
    ended_at: datetime | None = None
    version: int = 1
