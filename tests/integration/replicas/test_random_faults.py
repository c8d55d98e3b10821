"""Jobs on two APIs and two workers whose processes and connections fail at random: none is lost, none runs twice.

``make faults`` runs more jobs and more seeds: FAULT_JOBS and FAULT_SEEDS.
"""

import os
import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.factories.random_faults import History, RandomFaults, proxied
from tests.factories.replicas import ADMIN_KEY, ControlPlaneReplicas, add_project, replicas, wait_until
from tests.factories.s3_server import S3Server
from tests.factories.stub_pods import BATCHES, POINTS, StubPods
from tests.fakes.harness import ADMIN

from windlass.domain.jobs import UNFINISHED_STATES, JobState
from windlass.kube.kinds import BATCH_JOB
from windlass.kube.objects import Object
from windlass.runtime.context import RunContext
from windlass.services.audit import AuditTrail
from windlass.wire.runs import RUNS_PATH

JOBS = int(os.environ.get("FAULT_JOBS", "12"))
SEEDS = [int(seed) for seed in os.environ.get("FAULT_SEEDS", "1").split()]
pytestmark = [pytest.mark.processes, pytest.mark.s3, pytest.mark.timeout(300 + 10 * JOBS)]
PROJECT = "/v1/projects/ours"
CANCELLED_SHARE, REPEATED_SHARE = 0.1, 0.3
CLIENTS = 32
_SECONDS = 200.0 + 5 * JOBS
"""In which everything must be done after the last fault."""
_REQUEST_SECONDS = 6.0
_CONFLICTS = {"idempotency_in_progress", "transaction_conflict", "rate_limited", "busy"}
"""Errors after which a client sends the same request again."""


@dataclass
class Clients:
    """Sends requests to any replica of the API, and again until one is answered."""

    shared: ControlPlaneReplicas
    history: History
    seed: int

    def send(
        self, method: str, path: str, *, internal: bool = False, token: str = ADMIN_KEY, **more: Any
    ) -> httpx2.Response:
        """Return the first answer that is not a failure of the server or of a connection."""
        choice = random.Random(f"{self.seed} {method} {path} {more}")
        headers = {"Authorization": f"Bearer {token}", **more.pop("headers", {})}
        deadline, why = time.monotonic() + _SECONDS, ""
        while time.monotonic() < deadline:
            api = choice.choice(self.shared.of_role("api") or self.shared.all)
            url = f"{api.internal_url if internal else api.url}{path}"
            try:
                answer = httpx2.request(method, url, headers=headers, timeout=_REQUEST_SECONDS, **more)
            except httpx2.TransportError as error:
                why = type(error).__name__
            else:
                if answer.status_code < 500 and answer.json().get("code") not in _CONFLICTS:
                    return answer
                why = answer.text
            self.history.add("retry", path=path, why=why[:200])
            time.sleep(choice.uniform(0.05, 0.5))
        raise AssertionError(f"{method} {path} was not answered: {why}")

    def submit(self, key: str) -> str:
        """Submit a job, sometimes once more after the answer; return its id."""
        choice = random.Random(f"{self.seed} {key}")
        spec = {"task": "text-classification", "base_model": "tiny", "dataset": "reviews", "model": f"model-{key}"}
        body = {"spec": spec | {"resources": {"pool": "a100"}}}
        times = 2 if choice.random() < REPEATED_SHARE else 1
        answers = [
            self.send("POST", f"{PROJECT}/jobs", json=body, headers={"Idempotency-Key": key}) for _ in range(times)
        ]
        assert [answer.status_code for answer in answers] == [202] * times, [answer.text for answer in answers]
        [job_id] = {answer.json()["id"] for answer in answers}
        self.history.add("accepted", job=job_id, key=key)
        return str(job_id)

    def cancel(self, job: str) -> None:
        """Cancel a job that may end at this moment."""
        answer = self.send("POST", f"{PROJECT}/jobs/{job}:cancel")
        assert answer.status_code in {200, 409}, answer.text
        self.history.add("cancel", job=job, state=answer.json().get("state", ""))


