"""The contract of whole jobs whose runs are on a Kubeflow Pipelines server, of an installation in a cluster."""

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import kfp.client
import pytest
from tests.factories.small_jobs import SPEC
from tests.fakes.kfp.launcher import FILES_MARK, OUTPUT_MARK
from tests.integration.cluster.waiting import eventually

from windlass.domain.jobs import JobState
from windlass.kube.client import KubeClient
from windlass.kube.kfp.run_record import run_id_of
from windlass.kube.kinds import POD, PROJECT, RAY_JOB, SECRET
from windlass.kube.names import KFP_RUN_LABEL, RUN_LABEL, namespace_of
from windlass.kube.objects import Object, Ref
from windlass.orchestration.kfp.client import KfpClient
from windlass.orchestration.kfp.job_package import render_job_package
from windlass.orchestration.kfp.package import StepPod
from windlass.sdk import Client
from windlass.wire.jobs import JobDetailOut, JobOut

_STEPS: Final = 40
_TRAINING: Final = {**SPEC["training"], "max_steps": _STEPS}
_START_SECONDS: Final = 300
_END_SECONDS: Final = 900
_MANAGER: Final = "kfp-test"


@dataclass(frozen=True)
class KfpInstallation:
    """Windlass in a cluster, with its runs on a server. The project has the data of small jobs."""

    client: Client
    """Of the API, for a project with a quota of the pool."""
    pool: str
    kube: KubeClient
    """With all permissions."""
    server: str
    """URL of the server for this process."""
    namespace: str
    """Of the step pods."""
    api_url: str
    """Of the API, for pods."""
    pipelines_image: str
    prints_artifacts: bool = False
    """Whether the log of a step has what it reports about its artifacts, as on the fake server."""

    @contextmanager
    def stock_client(self) -> Iterator[kfp.client.Client]:
        """Open a client of the kfp SDK, as users of the server do."""
        with warnings.catch_warnings():
            # kfp says this to everybody who creates a client
            warnings.filterwarnings("ignore", "This client only works with Kubeflow Pipeline v2", FutureWarning)
            client = kfp.client.Client(self.server)
        try:
            yield client
        finally:
            for api in vars(client).values():
                if hasattr(api, "api_client"):  # the client has no method that closes its connections
                    api.api_client.rest_client.pool_manager.clear()

    @property
    def project(self) -> str:
        return str(self.client.connection.project)

    def spec(self, name: str, **changes: Any) -> dict[str, Any]:
        return {**SPEC, "name": name, "model": name, "resources": {"pool": self.pool}, **changes}

    def submit(self, name: str, **changes: Any) -> JobOut:
        return self.client.jobs.create(self.spec(name, **changes))

    def runs(self, job: JobOut) -> set[str]:
        return {run.name for run in self.client.jobs.get(job.id).runs}

    def run_id(self, job: JobOut) -> str:
        """Return the id on the server of the only run of a job."""
        [name] = self.runs(job)
        return run_id_of(name)

    def steps(self, job: JobOut) -> list[int]:
        return [point.step for point in self.client.jobs.metric_points(job.id, "train_loss")]

    def wait_for_training(self, job: JobOut) -> None:
        eventually(lambda: max(self.steps(job), default=0) > 0, f"{job.name} trains", _START_SECONDS)

    def check_trained_once(self, job: JobOut, steps: int) -> JobDetailOut:
        """Wait for the end of a job, and check that it succeeded with every step once and one model version."""
        ended = self.client.jobs.wait(job.id, timeout=_END_SECONDS)
        assert ended.state is JobState.SUCCEEDED, ended.reason
        assert self.steps(job) == list(range(1, steps + 1))
        assert [version.number for version in self.client.models.versions(ended.model)] == [1]
        return ended

    def check_nothing_left(self, job: JobOut) -> None:
        """Check that a job that has ended has no RayJob, no Secret, no quota and no pod that runs."""
        runs = self.runs(job)
        eventually(lambda: not self._ray_jobs(runs), "its RayJob is deleted", 60)
        eventually(lambda: not self._named(runs, namespace_of(self.project)), "what its RayJob owned is deleted", 60)
        eventually(lambda: not self._named(runs, self.namespace), "the Secrets of its runs are deleted", 30)
        for name in runs:
            phases = {pod["status"]["phase"] for pod in self.step_pods(run_id_of(name))}
            assert phases <= {"Succeeded", "Failed"}
        eventually(lambda: self._used_quota() == 0, "the quota is given back", 90)

    def step_pods(self, run_id: str) -> list[Object]:
        return self.kube.list(POD, self.namespace, labels=f"{KFP_RUN_LABEL}={run_id}").items

    def ray_jobs_of_run(self, run_id: str) -> list[Object]:
        return self.kube.list(RAY_JOB, namespace_of(self.project), labels=f"{KFP_RUN_LABEL}={run_id}").items

    def log(self, run_id: str) -> str:
        """Return the log of the step."""
        client = KfpClient(self.server, None)
        try:
            node = [each for each in client.nodes(run_id) if each.is_executor][-1]
            return client.node_log(run_id, node.id)
        finally:
            client.close()

    def state(self, run_id: str) -> str:
        with self.stock_client() as client:
            return str(client.get_run(run_id).state)

    def delete_from_server(self) -> None:
        """Delete the runs of all jobs of the project, and its experiment."""
        with self.stock_client() as client:
            for job in self.client.jobs.list():
                for name in self.runs(job):
                    client.delete_run(run_id_of(name))
            experiment = client.get_experiment(experiment_name=f"windlass-{self.project}")
            client.delete_experiment(experiment.experiment_id)

    def _ray_jobs(self, runs: set[str]) -> list[Object]:
        selector = f"{RUN_LABEL} in ({','.join(sorted(runs))})"
        return self.kube.list(RAY_JOB, namespace_of(self.project), labels=selector).items

    def _named(self, runs: set[str], namespace: str) -> list[str]:
        """Return the pods and Secrets with names that begin with that of a run."""
        found = [*self.kube.list(POD, namespace).items, *self.kube.list(SECRET, namespace).items]
        return [name for each in found if (name := str(each["metadata"]["name"])).startswith(tuple(runs))]

    def _used_quota(self) -> int:
        return int(self.kube.get(Ref(PROJECT, self.project))["status"]["used"])


