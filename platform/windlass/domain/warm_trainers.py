"""Warm trainers: trainers that start before they have a run, so that the run need not wait for their start.

They use idle quota only, at the lowest priority: jobs preempt them, and they preempt nothing (docs/adr/0057).
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, NamedTuple

from windlass.domain.ids import new_id
from windlass.domain.jobs import DomainModel
from windlass.domain.quota import ResourceDemand, Snapshot, simulate

WARM_TRAINER_PATTERN: Final = r"^warm-[0-9a-hjkmnp-tv-z]{26}$"
_NAME = re.compile(WARM_TRAINER_PATTERN)
WARM_TRAINER_GPUS: Final = 1
"""GPUs of a warm trainer. It trains runs of one worker with as many."""
WARM_TRAINER_PRIORITY: Final = -1000
"""The lowest priority, until a run claims it."""
_MAX_PENDING: Final = timedelta(seconds=30)
"""How long one may wait for its quota. Once its project has idle quota, Kueue would preempt borrowers for it."""


def warm_trainer_key(project: str, name: str) -> str:
    """Return what identifies a warm trainer where jobs are identified by their id: ``<project>/warm-<26>``."""
    return f"{project}/{name}"


def is_warm_trainer_name(name: str) -> bool:
    """Return whether this is the name of a warm trainer, and not the id of a job."""
    return _NAME.match(name) is not None


def parse_key(key: str) -> tuple[str, str] | None:
    """Return project and name of a key of ``warm_trainer_key``; None if it is another key."""
    project, _, name = key.partition("/")
    return (project, name) if _NAME.match(name) else None


class WarmTrainerState(StrEnum):
    """The state of a warm trainer."""

    PENDING = "pending"
    """It has no quota: it is new, or was preempted."""
    ADMITTED = "admitted"
    """It starts, or waits for a run."""
    CLAIMED = "claimed"
    """It belongs to a run, which ends it."""
    ENDED = "ended"


class WarmTrainer(DomainModel):
    """A warm trainer of a project, as observed."""

    project: str
    """Name of the project."""
    pool: str
    name: str
    state: WarmTrainerState
    outdated: bool = False
    """Whether it was created with other settings than a new one would be."""
    created_at: datetime


class Placement(NamedTuple):
    """The project, by its name, and the pool of a warm trainer."""

    project: str
    pool: str


class WarmTrainerPlan(NamedTuple):
    """What to create and to delete."""

    create: tuple[Placement, ...] = ()
    delete: tuple[WarmTrainer, ...] = ()


def new_warm_trainer_name() -> str:
    """Return a new name: ``warm-<26>``, which sorts by creation time."""
    return new_id("warm").replace("_", "-")


def plan_warm_trainers(
    wanted: Mapping[Placement, int],
    trainers: Sequence[WarmTrainer],
    snapshot: Snapshot,
    now: datetime,
    postponed: AbstractSet[Placement] = frozenset(),
) -> WarmTrainerPlan:
    """Return which warm trainers to create and to delete.

    One is created only where it starts at once without stopping a job, and one at a time in each pool, since the
    snapshot shows its quota later.

    Args:
        wanted: how many warm trainers without a run there should be.
        trainers: those that exist.
        snapshot: the quota and what holds or requests it.
        now: the current time.
        postponed: where none is created now; none is either where one has failed, or was not admitted.
    """
    idle = [each for each in trainers if each.state is not WarmTrainerState.CLAIMED]
    useless = [each for each in idle if _is_useless(each, now)]
    kept = [each for each in idle if each not in useless]
    surplus = [each for place, number in wanted.items() for each in _newest(kept, place)[number:]]
    surplus += [each for each in kept if _place(each) not in wanted]
    kept = [each for each in kept if each not in surplus]
    counts = Counter(map(_place, kept))
    busy = {each.pool for each in kept if each.state is WarmTrainerState.PENDING}
    postponed = {*postponed, *(_place(each) for each in useless if not each.outdated)}
    create: list[Placement] = []
    for place, number in sorted(wanted.items()):
        if counts[place] >= number or place.pool in busy or place in postponed:
            continue
        if _starts_at_once(snapshot, place, now):
            create.append(place)
            busy.add(place.pool)
    return WarmTrainerPlan(tuple(create), (*useless, *surplus))


def _is_useless(trainer: WarmTrainer, now: datetime) -> bool:
    expired = trainer.state is WarmTrainerState.PENDING and now - trainer.created_at > _MAX_PENDING
    return trainer.outdated or expired or trainer.state is WarmTrainerState.ENDED


def _newest(trainers: Iterable[WarmTrainer], place: Placement) -> list[WarmTrainer]:
    """Return the warm trainers of a place, the oldest admitted one first: it is the readiest."""
    here = [each for each in trainers if _place(each) == place]
    return sorted(here, key=lambda each: (each.state is WarmTrainerState.PENDING, each.created_at, each.name))


def _place(trainer: WarmTrainer) -> Placement:
    return Placement(trainer.project, trainer.pool)


def _starts_at_once(snapshot: Snapshot, place: Placement, now: datetime) -> bool:
    demand = ResourceDemand(
        job=f"warm trainer of {place.project}",
        project=place.project,
        pool=place.pool,
        gpus=WARM_TRAINER_GPUS,
        priority=WARM_TRAINER_PRIORITY,
        queued_at=now,
    )
    return simulate(snapshot, demand).verdict == "starts"
