"""Which requests are sent again, and which never; what errors become; versions; lists."""

import inspect
import socket

import pytest
from tests.unit.sdk.stand_in import SPEC, Answer, StandIn, a_job, a_pool, dropped, ok, page, problem

from windlass.domain.errors import (
    ConflictError,
    IdempotencyMismatchError,
    InvalidError,
    NotFoundError,
    PreconditionFailedError,
    UnavailableError,
    WindlassError,
    error_classes,
)
from windlass.sdk import AsyncClient, Client
from windlass.wire.projects import PoolPatch

JOBS = "/v1/projects/team-a/jobs"


def test_a_create_that_lost_its_reply_is_sent_again_with_the_same_key(server: StandIn, client: Client) -> None:
    server.on("POST", JOBS, dropped(), ok(a_job(), 202))
    assert client.jobs.create(SPEC).id == "job_1"
    keys = [seen.headers["idempotency-key"] for seen in server.requests("POST", JOBS)]
    assert len(keys) == 2
    assert keys[0] == keys[1]


def test_two_creates_have_two_keys_and_a_given_key_is_kept(server: StandIn, client: Client) -> None:
    server.on("POST", JOBS, ok(a_job(), 202))
    client.jobs.create(SPEC)
    client.jobs.create(SPEC)
    client.jobs.create(SPEC, idempotency_key="mine")
    keys = [seen.headers["idempotency-key"] for seen in server.requests("POST", JOBS)]
    assert len(set(keys)) == 3
    assert keys[2] == "mine"


def test_a_request_without_a_key_that_may_have_arrived_is_not_sent_again(server: StandIn, client: Client) -> None:
    where = "/v1/projects/team-a/endpoints/sentiment:predict"
    server.on("POST", where, dropped(), ok({"predictions": [], "model": "m", "number": 1}))
    with pytest.raises(UnavailableError, match="broke"):
        client.endpoints.predict("sentiment", ["good"])
    assert len(server.requests("POST", where)) == 1


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_asked_again_when_it_says_when(server: StandIn, client: Client, status: int) -> None:
    server.on("GET", "/v1/pools/h200", problem(status, "unavailable", retry_after=0), ok(a_pool()))
    assert client.pools.get("h200").capacity == 8


def test_a_busy_server_that_does_not_say_when_is_not_asked_again(server: StandIn, client: Client) -> None:
    server.on("GET", "/v1/pools/h200", problem(503, "endpoint_not_ready"), ok(a_pool()))
    with pytest.raises(UnavailableError):
        client.pools.get("h200")
    assert len(server.seen) == 1


def test_a_far_retry_after_is_reported_instead_of_slept_through(server: StandIn, client: Client) -> None:
    server.on("GET", "/v1/pools/h200", problem(503, "unavailable", retry_after=3600), ok(a_pool()))
    with pytest.raises(UnavailableError):
        client.pools.get("h200")


def test_a_request_still_being_answered_is_waited_for(server: StandIn, client: Client) -> None:
    server.on("POST", JOBS, problem(409, "idempotency_in_progress"), ok(a_job(), 202))
    assert client.jobs.create(SPEC).id == "job_1"


def test_other_conflicts_are_final(server: StandIn, client: Client) -> None:
    server.on("POST", JOBS, problem(409, "conflict"), ok(a_job(), 202))
    with pytest.raises(ConflictError):
        client.jobs.create(SPEC)
    assert len(server.seen) == 1


def test_the_retries_end(server: StandIn) -> None:
    server.on("GET", "/v1/pools/h200", dropped())
    with Client(server.url, "key", retries=2) as client, pytest.raises(UnavailableError):
        client.pools.get("h200")
    assert len(server.seen) == 3


def test_a_server_that_is_not_there_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with Client(url, "key", retries=0) as client, pytest.raises(UnavailableError, match=url):
            client.server.whoami()


@pytest.mark.parametrize("kind", sorted(error_classes(), key=str))
def test_each_problem_code_becomes_its_class(server: StandIn, client: Client, kind: type[WindlassError]) -> None:
    fields = [{"pointer": "/name", "detail": "too long"}]
    sent = problem(418, kind.code, hint="do this", errors=fields, facts={"n": 1}, request_id="req_9")
    server.on("GET", "/v1/pools/h200", sent)
    with pytest.raises(WindlassError) as raised:
        client.pools.get("h200")
    error = raised.value
    assert type(error) is kind
    assert (error.hint, error.facts, error.request_id) == ("do this", {"n": 1}, "req_9")
    assert [(item.pointer, item.problem) for item in error.fields] == [("/name", "too long")]


