"""The queue in memory equals the database after every commit, of this process and of others."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import event
from tests.fakes.harness import ControlPlaneHarness

from windlass.db.session import SqlDatabase
from windlass.domain.jobs import JobState, move
from windlass.domain.quota import schedule
from windlass.ports import BackendState, Changes, UnitOfWork
from windlass.services.admission_queue import AdmissionQueue, read_snapshot


@dataclass
class StatementLog:
    """The SQL statements that a database executes."""

    statements: list[str]

    @classmethod
    def of(cls, harness: ControlPlaneHarness) -> "StatementLog":
        log = cls([])

        def record(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            log.statements.append(" ".join(statement.split()))

        event.listen(harness.engine, "before_cursor_execute", record)
        return log


def check(harness: ControlPlaneHarness, queue: AdmissionQueue | None = None) -> None:
    """The queue explains and decides as the scheduler does on what the database has."""
    queue = queue or harness.jobs.queue
    assert queue is not None
    with harness.database.read() as uow:
        snapshot = read_snapshot(uow)
        decisions = schedule(snapshot)
        assert queue.explain(uow, [demand.job for demand in snapshot.demands]) == decisions.waiting
        decided = queue.decide(uow)
        assert (set(decided.admit), set(decided.preempt)) == (set(decisions.admit), set(decisions.preempt))
        assert queue.limits(uow) == snapshot.model_copy(update={"demands": ()})
        for project in uow.projects.all():
            unfinished = [job for job in uow.project(project.id).jobs.all() if not job.state.terminal]
            assert queue.unfinished_jobs(uow, project.id) == len(unfinished)


def patch(harness: ControlPlaneHarness, url: str, body: dict[str, Any]) -> None:
    etag = harness.client.get(url).headers["ETag"]
    assert harness.client.patch(url, json=body, headers={"If-Match": etag}).status_code == 200


def act(harness: ControlPlaneHarness, jobs: list[dict[str, Any]], choice: random.Random) -> None:
    """Do one random thing that changes an input of the scheduler."""
    what = choice.choice(["submit", "submit", "admit", "end", "cancel", "quota", "ceiling", "pool"])
    if what == "submit":
        jobs.append(harness.submit("ours", key=str(len(jobs)), priority=choice.randint(-3, -1)))
    elif what == "admit":
        harness.run_worker_once()
    elif what == "end" and (live := [name for name, run in harness.pipelines.states.items() if run.state == "running"]):
        harness.pipelines.end(choice.choice(live), BackendState.LOST)
        harness.jobs.poll()
    elif what == "cancel" and jobs:
        job = choice.choice(jobs)
        assert harness.client.post(f"/v1/projects/ours/jobs/{job['id']}:cancel").status_code in {200, 409}
        harness.jobs.poll()
    elif what == "quota":
        body = {"nominal": choice.randint(1, 3)}
        assert harness.client.put("/v1/projects/ours/quotas/local", json=body).status_code == 200
    elif what == "ceiling":
        body = {"priority_ceiling": choice.choice([-1, 0])}
        patch(harness, "/v1/projects/ours", body)
    elif what == "pool":
        body = {"capacity": choice.randint(1, 3)}
        patch(harness, "/v1/pools/local", body)


@pytest.mark.parametrize("seed", range(4))
def test_queue_equals_the_database_after_every_change(ready: ControlPlaneHarness, seed: int) -> None:
    choice, jobs = random.Random(seed), [ready.submit("ours", key="first", priority=-3)]
    other_process = AdmissionQueue(SqlDatabase(ready.engine, ready.clock))
    for _ in range(20):
        act(ready, jobs, choice)
        check(ready)
        if choice.random() < 0.5:
            check(ready, other_process)


def test_changes_of_another_process_are_seen(ready: ControlPlaneHarness) -> None:
    first = ready.submit("ours", key="1")
    check(ready)
    other = SqlDatabase(ready.engine, ready.clock)
    AdmissionQueue(other)
    with other.write() as uow:
        [job] = uow.all_projects().jobs.all({"id": first["id"]})
        uow.all_projects().jobs.save(move(job, JobState.CANCELLING, ready.clock.now()))
    check(ready)
    second = ready.submit("ours", key="2")
    check(ready)
    ready.jobs.admit()
    assert ready.client.get(f"/v1/projects/ours/jobs/{second['id']}").json()["state"] == "starting"


def test_unfinished_jobs_of_another_process_are_counted(ready: ControlPlaneHarness) -> None:
    other = AdmissionQueue(SqlDatabase(ready.engine, ready.clock))
    for number in range(3):
        with ready.database.read() as uow:
            [project] = uow.projects.all()
            assert other.unfinished_jobs(uow, project.id) == number
        ready.submit("ours", key=str(number))


def test_transaction_that_is_rolled_back_changes_nothing(ready: ControlPlaneHarness) -> None:
    job = ready.submit("ours", key="1")
    check(ready)

    class AbortError(Exception):
        pass

    def abort() -> None:
        with ready.database.write() as uow:
            uow.all_projects().jobs.save(
                move(uow.all_projects().jobs.get({"id": job["id"]}), JobState.CANCELLING, ready.clock.now())
            )
            raise AbortError

    with pytest.raises(AbortError):
        abort()
    check(ready)


def test_deleted_quota_is_seen(ready: ControlPlaneHarness) -> None:
    job = ready.submit("ours", key="1")
    ready.jobs.admit()
    waiting = ready.submit("ours", key="2")
    assert ready.client.delete("/v1/projects/ours/quotas/local").status_code == 200
    check(ready)
    assert ready.client.get(f"/v1/projects/ours/jobs/{job['id']}").json()["state"] == "starting"
    reason = ready.client.get(f"/v1/projects/ours/jobs/{waiting['id']}").json()["reason"]
    assert reason["code"] == "no_quota_in_pool"


@pytest.mark.parametrize("what", ["job", "jobs", "run"])
def test_deleted_job_or_run_is_seen(ready: ControlPlaneHarness, what: str) -> None:
    running = ready.submit("ours", key="1")
    ready.jobs.admit()
    waiting = ready.submit("ours", key="2")
    check(ready)
    with ready.database.write() as uow:
        if what == "run":
            uow.all_projects().runs.delete({"job": running["id"]})
        else:
            uow.all_projects().jobs.delete({"id": waiting["id"] if what == "job" else ["other", waiting["id"]]})
    check(ready)


def test_a_change_of_an_ended_run_does_not_release_the_gpus_of_a_newer_one(ready: ControlPlaneHarness) -> None:
    job = ready.submit("ours", key="1")
    ready.run_worker_once(2)
    lost = ready.simulated_run(job)
    ready.pipelines.end(lost.name, BackendState.LOST)
    ready.run_worker_once(2)
    assert ready.simulated_run(job).run != lost.run
    ready.submit("ours", key="2")
    check(ready)
    with ready.database.write() as uow:
        runs = uow.all_projects().runs
        runs.save(runs.get({"id": lost.run}).model_copy(update={"steps": {"train": "failed"}}))
    check(ready)


def test_cohort_of_a_project_is_seen(ready: ControlPlaneHarness) -> None:
    ready.submit("ours", key="1")
    ready.jobs.admit()
    job = ready.submit("ours", key="2")
    ready.jobs.admit()
    check(ready)
    ready.create_project("theirs", cohort="lab")
    check(ready)
    patch(ready, "/v1/projects/ours", {"cohort": "lab"})
    check(ready)
    ready.jobs.admit()
    assert ready.client.get(f"/v1/projects/ours/jobs/{job['id']}").json()["state"] == "starting", "it borrows"
    assert ready.jobs.queue is not None
    with ready.database.read() as uow:
        assert ready.jobs.queue.limits(uow).cohorts == {"ours": "lab", "theirs": "lab"}


def sequence(harness: ControlPlaneHarness) -> int:
    with harness.database.read() as uow:
        return uow.admission.sequence()


def test_a_transaction_that_changes_no_input_is_not_numbered(ready: ControlPlaneHarness) -> None:
    ended = ready.submit("ours", key="ended")
    ready.run_worker_once(2)
    assert ready.client.post(f"/v1/projects/ours/jobs/{ended['id']}:cancel").status_code == 200
    ready.pipelines.end(ready.simulated_run(ended).name, BackendState.STOPPED)
    ready.run_worker_once()
    assert ready.client.get(f"/v1/projects/ours/jobs/{ended['id']}").json()["state"] == "cancelled"
    running = ready.submit("ours", key="running")
    ready.run_worker_once()
    before = sequence(ready)
    unread = SqlDatabase(ready.engine, ready.clock)
    AdmissionQueue(unread)
    with unread.write() as uow:
        uow.outbox.put("kind", "project", "subject")
    assert sequence(ready) == before, "whatever the queue has read"
    check(ready)
    with ready.database.write() as uow:
        repos = uow.all_projects()
        for project in uow.projects.all():
            uow.projects.save(project.model_copy(update={"display_name": "Ours"}))
        job = repos.jobs.get({"id": running["id"]})
        repos.jobs.save(job.model_copy(update={"steps_done": 1}))
        for run in repos.runs.all():
            repos.runs.save(run.model_copy(update={"steps": {"train": "running"}}))
        repos.jobs.delete({"id": "other"})
        repos.jobs.delete({"id": ["other", "another"]})
        repos.runs.delete({"id": "other"})
    assert sequence(ready) == before
    with ready.database.write() as uow:
        uow.all_projects().runs.delete({"job": "other"})
    assert sequence(ready) == before + 1, "it may concern any run"
    check(ready)


class QueueWithLateHooks:
    """A queue whose commit hooks run when the test calls them, and that counts its calls of ``on_change``."""

    def __init__(self, harness: ControlPlaneHarness, monkeypatch: pytest.MonkeyPatch) -> None:
        self.harness, self.database = harness, SqlDatabase(harness.engine, harness.clock)
        self.queue, self.changes = AdmissionQueue(self.database), 0
        self.hooks: list[Callable[[], None]] = []
        prepare = self.queue.prepare

        def prepare_and_hold(uow: UnitOfWork, changes: Changes) -> None:
            hook = prepare(uow, changes)
            assert hook is not None
            self.hooks.append(hook)

        monkeypatch.setattr(self.queue, "prepare", prepare_and_hold)
        self.queue.on_change = self._count
        self.decide()

    def _count(self) -> None:
        self.changes += 1

    def decide(self) -> None:
        with self.database.read() as uow:
            assert self.queue.decide(uow).admit == ()

    def set_capacity(self, capacity: int) -> None:
        """Change an input that admits no job."""
        with self.database.write() as uow:
            uow.pools.save(uow.pools.get({"name": "local"}).model_copy(update={"capacity": capacity}))

    def capacity(self) -> int | None:
        """The capacity of the pool in memory."""
        with self.database.read() as uow:
            return self.queue.limits(uow).pools[0].capacity


def test_a_change_that_was_read_before_its_hook_ran_is_not_applied_again(
    ready: ControlPlaneHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = QueueWithLateHooks(ready, monkeypatch)
    late.set_capacity(5)
    late.decide()
    late.set_capacity(6)
    late.decide()
    for hook in late.hooks:
        hook()
    assert late.changes == 0, "there is nothing to decide that is not decided"
    check(ready, late.queue)
    assert late.capacity() == 6


def test_hooks_that_run_in_another_order_than_their_commits_lose_no_change(
    ready: ControlPlaneHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = QueueWithLateHooks(ready, monkeypatch)
    late.set_capacity(5)
    late.set_capacity(6)
    with ready.database.write() as uow:
        quotas = uow.all_projects().quotas
        quotas.save(quotas.all()[0].model_copy(update={"nominal": 2}))
    late.set_capacity(7)
    for hook in reversed(late.hooks):
        hook()
    assert late.changes == 3
    check(ready, late.queue)
    assert late.capacity() == 7


def test_a_decision_follows_a_change_of_the_first_jobs_of_a_queue_or_of_another_process(
    ready: ControlPlaneHarness,
) -> None:
    queue = ready.jobs.queue
    assert queue is not None
    calls: list[str] = []
    queue.on_change = lambda: calls.append("change")

    def is_called() -> bool:
        called = bool(calls)
        ready.jobs.admit()
        calls.clear()
        return called

    for number in range(20):
        ready.submit("ours", key=str(number))
        assert is_called() or number > 8
    ready.submit("ours", key="behind")
    assert not is_called()
    other = SqlDatabase(ready.engine, ready.clock)
    AdmissionQueue(other)
    with other.write() as uow:
        uow.pools.save(uow.pools.get({"name": "local"}).model_copy(update={"capacity": 5}))
    assert not is_called(), "another process does not tell"
    with other.write() as uow:
        uow.pools.save(uow.pools.get({"name": "local"}).model_copy(update={"capacity": 6}))
    ready.submit("ours", key="behind too")
    assert is_called(), "its change is seen with the next one of this process"
    check(ready)


def test_submit_and_admission_read_no_other_job(ready: ControlPlaneHarness) -> None:
    ready.submit("ours", key="running")
    ready.jobs.admit()
    ready.submit("ours", key="waiting")
    ready.jobs.admit()
    log = StatementLog.of(ready)

    def statements(key: str) -> list[str]:
        log.statements.clear()
        ready.submit("ours", key=key)
        ready.jobs.admit()
        return list(log.statements)

    at_two = statements("two")
    for number in range(20):
        ready.submit("ours", key=f"more {number}")
    assert statements("last") == at_two
    assert not [each for each in at_two if "FROM job WHERE" in each and "job.id = ?" not in each]


def test_waiting_jobs_show_their_position_without_a_write(ready: ControlPlaneHarness) -> None:
    jobs = [ready.submit("ours", key=str(number)) for number in range(4)]
    ready.run_worker_once()
    log = StatementLog.of(ready)
    listed = ready.client.get("/v1/projects/ours/jobs", params={"state": "queued"}).json()["items"]
    assert [job["reason"]["context"]["position"] for job in reversed(listed)] == [1, 2, 3]
    assert [job["id"] for job in reversed(listed)] == [job["id"] for job in jobs[1:]]
    assert ready.client.post(f"/v1/projects/ours/jobs/{jobs[1]['id']}:cancel").status_code == 200
    shown = ready.client.get(f"/v1/projects/ours/jobs/{jobs[3]['id']}").json()
    assert shown["reason"]["context"]["position"] == 2
    assert not [each for each in log.statements if each.startswith("UPDATE job") and jobs[3]["id"] in each]
