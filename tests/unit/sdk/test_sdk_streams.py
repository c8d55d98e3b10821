"""Streams resume after a disconnect without lost or duplicate items; waits time out."""

import asyncio
import time

import pytest
from tests.unit.sdk.stub_server import (
    END,
    StubResponse,
    StubServer,
    connection_reset,
    event_frame,
    events,
    job_json,
    metric_frame,
    ok,
    problem,
    state_frame,
)

from windlass.domain.errors import NotFoundError, UnavailableError, UpstreamError
from windlass.sdk import AsyncClient, Client, MetricPoint, WaitTimeoutError
from windlass.wire.jobs import EventOut, JobOut

EVENTS = "/v1/projects/team-a/jobs/job_1/events"
LOGS = "/v1/projects/team-a/jobs/job_1/logs"
CHAT = "/v1/projects/team-a/endpoints/desk/chat/completions"


def _sequences(messages: list[object]) -> list[int]:
    return [message.sequence for message in messages if isinstance(message, EventOut)]


def test_stream_yields_events_metrics_and_states(server: StubServer, client: Client) -> None:
    server.on("GET", EVENTS, events(event_frame(1), metric_frame("train_loss", 3, 0.5), state_frame(), END))
    event, point, job = client.jobs.stream("job_1")
    assert isinstance(event, EventOut)
    assert point == MetricPoint("train_loss", 3, 0.5)
    assert isinstance(job, JobOut)


def test_stream_resumes_after_the_last_received_event(server: StubServer, client: Client) -> None:
    first = events(event_frame(1), event_frame(2), "event: event\nid: 3\ndata: {half", reset=True)
    server.on("GET", EVENTS, first, connection_reset(), problem(503, "unavailable"), events(event_frame(3), END))
    assert _sequences([*client.jobs.stream("job_1")]) == [1, 2, 3]
    ids = [request.headers.get("last-event-id") for request in server.requests("GET", EVENTS)]
    assert ids == [None, "2", "2", "2"]


def test_stream_resumes_after_a_clean_close_before_the_end(server: StubServer, client: Client) -> None:
    server.on("GET", EVENTS, events(event_frame(1)), events(event_frame(2), END))
    assert _sequences([*client.jobs.stream("job_1")]) == [1, 2]


def test_async_stream_resumes(server: StubServer, async_client: AsyncClient) -> None:
    server.on(
        "GET", EVENTS, events(event_frame(1), reset=True), problem(503, "unavailable"), events(event_frame(2), END)
    )

    async def follow() -> list[object]:
        async with async_client as client:
            return [message async for message in client.jobs.stream("job_1")]

    assert _sequences(asyncio.run(follow())) == [1, 2]


def test_stream_of_a_missing_job_raises_immediately(server: StubServer, client: Client) -> None:
    server.on("GET", EVENTS, problem(404, "not_found"))
    with pytest.raises(NotFoundError):
        next(client.jobs.stream("job_1"))
    assert len(server.recorded) == 1


def test_response_that_is_not_an_event_stream_raises(server: StubServer, client: Client) -> None:
    server.on("GET", EVENTS, StubResponse(200, b"<html>", {"Content-Type": "text/html"}))
    with pytest.raises(UnavailableError, match="event stream"):
        next(client.jobs.stream("job_1"))


def test_invalid_event_raises(server: StubServer, client: Client) -> None:
    server.on("GET", EVENTS, events("event: event\nid: 1\ndata: {}\n\n", END))
    with pytest.raises(UnavailableError, match="invalid event"):
        next(client.jobs.stream("job_1"))


def test_unknown_event_types_are_ignored(server: StubServer, client: Client) -> None:
    server.on("GET", EVENTS, events("event: hologram\ndata: ?\n\n", event_frame(1), END))
    assert _sequences([*client.jobs.stream("job_1")]) == [1]


def test_wait_returns_the_ended_job(server: StubServer, client: Client) -> None:
    server.on("GET", EVENTS, events(event_frame(1), END))
    server.on("GET", "/v1/projects/team-a/jobs/job_1", ok(job_json(state="failed")))
    assert client.jobs.wait("job_1").state == "failed"


