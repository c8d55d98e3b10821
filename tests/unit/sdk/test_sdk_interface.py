"""What users of the SDK see: signatures, lists, arguments, predictions."""

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from docs.generate_sync_sdk import SOURCE, TARGET, generated_modules
from tests.unit.sdk.stub_server import (
    RecordedRequest,
    StubResponse,
    StubServer,
    connection_reset,
    job_json,
    ok,
    page,
    pool_json,
    problem,
)

from windlass.domain.endpoints import MAX_INPUT_CHARACTERS, MAX_INPUTS, MAX_REQUEST_BYTES
from windlass.domain.errors import InvalidError, NotFoundError, UpstreamError
from windlass.sdk import Client

JOBS = "/v1/projects/team-a/jobs"
PREDICT = "/v1/projects/team-a/endpoints/sentiment:predict"


def predict_response(request: RecordedRequest) -> StubResponse:
    """Answer each text with itself as the label; the first text of a request is truncated."""
    labels = [[{"label": text, "score": 1.0}] for text in json.loads(request.body)["inputs"]]
    return ok({"predictions": labels, "truncated": [0], "model": "m", "number": 3})


def test_predictions_are_retried_since_they_change_nothing(server: StubServer, client: Client) -> None:
    busy = problem(429, "busy", retry_after=0, retryable=True)
    server.on("POST", PREDICT, connection_reset(), busy, predict_response)
    assert client.endpoints.predict("sentiment", ["good"])[0].label == "good"
    assert len(server.requests("POST", PREDICT)) == 3


def test_predictions_of_any_number_of_texts_are_in_order(server: StubServer, client: Client) -> None:
    server.on("POST", PREDICT, predict_response)
    texts = [f"text {number}" for number in range(2 * MAX_INPUTS + 1)]
    predictions = client.endpoints.predict("sentiment", texts)
    assert [prediction.label for prediction in predictions] == texts
    assert [index for index, item in enumerate(predictions) if item.truncated] == [0, MAX_INPUTS, 2 * MAX_INPUTS]
    assert {item.model for item in predictions} == {"m@3"}
    assert client.endpoints.predict("sentiment", []) == []


def test_long_texts_are_split_into_requests_below_the_size_limit(server: StubServer, client: Client) -> None:
    server.on("POST", PREDICT, predict_response)
    texts = ["\x01" * MAX_INPUT_CHARACTERS] * 5
    assert len(client.endpoints.predict("sentiment", texts)) == 5
    sizes = [len(request.body) for request in server.requests("POST", PREDICT)]
    assert len(sizes) > 1
    assert max(sizes) < MAX_REQUEST_BYTES


@pytest.mark.parametrize("answer", [{"predictions": []}, {"predictions": [[]]}])
def test_a_prediction_that_does_not_fit_the_texts_is_an_error(
    server: StubServer, client: Client, answer: dict[str, object]
) -> None:
    server.on("POST", PREDICT, ok({**answer, "model": "m", "number": 3}))
    with pytest.raises(UpstreamError):
        client.endpoints.predict("sentiment", ["good"])


def test_a_list_is_its_first_page_and_iterates_over_all(server: StubServer, client: Client) -> None:
    server.on(
        "GET", "/v1/pools", page(pool_json(name="a"), cursor="c1"), page(pool_json(name="b"), pool_json(name="c"))
    )
    pools = client.pools.list()
    assert (pools[0].name, pools[-1].name, len(pools.items), bool(pools)) == ("a", "a", 1, True)
    assert repr(pools) == "<CursorPage: 1 items, more pages follow>"
    assert len(server.recorded) == 1
    assert [pool.name for pool in pools] == ["a", "b", "c"]
    assert "cursor=c1" in server.recorded[1].query
    last = pools.next_page()
    assert last is not None
    assert ([pool.name for pool in last[:2]], last.next_page()) == (["b", "c"], None)