@dataclass
class RetryingPods(StubPods):
    """Pods whose requests are sent to one replica, and again until they are answered."""

    clients: Clients | None = None
    choice: random.Random = field(default_factory=random.Random)

    def _run(self, job: Object, context: RunContext) -> None:
        try:
            self._train(context)
        except ConnectionAbortedError as error:  # the job was cancelled, see ``test``
            self._clients.history.add("refused", run=context.identity.name, job=context.identity.job, why=str(error))
            return
        except AssertionError as error:
            self.errors.append(f"{context.identity.name}: {error}")
        self._clients.history.add("trained", run=context.identity.name, job=context.identity.job)
        if any(
            each["metadata"]["name"] == job["metadata"]["name"] for each in self.replicas.kube.api.of_kind(BATCH_JOB)
        ):
            self._end_pod(job)

    @property
    def _clients(self) -> Clients:
        assert self.clients is not None
        return self.clients

    def _post(self, context: RunContext, path: str, body: dict[str, Any]) -> dict[str, Any]:
        self._stopping.wait(self.choice.uniform(0, 1))
        path_of_run = f"{RUNS_PATH}/{context.identity.run}/{path}"
        answer = self._clients.send("POST", path_of_run, internal=True, token=context.run_token, json=body)
        if answer.status_code != 200:
            raise ConnectionAbortedError(answer.text)
        reply: dict[str, Any] = answer.json()
        return reply


@dataclass
class Outcome:
    """What is left after the faults have ended and everything has settled."""

    shared: ControlPlaneReplicas
    pods: RetryingPods
    history: History
    accepted: dict[str, str]
    """Id by key."""
    cancelled: set[str]
    """Ids of the jobs whose cancellation was answered with 200."""

    def rows(self, kind: str) -> list[Any]:
        with self.shared.harness.database.read() as uow:
            return list(getattr(uow.all_projects(), kind).all())


def start(shared: ControlPlaneReplicas) -> None:
    """Start two APIs and two workers, and add a base model and a dataset."""
    add_project(shared.kube.api, "ours", "a100", gpus=JOBS)
    for role in ("api", "api", "worker", "worker"):
        shared.start(role)
    shared.environment["WINDLASS_CLUSTER_INTERNAL_URL"] = shared.of_role("api")[0].internal_url
    for replica in shared.all:
        wait_until(replica.ready, f"{replica.log.name} is ready")
    with shared.of_role("api")[0].client() as client:
        wait_until(lambda: client.get(PROJECT).status_code == 200, "the project is in the database")
    shared.harness.create_base_model()
    shared.harness.create_dataset("ours")


