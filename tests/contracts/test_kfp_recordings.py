"""The fake Kubeflow Pipelines server replies as a real one did: every recorded exchange, in the recorded order.

Compared are the status, the fields, the states with their histories, the sentinel times and the chain of the nodes.
Not compared are ids, times and the texts of plugins, which differ between any two runs.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.fakes.kfp.server import KfpServer, serve_kfp
from tests.fakes.kfp.store import UNFINISHED, KfpServerSettings
from tests.fakes.kfp.workflow import NEVER, StepEnd

_RECORDINGS = Path(__file__).parent / "kfp_recordings"
_MAX_CHANGES = 12
"""Changes of a workflow between two recorded requests, at most."""


def recording(name: str) -> list[dict[str, Any]]:
    exchanges: list[dict[str, Any]] = json.loads((_RECORDINGS / f"{name}.json").read_text())
    return exchanges


def compiled(name: str, steps: Sequence[str]) -> dict[str, Any]:
    """Return the parts of a compiled pipeline that the server reads."""
    return {"pipelineInfo": {"name": name}, "root": {"dag": {"tasks": {step: {} for step in steps}}}}


class Replay:
    """Sends recorded requests to the fake, for a run of its own."""

    def __init__(self, server: KfpServer, client: httpx2.Client, spec: dict[str, Any]) -> None:
        self.server, self.client, self.spec = server, client, spec
        self.run_id = ""

    def create(self, exchange: dict[str, Any]) -> dict[str, Any]:
        body = {**exchange["body"], "pipeline_spec": self.spec}
        reply: dict[str, Any] = self.client.post("/apis/v2beta1/runs", json=body).json()
        self.run_id = reply["run_id"]
        return reply

    def get(self) -> dict[str, Any]:
        reply: dict[str, Any] = self.client.get(f"/apis/v2beta1/runs/{self.run_id}").json()
        return reply

    def post(self, action: str) -> httpx2.Response:
        return self.client.post(f"/apis/v2beta1/runs/{self.run_id}:{action}")

    def advance_to(self, wanted: dict[str, Any]) -> None:
        """Let the workflow change until a GET shows the recorded view."""
        shown = [self.get()]
        while view(shown[-1]) != view(wanted):
            assert len(shown) <= _MAX_CHANGES, (view(wanted), [view(each) for each in shown])
            self.server.store.advance(self.server.store.runs[self.run_id])
            shown.append(self.get())

    def advance_tasks_to(self, wanted: dict[str, Any]) -> None:
        """As ``advance_to``, but only of the tasks, and without a GET after the wanted one."""
        run = self.server.store.runs[self.run_id]
        for _ in range(_MAX_CHANGES):
            if view(self.server.store.shown(run))["tasks"] == view(wanted)["tasks"]:
                return
            self.server.store.advance(run)
        raise AssertionError(view(wanted)["tasks"])


def view(run: dict[str, Any]) -> dict[str, Any]:
    """Return what two runs of one pipeline have in common at the same moment."""
    tasks = run.get("run_details", {}).get("task_details", [])
    return {
        "fields": sorted(run),
        "state": run.get("state"),
        "storage_state": run["storage_state"],
        "states": [entry["state"] for entry in run["state_history"]],
        "unfinished": run["finished_at"] == UNFINISHED,
        "plugin": run["plugins_output"]["mlflow"]["state"],
        "tasks": sorted((task_view(task) for task in tasks), key=str),
    }


def task_view(task: dict[str, Any]) -> dict[str, Any]:
    name = task["display_name"]
    return {
        "name": "<workflow>" if name[-6:-5] == "-" and name[:-6] in {"two-steps", "failing", "long-step"} else name,
        "fields": sorted(task),
        "state": task.get("state"),
        "states": [entry.get("state") for entry in task["state_history"]],
        "running": task["end_time"] == NEVER,
    }


Start = Callable[[str, Sequence[str]], Replay]


@pytest.fixture
def start(server: KfpServer) -> Iterator[Start]:
    """Return a function that prepares the replay for a pipeline with these steps."""
    with httpx2.Client(base_url=server.url, trust_env=False) as client:
        yield lambda name, steps: Replay(server, client, compiled(name, steps))


@pytest.fixture
def server() -> Iterator[KfpServer]:
    with serve_kfp(KfpServerSettings(calls_per_change=0)) as server:
        yield server


def test_a_run_that_succeeds_shows_every_recorded_view(server: KfpServer, start: Start) -> None:
    first, *later, listed = recording("success")
    replay = start("two-steps", ["make", "total"])
    assert view(replay.create(first)) == view(first["response"])
    server.store.ends[replay.run_id] |= {"make": StepEnd(succeeds=True), "total": StepEnd(succeeds=True)}
    for exchange in later:
        replay.advance_to(exchange["response"])
    page = replay.client.get(listed["request"].removeprefix("GET ")).json()
    assert view(page["runs"][0]) == view(listed["response"]["runs"][0])
    assert page["total_size"] == 1  # without a next page it has no token
    assert "next_page_token" not in page


def test_a_run_that_fails_shows_every_recorded_view_and_its_error_only_in_the_manifest(
    server: KfpServer, start: Start
) -> None:
    exchanges = recording("failure")
    replay = start("failing", ["after", "boom", "after-2"])
    replay.create(exchanges[0])
    manifest = next(each for each in exchanges if "workflow_manifest" in each["request"])
    log = next(each for each in exchanges if each["request"].endswith("/log"))
    text = log.get("response", log.get("text", "ValueError: boom-xyz"))
    server.store.ends[replay.run_id] |= {
        "after": StepEnd(succeeds=True),
        "boom": StepEnd(succeeds=False, log=str(text)),
    }
    for exchange in exchanges[1:]:
        if exchange["request"].endswith(":retry"):
            retried = replay.post("retry")
            assert (retried.status_code, retried.json()) == (exchange["status"], exchange["response"])
        elif exchange["request"].startswith("GET /apis/v2beta1/runs/"):
            replay.advance_to(exchange["response"])
        elif exchange is manifest:
            nodes = read_nodes(replay)
            assert [node_view(node) for node in nodes] == unordered(exchange["response"], nodes)
        elif exchange is log:
            failed = next(node for node in read_nodes(replay) if node["phase"] == "Failed")
            reply = replay.client.get(f"/apis/v1alpha1/runs/{replay.run_id}/nodes/{failed['id']}/log")
            assert reply.text == text


def read_nodes(replay: Replay) -> list[dict[str, Any]]:
    reply = replay.client.get(f"/apis/v1beta1/runs/{replay.run_id}").json()
    nodes = json.loads(reply["pipeline_runtime"]["workflow_manifest"])["status"]["nodes"].values()
    return [node for node in nodes if node["type"] == "Pod"]


def node_view(node: dict[str, Any]) -> dict[str, Any]:
    """Return a node without its id and times."""
    return {
        "fields": sorted(node),
        "name": node["name"].partition(".")[2],
        **{name: node[name] for name in ("displayName", "type", "templateName", "phase", "message")},
    }


def unordered(recorded: list[dict[str, Any]], nodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the recorded nodes in the order of the others: it is that of random ids."""
    by_name = {node_view(node)["name"]: node_view(node) for node in recorded}
    return [by_name[node_view(node)["name"]] for node in nodes]


