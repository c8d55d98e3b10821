"""An in-memory cluster: its observed state, and its project resources with their field managers."""

from collections.abc import Sequence
from datetime import UTC, datetime

from windlass.domain.cluster_sync import ObservedClusterState, ProjectState, QuotaChange, id_of
from windlass.domain.errors import ConflictError, NotFoundError, UnavailableError
from windlass.domain.projects import Pool, Project, StoredQuota
from windlass.domain.quota import PoolState, Quota, ResourceDemand, Snapshot
from windlass.domain.warm_trainers import Placement, WarmTrainer, WarmTrainerState
from windlass.ports import Clock
from windlass.runtime.context import WarmTrainerContext

CREATED_AT = datetime(2026, 11, 1, tzinfo=UTC)


def uid(number: int) -> str:
    """Return a Kubernetes uid."""
    return f"00000000-0000-4000-8000-{number:012d}"


def make_pool(name: str = "a100", capacity: int = 8, number: int = 1) -> Pool:
    counted = {"nodes": 2, "ready_nodes": 2, "allocatable": capacity}
    return Pool(id=id_of("pool", uid(number)), name=name, capacity=capacity, created_at=CREATED_AT, **counted)


def make_project(name: str, number: int, *quotas: StoredQuota, cohort: str | None = "lab") -> ProjectState:
    project = Project(id=id_of("prj", uid(number)), name=name, cohort=cohort, created_at=CREATED_AT)
    return ProjectState(
        project=project, quotas=tuple(quota.model_copy(update={"project": project.id}) for quota in quotas)
    )


def make_quota(nominal: int, pool: str = "a100", **more: object) -> StoredQuota:
    return StoredQuota.model_validate({"project": "", "pool": pool, "nominal": nominal, **more})


class MemoryView:
    """``ports.ClusterView`` of the state that a test sets."""

    def __init__(self) -> None:
        self.state: ObservedClusterState | None = None
        self.changed = True

    def start(self) -> None:
        """Do nothing."""

    def stop(self) -> None:
        """Do nothing."""

    def wait(self, seconds: float) -> bool:
        del seconds
        return self.changed

    def observe(self) -> ObservedClusterState:
        self.changed = False
        if self.state is None:
            raise UnavailableError("nothing has been read yet")
        return self.state

    def set_state(
        self,
        projects: Sequence[ProjectState],
        *demands: ResourceDemand,
        pools: Sequence[Pool] = (make_pool(),),
        foreign: Sequence[Quota] = (),
    ) -> ObservedClusterState:
        """Set the state of the cluster, with queues that match the projects' specs."""
        quotas = [
            Quota(project=state.project.name, **quota.model_dump(exclude={"project", "managed_by", "version"}))
            for state in projects
            for quota in state.quotas
        ]
        cohort = {state.project.name: state.project.cohort and f"windlass-{state.project.cohort}" for state in projects}
        self.state = ObservedClusterState(
            pools=tuple(pools),
            projects=tuple(projects),
            snapshot=Snapshot(
                pools=tuple(PoolState(name=pool.name, capacity=None) for pool in pools),
                quotas=(*quotas, *foreign),
                cohorts=cohort,
                demands=demands,
            ),
        )
        self.changed = True
        return self.state


class MemoryResources:
    """``ports.ProjectResources`` over a ``MemoryView``: applied changes appear in the view."""

    def __init__(self, view: MemoryView) -> None:
        self.view = view
        self.applied: list[QuotaChange] = []
        self.other_managers: dict[tuple[str, str], str] = {}
        """The foreign field manager of a quota, by project name and pool."""
        self.unavailable = False

    def exists(self, uid: str, name: str) -> bool:
        self._check_available()
        return any(state.project.id == uid and state.project.name == name for state in self._projects())

    def check(self, change: QuotaChange) -> None:
        self._check_available()
        if not self.exists(change.project, change.name):
            raise NotFoundError(f"no project {change.name}")
        if manager := self.other_managers.get((change.name, change.pool)):
            raise ConflictError(f"the quota is managed by {manager}", hint="change it there")

    def apply(self, change: QuotaChange) -> None:
        self.check(change)
        self.applied.append(change)
        assert self.view.state
        states = [self._with_change(state, change) for state in self._projects()]
        self.view.set_state(states, *self.view.state.snapshot.demands, pools=self.view.state.pools)

    @staticmethod
    def _with_change(state: ProjectState, change: QuotaChange) -> ProjectState:
        if state.project.id != change.project:
            return state
        quotas = [quota for quota in state.quotas if quota.pool != change.pool]
        if change.spec is not None:
            quotas.append(StoredQuota(project=change.project, pool=change.pool, **change.spec.model_dump()))
        return state.model_copy(update={"quotas": tuple(quotas)})

    def _projects(self) -> Sequence[ProjectState]:
        return self.view.state.projects if self.view.state else ()

    def _check_available(self) -> None:
        if self.unavailable:
            raise UnavailableError("the API server does not answer")


class MemoryWarmTrainers:
    """``ports.WarmTrainers`` of which a test plays Kueue and the runs."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.trainers: dict[str, WarmTrainer] = {}
        self.contexts: dict[str, WarmTrainerContext] = {}
        self.lists = 0

    def list(self) -> Sequence[WarmTrainer]:
        self.lists += 1
        return list(self.trainers.values())

    def create(self, place: Placement, name: str, context: WarmTrainerContext) -> None:
        if name in self.trainers:
            return
        created_at = self._clock.now()
        self.trainers[name] = WarmTrainer(
            **place._asdict(), name=name, state=WarmTrainerState.PENDING, created_at=created_at
        )
        self.contexts[name] = context

    def delete(self, trainer: WarmTrainer) -> None:
        found = self.trainers.get(trainer.name)
        if found is not None and found.state is not WarmTrainerState.CLAIMED:
            del self.trainers[trainer.name]

    def set_state(self, name: str, state: WarmTrainerState) -> None:
        self.trainers[name] = self.trainers[name].model_copy(update={"state": state})
