"""A cluster in memory: its view, and its projects' resources with their managers."""

from collections.abc import Sequence
from datetime import UTC, datetime

from windlass.domain.errors import ConflictError, NotFoundError, UnavailableError
from windlass.domain.mirror import Mirror, ProjectState, QuotaChange, id_of
from windlass.domain.projects import Pool, Project, StoredQuota
from windlass.domain.quota import Claim, PoolState, Quota, Snapshot

BORN = datetime(2026, 11, 1, tzinfo=UTC)


def uid(number: int) -> str:
    """Return a uid as a cluster gives it."""
    return f"00000000-0000-4000-8000-{number:012d}"


def a_pool(name: str = "a100", capacity: int = 8, number: int = 1) -> Pool:
    counted = {"nodes": 2, "ready_nodes": 2, "allocatable": capacity}
    return Pool(id=id_of("pool", uid(number)), name=name, capacity=capacity, created_at=BORN, **counted)


def a_project(name: str, number: int, *quotas: StoredQuota, cohort: str | None = "lab") -> ProjectState:
    project = Project(id=id_of("prj", uid(number)), name=name, cohort=cohort, created_at=BORN)
    return ProjectState(project=project, quotas=tuple(one.model_copy(update={"project": project.id}) for one in quotas))


def a_quota(nominal: int, pool: str = "a100", **more: object) -> StoredQuota:
    return StoredQuota.model_validate({"project": "", "pool": pool, "nominal": nominal, **more})


class MemoryView:
    """``ports.ClusterView`` of whatever a test puts into it."""

    def __init__(self) -> None:
        self.mirror: Mirror | None = None
        self.news = True

    def start(self) -> None:
        """Nothing has to begin."""

    def stop(self) -> None:
        """Nothing has to end."""

    def wait(self, seconds: float) -> bool:
        del seconds
        return self.news

    def look(self) -> Mirror:
        self.news = False
        if self.mirror is None:
            raise UnavailableError("nothing has been read yet")
        return self.mirror

    def show(
        self,
        projects: Sequence[ProjectState],
        *claims: Claim,
        pools: Sequence[Pool] = (a_pool(),),
        foreign: Sequence[Quota] = (),
    ) -> Mirror:
        """Make this the state of the cluster, with queues as the projects wish them."""
        quotas = [
            Quota(project=state.project.name, **one.model_dump(exclude={"project", "managed_by", "version"}))
            for state in projects
            for one in state.quotas
        ]
        cohort = {state.project.name: state.project.cohort and f"windlass-{state.project.cohort}" for state in projects}
        self.mirror = Mirror(
            pools=tuple(pools),
            projects=tuple(projects),
            snapshot=Snapshot(
                pools=tuple(PoolState(name=pool.name, capacity=None) for pool in pools),
                quotas=(*quotas, *foreign),
                cohorts=cohort,
                claims=claims,
            ),
        )
        self.news = True
        return self.mirror


class MemoryResources:
    """``ports.ProjectResources`` over a ``MemoryView``: what is applied is what the view then shows."""

    def __init__(self, view: MemoryView) -> None:
        self.view = view
        self.applied: list[QuotaChange] = []
        self.taken: dict[tuple[str, str], str] = {}
        """Who else owns a quota, by project's name and pool."""
        self.down = False

    def exists(self, uid: str, name: str) -> bool:
        self._answer()
        found = [one.project for one in self._projects() if one.project.id == uid]
        return bool(found) and found[0].name == name

    def check(self, change: QuotaChange) -> None:
        self._answer()
        if not self.exists(change.project, change.name):
            raise NotFoundError(f"no project {change.name}")
        if manager := self.taken.get((change.name, change.pool)):
            raise ConflictError(f"the quota is managed by {manager}", hint="change it there")

    def apply(self, change: QuotaChange) -> None:
        self.check(change)
        self.applied.append(change)
        assert self.view.mirror
        states = [self._changed(state, change) for state in self._projects()]
        self.view.show(states, *self.view.mirror.snapshot.claims, pools=self.view.mirror.pools)

    @staticmethod
    def _changed(state: ProjectState, change: QuotaChange) -> ProjectState:
        if state.project.id != change.project:
            return state
        kept = [one for one in state.quotas if one.pool != change.pool]
        if change.share is not None:
            kept.append(StoredQuota(project=change.project, pool=change.pool, **change.share.model_dump()))
        return state.model_copy(update={"quotas": tuple(kept)})

    def _projects(self) -> Sequence[ProjectState]:
        return self.view.mirror.projects if self.view.mirror else ()

    def _answer(self) -> None:
        if self.down:
            raise UnavailableError("the API server does not answer")
