"""A thousand readers of live streams on one process: their reads are shared, and a resumed stream has no gap."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import event
from tests.factories.http_servers import serve
from tests.fakes.harness import ControlPlaneHarness, SimulatedRun

from windlass.settings import LimitSettings

READERS, JOBS = 1000, 4
EVENTS = 20
CONNECTING = 50
"""Readers that connect at the same time."""
POLLS = 4
SECONDS = 240
MAX_BYTES = 150 << 10
"""Memory for each reader, both ends of its connection together."""
pytestmark = pytest.mark.timeout(600)


@dataclass
class Reader:
    """Reads the events of a job, on one connection after the other."""

    port: int
    key: str
    job: str
    sequences: list[int] = field(default_factory=list)
    connections: int = 0

    async def connect(self, limit: asyncio.Semaphore) -> None:
        """Send the request and read the head of the response."""
        async with limit:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
            lines = [
                f"GET /v1/projects/ours/jobs/{self.job}/events HTTP/1.1",
                *("Host: localhost", "Accept: text/event-stream", f"Authorization: {self.key}"),
                *([f"Last-Event-ID: {self.sequences[-1]}"] if self.sequences else []),
            ]
            self.writer.write("\r\n".join([*lines, "", ""]).encode())
            head = await self.reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
        self.connections += 1

    async def read_until(self, last: int) -> None:
        """Read until the event with this sequence number."""
        while not self.sequences or self.sequences[-1] < last:
            line = await self.reader.readline()
            assert line, "the stream has ended"
            if line.startswith(b"data: ") and b'"sequence"' in line:
                self.sequences.append(json.loads(line.removeprefix(b"data: "))["sequence"])

    def disconnect(self) -> None:
        self.writer.transport.abort()


@dataclass
class Statements:
    """Counts the statements that the server sends to its database."""

    number: int = 0

    def count(self, *_arguments: Any) -> None:
        self.number += 1


@pytest.fixture
def streamed(tmp_path: Path) -> Iterator[ControlPlaneHarness]:
    limits = LimitSettings(streams_per_key=READERS, streams_per_project=READERS, key_cache_seconds=60)
    harness = ControlPlaneHarness(tmp_path, limits=limits)
    harness.create_base_model()
    harness.create_project("ours", gpus=JOBS)
    harness.create_dataset("ours")
    yield harness
    harness.close()


def report_events(runs: list[SimulatedRun], number: int) -> None:
    for run in runs:
        items = [{"type": "event", "code": "note", "message": f"event {each}"} for each in range(number)]
        assert run.report(1, *items).status_code == 200


def newest_event(harness: ControlPlaneHarness, job: str) -> int:
    with harness.database.read() as uow:
        return int(uow.all_projects().telemetry.events(job, 0, 1000)[-1].sequence)


async def gather(readers: list[Reader], last: dict[str, int]) -> None:
    async with asyncio.timeout(SECONDS):
        await asyncio.gather(*(reader.read_until(last[reader.job]) for reader in readers))


async def statements_of_polls(counter: Statements) -> int:
    """Return how many statements the server sends while nothing happens."""
    before = counter.number
    await asyncio.sleep(POLLS * 0.5)
    return counter.number - before


async def read_all(harness: ControlPlaneHarness, runs: list[SimulatedRun], jobs: list[str], port: int) -> list[Reader]:
    counter, process = Statements(), psutil.Process()
    event.listen(harness.engine, "before_cursor_execute", counter.count)
    key, limit = str(harness.client.headers["Authorization"]), asyncio.Semaphore(CONNECTING)

    def last() -> dict[str, int]:
        return {job: newest_event(harness, job) for job in jobs}

    first = [Reader(port, key, job) for job in jobs]
    await asyncio.gather(*(reader.connect(limit) for reader in first))
    await gather(first, last())
    of_one_each = await statements_of_polls(counter)
    bytes_before = process.memory_info().rss
    others = [Reader(port, key, jobs[number % JOBS]) for number in range(READERS - JOBS)]
    await asyncio.gather(*(reader.connect(limit) for reader in others))
    readers = first + others
    await gather(readers, last())
    of_all = await statements_of_polls(counter)
    # a poll more or less may fall into the time
    assert of_all <= of_one_each * (POLLS + 2) / POLLS + 2 * JOBS, "the readers of a job share its reads"
    await asyncio.to_thread(report_events, runs, EVENTS)
    for reader in others[::2]:
        reader.disconnect()
    await asyncio.gather(*(reader.connect(limit) for reader in others[::2]))
    await asyncio.to_thread(report_events, runs, EVENTS)
    await gather(readers, last())
    assert (process.memory_info().rss - bytes_before) / READERS < MAX_BYTES
    for reader in readers:
        reader.disconnect()
    return readers


def test_a_thousand_readers_share_reads_and_resume_without_gap_or_duplicate(streamed: ControlPlaneHarness) -> None:
    submitted = [streamed.submit("ours", key=str(number), model=f"model-{number}") for number in range(JOBS)]
    streamed.run_worker_once(2)
    runs = [streamed.simulated_run(job) for job in submitted]
    for run in runs:
        assert run.acquire_attempt().status_code == 200
    jobs = [str(job["id"]) for job in submitted]
    with serve(streamed.app) as port:
        readers = asyncio.run(read_all(streamed, runs, jobs, port))
    assert len(readers) == READERS
    assert {reader.connections for reader in readers} == {1, 2}
    for reader in readers:
        assert reader.sequences == list(range(1, newest_event(streamed, reader.job) + 1))
