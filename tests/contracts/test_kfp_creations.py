"""Creations of a run on a Kubeflow Pipelines server that are slow, rejected, or requested by two workers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.factories.kfp_runs import SYSTEM, KfpRun, kfp_run
from tests.fakes.kfp.server import Fault

from windlass.domain.errors import UnavailableError
from windlass.kube.kfp.run_record import RunRecord, RunRecords
from windlass.kube.kinds import CONFIG_MAP
from windlass.kube.objects import Ref
from windlass.orchestration.kfp.client import Created, KfpClient
from windlass.ports import BackendState
from windlass.runtime.context import RunContext

_CREATE = ("POST", "/apis/v2beta1/runs")


@pytest.fixture
def run(tmp_path: Path) -> Iterator[KfpRun]:
    with kfp_run(tmp_path) as run:
        yield run


def test_the_time_to_settle_begins_when_a_creation_has_timed_out(run: KfpRun) -> None:
    def time_out(*request: str) -> Fault | None:
        if request != _CREATE:
            return None
        run.clock.sleep(31)
        return Fault.REFUSED

    run.server.faults = time_out
    with pytest.raises(UnavailableError, match="was lost"):
        run.backend().submit(run.context)
    with pytest.raises(UnavailableError, match="not confirmed"):
        run.backend().submit(run.context)


def test_of_two_workers_that_submit_a_run_at_once_one_creates_it(run: KfpRun, monkeypatch: pytest.MonkeyPatch) -> None:
    read = RunRecords.create

    def read_and_wait(records: RunRecords, context: RunContext) -> RunRecord:
        """Let the other worker begin to create the run after this one has read the record."""
        record = read(records, context)
        records.note_request(record, 1, run.clock())
        return record

    monkeypatch.setattr(RunRecords, "create", read_and_wait)
    with pytest.raises(UnavailableError, match="modified"):
        run.backend().submit(run.context)
    assert run.starts() == 0


def test_a_run_whose_record_was_deleted_is_not_created_again(run: KfpRun) -> None:
    run.backend().submit(run.context)
    run.kube.client().delete(Ref(CONFIG_MAP, f"{run.name}-record", SYSTEM))
    assert run.backend().submit(run.context) is False
    assert run.starts() == 1
    run.finish("ok")
    assert run.wait_ended().state is BackendState.SUCCEEDED


def test_a_run_that_appears_after_another_creation_was_rejected_has_time_to_start(run: KfpRun) -> None:
    run.server.faults = lambda *request: Fault.REFUSED if request == _CREATE else None
    with pytest.raises(UnavailableError):
        run.backend().submit(run.context)
    run.server.faults = lambda *_: None
    run.clock.seconds = 5000.0
    body: list[dict[str, Any]] = []

    class Rejecting(KfpClient):
        def create_run(self, given: dict[str, Any]) -> Created:
            body.append(given)
            raise UnavailableError("Kubeflow Pipelines replies 400")

    backend, rejecting = run.backend(), Rejecting(run.server.url)
    run.clients.append(rejecting)
    backend._server = rejecting
    with pytest.raises(UnavailableError, match="400"):
        backend.submit(run.context)
    run.server.store.create_run({**body[0], "run_id": run.run_id})
    assert run.backend().submit(run.context) is False
    run.clock.seconds = 1100.0
    assert run.backend().poll(run.name).state is BackendState.RUNNING