def run_jobs(shared: ControlPlaneReplicas, clients: Clients, faults: RandomFaults, pods: RetryingPods) -> Outcome:
    """Submit and cancel jobs during faults; end the faults when most have ended, and wait until all have."""
    choice = random.Random(clients.seed)
    keys = [f"{number:04d}" for number in range(JOBS)]
    unwanted = set(choice.sample(keys, max(1, round(JOBS * CANCELLED_SHARE))))
    pods.released.set()
    faults.start()

    def submit(key: str) -> str:
        job = clients.submit(key)
        if key in unwanted:
            time.sleep(random.Random(key).uniform(0, 5))
            clients.cancel(job)
        return job

    with ThreadPoolExecutor(CLIENTS) as executor:
        accepted = dict(zip(keys, executor.map(submit, keys), strict=True))
    outcome = Outcome(shared, pods, clients.history, accepted, {accepted[key] for key in unwanted})

    def unfinished() -> int:
        return sum(job.state in UNFINISHED_STATES for job in outcome.rows("jobs"))

    wait_until(lambda: unfinished() <= JOBS // 10, "most jobs have ended", _SECONDS)
    faults.stop()
    clients.history.add("faults ended")
    wait_until(lambda: unfinished() == 0, "the jobs end", _SECONDS)
    wait_until(lambda: all(run.ended_at for run in outcome.rows("runs")), "the runs are closed", _SECONDS)
    wait_until(lambda: _is_settled(shared), "nothing is leased, and the audit log is sealed", _SECONDS)
    return outcome


def _is_settled(shared: ControlPlaneReplicas) -> bool:
    with shared.harness.database.read() as uow:
        return uow.outbox.leased() == [] and uow.audit_chain.count_unsealed() == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_no_job_is_lost_and_none_runs_twice(seed: int, tmp_path: Path, s3_server: S3Server) -> None:
    history = History(tmp_path / "history.jsonl")
    print(f"seed {seed}, history in {history.path}")  # noqa: T201 - to repeat a run that fails
    begin = time.monotonic()
    with replicas(tmp_path, s3_server) as shared, proxied(shared) as proxies:
        clients = Clients(shared, history, seed)
        pods = RetryingPods(shared, clients=clients, choice=random.Random(seed))
        pods.start()
        try:
            start(shared)
            outcome = run_jobs(shared, clients, RandomFaults(shared, proxies, history, random.Random(seed)), pods)
        finally:
            pods.close()
        check(outcome)
        states = Counter(job.state.value for job in outcome.rows("jobs"))
    seconds = time.monotonic() - begin
    print(f"seed {seed}: {JOBS} jobs in {seconds:.0f} s, {dict(states)}, 0 lost, 0 doubled; {dict(history.counts)}")  # noqa: T201 - the result


def check(outcome: Outcome) -> None:
    """Check invariants I1, I2, I3, I5, I8 and that nothing is left to do."""
    jobs = {job.id: job for job in outcome.rows("jobs")}
    assert outcome.pods.errors == []
    assert jobs.keys() == set(outcome.accepted.values()), "each accepted job is stored, and no other one (I1, I2)"
    assert len(set(outcome.accepted.values())) == JOBS
    ended = {job.id for job in jobs.values() if job.state is JobState.CANCELLED}
    assert ended <= outcome.cancelled
    succeeded = jobs.keys() - ended
    assert {jobs[job].state for job in succeeded} == {JobState.SUCCEEDED}, Counter(job.state for job in jobs.values())
    check_runs(outcome, succeeded)
    check_reports(outcome, succeeded)
    check_audit(outcome, ended)
    with outcome.shared.harness.database.read() as uow:
        assert uow.outbox.subjects("run.submit") == []
    for worker in outcome.shared.of_role("worker"):
        assert worker.ready()


def check_runs(outcome: Outcome, succeeded: set[str]) -> None:
    """Each job has one run, one Job of Kubernetes for it, and one model version if it succeeded (I3, I5)."""
    runs = outcome.rows("runs")
    assert max(Counter(run.job for run in runs).values()) == 1
    assert succeeded <= {run.job for run in runs}
    versions = Counter(version.job for version in outcome.rows("model_versions"))
    assert versions == dict.fromkeys(succeeded, 1)
    attempts = Counter(attempt.job for attempt in outcome.rows("attempts"))
    assert {job: attempts[job] for job in succeeded} == dict.fromkeys(succeeded, 1)
    created = {ref.name: times for ref, times in outcome.shared.kube.api.created.items() if ref.kind == BATCH_JOB}
    assert set(created.values()) == {1}
    assert created.keys() <= {run.name for run in runs}
    assert Counter(outcome.pods.started).most_common(1)[0][1] == 1


def check_reports(outcome: Outcome, succeeded: set[str]) -> None:
    """Each report is stored once, whatever reply was lost."""
    with outcome.shared.harness.database.read() as uow:
        telemetry = uow.all_projects().telemetry
        for job in succeeded:
            events = telemetry.events(job, 0, 1000)
            assert [event.sequence for event in events] == list(range(1, len(events) + 1))
            assert sum(event.code == "batch_done" for event in events) == BATCHES
            points = telemetry.metric_points(job, "train_loss", -1, 1000)
            assert [point.step for point in points] == list(range(1, BATCHES * POINTS + 1))


def check_audit(outcome: Outcome, ended: set[str]) -> None:
    """Each accepted change has one entry (I8)."""
    with outcome.shared.harness.database.read() as uow:
        entries = uow.audit.all()
    create, cancel = (
        Counter(entry.subject for entry in entries if entry.action == action) for action in ("job.create", "job.cancel")
    )
    assert create == dict.fromkeys(outcome.accepted.values(), 1)
    assert ended <= cancel.keys() <= outcome.cancelled
    assert set(cancel.values()) <= {1}
    verified = AuditTrail(outcome.shared.harness.deps, ADMIN).verify(None, None, limit=len(entries) + 1)
    assert (verified.complete, verified.problem, verified.rows) == (True, None, len(entries))
