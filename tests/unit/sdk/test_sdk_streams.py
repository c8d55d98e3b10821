"""Streams survive cuts: nothing twice, nothing lost; waits end in time."""

import asyncio
import time

import pytest
from tests.unit.sdk.stand_in import (
    END,
    Answer,
    StandIn,
    a_job,
    dropped,
    event_frame,
    events,
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


def test_a_stream_carries_events_points_and_states_until_its_end(server: StandIn, client: Client) -> None:
    server.on("GET", EVENTS, events(event_frame(1), metric_frame("train_loss", 3, 0.5), state_frame(), END))
    event, point, job = client.jobs.stream("job_1")
    assert isinstance(event, EventOut)
    assert point == MetricPoint("train_loss", 3, 0.5)
    assert isinstance(job, JobOut)


def test_a_cut_stream_goes_on_after_the_last_event_that_came(server: StandIn, client: Client) -> None:
    first = events(event_frame(1), event_frame(2), "event: event\nid: 3\ndata: {half", cut=True)
    server.on("GET", EVENTS, first, dropped(), problem(503, "unavailable"), events(event_frame(3), END))
    assert _sequences([*client.jobs.stream("job_1")]) == [1, 2, 3]
    ids = [seen.headers.get("last-event-id") for seen in server.requests("GET", EVENTS)]
    assert ids == [None, "2", "2", "2"]


def test_a_stream_that_closes_before_its_end_goes_on(server: StandIn, client: Client) -> None:
    server.on("GET", EVENTS, events(event_frame(1)), events(event_frame(2), END))
    assert _sequences([*client.jobs.stream("job_1")]) == [1, 2]


def test_the_asynchronous_stream_goes_on_too(server: StandIn, async_client: AsyncClient) -> None:
    server.on("GET", EVENTS, events(event_frame(1), cut=True), problem(503, "unavailable"), events(event_frame(2), END))

    async def follow() -> list[object]:
        async with async_client as client:
            return [message async for message in client.jobs.stream("job_1")]

    assert _sequences(asyncio.run(follow())) == [1, 2]


def test_a_stream_of_a_job_that_is_not_there_is_an_error_at_once(server: StandIn, client: Client) -> None:
    server.on("GET", EVENTS, problem(404, "not_found"))
    with pytest.raises(NotFoundError):
        next(client.jobs.stream("job_1"))
    assert len(server.seen) == 1


def test_something_else_than_a_stream_is_an_error(server: StandIn, client: Client) -> None:
    server.on("GET", EVENTS, Answer(200, b"<html>", {"Content-Type": "text/html"}))
    with pytest.raises(UnavailableError, match="event stream"):
        next(client.jobs.stream("job_1"))


def test_a_message_that_cannot_be_read_is_an_error_and_not_skipped(server: StandIn, client: Client) -> None:
    server.on("GET", EVENTS, events("event: event\nid: 1\ndata: {}\n\n", END))
    with pytest.raises(UnavailableError, match="cannot be read"):
        next(client.jobs.stream("job_1"))


def test_events_of_a_kind_that_is_not_known_yet_are_passed_over(server: StandIn, client: Client) -> None:
    server.on("GET", EVENTS, events("event: hologram\ndata: ?\n\n", event_frame(1), END))
    assert _sequences([*client.jobs.stream("job_1")]) == [1]


def test_waiting_returns_the_job_as_it_ended(server: StandIn, client: Client) -> None:
    server.on("GET", EVENTS, events(event_frame(1), END))
    server.on("GET", "/v1/projects/team-a/jobs/job_1", ok(a_job(state="failed")))
    assert client.jobs.wait("job_1").state == "failed"


def test_a_job_waits_by_the_client_that_it_came_from(server: StandIn, client: Client) -> None:
    server.on("POST", "/v1/projects/team-a/jobs/job_1:retry", ok(a_job(id="job_2"), 202))
    server.on("GET", "/v1/projects/team-a/jobs/job_2/events", events(END))
    server.on("GET", "/v1/projects/team-a/jobs/job_2", ok(a_job(id="job_2", state="succeeded", model_version=3)))
    again = client.jobs.retry("job_1")
    assert again.wait().model_version == 3


@pytest.mark.parametrize("frames", [[], [event_frame(1)]])
def test_a_wait_ends_when_its_time_is_over_though_the_job_goes_on(
    server: StandIn, client: Client, frames: list[str]
) -> None:
    server.on("GET", EVENTS, events(*frames))
    began = time.monotonic()
    with pytest.raises(WaitTimeoutError, match="job_1"):
        client.jobs.wait("job_1", timeout=0.3)
    assert 0.3 <= time.monotonic() - began < 5


def test_a_log_is_followed_from_the_byte_where_it_was_cut(server: StandIn, client: Client) -> None:
    first = events("event: log\nid: 16\ndata: one\ndata: two\ndata: \n\n", cut=True)
    server.on(
        "GET", LOGS, first, events("event: log\nid: 22\ndata: three\ndata: \n\n", "event: end\nid: 22\ndata: \n\n")
    )
    chunks = [*client.jobs.follow_log("job_1", offset=8)]
    assert "".join(chunk.text for chunk in chunks) == "one\ntwo\nthree\n"
    assert [seen.query for seen in server.requests("GET", LOGS)] == ["offset=8", "offset=16"]


def test_a_piece_of_log_says_where_the_next_begins(server: StandIn, client: Client) -> None:
    headers = {"Windlass-Next-Offset": "9", "Windlass-Log-End": "true"}
    server.on("GET", LOGS, Answer(200, "héllo\n".encode(), headers))
    chunk = client.jobs.log("job_1", offset=2)
    assert (chunk.text, chunk.next_offset, chunk.end) == ("héllo\n", 9, True)


def _delta(text: str) -> str:
    return f'data: {{"choices": [{{"index": 0, "delta": {{"content": "{text}"}}, "finish_reason": null}}]}}\n\n'


def test_an_answer_streams_in_pieces(server: StandIn, client: Client) -> None:
    usage = 'data: {"choices": [], "usage": {"total_tokens": 3}}\n\n'
    server.on("POST", CHAT, events(_delta("Good "), _delta("day."), usage, "data: [DONE]\n\n"))
    pieces = client.endpoints.chat_stream("desk", [{"role": "user", "content": "Hi"}], max_tokens=9)
    assert "".join(piece.text for piece in pieces) == "Good day."
    assert b'"stream": true' in server.seen[0].body
    assert b'"max_tokens": 9' in server.seen[0].body


def test_half_an_answer_is_an_error_and_is_not_asked_for_again(server: StandIn, client: Client) -> None:
    server.on("POST", CHAT, events(_delta("Good "), cut=True))
    pieces = client.endpoints.chat_stream("desk", [{"role": "user", "content": "Hi"}])
    assert next(pieces).text == "Good "
    with pytest.raises(UnavailableError, match="broke off"):
        next(pieces)
    assert len(server.seen) == 1


def test_a_model_that_fails_while_it_answers_says_so(server: StandIn, client: Client) -> None:
    server.on("POST", CHAT, events(_delta("Good "), 'data: {"error": {"message": "out of memory"}}\n\n'))
    pieces = client.endpoints.chat_stream("desk", [{"role": "user", "content": "Hi"}])
    next(pieces)
    with pytest.raises(UpstreamError, match="out of memory"):
        next(pieces)


def test_a_whole_answer_has_its_text(server: StandIn, client: Client) -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": "Good day."}, "finish_reason": "stop"}
    server.on("POST", CHAT, ok({"choices": [choice]}))
    reply = client.endpoints.chat("desk", [{"role": "user", "content": "Hi"}], temperature=0)
    assert (reply.text, reply.finish_reason) == ("Good day.", "stop")
