"""The scheduler at the size of a large installation: 2,000 pending and 500 admitted jobs of 100 projects."""

import random
import time

import pytest
from tests.unit.quota.worlds import POOL, World, quota

from windlass.domain.quota import Snapshot, schedule


def crowded(*, nominal: int, borrowers: int) -> Snapshot:
    """Return a pool whose running jobs belong to the first ``borrowers`` projects, and where everybody wants more."""
    chance = random.Random(7)
    projects = [f"p{number:02}" for number in range(100)]
    world = World([quota(project, nominal) for project in projects], capacity=100 * nominal)
    for number in range(500):
        world.run(f"r{number}", chance.choice(projects[:borrowers]), 1, chance.randrange(5))
    for number in range(2000):
        world.submit(f"q{number}", chance.choice(projects), chance.choice([1, 2, 4, 8]), chance.randrange(5))
    return world.snapshot


@pytest.mark.parametrize(("nominal", "borrowers"), [(5, 20), (8, 20), (8, 100), (40, 100)])
def test_a_step_of_a_crowded_pool_takes_well_under_a_second(nominal: int, borrowers: int) -> None:
    """About 30-100 ms of CPU on one core of 2026; the bound leaves room for a slower and busier machine."""
    snapshot = crowded(nominal=nominal, borrowers=borrowers)
    assert {claim.pool for claim in snapshot.claims} == {POOL}
    started = time.process_time()
    decisions = schedule(snapshot)
    assert decisions.admit or decisions.preempt
    assert time.process_time() - started < 0.75