def test_an_unknown_code_falls_back_to_the_status(server: StandIn, client: Client) -> None:
    server.on("GET", "/v1/pools/h200", problem(404, "a_code_of_the_future"))
    with pytest.raises(NotFoundError, match="a_code_of_the_future"):
        client.pools.get("h200")


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<html>Bad gateway</html>", WindlassError),
        (b'{"error": {"message": "reused", "code": "idempotency_mismatch"}}', IdempotencyMismatchError),
        (b"[]", WindlassError),
    ],
)
def test_answers_that_are_no_problem_documents_are_still_errors(
    server: StandIn, client: Client, body: bytes, kind: type[WindlassError]
) -> None:
    server.on("GET", "/v1/pools/h200", Answer(500, body))
    with pytest.raises(kind):
        client.pools.get("h200")


def test_a_good_answer_that_is_not_ours_is_an_error(server: StandIn, client: Client) -> None:
    server.on("GET", "/v1/pools/h200", Answer(200, b"<html>welcome</html>"))
    with pytest.raises(UnavailableError, match="PoolOut"):
        client.pools.get("h200")


def test_redirects_are_not_followed_so_the_key_stays(server: StandIn, client: Client) -> None:
    server.on("GET", "/v1/pools/h200", Answer(307, b"", {"Location": "/elsewhere"}))
    with pytest.raises(WindlassError):
        client.pools.get("h200")
    assert [seen.path for seen in server.seen] == ["/v1/pools/h200"]


def test_a_change_reads_the_version_and_sends_only_what_was_set(server: StandIn, client: Client) -> None:
    server.on("GET", "/v1/pools/h200", ok(a_pool(), ETag='"7"'))
    server.on("PATCH", "/v1/pools/h200", ok(a_pool(capacity=4)))
    assert client.pools.update("h200", PoolPatch(capacity=4)).capacity == 4
    (sent,) = server.requests("PATCH", "/v1/pools/h200")
    assert sent.headers["if-match"] == '"7"'
    assert sent.body == b'{"capacity":4}'


def test_a_change_that_lost_the_race_reads_again(server: StandIn, client: Client) -> None:
    server.on("GET", "/v1/pools/h200", ok(a_pool(), ETag='"7"'), ok(a_pool(), ETag='"8"'))
    server.on("PATCH", "/v1/pools/h200", problem(412, "precondition_failed"), ok(a_pool()))
    client.pools.update("h200", PoolPatch(capacity=4))
    assert [seen.headers["if-match"] for seen in server.requests("PATCH", "/v1/pools/h200")] == ['"7"', '"8"']


def test_a_change_to_a_version_that_the_caller_names_is_not_forced(server: StandIn, client: Client) -> None:
    server.on("PATCH", "/v1/pools/h200", problem(412, "precondition_failed"))
    with pytest.raises(PreconditionFailedError):
        client.pools.update("h200", PoolPatch(capacity=4), if_match=3)
    assert [(seen.method, seen.headers["if-match"]) for seen in server.seen] == [("PATCH", '"3"')]


def test_a_member_is_removed_at_the_version_that_the_list_shows(server: StandIn, client: Client) -> None:
    members = "/v1/projects/team-a/members"
    server.on("GET", members, page({"user": "ann", "role": "owner", "version": 5}))
    server.on("DELETE", f"{members}/ann", Answer(204))
    client.members.remove("ann")
    assert server.requests("DELETE", f"{members}/ann")[0].headers["if-match"] == '"5"'
    with pytest.raises(NotFoundError, match="bob"):
        client.members.remove("bob")


def test_lists_follow_cursors_only_as_far_as_they_are_read(server: StandIn, client: Client) -> None:
    server.on("GET", "/v1/pools", page(a_pool(name="a"), cursor="c1"), page(a_pool(name="b"), a_pool(name="c")))
    pools = client.pools.list()
    assert next(pools).name == "a"
    assert len(server.seen) == 1
    assert [pool.name for pool in pools] == ["b", "c"]
    assert "cursor=c1" in server.seen[1].query


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_a_name_that_would_be_another_path_is_refused(client: Client, server: StandIn, name: str) -> None:
    with pytest.raises(InvalidError):
        client.pools.delete(name)
    assert not server.seen


