"""Retries, error mapping, ETags and pagination of the SDK."""

import socket

import pytest
from tests.unit.sdk.stub_server import (
    SPEC,
    StubResponse,
    StubServer,
    connection_reset,
    job_json,
    ok,
    page,
    pool_json,
    problem,
)

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


def test_create_is_retried_with_the_same_idempotency_key_after_a_lost_response(
    server: StubServer, client: Client
) -> None:
    server.on("POST", JOBS, connection_reset(), ok(job_json(), 202))
    assert client.jobs.create(SPEC).id == "job_1"
    keys = [request.headers["idempotency-key"] for request in server.requests("POST", JOBS)]
    assert len(keys) == 2
    assert keys[0] == keys[1]


def test_create_uses_a_random_idempotency_key_unless_one_is_given(server: StubServer, client: Client) -> None:
    server.on("POST", JOBS, ok(job_json(), 202))
    client.jobs.create(SPEC)
    client.jobs.create(SPEC)
    client.jobs.create(SPEC, idempotency_key="mine")
    keys = [request.headers["idempotency-key"] for request in server.requests("POST", JOBS)]
    assert len(set(keys)) == 3
    assert keys[2] == "mine"


def test_request_without_key_is_not_retried_if_it_may_have_been_received(server: StubServer, client: Client) -> None:
    url = "/v1/projects/team-a/endpoints/desk/chat/completions"
    server.on("POST", url, connection_reset(), ok({}))
    with pytest.raises(UnavailableError, match="failed"):
        client.endpoints.chat("desk", [{"role": "user", "content": "hi"}])
    assert len(server.requests("POST", url)) == 1


@pytest.mark.parametrize("status", [429, 503])
def test_response_with_retry_after_is_retried(server: StubServer, client: Client, status: int) -> None:
    server.on("GET", "/v1/pools/h200", problem(status, "unavailable", retry_after=0), ok(pool_json()))
    assert client.pools.get("h200").capacity == 8


def test_unavailable_without_retry_after_is_not_retried(server: StubServer, client: Client) -> None:
    server.on("GET", "/v1/pools/h200", problem(503, "endpoint_not_ready"), ok(pool_json()))
    with pytest.raises(UnavailableError):
        client.pools.get("h200")
    assert len(server.recorded) == 1


def test_long_retry_after_raises_immediately(server: StubServer, client: Client) -> None:
    server.on("GET", "/v1/pools/h200", problem(503, "unavailable", retry_after=3600), ok(pool_json()))
    with pytest.raises(UnavailableError):
        client.pools.get("h200")


def test_request_in_progress_is_retried(server: StubServer, client: Client) -> None:
    server.on("POST", JOBS, problem(409, "idempotency_in_progress"), ok(job_json(), 202))
    assert client.jobs.create(SPEC).id == "job_1"


def test_other_conflicts_are_not_retried(server: StubServer, client: Client) -> None:
    server.on("POST", JOBS, problem(409, "conflict"), ok(job_json(), 202))
    with pytest.raises(ConflictError):
        client.jobs.create(SPEC)
    assert len(server.recorded) == 1


def test_number_of_retries_is_limited(server: StubServer) -> None:
    server.on("GET", "/v1/pools/h200", connection_reset())
    with Client(server.url, "key", retries=2) as client, pytest.raises(UnavailableError):
        client.pools.get("h200")
    assert len(server.recorded) == 3


def test_connection_error_names_the_url() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with Client(url, "key", retries=0) as client, pytest.raises(UnavailableError, match=url):
            client.server.whoami()


@pytest.mark.parametrize("kind", sorted(error_classes(), key=str))
def test_each_problem_code_raises_its_error_class(
    server: StubServer, client: Client, kind: type[WindlassError]
) -> None:
    fields = [{"pointer": "/name", "detail": "too long"}]
    sent = problem(418, kind.code, hint="do this", errors=fields, context={"n": 1}, request_id="req_9")
    server.on("GET", "/v1/pools/h200", sent)
    with pytest.raises(WindlassError) as raised:
        client.pools.get("h200")
    error = raised.value
    assert type(error) is kind
    assert (error.hint, error.context, error.request_id) == ("do this", {"n": 1}, "req_9")
    assert [(item.pointer, item.problem) for item in error.fields] == [("/name", "too long")]


def test_unknown_code_falls_back_to_the_status(server: StubServer, client: Client) -> None:
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
def test_error_response_without_problem_document_raises(
    server: StubServer, client: Client, body: bytes, kind: type[WindlassError]
) -> None:
    server.on("GET", "/v1/pools/h200", StubResponse(500, body))
    with pytest.raises(kind):
        client.pools.get("h200")


def test_invalid_success_response_raises(server: StubServer, client: Client) -> None:
    server.on("GET", "/v1/pools/h200", StubResponse(200, b"<html>welcome</html>"))
    with pytest.raises(UnavailableError, match="PoolOut"):
        client.pools.get("h200")


def test_redirects_are_not_followed(server: StubServer, client: Client) -> None:
    server.on("GET", "/v1/pools/h200", StubResponse(307, b"", {"Location": "/elsewhere"}))
    with pytest.raises(WindlassError):
        client.pools.get("h200")
    assert [request.path for request in server.recorded] == ["/v1/pools/h200"]


def test_patch_reads_the_etag_and_sends_only_set_fields(server: StubServer, client: Client) -> None:
    server.on("GET", "/v1/pools/h200", ok(pool_json(), ETag='"7"'))
    server.on("PATCH", "/v1/pools/h200", ok(pool_json(capacity=4)))
    assert client.pools.update("h200", PoolPatch(capacity=4)).capacity == 4
    (sent,) = server.requests("PATCH", "/v1/pools/h200")
    assert sent.headers["if-match"] == '"7"'
    assert sent.body == b'{"capacity":4}'