class KfpJobContract:
    """A whole job in each way that one can take."""

    @pytest.fixture
    def installed(self) -> KfpInstallation:
        raise NotImplementedError

    def test_a_cancelled_job_and_a_terminated_run_leave_nothing(self, installed: KfpInstallation) -> None:
        long = {**SPEC["training"], "max_steps": 4000}
        cancelled, terminated = (installed.submit(f"kfp-{name}", training=long) for name in ("cancelled", "terminated"))
        for job in (cancelled, terminated):
            installed.wait_for_training(job)
            assert len(installed.ray_jobs_of_run(installed.run_id(job))) == 1, "the RayJob names the run"
        installed.client.jobs.cancel(cancelled.id)
        with installed.stock_client() as client:
            client.terminate_run(installed.run_id(terminated))
        assert installed.client.jobs.wait(cancelled.id, timeout=_END_SECONDS).state is JobState.CANCELLED
        ended = installed.client.jobs.wait(terminated.id, timeout=_END_SECONDS)
        assert ended.state is JobState.FAILED
        assert ended.reason is not None
        assert ended.reason.code == "pipeline_run_terminated"
        for job in (cancelled, terminated):
            installed.check_nothing_left(job)

    def test_a_job_goes_on_when_the_pod_of_its_step_is_killed(self, installed: KfpInstallation) -> None:
        job = installed.submit("kfp-killed")
        installed.wait_for_training(job)
        for pod in installed.step_pods(installed.run_id(job)):
            installed.kube.delete(Ref.of(pod), grace_seconds=0)
        installed.check_trained_once(job, SPEC["training"]["max_steps"])
        installed.check_nothing_left(job)

    def test_a_user_submits_a_job_with_the_stock_client(self, installed: KfpInstallation, tmp_path: Path) -> None:
        """The compiled pipeline goes through the API under the key of the user; the job has a run of its own."""
        secret = Ref(SECRET, "windlass-key", installed.namespace)
        metadata = {"name": secret.name, "namespace": secret.namespace}
        key = {"stringData": {"key": installed.client.connection.key}}
        installed.kube.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, **key}, manager=_MANAGER)
        package = tmp_path / "fine-tune.yaml"
        pod = StepPod(image=installed.pipelines_image, cpu_request="50m")
        package.write_bytes(render_job_package(pod, installed.api_url).content)
        arguments = {"job": installed.spec("kfp-own", training=_TRAINING), "project": installed.project}
        with installed.stock_client() as client:
            run = client.create_run_from_pipeline_package(str(package), arguments=arguments, enable_caching=False)
            try:
                ended = run.wait_for_run_completion(timeout=_END_SECONDS)
                assert ended.state == "SUCCEEDED", installed.log(run.run_id)
                [job] = [each for each in installed.client.jobs.list() if each.name == "kfp-own"]
                trained, own_run = installed.check_trained_once(job, _STEPS), installed.run_id(job)
                eventually(lambda: installed.state(own_run) == "SUCCEEDED", "its run has succeeded, too", 120)
                for run_id in (run.run_id, own_run):
                    self._check_artifacts(installed, run_id, trained)
                installed.check_nothing_left(job)
            finally:
                client.delete_run(run.run_id)
                installed.kube.delete(secret)

    @staticmethod
    def _check_artifacts(installed: KfpInstallation, run_id: str, job: JobDetailOut) -> None:
        if not installed.prints_artifacts:
            return
        log = installed.log(run_id)
        found = _printed(log, OUTPUT_MARK)["artifacts"]
        model, evaluation = (found[name]["artifacts"][0] for name in ("model", "evaluation"))
        [version] = installed.client.models.versions(job.model)
        assert model["uri"]
        assert model["metadata"]["sha256"] == version.digest
        assert evaluation["metadata"]["accuracy"] == pytest.approx(version.evaluation["accuracy"])
        files = _printed(log, FILES_MARK)
        assert min(files["loss"], files["report"]) > 0, files


def _printed(log: str, mark: str) -> dict[str, Any]:
    """Return what the entry point of a step pod of the fake server has printed after a mark."""
    line = next(each for each in log.splitlines() if each.startswith(mark))
    printed: dict[str, Any] = json.loads(line.removeprefix(mark))
    return printed
