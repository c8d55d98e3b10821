"""Two transactions that run at the same time on PostgreSQL leave what one after the other would leave.

Both have read and written before either commits, so each decided on a state that the other one changes. They have no
locks, on which no result depends (test_writer_locks.py).
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from tests.fakes.harness import ADMIN, ControlPlaneHarness

from windlass.db.session import SqlDatabase
from windlass.domain.errors import TransactionConflictError
from windlass.domain.jobs import AttemptState, JobState
from windlass.domain.projects import Permission, Role, SubjectKind
from windlass.ports import Changes, UnitOfWork
from windlass.services.attempts import close_attempt, run_and_job
from windlass.services.projects import Members
from windlass.services.runs import Runs
from windlass.services.transactions import repeat_on_conflict
from windlass.settings import LimitSettings
from windlass_api.metrics import REGISTRY

pytestmark = pytest.mark.database("postgresql")

_MEETING_SECONDS = 1.0
"""Time that a transaction waits for the other one, which may itself wait for a row that the first has locked."""

Operation = Callable[[], Any]


class MeetBeforeCommit:
    """A commit hook: the first two transactions wait for each other before their commit."""

    def __init__(self) -> None:
        self._barrier = threading.Barrier(2)
        self._left = threading.Semaphore(2)

    def prepare(self, uow: UnitOfWork, changes: Changes) -> None:
        del uow, changes
        if self._left.acquire(blocking=False):
            try:
                self._barrier.wait(_MEETING_SECONDS)
            except threading.BrokenBarrierError:
                return


def at_once(harness: ControlPlaneHarness, *operations: Operation) -> list[Any]:
    """Run operations at the same time, and return their results."""
    harness.database.add_commit_hook(MeetBeforeCommit())
    with ThreadPoolExecutor(len(operations)) as executor:
        return [future.result() for future in [executor.submit(operation) for operation in operations]]


@pytest.fixture
def harness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ControlPlaneHarness]:
    write = SqlDatabase.write
    monkeypatch.setattr(SqlDatabase, "write", lambda self, _lock=None: write(self))
    limits = LimitSettings(key_cache_seconds=0, max_active_jobs=1, max_endpoints=1)
    built = ControlPlaneHarness(tmp_path, limits=limits)
    with built.client:
        built.create_project("ours")
        built.create_base_model()
        built.create_dataset("ours")
        yield built
    built.close()


def request(harness: ControlPlaneHarness, method: str, path: str, **options: Any) -> Operation:
    return lambda: harness.client.request(method, f"/v1/{path}", **options)


def submission(harness: ControlPlaneHarness, key: str) -> Operation:
    spec = {"task": "text-classification", "base_model": "tiny", "dataset": "reviews", "model": "classifier"}
    return request(harness, "POST", "projects/ours/jobs", json={"spec": spec}, headers={"Idempotency-Key": key})


def statuses(replies: Sequence[Any]) -> list[int]:
    return [reply.status_code for reply in replies]


def etag(harness: ControlPlaneHarness, path: str) -> dict[str, str]:
    return {"If-Match": harness.client.get(f"/v1/{path}").headers["etag"]}


def a_version(harness: ControlPlaneHarness) -> None:
    """Register a model version."""
    job = harness.submit("ours", key="trained")
    harness.run_worker_once(2)
    run = harness.simulated_run(job)
    run.acquire_attempt()
    assert run.finish(1).status_code == 200


def test_one_of_two_owners_who_remove_each_other_stays(harness: ControlPlaneHarness) -> None:
    for user in ("ann", "bob"):
        harness.client.put(f"/v1/projects/ours/members/{user}", json={"role": "admin"})
    with harness.database.read() as uow:
        project = uow.projects.get({"name": "ours"}).id
    Members(harness.deps, ADMIN, project).remove(SubjectKind.USER, "admin")
    repeated = partial(REGISTRY.get_sample_value, "windlass_transaction_conflicts_total", {"operation": "request"})
    before = repeated() or 0.0
    replies = at_once(harness, *(request(harness, "DELETE", f"projects/ours/members/{u}") for u in ("ann", "bob")))
    assert (repeated() or 0.0) > before
    assert sorted(statuses(replies)) == [200, 409]
    assert len(Members(harness.deps, ADMIN, project).all()) == 1


def test_a_job_is_not_accepted_on_a_dataset_that_is_being_deleted(harness: ControlPlaneHarness) -> None:
    headers = etag(harness, "projects/ours/datasets/reviews")
    delete = request(harness, "DELETE", "projects/ours/datasets/reviews", headers=headers)
    deleted, submitted = at_once(harness, delete, submission(harness, "one"))
    assert (deleted.status_code, submitted.status_code) in {(200, 422), (409, 202)}


def test_a_job_is_not_accepted_on_a_base_model_that_is_being_deleted(harness: ControlPlaneHarness) -> None:
    deleted, submitted = at_once(harness, request(harness, "DELETE", "base-models/tiny"), submission(harness, "one"))
    assert (deleted.status_code, submitted.status_code) in {(200, 422), (409, 202)}


def test_an_endpoint_is_not_created_for_a_model_version_that_is_being_deleted(harness: ControlPlaneHarness) -> None:
    a_version(harness)
    spec = {"traffic": [{"model": "classifier", "version": 1, "weight": 100}]}
    create = request(harness, "POST", "projects/ours/endpoints", json={"name": "live", "spec": spec})
    delete = request(harness, "DELETE", "projects/ours/models/classifier/versions/1")
    created, deleted = at_once(harness, create, delete)
    assert (created.status_code, deleted.status_code) in {(202, 409), (422, 200)}, (created.text, deleted.text)


def test_a_quota_is_not_given_in_a_pool_that_is_being_deleted(harness: ControlPlaneHarness) -> None:
    pool = {"name": "spare", "capacity": 4}
    assert harness.client.post("/v1/pools", json=pool).status_code == 201
    headers = etag(harness, "pools/spare")
    put = request(harness, "PUT", "projects/ours/quotas/spare", json={"nominal": 2})
    given, deleted = at_once(harness, put, request(harness, "DELETE", "pools/spare", headers=headers))
    assert (given.status_code < 300) != (deleted.status_code < 300), (given.text, deleted.text)


def test_a_job_is_not_accepted_in_a_project_that_is_being_deleted(harness: ControlPlaneHarness) -> None:
    delete = request(harness, "DELETE", "projects/ours", headers=etag(harness, "projects/ours"))
    submitted, deleted = at_once(harness, submission(harness, "one"), delete)
    assert (submitted.status_code, deleted.status_code) in {(202, 409), (404, 200)}, (submitted.text, deleted.text)


def test_a_limit_holds_for_requests_at_the_same_time(harness: ControlPlaneHarness) -> None:
    replies = at_once(harness, submission(harness, "one"), submission(harness, "two"))
    assert sorted(statuses(replies)) == [202, 409]
    assert {reply.json()["code"] for reply in replies if reply.status_code == 409} == {"limit_reached"}


def test_requests_with_one_key_create_one_job(harness: ControlPlaneHarness) -> None:
    replies = at_once(harness, *[submission(harness, "same")] * 8)
    assert statuses(replies) == [202] * 8
    assert len({reply.json()["id"] for reply in replies}) == 1


def test_a_job_is_cancelled_while_it_reports(harness: ControlPlaneHarness) -> None:
    job = harness.submit("ours", key="one")
    harness.run_worker_once(2)
    run = harness.simulated_run(job)
    run.acquire_attempt()
    cancel = request(harness, "POST", f"projects/ours/jobs/{job['id']}:cancel")
    cancelled, reported = at_once(
        harness, cancel, lambda: run.report(1, {"type": "metric", "name": "train_loss", "step": 7, "value": 0.1})
    )
    assert (cancelled.status_code, reported.status_code) == (200, 200), (cancelled.text, reported.text)
    with harness.database.read() as uow:
        stored = uow.all_projects().jobs.get({"id": job["id"]})
    assert (stored.state, stored.steps_done) == (JobState.CANCELLING, 7)


def test_sources_of_one_attempt_report_at_the_same_time(harness: ControlPlaneHarness) -> None:
    job = harness.submit("ours", key="one")
    harness.run_worker_once(2)
    run = harness.simulated_run(job)
    run.acquire_attempt()
    stamp = harness.clock.now().isoformat()

    def report(source: int) -> Operation:
        items = [
            {"type": "event", "code": "note", "message": f"from {source}", "time": stamp},
            {"type": "log", "text": f"line of {source}", "time": stamp},
        ]
        body = {"source": f"rank{source}", "sequence": 1, "items": items}
        return lambda: run.post("attempts/1/reports", body)

    assert statuses(at_once(harness, *map(report, range(6)))) == [200] * 6
    events = harness.client.get(f"/v1/projects/ours/jobs/{job['id']}/events", params={"limit": 200}).json()["items"]
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    assert sum(event["code"] == "note" for event in events) == 6
    log = harness.client.get(f"/v1/projects/ours/jobs/{job['id']}/logs").text
    assert sorted(line.rpartition(" ")[2] for line in log.splitlines()) == [str(number) for number in range(6)]


def test_two_workers_admit_no_more_than_the_capacity(harness: ControlPlaneHarness, tmp_path: Path) -> None:
    harness.create_project("theirs", gpus=1)
    harness.create_dataset("theirs")
    harness.client.put("/v1/projects/theirs/members/admin", json={"role": "admin"})
    with harness.database.write() as uow:
        pool = uow.pools.get({"name": "local"})
        uow.pools.save(pool.model_copy(update={"capacity": 1}))
    for project in ("ours", "theirs"):
        harness.submit(project, key=project)
    at_once(harness, *[lambda: repeat_on_conflict(harness.jobs.admission.admit)] * 2)
    with harness.database.read() as uow:
        assert uow.all_projects().runs.count() == 1


def test_a_repeated_report_does_not_revive_an_attempt_that_was_closed(harness: ControlPlaneHarness) -> None:
    job = harness.submit("ours", key="one")
    harness.run_worker_once(2)
    run = harness.simulated_run(job)
    run.acquire_attempt()
    point = {"type": "metric", "name": "train_loss", "step": 1, "value": 0.1, "time": harness.clock.now().isoformat()}
    body = {"source": "rank0", "sequence": 1, "items": [point]}
    assert run.post("attempts/1/reports", body).status_code == 200
    runs = Runs(harness.deps, run.run, harness.app_context.heartbeat_timeout)

    def close() -> None:
        with runs.deps.database.write() as uow:
            _, stored = run_and_job(uow, run.run)
            repos = uow.project(stored.project)
            attempt = repos.attempts.get({"job": stored.id, "number": 1})
            close_attempt(repos, stored, attempt, AttemptState.LOST, harness.clock.now())

    at_once(harness, lambda: repeat_on_conflict(close), lambda: run.post("attempts/1/reports", body))
    with harness.database.read() as uow:
        assert uow.all_projects().attempts.get({"job": job["id"]}).state is AttemptState.LOST


def test_one_intent_is_put_by_two_transactions(harness: ControlPlaneHarness) -> None:
    def put() -> None:
        with harness.database.write() as uow:
            uow.outbox.put("kind", "project", "subject")

    at_once(harness, *[lambda: repeat_on_conflict(put)] * 2)
    with harness.database.read() as uow:
        assert uow.outbox.subjects("kind") == ["subject"]


def test_a_reader_sees_one_moment(harness: ControlPlaneHarness) -> None:
    with harness.database.read() as uow:
        before = uow.projects.count()
        harness.create_project("later")
        assert uow.projects.count() == before
        assert uow.project("any").quotas.count() == 0
    with harness.database.read() as uow:
        assert uow.projects.count() == before + 1


def test_a_deadlock_is_a_conflict_that_is_repeated(harness: ControlPlaneHarness) -> None:
    ids = [harness.create_project(name) for name in ("first", "second")]
    locked = threading.Barrier(2)
    conflicts: list[TransactionConflictError] = []

    def rename(keys: Sequence[str]) -> None:
        with harness.database.write() as uow:
            for number, key in enumerate(keys):
                project = uow.projects.get({"id": key})
                uow.projects.save(project.model_copy(update={"display_name": project.display_name + "x"}))
                if number == 0 and not conflicts:
                    try:
                        locked.wait(10)
                    except threading.BrokenBarrierError:
                        return

    def counted(keys: Sequence[str]) -> None:
        def attempt() -> None:
            try:
                rename(keys)
            except TransactionConflictError as error:
                conflicts.append(error)
                raise

        repeat_on_conflict(attempt)

    with ThreadPoolExecutor(2) as executor:
        for future in [executor.submit(counted, ids), executor.submit(counted, ids[::-1])]:
            future.result()
    assert conflicts
    with harness.database.read() as uow:
        assert [uow.projects.get({"id": key}).display_name for key in ids] == ["xx", "xx"]


def test_a_role_is_checked_again_when_a_request_is_repeated(harness: ControlPlaneHarness) -> None:
    """A repetition includes the authorization of the request."""
    harness.client.put("/v1/projects/ours/members/bob", json={"role": "admin"})
    bob = harness.client_for_user("bob")
    with harness.database.read() as uow:
        project = uow.projects.get({"name": "ours"}).id
    principal = harness.access_control.authenticate(bob.headers["authorization"].split()[1])
    assert harness.access_control.authorize_project(principal, "ours", Permission.MEMBERS_WRITE)[1]
    Members(harness.deps, ADMIN, project).put(SubjectKind.USER, "bob", Role.VIEWER)
    assert bob.delete("/v1/projects/ours/members/admin").status_code == 403


def test_the_database_reports_its_isolation_levels(harness: ControlPlaneHarness) -> None:
    query = text("SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only')")
    with harness.database.read() as reader, harness.database.write() as writer:
        answers = [tuple(uow.projects._connection.execute(query).one()) for uow in (reader, writer)]  # type: ignore[attr-defined]  # private attribute
    assert answers == [("repeatable read", "on"), ("serializable", "off")]