def test_a_terminated_run_is_canceling_and_then_failed_never_canceled(server: KfpServer, start: Start) -> None:
    exchanges = recording("terminate")
    replay = start("long-step", ["after", "sleeper", "after-2"])
    replay.create(exchanges[0])
    server.store.ends[replay.run_id] |= {"after": StepEnd(succeeds=True)}
    for number, exchange in enumerate(exchanges[1:], 1):
        if not exchange["request"].endswith(":terminate"):
            replay.advance_to(exchange["response"])
            continue
        if exchange["status"] == 200:
            replay.advance_tasks_to(next(each["response"] for each in exchanges[number:] if "GET" in each["request"]))
        reply = replay.post("terminate")
        expected = json.dumps(exchange["response"]).replace("dcaa2695-7e20-4ea1-990f-760687b1af71", replay.run_id)
        assert (reply.status_code, reply.json()) == (exchange["status"], json.loads(expected))


@pytest.mark.parametrize("exchange", recording("errors"), ids=lambda exchange: exchange["request"])
def test_errors_have_the_recorded_status_and_text(server: KfpServer, exchange: dict[str, Any]) -> None:
    method, _, path = exchange["request"].partition(" ")
    body = exchange.get("body")
    if body is not None and body["display_name"] != "bad spec":
        body = {**body, "pipeline_spec": compiled("two-steps", ["make", "total"])}
    with httpx2.Client(base_url=server.url, trust_env=False) as client:
        reply = client.request(method, path, json=body)
    assert reply.status_code == exchange["status"]
    if "experiments" in path:
        recorded, shown = exchange["response"]["experiments"][0], reply.json()["experiments"][0]
        assert (shown["display_name"], shown["storage_state"]) == (recorded["display_name"], recorded["storage_state"])
    else:
        assert reply.json() == exchange["response"]
