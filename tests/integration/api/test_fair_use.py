"""Callers do not starve each other: threads, streams, and the reads that streams share."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from tests.factories.http_servers import serve
from tests.fakes.harness import ControlPlaneHarness

from windlass.db.session import SqlDatabase
from windlass.domain.projects import Permission, PlatformRole, Principal
from windlass.ports import ReadUnitOfWork
from windlass.services.base import Caller
from windlass.services.datasets import Datasets
from windlass.services.jobs import Jobs
from windlass.services.projects import Projects
from windlass.settings import LimitSettings
from windlass_api import streams
from windlass_api.stream_hub import StreamCaller, StreamHub
from windlass_api.streams import EventStreamResponse, job_frames, log_frames, stream_job

STREAMS = 300


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts the read transactions of the database."""
    count = [0]
    original = SqlDatabase.read

    @contextmanager
    def counted(self: SqlDatabase) -> Iterator[ReadUnitOfWork]:
        count[0] += 1
        with original(self) as uow:
            yield uow

    monkeypatch.setattr(SqlDatabase, "read", counted)
    return count


def stream_caller(harness: ControlPlaneHarness, user: str = "eve") -> StreamCaller:
    """A viewer of the project with a new key."""
    harness.client_for_user(user)
    with harness.database.read() as uow:
        project = uow.projects.get({"name": "ours"})
        key = uow.keys.all({"user": user})[-1]
    if harness.client.put(f"/v1/projects/ours/members/{user}", json={"role": "viewer"}).status_code != 200:
        raise AssertionError
    return StreamCaller(Principal(user=user, credential=key.id), "ours", project.id, Permission.JOBS_READ)


def jobs_of(harness: ControlPlaneHarness, caller: StreamCaller) -> Jobs:
    return Jobs(harness.deps, Caller(caller.principal), caller.project)


async def take(frames: AsyncIterator[str], polls: int) -> None:
    """Read a stream until it has polled this often without a result."""
    async for text in frames:
        polls -= not text
        if not polls:
            return


def test_the_streams_of_a_job_share_their_reads(ready: ControlPlaneHarness, reads: list[int]) -> None:
    job = ready.submit("ours", key="k")["id"]
    caller = stream_caller(ready)
    jobs, hub = jobs_of(ready, caller), StreamHub(ready.access_control, STREAMS, STREAMS)
    polls = 4

    async def follow() -> None:
        events = [take(job_frames(hub, "ours", jobs, job, 0), polls) for _ in range(STREAMS)]
        logs = [take(log_frames(hub, jobs, job, 0), polls) for _ in range(STREAMS)]
        await asyncio.gather(*events, *logs)

    reads[0] = 0
    asyncio.run(follow())
    assert reads[0] <= 2 * (polls + 2)  # one read per poll and kind, and the first events; not one per stream


