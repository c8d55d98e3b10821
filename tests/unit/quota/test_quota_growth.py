"""The scheduler's work at the size of a large installation, counted in calls: a count is the same on every machine."""

import random
import sys
from types import FrameType
from typing import Any

import pytest
from tests.unit.quota.worlds import POOL, World, quota

from windlass.domain.quota import Snapshot, schedule


def crowded(size: int, *, nominal: int, borrowers: float) -> Snapshot:
    """Return a pool with 5 running and 20 waiting jobs for each of ``size`` projects; a share of them runs them all."""
    chance = random.Random(7)
    projects = [f"p{number:02}" for number in range(size)]
    world = World([quota(project, nominal) for project in projects], capacity=size * nominal)
    for number in range(5 * size):
        world.run(f"r{number}", chance.choice(projects[: round(size * borrowers)]), 1, chance.randrange(5))
    for number in range(20 * size):
        world.submit(f"q{number}", chance.choice(projects), chance.choice([1, 2, 4, 8]), chance.randrange(5))
    return world.snapshot


def calls(snapshot: Snapshot) -> int:
    """Return how many calls one step of the scheduler makes."""
    counted = 0

    def count(_frame: FrameType, event: str, _argument: Any) -> None:
        nonlocal counted
        counted += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        decisions = schedule(snapshot)
    finally:
        sys.setprofile(before)
    assert {claim.pool for claim in snapshot.claims} == {POOL}
    assert decisions.admit or decisions.preempt
    return counted


@pytest.mark.parametrize(("nominal", "borrowers"), [(5, 0.2), (8, 0.2), (8, 1.0), (40, 1.0)])
def test_a_step_at_the_size_of_a_large_installation_stays_small(nominal: int, borrowers: float) -> None:
    """100 projects, 500 running and 2,000 waiting jobs: up to 150,000 calls today, about 0.1 s of one core."""
    assert calls(crowded(100, nominal=nominal, borrowers=borrowers)) < 200_000


def test_the_work_grows_with_the_jobs_that_cannot_change_anything_as_their_number() -> None:
    small, large = (calls(crowded(size, nominal=5, borrowers=0.2)) for size in (50, 200))
    assert large < 4.4 * small
