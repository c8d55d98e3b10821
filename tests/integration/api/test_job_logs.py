"""Chunked reads of a job's log: complete characters, and only the requested bytes are read from the store."""

from typing import Any, BinaryIO, Self

import pytest
from tests.fakes.harness import ControlPlaneHarness

from windlass.storage.local import LocalObjectStore

PRODUCER = "0123456789abcdef"
LINE = "ab✓x, naïve 😀 end"


def create_log(harness: ControlPlaneHarness, *lines: str) -> str:
    """Create a job with these log lines, one report each; return the URL of its log."""
    job = harness.submit("ours", key="k")
    harness.run_worker_once(2)
    run = harness.simulated_run(job)
    run.acquire_attempt()
    for line in lines:
        assert run.report(1, {"type": "log", "text": line}).status_code == 200
    return f"/v1/projects/ours/jobs/{job['id']}/logs"


@pytest.mark.parametrize("limit", [4, 5, 7, 64])
def test_log_chunks_end_at_character_boundaries_and_are_complete(ready: ControlPlaneHarness, limit: int) -> None:
    url = create_log(ready, LINE, LINE)
    complete_log = ready.client.get(url).content
    chunks: list[bytes] = []
    offset = 0
    while offset < len(complete_log):
        reply = ready.client.get(url, params={"offset": offset, "limit": limit})
        reply.content.decode()  # raises if a character is incomplete
        assert limit - 3 <= len(reply.content) <= limit or offset + len(reply.content) == len(complete_log)
        chunks.append(reply.content)
        offset = int(reply.headers["windlass-next-offset"])
    assert b"".join(chunks) == complete_log


def test_character_that_ends_at_the_limit_is_included(ready: ControlPlaneHarness) -> None:
    url = create_log(ready, LINE)
    complete_log = ready.client.get(url).content
    end = complete_log.index("✓".encode()) + 3
    assert ready.client.get(url, params={"offset": end - 5, "limit": 5}).content == "ab✓".encode()


def test_log_request_reads_only_the_requested_bytes(
    ready: ControlPlaneHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = create_log(ready, *["x" * 100_000] * 5)
    bytes_read: list[int] = []
    original_open = LocalObjectStore.open

    def open_counted(self: LocalObjectStore, key: str) -> BinaryIO:
        stream: Any = original_open(self, key)
        bytes_read.append(0)

        class CountedStream:
            def __enter__(self) -> Self:
                return self

            def __exit__(self, *_: object) -> None:
                stream.close()

            def seek(self, offset: int) -> None:
                stream.seek(offset)

            def read(self, size: int = -1) -> bytes:
                data: bytes = stream.read(size)
                bytes_read[-1] += len(data)
                return data

        return CountedStream()  # type: ignore[return-value]  # implements only what the log needs

    monkeypatch.setattr(LocalObjectStore, "open", open_counted)
    assert len(ready.client.get(url, params={"offset": 10, "limit": 1000}).content) == 1000
    assert bytes_read == [1000]


@pytest.mark.parametrize(("lines", "tail"), [(3, 0), (3, 1), (3, 2), (3, 3), (3, 9), (1200, 1000)])
def test_tail_returns_the_last_lines(ready: ControlPlaneHarness, lines: int, tail: int) -> None:
    job = ready.submit("ours", key="k")
    ready.run_worker_once(2)
    run = ready.simulated_run(job)
    run.acquire_attempt()
    for first in range(0, lines, 100):
        items = [{"type": "log", "text": f"line {n} é\n"} for n in range(first, min(lines, first + 100))]
        assert run.report(1, *items).status_code == 200
    url = f"/v1/projects/ours/jobs/{job['id']}/logs"
    complete = ready.client.get(url).content.splitlines(keepends=True)
    reply = ready.client.get(url, params={"tail": tail})
    assert reply.content.splitlines(keepends=True) == complete[len(complete) - min(tail, lines) :]
    assert int(reply.headers["windlass-next-offset"]) == len(b"".join(complete))


def test_the_tail_of_a_log_of_many_small_pieces_reads_only_its_end(
    ready: ControlPlaneHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = create_log(ready, *[f"line {number}" for number in range(400)])
    opened = []
    original_open = LocalObjectStore.open

    def count(self: LocalObjectStore, key: str) -> BinaryIO:
        opened.append(key)
        return original_open(self, key)

    monkeypatch.setattr(LocalObjectStore, "open", count)
    reply = ready.client.get(url, params={"tail": 1})
    assert reply.text.endswith("| line 399\n")
    assert reply.text.count("\n") == 1
    assert len(opened) < 390


def test_lines_have_the_time_at_which_they_were_written(ready: ControlPlaneHarness) -> None:
    job = ready.submit("ours", key="k")
    ready.run_worker_once(2)
    run = ready.simulated_run(job)
    run.acquire_attempt()
    run.report(1, {"type": "log", "text": "worker", "time": "2026-03-01T12:00:07+02:00"})
    items = [{"text": "early\n", "time": "2026-03-01T09:59:58Z"}, {"text": "late\n", "time": "2026-03-01T10:00:09Z"}]
    assert run.post("steps/train/logs", {"producer": PRODUCER, "sequence": 1, "items": items}).status_code == 204
    assert ready.client.get(f"/v1/projects/ours/jobs/{job['id']}/logs").text.splitlines() == [
        "2026-03-01T10:00:07Z attempt 1 rank0 | worker",
        "2026-03-01T09:59:58Z run 1 train | early",
        "2026-03-01T10:00:09Z run 1 train | late",
    ]
