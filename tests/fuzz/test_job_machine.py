"""Stateful test of the promises about jobs: clients, trainers, the worker and the clock act in random order.

I1: an accepted job is stored. I2: a key gives one job. I3: one live attempt, one model version. I4: every job ends when
its trainer works. I5: an end is final. I6: no more GPUs than the quota. I7: no access to the other project. I8: an
audit entry for each accepted change. I9: a registered model has the files of its manifest.
"""

import shutil
import tempfile
from collections import Counter
from itertools import count
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.fakes.backends import MemoryPipelines
from tests.fakes.harness import ControlPlaneHarness, SimulatedRun
from tests.fuzz.budget import examples

from windlass.domain.artifacts import sha256_file
from windlass.domain.jobs import AttemptState, Job, JobState
from windlass.ports import BackendState

OURS, THEIRS = "ours", "theirs"
GPUS = 2
"""The quota of each project; the projects share the pool and lend nothing."""
ROUNDS = 60
"""In which every job must end at the end of a test."""
ADMITTED = {JobState.STARTING, JobState.RUNNING}
projects = st.sampled_from([OURS, THEIRS])
numbers = st.integers(0, 5)
older = st.sampled_from([0, 0, 0, 1])
"""How many attempts before the newest one a request of a trainer is about."""


class JobMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="windlass-machine-"))
        self.harness = ControlPlaneHarness(self.folder)
        self.harness.create_base_model()
        self.clients = {}
        self.uids = {}
        for name in (OURS, THEIRS):
            self.uids[name] = self.harness.create_project(name, gpus=GPUS)
            reply = self.harness.client.put(f"/v1/projects/{name}/members/{name}-editor", json={"role": "editor"})
            assert reply.status_code == 200
            self.harness.create_dataset(name)
            self.clients[name] = self.harness.client_for_user(f"{name}-editor")
        self.accepted: dict[tuple[str, str], tuple[str, str]] = {}
        """Id of the job and model that it trains, by project and key."""
        self.projects: dict[str, str] = {}
        """Project by id of the job."""
        self.deleted: set[str] = set()
        self.ended: dict[str, JobState] = {}
        self.changes: Counter[tuple[str, str]] = Counter()
        """How often an audit entry of this action and subject must exist."""
        self.attempts: dict[str, int] = {}
        """Number of the newest attempt, by job."""
        self.verified: set[str] = set()
        self.sequences = count(10, 10)
        """First numbers of reports: each step of a test is another process of a trainer, which counts its own."""

    def teardown(self) -> None:
        try:
            self._converge()
        finally:
            self.harness.close()
            shutil.rmtree(self.folder)

    @property
    def pipelines(self) -> MemoryPipelines:
        return self.harness.pipelines

    def _jobs(self) -> list[Job]:
        with self.harness.database.read() as uow:
            return uow.all_projects().jobs.all()

    def _existing(self) -> list[str]:
        return sorted(self.projects.keys() - self.deleted)

    @initialize()
    def begin(self) -> None:
        """Start from a state in which jobs run."""
        for project in (OURS, THEIRS):
            for key in "ab":
                self.submit(project, key, "first")
        self.work(2)
        for number in range(len(self.pipelines.contexts)):
            self.acquire(number, "one")

    @rule(project=projects, key=st.sampled_from("abcdef"), model=st.sampled_from(["first", "second"]))
    def submit(self, project: str, key: str, model: str) -> None:
        spec = {"task": "text-classification", "base_model": "tiny", "dataset": "reviews", "model": f"{model}-{key}"}
        reply = self.clients[project].post(
            f"/v1/projects/{project}/jobs", json={"spec": spec}, headers={"Idempotency-Key": key}
        )
        before = self.accepted.get((project, key))
        if before is not None and before[1] != model:
            assert (reply.status_code, reply.json()["code"]) == (422, "idempotency_mismatch")
            return
        if before is not None and before[0] in self.deleted:
            assert reply.status_code == 404  # the key is the deleted job's
            return
        assert reply.status_code == 202, reply.text
        job = reply.json()["id"]
        if before is None:
            self.accepted[project, key] = job, model
            self.projects[job] = project
            self.changes["job.create", job] += 1
        assert before in {None, (job, model)}

    @precondition(lambda self: self._existing())
    @rule(number=numbers, project=projects)
    def cancel(self, number: int, project: str) -> None:
        job = self._pick(number)
        state = self._state(job)
        reply = self.clients[project].post(f"/v1/projects/{project}/jobs/{job}:cancel")
        if project != self.projects[job]:
            assert reply.status_code == 404
            return
        assert reply.status_code in {200, 409}, reply.text
        if reply.status_code == 200 and not state.terminal and state is not JobState.CANCELLING:
            self.changes["job.cancel", job] += 1

    @precondition(lambda self: self._existing())
    @rule(number=numbers, project=projects)
    def delete(self, number: int, project: str) -> None:
        job = self._pick(number)
        terminal = self._state(job).terminal
        reply = self.clients[project].delete(f"/v1/projects/{project}/jobs/{job}")
        if project != self.projects[job]:
            assert reply.status_code == 404
            return
        assert reply.status_code in {200, 409}, reply.text
        if reply.status_code == 200:
            assert terminal, "only an ended job can be deleted"
            self.deleted.add(job)
            self.changes["job.delete", job] += 1

    @rule(project=projects)
    def read_of_the_other_project(self, project: str) -> None:
        other = THEIRS if project == OURS else OURS
        for job in [each for each in self._existing() if self.projects[each] == other][:1]:
            assert self.clients[project].get(f"/v1/projects/{other}/jobs/{job}").status_code == 404
            assert self.clients[project].get(f"/v1/projects/{project}/jobs/{job}").status_code == 404

    @rule(times=st.integers(1, 3))
    def work(self, times: int) -> None:
        self.harness.run_worker_once(times)

    @rule(seconds=st.sampled_from([1, 20, 200, 4000]))
    def wait(self, seconds: int) -> None:
        self.harness.clock.advance(seconds)

    @precondition(lambda self: self.pipelines.contexts)
    @rule(number=numbers, trainer=st.sampled_from(["one", "two"]))
    def acquire(self, number: int, trainer: str) -> None:
        self._acquire(self._run(number), trainer)

    def _acquire(self, run: SimulatedRun, trainer: str) -> None:
        reply = run.acquire_attempt(trainer)
        if reply.status_code == 200:
            job = self._job_of(run)
            assert reply.json()["attempt"] >= self.attempts.get(job, 0)
            self.attempts[job] = reply.json()["attempt"]

    @precondition(lambda self: self.pipelines.contexts)
    @rule(number=numbers, older=older, step=st.integers(1, 100))
    def report(self, number: int, older: int, step: int) -> None:
        run = self._run(number)
        attempt = self._attempt(run, older)
        reply = run.report(attempt, {"type": "metric", "name": "train_loss", "step": step, "value": 0.5})
        if reply.status_code == 200:
            assert attempt == self.attempts[self._job_of(run)], "an older attempt is fenced"

    @precondition(lambda self: self.pipelines.contexts)
    @rule(number=numbers, older=older, registers=st.booleans())
    def finish(self, number: int, older: int, registers: bool) -> None:
        run = self._run(number)
        attempt = self._attempt(run, older)
        reply = run.report_success(attempt)
        if reply.status_code == 200:
            assert attempt == self.attempts[self._job_of(run)], "an older attempt is fenced"
            if registers:
                run.post("register")

    @precondition(lambda self: self.pipelines.contexts)
    @rule(number=numbers, trainer=st.sampled_from(["three", "four"]))
    def replace_trainer(self, number: int, trainer: str) -> None:
        """A trainer is silent until another one takes its place, and then reports after all."""
        run = self._run(number)  # the number means another one when the worker has submitted more
        before = self._attempt(run, 0)
        self.harness.clock.advance(200)
        self.work(1)
        self._acquire(run, trainer)
        if self._attempt(run, 0) > before:
            loss = {"type": "metric", "name": "train_loss", "step": 1, "value": 0.5}
            assert run.report(before, loss).status_code == 409, "an older attempt is fenced"
            assert run.report_success(before).status_code == 409, "an older attempt is fenced"

    @precondition(lambda self: self.pipelines.contexts)
    @rule(number=numbers)
    def register(self, number: int) -> None:
        self._run(number).post("register")

    @precondition(lambda self: self.pipelines.contexts)
    @rule(number=numbers, state=st.sampled_from([BackendState.SUCCEEDED, BackendState.FAILED, BackendState.LOST]))
    def end_run(self, number: int, state: BackendState) -> None:
        name = self._run(number).name
        if self.pipelines.poll(name).state is BackendState.RUNNING:
            self.pipelines.end(name, state, "the run has ended")

    @invariant()
    def promises_hold(self) -> None:
        with self.harness.database.read() as uow:
            repos = uow.all_projects()
            jobs = {job.id: job for job in repos.jobs.all()}
            versions, attempts = repos.model_versions.all(), repos.attempts.all()
            entries = Counter((entry.action, entry.subject) for entry in uow.audit.all())
        assert jobs.keys() == self.projects.keys() - self.deleted, "I1, I2"
        assert max(Counter(each.job for each in versions).values(), default=0) <= 1, "I3"
        live = Counter(each.job for each in attempts if each.state is AttemptState.LIVE)
        assert max(live.values(), default=0) <= 1, "I3"
        assert {each.job for each in versions} <= {job for job in jobs if jobs[job].state is JobState.SUCCEEDED}
        assert {job: jobs[job].state for job in self.ended if job in jobs} == {
            job: state for job, state in self.ended.items() if job in jobs
        }, "I5"
        self.ended |= {job: jobs[job].state for job in jobs if jobs[job].state.terminal}
        used = Counter[str]()
        for job in jobs.values():
            used[job.project] += job.world_size if job.state in ADMITTED else 0
        assert max(used.values(), default=0) <= GPUS, "I6"
        for name in ("job.create", "job.cancel", "job.delete"):
            assert {key: number for key, number in entries.items() if key[0] == name} == {
                key: number for key, number in self.changes.items() if key[0] == name
            }, "I8"
        for version in versions:
            if version.id not in self.verified:
                folder = self.harness.store_folder / version.prefix
                assert version.manifest.files, "I9"
                assert {name: sha256_file(folder / name) for name in version.manifest.files} == version.manifest.files
                self.verified.add(version.id)

    def _pick(self, number: int) -> str:
        existing = self._existing()
        return existing[number % len(existing)]

    def _state(self, job: str) -> JobState:
        [state] = [each.state for each in self._jobs() if each.id == job]
        return state

    def _run(self, number: int) -> SimulatedRun:
        """A run that was submitted; of the newest ones, since old ones have ended."""
        name = sorted(self.pipelines.contexts)[-1 - number % len(self.pipelines.contexts)]
        return self._run_named(name)

    def _attempt(self, run: SimulatedRun, older: int) -> int:
        return max(1, self.attempts.get(self._job_of(run), 1) - older)

    def _run_named(self, name: str) -> SimulatedRun:
        context = self.pipelines.contexts[name]
        client = self.harness.client_for_key(context.run_token)
        return SimulatedRun(self.harness, context.identity.run, name, client, sequence=next(self.sequences))

    def _job_of(self, run: SimulatedRun) -> str:
        return self.pipelines.contexts[run.name].identity.job

    def _converge(self) -> None:
        """Let every trainer work from now on: each job ends."""
        for _ in range(ROUNDS):
            self.harness.clock.advance(300)
            self.harness.run_worker_once()
            if all(job.state.terminal for job in self._jobs()):
                break
            for name in list(self.pipelines.contexts):
                self._train(name)
        self.promises_hold()
        left: Any = Counter(job.state for job in self._jobs() if not job.state.terminal)
        assert left == Counter(), "I4"
        with self.harness.database.read() as uow:
            assert uow.outbox.subjects("run.submit") == []

    def _train(self, name: str) -> None:
        if self.pipelines.poll(name).state is not BackendState.RUNNING:
            return
        run = self._run_named(name)
        acquired = run.acquire_attempt(f"trainer of {name}")
        if acquired.status_code == 200:
            attempt = self.attempts[self._job_of(run)] = acquired.json()["attempt"]
            run.report_success(attempt)
        elif acquired.json()["code"] == "attempt_active":
            return  # it asks again until the other trainer is lost
        registered = run.post("register").status_code == 200
        self.pipelines.end(name, BackendState.SUCCEEDED if registered else BackendState.FAILED)


def test_promises_hold_in_any_order_of_events() -> None:
    run_state_machine_as_test(JobMachine, settings=examples(10, stateful_step_count=80))
