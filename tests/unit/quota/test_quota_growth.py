"""Cost of the scheduler for a large installation, in function calls, which do not depend on the machine."""

import random
import sys
from types import FrameType
from typing import Any

import pytest
from tests.unit.quota.scenarios import POOL, Scenario, quota

from windlass.domain.quota import Snapshot, schedule


def large_snapshot(size: int, *, nominal: int, borrowers: float) -> Snapshot:
    """Return a pool with 5 running and 20 waiting jobs for each of ``size`` projects.

    ``borrowers`` is the fraction of projects with running jobs.
    """
    rng = random.Random(7)
    projects = [f"p{number:02}" for number in range(size)]
    scenario = Scenario([quota(project, nominal) for project in projects], capacity=size * nominal)
    for number in range(5 * size):
        scenario.run(f"r{number}", rng.choice(projects[: round(size * borrowers)]), 1, rng.randrange(5))
    for number in range(20 * size):
        scenario.submit(f"q{number}", rng.choice(projects), rng.choice([1, 2, 4, 8]), rng.randrange(5))
    return scenario.snapshot


def calls(snapshot: Snapshot) -> int:
    """Return the number of function calls of one scheduling step."""
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
    assert {demand.pool for demand in snapshot.demands} == {POOL}
    assert decisions.admit or decisions.preempt
    return counted


@pytest.mark.parametrize(("nominal", "borrowers"), [(5, 0.2), (8, 0.2), (8, 1.0), (40, 1.0)])
def test_a_scheduling_step_of_a_large_installation_is_bounded(nominal: int, borrowers: float) -> None:
    """100 projects, 500 running and 2,000 pending jobs: at most 150,000 calls when written, about 0.1 s."""
    assert calls(large_snapshot(100, nominal=nominal, borrowers=borrowers)) < 200_000


def test_the_number_of_calls_grows_linearly_with_blocked_jobs() -> None:
    small, large = (calls(large_snapshot(size, nominal=5, borrowers=0.2)) for size in (50, 200))
    assert large < 4.4 * small