def test_job_methods_use_its_client(server: StubServer, client: Client) -> None:
    server.on("POST", "/v1/projects/team-a/jobs/job_1:retry", ok(job_json(id="job_2"), 202))
    server.on("GET", "/v1/projects/team-a/jobs/job_2/events", events(END))
    server.on("GET", "/v1/projects/team-a/jobs/job_2", ok(job_json(id="job_2", state="succeeded", model_version=3)))
    again = client.jobs.retry("job_1")
    assert again.wait().model_version == 3


@pytest.mark.parametrize("frames", [[], [event_frame(1)]])
def test_wait_times_out_while_the_job_continues(server: StubServer, client: Client, frames: list[str]) -> None:
    server.on("GET", EVENTS, events(*frames))
    began = time.monotonic()
    with pytest.raises(WaitTimeoutError, match="job_1"):
        client.jobs.wait("job_1", timeout=0.3)
    assert 0.3 <= time.monotonic() - began < 5


def test_log_stream_resumes_at_the_byte_offset(server: StubServer, client: Client) -> None:
    first = events("event: log\nid: 16\ndata: one\ndata: two\ndata: \n\n", reset=True)
    server.on(
        "GET", LOGS, first, events("event: log\nid: 22\ndata: three\ndata: \n\n", "event: end\nid: 22\ndata: \n\n")
    )
    chunks = [*client.jobs.follow_log("job_1", offset=8)]
    assert "".join(chunk.text for chunk in chunks) == "one\ntwo\nthree\n"
    assert [request.query for request in server.requests("GET", LOGS)] == ["offset=8", "offset=16"]


def test_log_chunk_has_the_next_offset(server: StubServer, client: Client) -> None:
    headers = {"Windlass-Next-Offset": "9", "Windlass-Log-End": "true"}
    server.on("GET", LOGS, StubResponse(200, "héllo\n".encode(), headers))
    chunk = client.jobs.log("job_1", offset=2)
    assert (chunk.text, chunk.next_offset, chunk.end) == ("héllo\n", 9, True)


def _delta(text: str) -> str:
    return f'data: {{"choices": [{{"index": 0, "delta": {{"content": "{text}"}}, "finish_reason": null}}]}}\n\n'


def test_chat_stream_yields_chunks(server: StubServer, client: Client) -> None:
    usage = 'data: {"choices": [], "usage": {"total_tokens": 3}}\n\n'
    server.on("POST", CHAT, events(_delta("Good "), _delta("day."), usage, "data: [DONE]\n\n"))
    pieces = client.endpoints.chat_stream("desk", [{"role": "user", "content": "Hi"}], max_tokens=9)
    assert "".join(piece.text for piece in pieces) == "Good day."
    assert b'"stream": true' in server.recorded[0].body
    assert b'"max_tokens": 9' in server.recorded[0].body


def test_interrupted_chat_stream_raises_and_is_not_retried(server: StubServer, client: Client) -> None:
    server.on("POST", CHAT, events(_delta("Good "), reset=True))
    pieces = client.endpoints.chat_stream("desk", [{"role": "user", "content": "Hi"}])
    assert next(pieces).text == "Good "
    with pytest.raises(UnavailableError, match="was disconnected"):
        next(pieces)
    assert len(server.recorded) == 1


def test_error_during_a_chat_stream_raises(server: StubServer, client: Client) -> None:
    server.on("POST", CHAT, events(_delta("Good "), 'data: {"error": {"message": "out of memory"}}\n\n'))
    pieces = client.endpoints.chat_stream("desk", [{"role": "user", "content": "Hi"}])
    next(pieces)
    with pytest.raises(UpstreamError, match="out of memory"):
        next(pieces)


def test_chat_returns_text_and_finish_reason(server: StubServer, client: Client) -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": "Good day."}, "finish_reason": "stop"}
    server.on("POST", CHAT, ok({"choices": [choice]}))
    reply = client.endpoints.chat("desk", [{"role": "user", "content": "Hi"}], temperature=0)
    assert (reply.text, reply.finish_reason) == ("Good day.", "stop")
