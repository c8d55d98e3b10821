"""Two APIs and two workers on one database, of which the leading worker and one API are killed while jobs run."""

import json
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
from tests.factories.replicas import ControlPlaneReplica, ControlPlaneReplicas, add_project, replicas, wait_until
from tests.factories.s3_server import S3Server
from tests.factories.served_apps import make_served_app
from tests.factories.stub_pods import BATCHES, POINTS, StubPods

from windlass.domain.jobs import JobState
from windlass.kube.kinds import BATCH_JOB, ENDPOINT
from windlass.ports.leadership import NotLeaderError
from windlass.wire.jobs import JobOut
from windlass_api.cluster import ProcessOptions, ProcessRole, build

pytestmark = [pytest.mark.processes, pytest.mark.s3, pytest.mark.timeout(900)]
JOBS = 8
PROJECT = "/v1/projects/ours"


@dataclass
class Stream:
    """A stream of server-sent events that is read at one replica, and resumed at another one when that is killed."""

    path: str
    events: list[tuple[str, str, str]]
    """Name, id and data."""

    def read(self, replica: ControlPlaneReplica) -> None:
        """Read until the end of the stream, or of the replica."""
        headers = {"Accept": "text/event-stream"}
        if ids := [event_id for _, event_id, _ in self.events if event_id]:
            headers["Last-Event-ID"] = ids[-1]
        try:
            with replica.client() as client, client.stream("GET", self.path, headers=headers) as response:
                assert response.status_code == 200
                fields: dict[str, str] = {}
                for line in response.iter_lines():
                    if line:
                        name, _, value = line.partition(": ")
                        fields[name] = f"{fields[name]}\n{value}" if name in fields else value
                    elif "event" in fields:
                        self.events.append((fields["event"], fields.get("id", ""), fields.get("data", "")))
                        fields = {}
        except httpx2.TransportError:
            return

    def of(self, name: str) -> list[str]:
        return [data for event, _, data in self.events if event == name]


@dataclass
class Outcome:
    """What is left after the jobs have ended."""

    replicas: ControlPlaneReplicas
    pods: StubPods
    jobs: list[str]
    leaders: list[ControlPlaneReplica]
    streams: dict[str, Stream]

    def rows(self, kind: str) -> list[Any]:
        with self.replicas.harness.database.read() as uow:
            return list(getattr(uow.all_projects(), kind).all())


def submit(apis: list[ControlPlaneReplica], key: str) -> str:
    """Submit a job by the same request at every replica of the API; return its id."""
    spec = {"task": "text-classification", "base_model": "tiny", "dataset": "reviews", "model": f"model-{key}"}
    body = {"spec": spec | {"resources": {"pool": "a100"}}}

    def post(api: ControlPlaneReplica) -> httpx2.Response:
        with api.client() as client:
            return client.post(f"{PROJECT}/jobs", json=body, headers={"Idempotency-Key": key})

    with ThreadPoolExecutor(len(apis)) as executor:
        answers = list(executor.map(post, apis))
    assert [answer.status_code for answer in answers] == [202] * len(apis), [answer.text for answer in answers]
    [job_id] = {answer.json()["id"] for answer in answers}
    return str(job_id)


def started(shared: ControlPlaneReplicas) -> None:
    """Start the processes, and wait until they have copied the project; add a base model and a dataset."""
    add_project(shared.kube.api, "ours", "a100", gpus=JOBS)
    apis = [shared.start("api"), shared.start("api")]
    shared.environment["WINDLASS_CLUSTER_INTERNAL_URL"] = apis[0].internal_url
    shared.start("worker")
    shared.start("worker")
    for replica in shared.all:
        wait_until(replica.ready, f"{replica.log.name} is ready")
    for api in apis:
        assert httpx2.get(f"{api.url}/readyz").text == "ok", "row security restricts it"
    with apis[0].client() as client:
        wait_until(lambda: client.get(PROJECT).status_code == 200, "the project is in the database")
    shared.harness.create_base_model()
    shared.harness.create_dataset("ours")


