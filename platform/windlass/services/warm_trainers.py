"""Keeps the warm trainers that projects want, and gives each to the run that has claimed it (docs/adr/0057).

A run claims a warm trainer in the cluster: its launcher labels the RayJob with the name of the run. Here the warm
trainer gets the run, and what the cluster shows of it is attributed to the run's job.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from windlass.domain.cluster_sync import ObservedClusterState, ObservedReservation
from windlass.domain.errors import FencedError, NotFoundError
from windlass.domain.jobs import Run
from windlass.domain.warm_trainers import (
    Placement,
    WarmTrainerState,
    new_warm_trainer_name,
    parse_key,
    plan_warm_trainers,
    warm_trainer_key,
)
from windlass.ports import ReadUnitOfWork, WarmTrainers, WorkerReadUnitOfWork
from windlass.runtime.context import RunContext, WarmTrainerContext
from windlass.services.base import ServiceDependencies
from windlass.services.run_contexts import run_context

_POSTPONED: Final = timedelta(seconds=60)
"""How long none is created again where one has ended, or has not got its quota."""
_INTERVAL_SECONDS: Final = 5.0
_log = logging.getLogger(__name__)


@dataclass
class WarmTrainerReconciler:
    """Creates and deletes warm trainers, so that each project has as many without a run as it wants."""

    deps: ServiceDependencies
    trainers: WarmTrainers
    api_url: str
    """Where warm trainers reach the control plane."""
    observed: Callable[[], ObservedClusterState | None]
    """The state of the cluster that was synced last; None before the first one."""
    _postponed: dict[Placement, datetime] = field(default_factory=dict, init=False)
    _exist: bool = field(default=True, init=False)
    """Whether there may be warm trainers: without any, and none wanted, nothing is asked of the API server."""

    def step(self) -> float:
        """Reconcile; return after how many seconds to do it again, if the quota does not change before.

        Raises:
            UnavailableError: the cluster cannot be read or written now.
        """
        state, now = self.observed(), self.deps.clock.now()
        if state is None:
            return _INTERVAL_SECONDS
        wanted = {
            Placement(each.project.name, pool): number
            for each in state.projects
            for pool, number in each.warm_trainers.items()
        }
        if not wanted and not self._exist:
            return _INTERVAL_SECONDS
        trainers = self.trainers.list()
        self._exist = bool(trainers)
        self._postponed = {place: until for place, until in self._postponed.items() if until > now}
        plan = plan_warm_trainers(wanted, trainers, state.snapshot, now, self._postponed.keys())
        for trainer in plan.delete:
            if not trainer.outdated and trainer.state in (WarmTrainerState.PENDING, WarmTrainerState.ENDED):
                self._postponed[Placement(trainer.project, trainer.pool)] = now + _POSTPONED
            _log.info("delete a warm trainer", extra={"trainer": trainer.name, "state": trainer.state})
            self.trainers.delete(trainer)
        for place in plan.create:
            self._create(place)
        return _INTERVAL_SECONDS

    def _create(self, place: Placement) -> None:
        name = new_warm_trainer_name()
        _log.info("create a warm trainer", extra={"trainer": name, "project": place.project, "pool": place.pool})
        context = WarmTrainerContext(
            api_url=self.api_url,
            token=self.deps.hasher.warm_trainer_token(place.project, name),
            project=place.project,
            name=name,
        )
        self.trainers.create(place, name, context)


def assign_warm_trainer(deps: ServiceDependencies, run_id: str, name: str) -> None:
    """Store that a warm trainer trains a run; idempotent.

    Raises:
        FencedError: the run has ended, or the warm trainer trains another run.
        NotFoundError: no such run.
    """
    with deps.database.write() as uow:
        other = uow.find_run_of_warm_trainer(name)
        run = uow.find_run(run_id)
        if run is None:
            raise NotFoundError(f"no run {run_id}")
        if run.state.ended:
            raise FencedError(f"run {run.number} is {run.state}")
        if other is not None and other.id != run.id:
            raise FencedError(f"warm trainer {name} trains another run")
        if other is None:
            uow.project(run.project).runs.save(run.model_copy(update={"warm_trainer": name}))


def assigned_run(deps: ServiceDependencies, project: str, name: str, api_url: str) -> RunContext | None:
    """Return the context of the run that a warm trainer trains; None while it has none.

    Raises:
        FencedError: the run has ended.
    """
    with deps.database.read() as uow:
        run = _run_of(uow, project, name)
        if run is None:
            return None
        if run.state.ended or run.stop is not None:
            raise FencedError(f"run {run.number} has ended, or is being stopped")
        return run_context(deps, uow, run, api_url)


def _run_of(uow: ReadUnitOfWork, project: str, name: str) -> Run | None:
    run = uow.find_run_of_warm_trainer(name)
    if run is None:
        return None
    owner = uow.projects.find({"id": run.project})
    return run if owner is not None and owner.name == project else None


def attribute_warm_trainers(uow: WorkerReadUnitOfWork, state: ObservedClusterState) -> ObservedClusterState:
    """Return the state with what claimed warm trainers request and hold as that of their jobs.

    A job's reservation begins with its run: before, the GPU was held for the warm trainer. A demand keeps its key while
    another one of the same job exists, such as that of a trainer that was started after the warm one had ended.
    """
    demands = state.snapshot.demands
    keys = {each.job for each in demands} | {each.job for each in state.reservations}
    names = {key: parsed for key in keys if (parsed := parse_key(key)) is not None}
    if not names:
        return state
    found = uow.all_projects().runs.all({"warm_trainer": sorted({name for _, name in names.values()})})
    uids = {each.name: each.id for each in uow.projects.all({"name": sorted({name for name, _ in names.values()})})}
    projects = {uid: name for name, uid in uids.items()}
    runs = {
        warm_trainer_key(projects[run.project], str(run.warm_trainer)): run for run in found if run.project in projects
    }
    counts = Counter(runs[each.job].job if each.job in runs else each.job for each in demands)
    jobs = {key: run.job for key, run in runs.items() if counts[run.job] <= 1}
    return state.model_copy(
        update={
            "snapshot": state.snapshot.model_copy(
                update={
                    "demands": tuple(
                        each.model_copy(update={"job": jobs[each.job]}) if each.job in jobs else each
                        for each in demands
                    )
                }
            ),
            "reasons": {jobs.get(key, key): reason for key, reason in state.reasons.items()},
            "reservations": tuple(
                part
                for each in state.reservations
                for part in (
                    _attributed(each, names[each.job], uids, runs.get(each.job)) if each.job in names else [each]
                )
            ),
        }
    )


def _attributed(
    reservation: ObservedReservation, trainer: tuple[str, str] | None, uids: Mapping[str, str], run: Run | None
) -> Iterator[ObservedReservation]:
    """Yield what of a warm trainer's reservation belongs to the warm trainer, and what to the run's job."""
    if trainer is None:
        yield reservation
        return
    project, name = trainer
    idle = reservation.model_copy(update={"job": name, "project": uids.get(project, "")})
    if run is None:
        yield idle
        return
    begun, ended = reservation.reserved_at, reservation.released_at
    if begun is None or begun < run.created_at:
        yield idle.model_copy(update={"released_at": min(ended or run.created_at, run.created_at)})
    if ended is None or ended > run.created_at:
        reserved_at = begun and max(begun, run.created_at)
        yield reservation.model_copy(update={"job": run.job, "reserved_at": reserved_at})