@pytest.mark.parametrize("change", ["revoke the key", "remove the member"])
def test_a_stream_ends_when_its_reader_loses_access(
    ready: ControlPlaneHarness, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    monkeypatch.setattr(streams, "_ACCESS_SECONDS", 0.2)
    monkeypatch.setattr(streams, "_POLL_SECONDS", 0.05)
    job = ready.submit("ours", key="k")["id"]
    caller = stream_caller(ready)
    hub = StreamHub(ready.access_control, 1, 1)
    response = stream_job(hub, caller, jobs_of(ready, caller), job, 0)

    async def follow() -> bool:
        task = asyncio.create_task(read_all(response))
        await asyncio.sleep(0.6)
        open_before = not task.done()
        if change == "revoke the key":
            assert ready.client.delete(f"/v1/keys/{caller.principal.credential}").status_code == 200
        else:
            assert ready.client.delete("/v1/projects/ours/members/eve").status_code == 200
        await asyncio.wait_for(task, 5)
        return open_before

    assert asyncio.run(follow())


async def read_all(response: EventStreamResponse) -> list[str]:
    return [str(text) async for text in response.body_iterator]


def test_a_stream_ends_after_its_maximum_time(ready: ControlPlaneHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_MAX_SECONDS", 0.2)
    monkeypatch.setattr(streams, "_POLL_SECONDS", 0.05)
    job = ready.submit("ours", key="k")["id"]
    caller = stream_caller(ready)
    response = stream_job(StreamHub(ready.access_control, 1, 1), caller, jobs_of(ready, caller), job, 0)
    frames = asyncio.run(asyncio.wait_for(read_all(response), 5))
    assert frames
    assert not any(text.startswith("event: end") for text in frames)  # so that the client resumes


@pytest.mark.parametrize(("per_key", "per_project", "name"), [(2, 9, "key key_"), (9, 2, "project ours")])
def test_streams_beyond_the_limit_are_refused_until_one_is_closed(
    tmp_path: Path, per_key: int, per_project: int, name: str
) -> None:
    limits = LimitSettings(key_cache_seconds=0, streams_per_key=per_key, streams_per_project=per_project)
    harness = ControlPlaneHarness(tmp_path, limits=limits)
    harness.create_project("ours")
    harness.create_base_model()
    harness.create_dataset("ours")
    job = harness.submit("ours", key="k")["id"]
    hub = harness.app_context.streams
    caller = StreamCaller(_principal(harness), "ours", "prj_x", Permission.JOBS_READ)
    url, headers = f"/v1/projects/ours/jobs/{job}/events", {"Accept": "text/event-stream"}
    with hub.stream(caller), hub.stream(caller):
        reply = harness.client.get(url, headers=headers)
        assert (reply.status_code, reply.json()["code"]) == (429, "too_many_requests")
        assert reply.headers["retry-after"]
        assert reply.json()["detail"].startswith(name)
    assert harness.client.post(f"/v1/projects/ours/jobs/{job}:cancel").status_code == 200
    assert harness.client.get(url, headers=headers).status_code == 200  # the job has ended, so the stream ends
    harness.close()


def _principal(harness: ControlPlaneHarness) -> Principal:
    key = harness.client.get("/v1/whoami").json()["key"]
    return Principal(user="admin", credential=key, platform_role=PlatformRole.ADMIN)


def test_the_requests_of_one_user_leave_threads_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = LimitSettings(key_cache_seconds=60, concurrent_requests=3, queued_requests=50)
    harness = ControlPlaneHarness(tmp_path, limits=limits)
    gate, active = threading.Event(), []
    original = Projects.page

    def slow(self: Projects, limit: int, after: str | None) -> object:
        if self.caller.principal.user == "eve":
            active.append(1)
            assert gate.wait(30)
        return original(self, limit, after)

    monkeypatch.setattr(Projects, "page", slow)
    eve = harness.client_for_user("eve").headers["Authorization"]
    ann = harness.client_for_user("ann").headers["Authorization"]
    with harness.client as client, ThreadPoolExecutor(60) as pool:

        def get(key: str) -> int:
            return client.get("/v1/projects", headers={"Authorization": key}).status_code

        flood = [pool.submit(get, eve) for _ in range(60)]
        ended = as_completed(flood, timeout=30)
        refused = [next(ended).result() for _ in range(7)]
        assert get(ann) == 200  # while 53 requests of eve are open
        assert len(active) == 3
        gate.set()
        statuses = [request.result() for request in flood]
    assert refused == [429] * 7
    assert sorted(statuses) == [200] * 53 + [429] * 7
    harness.close()


def test_the_members_of_one_project_leave_threads_to_other_projects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten users with eight requests each would take all forty threads of the server."""
    limits = LimitSettings(key_cache_seconds=60, concurrent_requests_per_project=5, queued_requests=60)
    harness = ControlPlaneHarness(tmp_path, limits=limits)
    harness.create_project("flooding")
    harness.create_project("quiet", pool="other")
    gate, active = threading.Event(), []
    original = Datasets.page

    def slow(self: Datasets, limit: int, after: str | None) -> object:
        if self.caller.principal.user.startswith("eve"):
            active.append(1)
            assert gate.wait(30)
        return original(self, limit, after)

    monkeypatch.setattr(Datasets, "page", slow)
    keys = {}
    for user, project in [*((f"eve{number}", "flooding") for number in range(10)), ("ann", "quiet")]:
        path = f"/v1/projects/{project}/members/{user}"
        assert harness.client.put(path, json={"role": "viewer"}).status_code == 200
        keys[user] = harness.client_for_user(user).headers["Authorization"]
    with harness.client as client, ThreadPoolExecutor(80) as pool:

        def get(user: str, project: str) -> int:
            url = f"/v1/projects/{project}/datasets"
            return client.get(url, headers={"Authorization": keys[user]}).status_code

        flood = [pool.submit(get, f"eve{number % 10}", "flooding") for number in range(80)]
        ended = as_completed(flood, timeout=30)
        refused = [next(ended).result() for _ in range(15)]
        assert get("ann", "quiet") == 200  # while 65 requests of the other project are open
        assert len(active) == 5
        gate.set()
        statuses = [request.result() for request in flood]
    assert refused == [429] * 15
    assert sorted(statuses) == [200] * 65 + [429] * 15
    harness.close()


def test_an_upload_that_takes_long_keeps_no_slot_of_its_project(tmp_path: Path) -> None:
    limits = LimitSettings(key_cache_seconds=60, concurrent_requests_per_project=1)
    harness = ControlPlaneHarness(tmp_path, limits=limits)
    harness.create_project("ours")
    harness.create_dataset("ours")
    declared = {"name": "a.csv", "bytes": 10, "sha256": "0" * 64}
    body = {"dataset": "reviews", "files": [declared]}
    upload = harness.client.post("/v1/projects/ours/uploads", json=body).json()["id"]
    arrived, gate = threading.Event(), threading.Event()

    def slow_body() -> Iterator[bytes]:
        yield b"12345"
        arrived.set()
        assert gate.wait(30)
        yield b"67890"

    headers = dict(harness.client.headers)
    # Both requests by the server: the slots of a project belong to one event loop.
    with serve(harness.app) as port, ThreadPoolExecutor(1) as pool:
        project = f"http://127.0.0.1:{port}/v1/projects/ours"
        sent = pool.submit(httpx2.put, f"{project}/uploads/{upload}/files/a.csv", content=slow_body(), headers=headers)
        assert arrived.wait(30)
        assert httpx2.get(f"{project}/datasets", headers=headers, timeout=30).status_code == 200
        gate.set()
        assert sent.result().status_code == 200
    harness.close()