def test_an_empty_list_is_false_and_an_error_is_raised_by_the_call(server: StubServer, client: Client) -> None:
    server.on("GET", JOBS, page())
    assert not client.jobs.list()
    with pytest.raises(NotFoundError):
        client.models.list()


def test_a_list_is_a_table_in_a_notebook(server: StubServer, client: Client) -> None:
    server.on("GET", JOBS, page(job_json(name="<b>x</b>"), cursor="c1"))
    html = client.jobs.list()._repr_html_()
    assert "<th>state</th>" in html
    assert "<td>queued</td>" in html
    assert "&lt;b&gt;x&lt;/b&gt;" in html
    assert "More pages follow" in html


def test_the_repr_of_an_object_is_short(server: StubServer, client: Client) -> None:
    server.on("GET", f"{JOBS}/job_1", ok(job_json()))
    job = client.jobs.get("job_1")
    assert repr(job).startswith("JobDetail(id='job_1', project='team-a', state='queued'")
    assert len(repr(job)) < 300
    assert str(job) == repr(job)


def resource_methods() -> list[tuple[str, Any]]:
    with Client("http://127.0.0.1:1", "key") as client:
        return [
            (f"{resource}.{name}", getattr(value, name))
            for resource, value in vars(client).items()
            if not resource.startswith("_") and resource != "connection"
            for name in dir(value)
            if not name.startswith("_")
        ]


@pytest.mark.parametrize(("name", "method"), resource_methods())
def test_methods_have_plain_signatures(name: str, method: Any) -> None:
    text = str(inspect.signature(method))
    assert inspect.getdoc(method), name
    assert "->" in text
    assert "*args" not in text
    assert "Generator" not in text
    assert inspect.isfunction(method.__func__), "an IDE finds the definition"


def test_the_blocking_client_is_generated_from_the_asynchronous_one() -> None:
    stale = [path.name for path, text in generated_modules().items() if path.read_text("utf-8") != text]
    assert stale == [], "run `make docs`"
    assert {path.name for path in SOURCE.glob("*.py")} == {path.name for path in TARGET.glob("*.py")}


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda client: client.endpoints.predict("e", "one text"), "inputs"),
        (lambda client: client.endpoints.chat("e", "Hello"), "messages"),
        (lambda client: client.endpoints.chat("e", {"role": "user", "content": "Hello"}), "messages"),
        (lambda client: client.datasets.upload("d", "a.csv", task="chat"), "files"),
        (lambda client: client.datasets.upload("d", Path("a.csv"), task="chat"), "files"),
        (lambda client: client.datasets.clean("d@1", "drop-missing"), "steps"),
        (lambda client: client.jobs.metrics("job_1", names="train_loss"), "names"),
    ],
)
def test_a_single_value_for_a_list_is_refused(
    server: StubServer, client: Client, call: Callable[[Client], object], name: str
) -> None:
    with pytest.raises(InvalidError, match=f"{name} must be a list, not") as raised:
        call(client)
    assert f"{name}=[...]" in raised.value.hint
    assert not server.recorded


def test_mappings_are_accepted_for_models(server: StubServer, client: Client) -> None:
    server.on("GET", "/v1/pools/h200", ok(pool_json(), ETag='"7"'))
    server.on("PATCH", "/v1/pools/h200", ok(pool_json(capacity=4)))
    client.pools.update("h200", {"capacity": 4})
    assert server.requests("PATCH", "/v1/pools/h200")[0].body == b'{"capacity":4}'
    with pytest.raises(InvalidError, match="/capacty: is not a known field"):
        client.pools.update("h200", {"capacty": 4})
    with pytest.raises(InvalidError, match="/colums: is not a known field"):
        client.datasets.upload("d", [{"path": __file__, "split": "train"}], task="chat", options={"colums": {}})
    with pytest.raises(InvalidError, match="a file has no field name"):
        client.datasets.upload("d", [{"path": __file__, "name": "x"}], task="chat")