def test_patch_retries_with_a_new_etag_after_a_conflict(server: StubServer, client: Client) -> None:
    server.on("GET", "/v1/pools/h200", ok(pool_json(), ETag='"7"'), ok(pool_json(), ETag='"8"'))
    server.on("PATCH", "/v1/pools/h200", problem(412, "precondition_failed"), ok(pool_json()))
    client.pools.update("h200", PoolPatch(capacity=4))
    assert [request.headers["if-match"] for request in server.requests("PATCH", "/v1/pools/h200")] == ['"7"', '"8"']


def test_patch_with_explicit_version_is_not_retried(server: StubServer, client: Client) -> None:
    server.on("PATCH", "/v1/pools/h200", problem(412, "precondition_failed"))
    with pytest.raises(PreconditionFailedError):
        client.pools.update("h200", PoolPatch(capacity=4), if_match=3)
    assert [(request.method, request.headers["if-match"]) for request in server.recorded] == [("PATCH", '"3"')]


def test_users_and_groups_are_members(server: StubServer, client: Client) -> None:
    removed = {"kind": "member", "id": "ann", "name": "ann", "contains": {}, "stored_bytes": 0, "consequences": []}
    server.on("DELETE", "/v1/projects/team-a/members/ann", ok(removed))
    assert client.members.remove("ann").name == "ann"
    group = {"kind": "Group", "name": "/ml/team", "role": "editor", "version": 1}
    server.on("PUT", "/v1/projects/team-a/groups/%2Fml%2Fteam", ok(group))
    assert client.members.set_group("/ml/team", "editor").kind == "Group"


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_name_that_changes_the_path_is_rejected(client: Client, server: StubServer, name: str) -> None:
    with pytest.raises(InvalidError):
        client.pools.delete(name)
    assert not server.recorded


def test_names_are_percent_encoded(server: StubServer, client: Client) -> None:
    server.on("GET", "/v1/pools/a%2F..%2Fb", ok(pool_json(name="x")))
    assert client.pools.get("a/../b").name == "x"


def test_invalid_spec_is_rejected_locally_with_the_pointers_of_the_server(client: Client) -> None:
    spec = {**SPEC, "method": {"type": "lora", "rank": 0}, "training": {"learning_rate": -1}}
    with pytest.raises(InvalidError) as raised:
        client.jobs.create(spec)
    assert {item.pointer for item in raised.value.fields} == {"/spec/method/rank", "/spec/training/learning_rate"}


def test_error_names_an_unknown_field_of_a_spec(client: Client) -> None:
    with pytest.raises(InvalidError, match="/spec/trainnig"):
        client.jobs.create({**SPEC, "trainnig": {}})


def test_key_is_sent_to_the_server_but_not_shown_in_repr(server: StubServer, client: Client) -> None:
    server.on("GET", "/v1/whoami", ok({"user": "ann", "platform_role": None, "key": "key_1", "projects": {}}))
    assert client.server.whoami().user == "ann"
    assert server.recorded[0].headers["authorization"] == "Bearer wlk_test_secret"
    assert "secret" not in repr(client) + repr(client.connection)


async def _ask(client: AsyncClient) -> tuple[str, list[str]]:
    async with client:
        job = await client.jobs.create(SPEC)
        first = await client.pools.list()
        assert [pool.name for pool in first.items] == ["a"]
        return job.id, [pool.name async for pool in first]


def test_async_client_retries_and_paginates(server: StubServer, async_client: AsyncClient) -> None:
    import asyncio

    server.on("POST", JOBS, connection_reset(), ok(job_json(), 202))
    server.on("GET", "/v1/pools", page(pool_json(name="a"), cursor="c1"), page(pool_json(name="b")))
    assert asyncio.run(_ask(async_client)) == ("job_1", ["a", "b"])


def test_in_project_uses_another_project_without_changing_the_client(server: StubServer, client: Client) -> None:
    server.on("GET", "/v1/projects/team-b/jobs/job_1", ok(job_json(project="team-b")))
    assert client.in_project("team-b").jobs.get("job_1").project == "team-b"
    assert client.connection.project == "team-a"


QUOTA = "/v1/projects/team-a/quotas/a100"
CHANGE = "/v1/projects/team-a/quota-changes/qch_1"


def change_response(state: str, problem: str = "") -> StubResponse:
    limits = {"nominal": 4, "borrowing_limit": None, "lending_limit": None}
    times = {"created_at": "2026-11-22T12:00:00Z", "ended_at": None}
    affected: dict[str, object] = {"preempts": [], "starts": []}
    body = {"id": "qch_1", "project": "team-a", "pool": "a100", "state": state, "problem": problem}
    return ok({**body, **limits, **times, **affected}, 202 if state == "pending" else 200)


def test_pending_quota_change_is_polled_until_applied(server: StubServer, client: Client) -> None:
    server.on("DELETE", QUOTA, change_response("pending"))
    server.on("GET", CHANGE, change_response("pending"), change_response("applied"))
    assert client.quotas.delete("a100").state == "applied"
    assert len(server.requests("GET", CHANGE)) == 2


def test_rejected_quota_change_raises(server: StubServer, client: Client) -> None:
    server.on("PUT", QUOTA, change_response("pending"))
    server.on("GET", CHANGE, change_response("refused", "managed by helm"))
    with pytest.raises(ConflictError, match="managed by helm"):
        client.quotas.set("a100", 4)


def test_check_quota_sends_dry_run(server: StubServer, client: Client) -> None:
    server.on("PUT", QUOTA, change_response("checked"))
    assert client.quotas.check("a100", 4).state == "checked"
    [request] = server.requests("PUT", QUOTA)
    assert request.query == "dry_run=true"
