"""Fifty jobs of five projects on four GPUs: they run in fair-share order, and their GPU time is that of their runs."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import pytest
from tests.factories.fair_share import FairShareReplay, Share, ShareJob
from tests.fakes.harness import ControlPlaneHarness, SimulatedRun

from windlass.domain.jobs import JobState, Run
from windlass.domain.projects import StoredQuota
from windlass.ports import BackendState

pytestmark = pytest.mark.database("sqlite")

SHARES = {"search": Share(2), "ranking": Share(1), "speech": Share(1), "vision": Share(0, 1), "guests": Share(0)}
GRACE = 2
"""Seconds until a preempted run has ended."""


@dataclass
class Training:
    """One run of a job in the simulation."""

    name: str
    process: SimulatedRun
    attempt: int
    started: datetime
    ends_after: float
    preempted: bool = False


@dataclass
class Simulation:
    """Drives the control plane from one end of a run to the next; its clock is the only one."""

    harness: ControlPlaneHarness
    replay: FairShareReplay = field(default_factory=lambda: FairShareReplay(SHARES))
    jobs: list[ShareJob] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)
    """The number of each job by its id."""
    work: dict[int, float] = field(default_factory=dict)
    """The seconds of training that each job still needs."""
    active: dict[int, Training] = field(default_factory=dict)
    finished: list[ShareJob] = field(default_factory=list)
    gpu_seconds: float = 0.0
    """GPUs times lifetime, of all runs that have ended."""
    preemptions: int = 0
    _started: int = 0

    def submit(self, project: str, seconds: float, gpus: int = 1) -> None:
        job = ShareJob(len(self.jobs), project, gpus)
        created = self.harness.submit(project, key=f"{job.number}", resources={"workers": gpus})
        self.jobs.append(job)
        self.numbers[created["id"]], self.work[job.number] = job.number, seconds
        self.replay.submit(job)
        self.harness.clock.advance(0.001)  # the order of the submissions is that of their times

    def settle(self) -> None:
        """Let the worker decide, start what it has admitted, and let what it preempts stop."""
        self.harness.run_worker_once(2)
        with self.harness.database.read() as uow:
            runs: dict[str, Run] = {run.name: run for run in uow.all_projects().runs.all({"ended_at": None})}
        submissions = self.harness.pipelines.submissions
        for name in submissions[self._started :]:
            self._start(runs[name])
        self._started = len(submissions)
        for training in self.active.values():
            if runs[training.name].stop == "preempt" and not training.preempted:
                training.preempted, training.ends_after = True, self._elapsed(training) + GRACE
                self.preemptions += 1
        if not any(training.preempted for training in self.active.values()):
            self.replay.check_settled()

    def _start(self, run: Run) -> None:
        number, process = self.numbers[run.job], self.harness.simulated_run({"id": run.job})
        self.replay.admit(number)
        attempt = process.acquire_attempt(run.name).json()["attempt"]
        self.active[number] = Training(run.name, process, attempt, run.created_at, self.work[number])

    def end_next(self) -> None:
        """Let time pass until the next runs end, and end them."""
        remaining = {number: each.ends_after - self._elapsed(each) for number, each in self.active.items()}
        self.harness.clock.advance(min(remaining.values()))
        for number in [number for number, seconds in remaining.items() if seconds <= min(remaining.values())]:
            training = self.active.pop(number)
            elapsed = self._elapsed(training)
            self.gpu_seconds += elapsed * self.jobs[number].gpus
            if training.preempted:
                self.work[number] -= elapsed - GRACE
                self.harness.pipelines.end(training.name, BackendState.STOPPED)
            else:
                self.finished.append(self.jobs[number])
                assert training.process.finish(training.attempt).status_code == 200
                self.harness.pipelines.end(training.name, BackendState.SUCCEEDED)
            self.replay.release(number, requeue=training.preempted)

    def _elapsed(self, training: Training) -> float:
        return (self.harness.clock.now() - training.started).total_seconds()

    def ledger(self) -> float:
        """The GPU seconds of all jobs, as the API shows them."""
        pages = [self.harness.client.get(f"/v1/projects/{name}/usage", params={"limit": 100}).json() for name in SHARES]
        assert sum(len(page["items"]) for page in pages) == len(self.jobs)
        return sum(float(item["gpu_seconds"]) for page in pages for item in page["items"])

    def states(self) -> list[JobState]:
        with self.harness.database.read() as uow:
            return [job.state for job in uow.all_projects().jobs.all()]


@pytest.fixture
def simulation(tmp_path: Path) -> Iterator[Simulation]:
    harness = ControlPlaneHarness(tmp_path)
    with harness.client:
        harness.create_base_model()
        for name, share in SHARES.items():
            uid = harness.create_project(name, gpus=share.nominal, cohort="lab")
            harness.create_dataset(name)
            quota = StoredQuota(project=uid, pool="local", nominal=share.nominal, borrowing_limit=share.borrowing_limit)
            with harness.database.write() as uow:
                uow.project(uid).quotas.save(quota)
        yield Simulation(harness)
    harness.close()


def test_jobs_of_equal_length_finish_in_the_order_of_the_shares(simulation: Simulation) -> None:
    for _ in range(10):
        for project in SHARES:
            simulation.submit(project, 60)
    rounds: list[dict[str, int]] = []
    simulation.settle()
    while simulation.active:
        ended = len(simulation.finished)
        simulation.end_next()
        projects = [job.project for job in simulation.finished[ended:]]
        rounds.append({project: projects.count(project) for project in SHARES if project in projects})
        simulation.settle()
    within_shares = {"search": 2, "ranking": 1, "speech": 1}
    without_search = {"ranking": 1, "speech": 1, "vision": 1, "guests": 1}
    lent = [{"vision": 1, "guests": 3}, {"vision": 1, "guests": 2}, {"vision": 1}, {"vision": 1}, {"vision": 1}]
    assert rounds == [*[within_shares] * 5, *[without_search] * 5, *lent]
    assert simulation.states() == [JobState.SUCCEEDED] * 50
    assert (simulation.replay.violations, simulation.preemptions) == ([], 0)
    assert simulation.ledger() == simulation.gpu_seconds == 50 * 60


@pytest.mark.parametrize("seed", range(2))
def test_owners_reclaim_their_shares_from_borrowers(simulation: Simulation, seed: int) -> None:
    rng = random.Random(seed)
    for project in ("vision", "guests"):
        for _ in range(10):
            simulation.submit(project, rng.randint(20, 90))
    simulation.settle()
    assert simulation.replay.borrowed() == {"vision": 1, "guests": 3}
    owners = [project for project in ("search", "ranking", "speech") for _ in range(10)]
    rng.shuffle(owners)
    while simulation.active:
        simulation.end_next()
        simulation.settle()
        for _ in range(min(len(owners), rng.randint(0, 3))):
            project = owners.pop()
            simulation.submit(project, rng.randint(20, 90), rng.choice((1, 2)) if project == "search" else 1)
        simulation.settle()
    assert simulation.states() == [JobState.SUCCEEDED] * 50
    assert simulation.replay.violations == []
    assert simulation.preemptions > 0
    assert simulation.replay.most_used["vision"] == 1
    assert simulation.ledger() == pytest.approx(simulation.gpu_seconds, abs=1e-6)
