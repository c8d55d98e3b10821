"""How often the back end of Kubeflow Pipelines asks the server, whatever the number of runs."""

import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import httpx2
import kfp_server_api
import pytest
from tests.factories.kfp_runs import KfpRun, kfp_run
from tests.fakes.kfp.server import Fault
from tests.fakes.kfp.store import KfpServerSettings

from windlass.domain.errors import UnavailableError
from windlass.domain.reasons import ClusterCode
from windlass.kube.kfp.run_record import RunRecords, run_id_of
from windlass.orchestration.kfp.client import Json, KfpClient
from windlass.orchestration.kfp.observer import RunObserver
from windlass.ports import BackendState

_LIST = "GET /apis/v2beta1/runs"


@pytest.fixture
def run(tmp_path: Path) -> Iterator[KfpRun]:
    with kfp_run(tmp_path) as run:
        yield run


def test_a_run_is_requested_every_two_seconds_until_it_has_ended(run: KfpRun) -> None:
    run.backend().submit(run.context)
    backend, requests = run.backend(), run.server.requests
    for _ in range(8):
        assert backend.poll(run.name).state is BackendState.RUNNING
        run.clock.sleep(0.5)
    assert requests[_LIST] == 2
    backend.kill(run.name)
    assert backend.poll(run.name).state is BackendState.LOST


def single_requests(run: KfpRun) -> int:
    return sum(count for path, count in run.server.requests.items() if path.startswith("GET /apis/v2beta1/runs/"))


def submit_others(run: KfpRun, count: int) -> list[str]:
    """Submit further runs, as of other jobs; return their names."""
    return [run.submit_other(f"job-{number}-r1") for number in range(2, count + 2)]


def test_many_runs_are_requested_together_and_their_records_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with kfp_run(tmp_path, KfpServerSettings(calls_per_change=0)) as run:
        run.backend().submit(run.context)
        names = [run.name, *submit_others(run, 149)]
        backend, requests = run.backend(), run.server.requests
        for name in names:
            backend.poll(name)
        lists, gets = requests[_LIST], single_requests(run)
        monkeypatch.setattr(RunRecords, "find", None)
        for _ in range(4):
            run.clock.sleep(2.0)
            states = {backend.poll(name).state for name in names}
            assert states == {BackendState.RUNNING}
        assert requests[_LIST] == lists + 4 * 2
        assert single_requests(run) == gets


def test_of_runs_that_are_requested_together_each_has_its_own_state(run: KfpRun) -> None:
    run.backend().submit(run.context)
    [other] = submit_others(run, 1)
    backend = run.backend()
    backend.poll(run.name)
    assert backend.poll(other).state is BackendState.RUNNING
    run.server.store.runs[run.run_id].raw_state = "HIBERNATED"
    run.client().delete_run(run_id_of(other))
    run.clock.sleep(2.0)
    polled = backend.poll(run.name)
    assert polled.reason is not None
    assert polled.reason.code == ClusterCode.PIPELINE_STATE_UNKNOWN
    assert backend.poll(other).state is BackendState.UNKNOWN


def test_a_server_that_does_not_reply_is_asked_once_in_two_seconds(run: KfpRun) -> None:
    run.backend().submit(run.context)
    names = [run.name, *submit_others(run, 3)]
    backend, requests = run.backend(), run.server.requests
    for name in names:
        backend.poll(name)
    run.clock.sleep(2.0)
    before = requests[_LIST]
    run.server.faults = lambda *_: Fault.UNAVAILABLE
    for name in names:
        with pytest.raises(UnavailableError, match="503"):
            backend.poll(name)
    assert requests[_LIST] == before + 1
    run.server.faults = lambda *_: None
    run.clock.sleep(2.0)
    assert {backend.poll(name).state for name in names} == {BackendState.RUNNING}


def test_a_run_that_nobody_asks_for_is_not_requested_any_more(tmp_path: Path) -> None:
    with kfp_run(tmp_path, KfpServerSettings(calls_per_change=0)) as run:
        asked: list[list[str]] = []

        class Recorder(KfpClient):
            def list_runs(self, run_ids: Sequence[str], namespace: str) -> dict[str, Json]:
                asked.append(list(run_ids))
                return super().list_runs(run_ids, namespace)

        clock, server = run.clock, Recorder(run.server.url)
        run.clients.append(server)
        observer = RunObserver(server, clock)
        observer.read("one", ("a",), "")
        observer.read("two", ("b",), "")
        for _ in range(30):
            clock.sleep(2.5)
            observer.read("one", ("a",), "")
        assert asked[0:3] == [["a"], ["b"], ["a", "b"]]
        assert asked[-1] == ["a"]