def test_names_are_quoted(server: StandIn, client: Client) -> None:
    server.on("GET", "/v1/pools/a%2F..%2Fb", ok(a_pool(name="x")))
    assert client.pools.get("a/../b").name == "x"


def test_a_wrong_spec_is_refused_here_with_the_pointer_that_the_server_would_give(client: Client) -> None:
    spec = {**SPEC, "method": {"type": "lora", "rank": 0}, "training": {"learning_rate": -1}}
    with pytest.raises(InvalidError) as raised:
        client.jobs.create(spec)
    assert {item.pointer for item in raised.value.fields} == {"/spec/method/rank", "/spec/training/learning_rate"}


def test_an_unknown_field_of_a_spec_is_named(client: Client) -> None:
    with pytest.raises(InvalidError, match="/spec/trainnig"):
        client.jobs.create({**SPEC, "trainnig": {}})


def test_a_key_goes_to_the_server_and_not_into_words(server: StandIn, client: Client) -> None:
    server.on("GET", "/v1/whoami", ok({"user": "ann", "admin": False, "key": "key_1", "projects": {}}))
    assert client.server.whoami().user == "ann"
    assert server.seen[0].headers["authorization"] == "Bearer wlk_test_secret"
    assert "secret" not in repr(client) + repr(client.connection)


def test_both_clients_offer_the_same(client: Client, async_client: AsyncClient) -> None:
    for noun, resource in vars(client).items():
        if noun.startswith("_") or noun == "connection":
            continue
        twin = getattr(async_client, noun)
        names = {name for name in dir(resource) if not name.startswith("_")}
        assert names == {name for name in dir(twin) if not name.startswith("_")}
        for name in names:
            mine, other = getattr(resource, name), getattr(twin, name)
            assert list(inspect.signature(mine).parameters) == list(inspect.signature(other).parameters), (noun, name)
            assert inspect.getdoc(mine), (noun, name)


async def _ask(client: AsyncClient) -> tuple[str, list[str]]:
    async with client:
        job = await client.jobs.create(SPEC)
        return job.id, [pool.name async for pool in client.pools.list()]


def test_the_asynchronous_client_drives_the_same_flows(server: StandIn, async_client: AsyncClient) -> None:
    import asyncio

    server.on("POST", JOBS, dropped(), ok(a_job(), 202))
    server.on("GET", "/v1/pools", page(a_pool(name="a"), cursor="c1"), page(a_pool(name="b")))
    assert asyncio.run(_ask(async_client)) == ("job_1", ["a", "b"])


def test_another_project_shares_the_connections(server: StandIn, client: Client) -> None:
    server.on("GET", "/v1/projects/team-b/jobs/job_1", ok(a_job(project="team-b")))
    assert client.in_project("team-b").jobs.get("job_1").project == "team-b"
    assert client.connection.project == "team-a"


QUOTA = "/v1/projects/team-a/quotas/a100"
CHANGE = "/v1/projects/team-a/quota-changes/qch_1"


def a_change(state: str, problem: str = "") -> Answer:
    limits = {"nominal": 4, "borrowing_limit": None, "lending_limit": None}
    times = {"created_at": "2026-11-22T12:00:00Z", "ended_at": None}
    affected: dict[str, object] = {"preempts": [], "starts": []}
    body = {"id": "qch_1", "project": "team-a", "pool": "a100", "state": state, "problem": problem}
    return ok({**body, **limits, **times, **affected}, 202 if state == "pending" else 200)


def test_a_change_that_the_cluster_takes_later_is_waited_for(server: StandIn, client: Client) -> None:
    server.on("DELETE", QUOTA, a_change("pending"))
    server.on("GET", CHANGE, a_change("pending"), a_change("applied"))
    assert client.quotas.delete("a100").state == "applied"
    assert len(server.requests("GET", CHANGE)) == 2


def test_a_change_that_the_cluster_refuses_later_is_an_error(server: StandIn, client: Client) -> None:
    server.on("PUT", QUOTA, a_change("pending"))
    server.on("GET", CHANGE, a_change("refused", "managed by helm"))
    with pytest.raises(ConflictError, match="managed by helm"):
        client.quotas.set("a100", 4)


def test_a_trial_of_a_change_says_that_it_is_one(server: StandIn, client: Client) -> None:
    server.on("PUT", QUOTA, a_change("checked"))
    assert client.quotas.check("a100", 4).state == "checked"
    [seen] = server.requests("PUT", QUOTA)
    assert seen.query == "dry_run=true"
