"""The settings choose what runs pipelines, and the preflight names the server."""

from pathlib import Path

import pytest
import yaml
from tests.factories.kfp_runs import kfp_run
from tests.factories.pod_settings import runner_settings
from tests.fakes.kfp.server import Fault
from tests.fakes.kfp.store import KfpServerSettings
from tests.fakes.kube_api import serve_kube_api

from windlass.domain.checks import CheckState
from windlass.domain.errors import InvalidError, UnavailableError
from windlass.kube.jobs.pipeline_backend import KubernetesPipelineBackend
from windlass.kube.jobs.task_jobs import TaskJobs
from windlass.kube.kfp.backend import KfpPipelineBackend
from windlass.kube.kfp.run_page import RunPages
from windlass.kube.kfp.run_record import run_id_of
from windlass.kube.kinds import CONFIG_MAP
from windlass.orchestration.kfp.client import KfpClient
from windlass.orchestration.kfp.preflight import check_pipeline_server
from windlass.pipeline_settings import PipelineServer, PipelineSettings
from windlass_api.pipeline_ports import RunPorts, kfp_run_folders, pipeline_package, run_ports

URL = "http://windlass-internal.windlass-system.svc:8742"


def ports(**settings: object) -> RunPorts:
    with serve_kube_api([CONFIG_MAP]) as server:
        client = server.client()
        tasks = TaskJobs(client, "windlass-system")
        return run_ports(PipelineSettings.model_validate(settings), runner_settings(), client, tasks, URL)


def test_pods_run_pipelines_by_default() -> None:
    assert isinstance(ports().training.pipelines, KubernetesPipelineBackend)


def test_a_server_is_contacted_only_when_a_run_is_submitted() -> None:
    built = ports(backend=PipelineServer.KFP, kfp_host="http://127.0.0.1:9")
    assert isinstance(built.training.pipelines, KfpPipelineBackend)
    assert (built.training.api_url, built.training.local) == (URL, None)


def test_the_server_must_be_named() -> None:
    with pytest.raises(InvalidError) as raised:
        ports(backend=PipelineServer.KFP)
    assert "WINDLASS_PIPELINES_KFP_HOST" in raised.value.hint


def test_an_uninstallation_ends_runs_on_a_server_only_if_there_is_one() -> None:
    with serve_kube_api([CONFIG_MAP]) as server:
        chosen = PipelineSettings(backend=PipelineServer.KFP, kfp_host="http://127.0.0.1:9")
        folders = kfp_run_folders(chosen, server.client(), "windlass-system")
        assert folders is not None
        assert folders.end_all() == (0, 0)
        assert kfp_run_folders(PipelineSettings(), server.client(), "windlass-system") is None


def test_the_package_depends_on_the_image_of_pipelines() -> None:
    one, other = (pipeline_package(runner_settings(image=image)) for image in ("a:1", "a:2"))
    assert one.version != other.version
    assert b"WINDLASS_RAY_JOB_SETTINGS" in one.content


def test_the_pods_of_runs_have_labels() -> None:
    settings = yaml.safe_load_all(pipeline_package(runner_settings()).content)
    [executor] = list(settings)[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values()
    labels = {"app.kubernetes.io/managed-by": "windlass", "windlass.dev/task": "kfp-run"}
    assert executor["podMetadata"] == {"labels": labels}


@pytest.mark.parametrize("multi_user", [False, True])
@pytest.mark.parametrize("has_token", [False, True])
def test_the_preflight_names_the_kind_of_the_server(tmp_path: Path, *, multi_user: bool, has_token: bool) -> None:
    with kfp_run(tmp_path, KfpServerSettings(multi_user=multi_user, tokens=frozenset({"token"}))) as run:
        run.token_file = tmp_path / "token"
        run.token_file.write_text("token")
        result = check_pipeline_server(run.client(), has_token=has_token)
    assert (result.state is CheckState.OK) is (multi_user is has_token)
    assert ("multi-user" if multi_user else "single-user") in result.result
    assert bool(result.action) is (multi_user is not has_token)


def test_the_preflight_reports_a_server_that_does_not_answer() -> None:
    result = check_pipeline_server(KfpClient("http://127.0.0.1:9"), has_token=False)
    assert result.state is CheckState.FAILED
    assert "http://127.0.0.1:9" in result.result


PAGES = "https://pipelines.example.com"


def test_a_run_has_a_page(tmp_path: Path) -> None:
    with kfp_run(tmp_path) as run:
        pages = RunPages(run.client(), run.records(), f"{PAGES}/")
        assert pages.url(run.name) == ""
        run.backend().submit(run.context)
        assert pages.url(run.name) == f"{PAGES}/#/runs/details/{run.run_id}"
        assert RunPages(run.client(), run.records(), "").url(run.name) == ""


def test_of_two_runs_the_page_is_that_of_the_one_that_counts(tmp_path: Path) -> None:
    with kfp_run(tmp_path) as run:
        pages = RunPages(run.client(), run.records(), PAGES)
        remaining = [Fault.REFUSED]
        creation = ("POST", "/apis/v2beta1/runs")
        run.server.faults = lambda *request: remaining.pop() if request == creation and remaining else None
        with pytest.raises(UnavailableError):
            run.backend().submit(run.context)
        assert pages.url(run.name) == ""
        run.clock.sleep(31)
        run.backend().submit(run.context)
        second = run_id_of(run.name, 2)
        assert pages.url(run.name) == f"{PAGES}/#/runs/details/{second}"
        run.server.store.create_run({**run.server.store.runs[second].body, "run_id": run.run_id})
        assert pages.url(run.name) == f"{PAGES}/#/runs/details/{run.run_id}"