def test_the_cause_of_a_step_that_does_not_start_is_read_every_half_minute(tmp_path: Path) -> None:
    with kfp_run(tmp_path, KfpServerSettings(missing_images=True)) as run:
        backend = run.backend()
        backend.submit(run.context)
        run.clock.sleep(30)
        for _ in range(30):
            backend.poll(run.name)
            run.clock.sleep(2)
        assert run.server.requests[f"GET /apis/v1beta1/runs/{run.run_id}"] == 2


def test_the_filter_of_a_list_is_as_the_client_of_the_server_writes_it() -> None:
    sent: list[httpx2.Request] = []

    def reply(request: httpx2.Request) -> httpx2.Response:
        sent.append(request)
        return httpx2.Response(200, json={})

    connect = partial(httpx2.Client, transport=httpx2.MockTransport(reply))
    assert KfpClient("http://server", connect=connect).list_runs(["a", "b"], "wl-demo") == {}
    predicate = kfp_server_api.V2beta1Predicate(
        operation=kfp_server_api.V2beta1PredicateOperation.IN,
        key="run_id",
        string_values=kfp_server_api.PredicateStringValues(values=["a", "b"]),
    )
    written = kfp_server_api.ApiClient().sanitize_for_serialization(kfp_server_api.V2beta1Filter([predicate]))
    [request] = sent
    assert json.loads(request.url.params["filter"]) == written
    assert request.url.params["namespace"] == "wl-demo"


def test_replies_that_take_longer_than_two_seconds_are_used_for_all_runs(run: KfpRun) -> None:
    run.backend().submit(run.context)
    names = [run.name, *submit_others(run, 3)]
    backend, requests = run.backend(), run.server.requests
    for name in names:
        backend.poll(name)

    def slow(_method: str, _path: str) -> None:
        run.clock.sleep(5.0)

    run.clock.sleep(2.0)
    before = requests[_LIST]
    run.server.faults = slow
    assert {backend.poll(name).state for name in names} == {BackendState.RUNNING}
    assert requests[_LIST] == before + 1


def test_a_request_that_times_out_is_not_repeated_for_each_run(run: KfpRun) -> None:
    run.backend().submit(run.context)
    names = [run.name, *submit_others(run, 3)]
    backend, requests = run.backend(), run.server.requests
    for name in names:
        backend.poll(name)

    def time_out(_method: str, _path: str) -> Fault:
        run.clock.sleep(30.0)
        return Fault.REFUSED

    run.clock.sleep(2.0)
    before = requests[_LIST]
    run.server.faults = time_out
    for name in names:
        with pytest.raises(UnavailableError):
            backend.poll(name)
    assert requests[_LIST] == before + 1


def test_a_namespace_that_the_server_rejects_does_not_hide_the_runs_of_others(run: KfpRun) -> None:
    class Rejecting(KfpClient):
        def list_runs(self, run_ids: Sequence[str], namespace: str) -> dict[str, Json]:
            if namespace == "wl-deleted":
                raise UnavailableError("Kubeflow Pipelines replies 403: unauthorized")
            return {run_id: {"run_id": run_id, "state": "RUNNING"} for run_id in run_ids}

    server = Rejecting(run.server.url)
    run.clients.append(server)
    observer = RunObserver(server, run.clock)
    assert observer.read("one", ("a",), "wl-demo") is not None
    for _ in range(3):
        run.clock.sleep(2.5)
        with pytest.raises(UnavailableError):
            observer.read("two", ("b",), "wl-deleted")
        assert observer.read("one", ("a",), "wl-demo") is not None
        assert observer.read("three", ("c",), "wl-demo") is not None


def test_a_server_that_does_not_reply_is_asked_once_and_not_for_each_namespace(run: KfpRun) -> None:
    observer = RunObserver(run.client(), run.clock)
    for name in ("one", "two"):
        observer.read(name, (name,), f"wl-{name}")
    run.clock.sleep(2.5)
    before = run.server.requests[_LIST]
    run.server.faults = lambda *_: Fault.REFUSED
    for name in ("one", "two"):
        with pytest.raises(UnavailableError):
            observer.read(name, (name,), f"wl-{name}")
    assert run.server.requests[_LIST] == before + 1