def run_jobs(shared: ControlPlaneReplicas, pods: StubPods) -> Outcome:
    """Submit jobs, half of them while the leader is killed; kill an API before they go on."""
    jobs = [submit(shared.of_role("api"), f"before-{number}") for number in range(JOBS // 2)]
    wait_until(lambda: len(pods.waiting) == len(jobs), "the first jobs train")
    [first, second] = shared.of_role("api")
    streams = {name: Stream(f"{PROJECT}/jobs/{jobs[0]}/{name}", []) for name in ("events", "logs")}
    readers = [threading.Thread(target=stream.read, args=(first,)) for stream in streams.values()]
    for reader in readers:
        reader.start()
    wait_until(lambda: streams["logs"].of("log"), "the stream has the log")
    wait_until(lambda: len(streams["events"].of("event")) > 2, "the stream has events")
    leader = shared.leader()
    outcome = Outcome(shared, pods, jobs, [leader], streams)
    with ThreadPoolExecutor(JOBS // 2) as executor:
        submitted = [executor.submit(submit, [first, second], f"meanwhile-{number}") for number in range(JOBS // 2)]
        wait_until(lambda: len(outcome.rows("jobs")) > len(jobs), "the next job is accepted")
        leader.kill()
        jobs += [future.result() for future in submitted]
    outcome.leaders.append(shared.leader())
    wait_until(lambda: len(pods.waiting) == len(jobs), "the other jobs train")
    first.kill()
    for reader in readers:
        reader.join()
    pods.released.set()
    readers = [threading.Thread(target=stream.read, args=(second,)) for stream in streams.values()]
    for reader in readers:
        reader.start()
    ended = (JobState.SUCCEEDED, JobState.FAILED)
    wait_until(lambda: all(job.state in ended for job in outcome.rows("jobs")), "the jobs end")
    wait_until(lambda: all(run.ended_at for run in outcome.rows("runs")), "the runs are closed")
    for reader in readers:
        reader.join()
    return outcome


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory, s3_server: S3Server) -> Iterator[Outcome]:
    with replicas(tmp_path_factory.mktemp("replicas"), s3_server) as shared:
        pods = StubPods(shared)
        pods.start()
        try:
            started(shared)
            yield run_jobs(shared, pods)
        finally:
            pods.close()


def test_a_worker_takes_over_when_the_leader_is_killed(outcome: Outcome) -> None:
    killed, successor = outcome.leaders
    assert killed is not successor
    assert (killed.alive, successor.alive) == (False, True)


def test_each_job_runs_once_and_none_is_lost(outcome: Outcome) -> None:
    assert outcome.pods.errors == []
    assert len(set(outcome.jobs)) == JOBS
    assert Counter(job.state for job in outcome.rows("jobs")) == {JobState.SUCCEEDED: JOBS}
    runs = outcome.rows("runs")
    assert Counter(run.job for run in runs) == dict.fromkeys(outcome.jobs, 1)
    assert Counter(attempt.job for attempt in outcome.rows("attempts")) == dict.fromkeys(outcome.jobs, 1)
    assert Counter(version.job for version in outcome.rows("model_versions")) == dict.fromkeys(outcome.jobs, 1)
    created = {ref.name: times for ref, times in outcome.replicas.kube.api.created.items() if ref.kind == BATCH_JOB}
    assert created == dict.fromkeys((run.name for run in runs), 1)


def test_reports_that_two_replicas_get_are_stored_once(outcome: Outcome) -> None:
    second = outcome.replicas.of_role("api")[0]
    with second.client() as client, outcome.replicas.harness.database.read() as uow:
        for job in outcome.jobs:
            events = uow.all_projects().telemetry.events(job, 0, 1000)
            assert [event.sequence for event in events] == list(range(1, len(events) + 1))
            assert sum(event.code == "batch_done" for event in events) == BATCHES
            points = uow.all_projects().telemetry.metric_points(job, "train_loss", -1, 1000)
            assert [point.step for point in points] == list(range(1, BATCHES * POINTS + 1))
            lines = client.get(f"{PROJECT}/jobs/{job}/logs").text.splitlines()
            numbers = [line.rpartition(" ")[2] for line in lines if "| line " in line]
            assert numbers == [str(number) for number in range(1, BATCHES + 1)], lines


def test_a_stream_of_events_continues_at_another_replica(outcome: Outcome) -> None:
    stream = outcome.streams["events"]
    with outcome.replicas.harness.database.read() as uow:
        stored = uow.all_projects().telemetry.events(outcome.jobs[0], 0, 1000)
    sequences = [json.loads(data)["sequence"] for data in stream.of("event")]
    assert sequences == [event.sequence for event in stored]
    assert JobOut.model_validate_json(stream.of("end")[-1]).state is JobState.SUCCEEDED


def test_a_stream_of_a_log_continues_at_another_replica(outcome: Outcome) -> None:
    with outcome.replicas.of_role("api")[0].client() as client:
        text = client.get(f"{PROJECT}/jobs/{outcome.jobs[0]}/logs").text
    assert "".join(outcome.streams["logs"].of("log")) == text
    assert len(outcome.streams["logs"].of("end")) == 1


def test_only_the_leader_writes_endpoints(outcome: Outcome, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in outcome.replicas.environment.items():
        monkeypatch.setenv(name, value)
    application = build(ProcessOptions(ProcessRole.WORKER, None))
    assert application.ports.serving
    with pytest.raises(NotLeaderError):
        application.ports.serving.backend.apply([make_served_app("live-1", endpoint="live")])
    assert outcome.replicas.kube.api.of_kind(ENDPOINT) == []
    application.ports.serving.backend.stop()
    application.ports.serving.prober.close()
    application.ports.database.close()


def test_nothing_is_left_to_do(outcome: Outcome) -> None:
    with outcome.replicas.harness.database.read() as uow:
        assert uow.outbox.subjects("run.submit") == []
        assert uow.outbox.leased() == []
        accepted = [entry for entry in uow.audit.page(1000, None) if entry.action == "job.create"]
    assert len(accepted) == JOBS
    for worker in outcome.replicas.of_role("worker"):
        assert worker.events("worker loop failed") == []
