"""What an uninstallation does with the runs on a Kubeflow Pipelines server."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.factories.kfp_runs import SYSTEM, KfpRun, kfp_run
from tests.fakes.kfp.server import Fault
from tests.fakes.kfp.store import KfpServerSettings
from tests.fakes.kfp.workflow import StepEnd

from windlass.kube.kfp import run_end
from windlass.kube.kfp.run_record import run_id_of
from windlass.kube.workloads import ControlPlaneWorkloads, EndedWorkloads
from windlass.orchestration.kfp.package import STEP


@pytest.fixture
def run(tmp_path: Path) -> Iterator[KfpRun]:
    with kfp_run(tmp_path) as run:
        yield run


def uninstall(run: KfpRun) -> EndedWorkloads:
    return ControlPlaneWorkloads(run.kube.client(), SYSTEM, "this", run.folders()).end()


def test_an_uninstallation_ends_the_runs_of_the_server_and_their_ray_jobs(run: KfpRun) -> None:
    run.backend().submit(run.context)
    run.start_step()
    run.create_ray_job()
    ended = run_id_of(run.submit_other("job-2-r1"))
    store = run.server.store
    store.ends[ended][STEP] = StepEnd(succeeds=True)
    while store.runs[ended].state != "SUCCEEDED":
        store.advance(store.runs[ended])
    assert uninstall(run) == EndedWorkloads(tasks=2, endpoints=0, runs_left=0)
    assert not run.kube.api.objects
    assert (store.runs[run.run_id].state, store.runs[ended].state) == ("FAILED", "SUCCEEDED")
    assert uninstall(run) == EndedWorkloads(tasks=0, endpoints=0, runs_left=0)


def test_an_uninstallation_goes_on_without_the_server_and_says_so(
    run: KfpRun, caplog: pytest.LogCaptureFixture
) -> None:
    run.backend().submit(run.context)
    run.start_step()
    run.create_ray_job()
    run.submit_other("job-2-r1")
    run.start_workflow("fine-tune-a", run.run_id)
    before = run.server.requests.total()
    run.server.faults = lambda *_: Fault.REFUSED
    with caplog.at_level(logging.WARNING, run_end.__name__):
        assert uninstall(run) == EndedWorkloads(tasks=2, endpoints=0, runs_left=2)
    [warning] = [each for each in caplog.records if each.name == run_end.__name__]
    assert warning.message == "runs in Kubeflow Pipelines may go on"
    assert run.server.url in vars(warning)["problem"]
    assert not run.kube.api.objects
    assert run.server.requests.total() == before + 1
    assert run.server.store.runs[run.run_id].state == "RUNNING"


def test_an_uninstallation_names_a_run_that_does_not_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with kfp_run(tmp_path, KfpServerSettings(calls_per_change=0)) as run:
        run.backend().submit(run.context)
        run.start_step()
        run.create_ray_job()
        with caplog.at_level(logging.WARNING, run_end.__name__):
            assert uninstall(run) == EndedWorkloads(tasks=1, endpoints=0, runs_left=1)
        [warning] = [each for each in caplog.records if each.name == run_end.__name__]
        assert (warning.message, vars(warning)["run"]) == ("a run may go on in Kubeflow Pipelines", run.name)
        assert not run.kube.api.objects


def test_an_uninstallation_does_not_wait_for_run_after_run(
    run: KfpRun, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(run_end, "_END_ALL_SECONDS", -1.0)
    run.backend().submit(run.context)
    run.start_step()
    run.create_ray_job()
    with caplog.at_level(logging.WARNING, run_end.__name__):
        assert uninstall(run) == EndedWorkloads(tasks=1, endpoints=0, runs_left=1)
    [warning] = [each for each in caplog.records if each.name == run_end.__name__]
    assert "other runs have not ended" in vars(warning)["problem"]
    assert not run.kube.api.objects
    assert run.server.store.runs[run.run_id].state == "RUNNING"
