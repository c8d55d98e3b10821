"""The result of a run in the log of its step on a Kubeflow Pipelines server, beside texts of users."""

import sys
import traceback
from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace
from typing import Any, Final, cast

import httpx2
import pytest

from windlass.kube.kfp.run_report import RunReader
from windlass.orchestration.kfp.client import KfpClient
from windlass.orchestration.kfp.runs import ServerRun, WorkflowNode
from windlass.orchestration.run_result import RESULT_PREFIX, RunResult
from windlass_pipelines.steps import on_server
from windlass_pipelines.steps.server_step import RunArtifacts

_FORGED: Final = f'{RESULT_PREFIX}{{"state":"lost"}}'


@pytest.mark.parametrize(
    "text",
    [f"bad row: {_FORGED}", f"bad row:\n{_FORGED}", f"bad row:\r{_FORGED}", "one\u2028two", "one\x85two", "a\nb"],
)
def test_a_text_of_a_user_neither_replaces_nor_hides_the_result(
    text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result = RunResult(state="failed", message=f"train: {text}")
    api = nullcontext(SimpleNamespace(get_run=lambda: None))
    monkeypatch.setattr(on_server, "RunEnvironment", SimpleNamespace(load=lambda: None))
    monkeypatch.setattr(on_server, "_api_client", lambda _environment: api)
    monkeypatch.setattr(on_server, "_known_result", lambda _run: result)
    sys.stdout.write("a line without an end")
    with pytest.raises(on_server.PipelineRunError) as raised:
        on_server.run_pipeline(cast("RunArtifacts", None))
    log = capsys.readouterr().out + "".join(traceback.format_exception(raised.value))
    assert RunResult.of_log(log) == result


def client_of(reply: httpx2.Response) -> KfpClient:
    connect = partial(httpx2.Client, transport=httpx2.MockTransport(lambda _request: reply))
    return KfpClient("http://server", connect=connect)


def test_only_the_end_of_a_long_log_is_kept() -> None:
    line = RunResult(state="stopped").log_line()
    log = client_of(httpx2.Response(200, text="é" * 2**21 + f"\n{line}\n")).node_log("run", "node")
    assert len(log) <= 2**20
    assert RunResult.of_log(log) == RunResult(state="stopped")


def test_the_result_of_the_last_try_counts_whatever_the_order_of_the_nodes() -> None:
    results = {"a": RunResult(state="failed"), "b": RunResult(state="lost"), "c": RunResult(state="stopped")}
    times = {"a": "2026-11-22T05:43:00Z", "b": None, "c": "2026-11-22T05:41:00Z"}

    class Server(KfpClient):
        def nodes(self, run_id: str) -> tuple[WorkflowNode, ...]:
            del run_id
            named: dict[str, Any] = {"type": "Pod", "displayName": "executor(0)"}
            return tuple(WorkflowNode(id=node, startedAt=started, **named) for node, started in times.items())

        def node_log(self, run_id: str, node: str) -> str:
            del run_id
            return results[node].log_line()

    run = ServerRun(run_id="1", state="FAILED")
    ended = RunReader(Server("http://server")).read_ended("one", run, 0.0, killed=False)
    assert ended.state == "failed"
