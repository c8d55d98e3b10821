"""The step of the pipeline on a Kubeflow Pipelines server, executed by kfp as in its pod."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.factories.local_runs import LocalRun
from tests.factories.pod_settings import ray_job_settings
from tests.factories.served_control_plane import ServedControlPlane
from tests.fakes.kube_api import KubeApi, serve_kube_api

from windlass.kube.jobs.ray_job_launcher import RAY_JOB_SETTINGS_VARIABLE
from windlass.kube.kinds import NAMESPACE, POD, POOL, RAY_JOB, SECRET
from windlass.kube.names import KFP_RUN_LABEL
from windlass.kube.objects import Object
from windlass.orchestration import processes
from windlass.orchestration.kfp.package import StepPod, render_package
from windlass.orchestration.run_result import RunResult
from windlass.runtime.context import KFP_RUN_ID_VARIABLE, RunEnvironment

pytestmark = pytest.mark.processes


class StepProcess:
    """The process of the executor of the step, with the command of the compiled pipeline."""

    def __init__(self, run: LocalRun, root: Path, **variables: str) -> None:
        workspace = root / "workspace"
        workspace.mkdir()
        environment = RunEnvironment(run.context, workspace / "context.json", workspace)
        run.context.write(environment.context_file)
        self.outputs = root / "outputs"
        python = root / "bin" / "python3"
        python.parent.mkdir()
        python.symlink_to(sys.executable)
        extra = {**run.variables(), **environment.variables(), **variables}
        extra["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.process = subprocess.Popen(
            self._command(),
            env=processes.clean_environment(extra),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def _command(self) -> list[str]:
        spec, _ = yaml.safe_load_all(render_package(StepPod(image="unused")).content)
        container = spec["deploymentSpec"]["executors"]["exec-fine-tune"]["container"]
        declared = spec["components"]["comp-fine-tune"]["outputDefinitions"]["artifacts"]
        artifacts = {
            name: {"artifacts": [{"name": name, "type": each["artifactType"], "uri": str(self.outputs / name)}]}
            for name, each in declared.items()
        }
        given = {"inputs": {}, "outputs": {"artifacts": artifacts, "outputFile": str(self.outputs / "metadata.json")}}
        arguments = [json.dumps(given) if argument == "{{$}}" else argument for argument in container["args"]]
        return [*container["command"], *arguments]

    def wait(self) -> str:
        """Wait until it has ended, and return its log."""
        log, _ = self.process.communicate(timeout=120)
        return log.decode()

    def metadata(self) -> dict[str, Any]:
        """Return the artifacts as the server stores them."""
        written = json.loads((self.outputs / "metadata.json").read_text())
        return {name: listed["artifacts"][0] for name, listed in written["artifacts"].items()}


@pytest.fixture
def control_plane(tmp_path: Path) -> Iterator[ServedControlPlane]:
    with ServedControlPlane(tmp_path) as control_plane:
        yield control_plane


@contextmanager
def step_process(
    control_plane: ServedControlPlane, root: Path, behaviour: str, **variables: str
) -> Iterator[StepProcess]:
    step = StepProcess(LocalRun(control_plane, root, (behaviour,)), root, **variables)
    try:
        yield step
    finally:
        step.process.kill()
        step.process.communicate()


def test_the_step_runs_the_pipeline_and_describes_its_result(control_plane: ServedControlPlane, tmp_path: Path) -> None:
    with step_process(control_plane, tmp_path, "ok") as step:
        log = step.wait()
        assert step.process.returncode == 0, log
        assert control_plane.steps == {"train": "succeeded", "register": "succeeded", "deploy": "succeeded"}
        assert RunResult.of_log(log) == RunResult(state="succeeded")
        shown = step.metadata()
        assert shown["evaluation"]["metadata"]["perplexity"] == 2.0
        assert shown["model"]["metadata"]["name"] == "model"
        assert len(shown["model"]["metadata"]["sha256"]) == 64
        assert shown["model"]["uri"].endswith("/artifacts/1")


def test_a_failed_pipeline_fails_the_step_with_its_result_in_the_log(
    control_plane: ServedControlPlane, tmp_path: Path
) -> None:
    with step_process(control_plane, tmp_path, "fail") as step:
        log = step.wait()
        assert step.process.returncode != 0
        result = RunResult.of_log(log)
        assert result is not None
        assert (result.state, "the loss is not a number" in result.message) == ("failed", True)
    (tmp_path / "again").mkdir()
    with step_process(control_plane, tmp_path / "again", "ok") as repeated:  # as the server may do
        again = RunResult.of_log(repeated.wait())
        assert again is not None
        assert (again.state, "the loss is not a number" in again.message) == ("failed", True)


def test_a_preempted_run_is_stopped(control_plane: ServedControlPlane, tmp_path: Path) -> None:
    with step_process(control_plane, tmp_path, "hang") as step:
        control_plane.wait_for(lambda p: "training_started" in p.event_codes(), timeout=90)
        control_plane.preempt()
        result = RunResult.of_log(step.wait())
        assert result is not None
        assert result.state == "stopped"
    (tmp_path / "again").mkdir()
    with step_process(control_plane, tmp_path / "again", "hang") as repeated:  # as the server may do
        assert RunResult.of_log(repeated.wait()) == RunResult(state="stopped")
    assert control_plane.log("train").count("trainer started") == 1


def test_sigterm_deletes_the_ray_job_of_this_run_only(control_plane: ServedControlPlane, tmp_path: Path) -> None:
    kinds = [SECRET, RAY_JOB, POD, NAMESPACE, POOL]
    with serve_kube_api(kinds, [NAMESPACE, POOL]) as kube:
        pool = {"metadata": {"name": "local"}, "spec": {"nodeLabels": {"pool": "local"}}}
        kube.api.create({"apiVersion": POOL.api_version, "kind": POOL.kind, **pool})
        variables = cluster_variables(kube.url, tmp_path)
        with step_process(control_plane, tmp_path, "ok", **variables, **{KFP_RUN_ID_VARIABLE: "run-1"}) as step:
            created = wait_for_ray_job(kube.api, step)
            assert created["metadata"]["labels"][KFP_RUN_LABEL] == "run-1"
            os.killpg(step.process.pid, signal.SIGTERM)
            assert RunResult.of_log(step.wait()) is None
            assert kube.api.of_kind(RAY_JOB) == []
        kube.api.create(created)
        (tmp_path / "other").mkdir()
        other = {**variables, KFP_RUN_ID_VARIABLE: "run-2"}
        with step_process(control_plane, tmp_path / "other", "ok", **other) as step:
            control_plane.wait_for(lambda p: "trainer adopted" in p.log("train"), timeout=90)
            os.killpg(step.process.pid, signal.SIGTERM)
            step.wait()
            assert len(kube.api.of_kind(RAY_JOB)) == 1


def cluster_variables(url: str, root: Path) -> dict[str, str]:
    """Return the environment of a pod that reaches the API server."""
    cluster = {"name": "fake", "cluster": {"server": url}}
    context = {"name": "fake", "context": {"cluster": "fake", "user": "fake"}}
    user = {"name": "fake", "user": {"token": "unused"}}
    content = {"clusters": [cluster], "contexts": [context], "users": [user], "current-context": "fake"}
    (root / "kubeconfig").write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", **content}))
    settings = ray_job_settings().model_dump_json()
    return {"KUBECONFIG": str(root / "kubeconfig"), RAY_JOB_SETTINGS_VARIABLE: settings}


def wait_for_ray_job(api: KubeApi, step: StepProcess) -> Object:
    with api.changed:
        assert api.changed.wait_for(lambda: api.of_kind(RAY_JOB), 90), step.process.poll()
        return api.of_kind(RAY_JOB)[0]
