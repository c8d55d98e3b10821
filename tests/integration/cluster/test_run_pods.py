"""Pipeline runs as pods: the contract of their port against the real API server."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.contracts.pipeline_backend import PipelineBackendContract, RunDriver
from tests.factories.local_runs import spec
from tests.factories.pod_settings import runner_settings
from tests.factories.run_contexts import run_context
from tests.integration.cluster.task_pods import AMOUNTS, WaitingPods
from tests.integration.cluster.waiting import eventually
from tests.testcluster.layout import LocalCluster

from windlass.kube.jobs.pipeline_backend import KubernetesPipelineBackend
from windlass.orchestration.run_result import RunResult
from windlass.ports import BackendState, PipelineBackend
from windlass.runtime.context import RunContext

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]


class RunPods(WaitingPods):
    """Drives one run."""

    def __init__(self, cluster: LocalCluster, root: Path) -> None:
        self.run = run_context(root, spec())
        super().__init__(cluster, root, self.run.identity.name, "runner")

    def backend(self) -> PipelineBackend:
        return KubernetesPipelineBackend(self.worker, self.watch(), runner_settings(amounts=AMOUNTS))

    def context(self) -> RunContext:
        return self.run

    def finish(self, result: str) -> None:
        failed = RunResult(state="failed", message="train: the loss is not a number")
        self.exit((RunResult(state="succeeded") if result == "ok" else failed).termination_message())

    def preempt(self) -> None:
        self.exit(RunResult(state="stopped").termination_message())

    def wait_ended(self) -> BackendState:
        backend = self.backend()
        eventually(lambda: backend.poll(self.job.name).state is not BackendState.RUNNING, "the run has ended", 60)
        return backend.poll(self.job.name).state


@pytest.fixture
def pods(installed: LocalCluster, tmp_path: Path) -> Iterator[RunPods]:
    driver = RunPods(installed, tmp_path)
    yield driver
    driver.close()


class TestKubernetesPipelineBackend(PipelineBackendContract):
    @pytest.fixture
    def driver(self, pods: RunPods) -> RunDriver:
        return pods


def test_a_paused_run_has_no_pod_and_a_pause_is_no_failure(pods: RunPods) -> None:
    backend, name = pods.backend(), pods.job.name
    backend.submit(pods.context())
    for _ in range(5):  # more often than the pod may fail
        pod = pods.pod()["metadata"]["uid"]
        backend.pause(name)
        eventually(lambda: not pods.waiting_pods(), "the pod is deleted", 60)
        assert backend.poll(name).paused
        backend.resume(name)
        assert pods.pod()["metadata"]["uid"] != pod
        assert backend.poll(name).state is BackendState.RUNNING
    pods.finish("ok")
    assert pods.wait_ended() is BackendState.SUCCEEDED
