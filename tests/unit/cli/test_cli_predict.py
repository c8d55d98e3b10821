"""``windlass predict`` and the columns of endpoints, with a stub model server."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.factories.live_endpoints import add_live_endpoint
from tests.fakes.harness import ControlPlaneHarness
from tests.fakes.model_server import StubModelServer, stub_model_server
from tests.unit.cli.conftest import Windlass

from windlass.domain.endpoints import MAX_INPUTS, EndpointState
from windlass.domain.specs import Task
from windlass_api.model_server import model_server_client


@pytest.fixture
def model(harness: ControlPlaneHarness) -> Iterator[StubModelServer]:
    with stub_model_server() as stub:
        with harness.database.read() as uow:
            project = uow.projects.get({"name": "default"}).id
        add_live_endpoint(harness, project, "texts", Task.TEXT_CLASSIFICATION)
        harness.serving.base_url = stub.url
        harness.app.state.model_server = model_server_client()
        yield stub


def stdin(text: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(text.encode()))


def answer(model: StubModelServer, count: int, truncated: list[int]) -> None:
    model.answer = {"predictions": [[{"label": "good", "score": 0.75}]] * count, "truncated": truncated}


def test_stdin_is_split_at_the_limit_of_a_request(
    cli: Windlass, model: StubModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(model, MAX_INPUTS, [])
    monkeypatch.setattr("sys.stdin", stdin("a text\n" * (2 * MAX_INPUTS)))
    result = cli("predict", "texts", "--json")
    assert result.code == 0, result.err
    assert len(model.requests) == 2
    assert len(json.loads(result.out)) == 2 * MAX_INPUTS


def test_blank_lines_keep_their_place_and_truncated_texts_are_reported(
    cli: Windlass, model: StubModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(model, 3, [2])
    monkeypatch.setattr("sys.stdin", stdin("a\n\na long text\n"))
    result = cli("predict", "texts", "--json")
    rows = json.loads(result.out)
    assert [(row["text"], row["truncated"]) for row in rows] == [("a", False), ("", False), ("a long text", True)]
    assert "1 of 3 texts exceed the length" in result.err


def test_the_encoding_of_stdin_is_an_option(
    cli: Windlass, model: StubModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("café\n".encode("latin-1"))))
    refused = cli("predict", "texts")
    assert (refused.code, model.requests) == (2, [])
    assert "standard input is not UTF-8: byte 0xe9 at line 1" in refused.err
    assert "--encoding latin-1" in refused.err
    answer(model, 1, [])
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("café\n".encode("latin-1"))))
    assert json.loads(cli("predict", "texts", "--encoding", "latin-1", "--json").out)[0]["text"] == "café"


def test_the_name_of_a_file_is_not_taken_for_a_text(windlass: Windlass, tmp_path: Path) -> None:
    file = tmp_path / "reviews.csv"
    file.write_text("text\ngood\n")
    result = windlass("predict", "texts", str(file))
    assert result.code == 2
    assert f"--file {file}" in result.err
    chat = windlass("chat", "talk", str(file))
    assert chat.code == 2
    assert f"< {file}" in chat.err


@pytest.mark.parametrize("command", ["predict", "chat"])
def test_a_text_that_begins_with_a_dash_needs_two_dashes(windlass: Windlass, command: str) -> None:
    result = windlass(command, "texts", "-1 star")
    assert result.code == 2
    assert f"windlass {command} NAME -- '-1" in result.err


def test_a_pending_endpoint_has_no_live_version(cli: Windlass, harness: ControlPlaneHarness, model: object) -> None:
    del model
    with harness.database.write() as uow:
        repository = uow.all_projects().endpoints
        endpoint = repository.all()[0]
        update = {"state": EndpointState.PENDING, "ready_replicas": 0}
        uow.project(endpoint.project).endpoints.save(endpoint.model_copy(update=update))
    assert "m@1 100%" not in cli("endpoint", "list").out


def test_the_desired_replicas_are_shown_while_they_are_not_the_ready_ones(
    cli: Windlass, harness: ControlPlaneHarness, model: object
) -> None:
    del model
    with harness.database.write() as uow:
        endpoint = uow.all_projects().endpoints.all()[0]
        update = {"ready_replicas": 1, "desired_replicas": 3}
        uow.project(endpoint.project).endpoints.save(endpoint.model_copy(update=update))
    assert "1 of 3" in cli("endpoint", "list").out
    assert "1 of 3" in cli("endpoint", "show", endpoint.name).out


def test_chat_with_a_classifier_names_the_command_and_the_project(cli: Windlass, model: object) -> None:
    del model
    result = cli("chat", "texts", "hi")
    assert result.code != 0
    assert "windlass predict texts" in result.err
    assert "/v1/projects/default/endpoints/texts:predict" in result.err
