"""Runs contracts against a real Kubeflow Pipelines server: ``make test-kfp KFP_HOST=http://...``.

In the contract of pipeline back ends, the pod of the step runs a shell that waits for its result in a file, which the
test writes with an exec. Whole jobs run on an installation of Windlass in the cluster of the server. The name of this
module has no ``test_`` prefix: CI has no server, and a skipped test is a failure there.
"""

import os
import shlex
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest
import yaml
from tests.contracts.kfp_installation import KfpServerAddress, installation
from tests.contracts.kfp_jobs import KfpInstallation, KfpJobContract
from tests.contracts.pipeline_backend import PipelineBackendContract, RunDriver
from tests.factories.kfp_runs import FAILED
from tests.factories.local_runs import spec
from tests.factories.run_contexts import run_context
from tests.testcluster import lifecycle
from tests.testcluster.layout import LocalCluster, default_cache, default_state
from tests.testcluster.project_images import reference

from windlass.domain.checks import CheckState
from windlass.kube.client import KubeClient, load_configuration
from windlass.kube.errors import NoKindMatchError
from windlass.kube.kfp.backend import KfpPipelineBackend, KfpSettings
from windlass.kube.kfp.run_end import KfpRunFolders, RunKiller
from windlass.kube.kfp.run_record import KFP_RUN_TASK, RunRecords, run_id_of
from windlass.kube.kinds import BATCH_JOB, POD
from windlass.kube.names import KFP_RUN_LABEL, TASK_LABEL, labels
from windlass.kube.objects import Kind
from windlass.orchestration.kfp.client import KfpClient
from windlass.orchestration.kfp.package import PIPELINE_NAME, PipelinePackage, StepPod, render_package
from windlass.orchestration.kfp.preflight import check_pipeline_server
from windlass.orchestration.run_result import RunResult
from windlass.ports import BackendState, PipelineBackend
from windlass.runtime.context import RunContext

HOST = os.environ["KFP_HOST"]
NAMESPACE = os.environ.get("KFP_NAMESPACE", "kubeflow")
IMAGE = os.environ.get("KFP_IMAGE") or (
    reference("pipelines") if lifecycle.is_up(LocalCluster(default_state(), default_cache())) else "busybox:1.37"
)
ACCOUNT = os.environ.get("KFP_SERVICE_ACCOUNT", "")
TOKEN_FILE = Path(os.environ["KFP_TOKEN_FILE"]) if os.environ.get("KFP_TOKEN_FILE") else None
WORKFLOW: Final = Kind("argoproj.io/v1alpha1", "Workflow")
LABELS: Final = labels() | {TASK_LABEL: KFP_RUN_TASK}
_STEP_SECONDS, _END_SECONDS = 180.0, 180.0
_PROGRAM: Final = (
    'until [ -e /tmp/result ]; do sleep 0.2; done; cat /tmp/result; grep -q \'"state":"succeeded"\' /tmp/result'
)

pytestmark = pytest.mark.timeout(900)


def package() -> PipelinePackage:
    """Return the pipeline with a step that ends when its result is written."""
    documents = list(yaml.safe_load_all(render_package(StepPod(image=IMAGE, labels=LABELS)).content))
    pipeline = documents[0]
    container = pipeline["deploymentSpec"]["executors"]["exec-fine-tune"]["container"]
    container |= {"command": ["sh", "-c", _PROGRAM], "args": []}
    for component in pipeline["components"].values():
        component.pop("outputDefinitions", None)
    pipeline["root"]["dag"]["tasks"]["fine-tune"].pop("retryPolicy", None)
    return PipelinePackage(yaml.safe_dump_all(documents).encode())


class RealServerRun:
    """One run on the server."""

    def __init__(self, root: Path, server: KfpClient) -> None:
        unique = uuid.uuid4().hex[:10]
        context = run_context(root, spec())
        identity = context.identity.model_copy(
            update={"project": f"kfp-test-{unique}", "name": f"job-{unique}-r1", "job": f"job_{unique}"}
        )
        self.run = context.model_copy(update={"identity": identity})
        self.server = server
        self.kube = KubeClient(load_configuration())
        self.records = RunRecords(self.kube, NAMESPACE, lambda _: NAMESPACE)

    def backend(self) -> PipelineBackend:
        return self._backend()

    def _backend(self) -> KfpPipelineBackend:
        settings = KfpSettings(package=package(), multi_user=TOKEN_FILE is not None, service_account=ACCOUNT)
        return KfpPipelineBackend(self.kube, self.server, self.records, settings)

    def context(self) -> RunContext:
        return self.run

    def finish(self, result: str) -> None:
        self._exit(RunResult(state="succeeded") if result == "ok" else FAILED)

    def preempt(self) -> None:
        self._exit(RunResult(state="stopped"))

    def wait_ended(self) -> BackendState:
        deadline = time.monotonic() + _END_SECONDS
        while (state := self.backend().poll(self.run.identity.name).state) is BackendState.RUNNING:
            assert time.monotonic() < deadline, "the run does not end"
            time.sleep(1)
        return state

    def starts(self) -> int:
        selector = f"{KFP_RUN_LABEL}={self.run_id}"
        try:
            return len(self.kube.list(WORKFLOW, NAMESPACE, labels=selector).items)
        except NoKindMatchError:  # a server without Argo: the fake, whose steps are Jobs
            return len(self.kube.list(BATCH_JOB, NAMESPACE, labels=selector).items)

    @property
    def run_id(self) -> str:
        return run_id_of(self.run.identity.name)

    def _exit(self, result: RunResult) -> None:
        """Write the result into the pod of the step, when it runs."""
        deadline = time.monotonic() + _STEP_SECONDS
        while (pod := self._step_pod()) is None:
            assert time.monotonic() < deadline, "the pod of the step does not run"
            time.sleep(0.5)
        script = f"echo {shlex.quote(result.log_line())} > /tmp/draft && mv /tmp/draft /tmp/result"
        command = ["kubectl", "-n", NAMESPACE, "exec", pod, "-c", "main", "--", "sh", "-c", script]
        subprocess.run(command, check=True, capture_output=True)

    def _step_pod(self) -> str | None:
        wanted = {KFP_RUN_LABEL: self.run_id, **LABELS}
        selector = ",".join(f"{name}={value}" for name, value in wanted.items())
        for pod in self.kube.list(POD, NAMESPACE, labels=selector).items:
            if "driver" not in pod["metadata"]["name"] and pod["status"].get("phase") == "Running":
                return str(pod["metadata"]["name"])
        return None

    def close(self) -> None:
        """Delete the run, its objects and its experiment."""
        killer = RunKiller(self.kube, self.server, self.records)
        KfpRunFolders(self.kube, killer, self.server, self.records).delete(self.run.identity.name)
        self.server.delete_run(self.run_id)
        delete_named("experiments", f"windlass-{self.run.identity.project}", "experiment_id")


def api(method: str, path: str, **options: Any) -> dict[str, Any]:
    token = {} if TOKEN_FILE is None else {"Authorization": f"Bearer {TOKEN_FILE.read_text().strip()}"}
    reply = httpx2.request(method, f"{HOST.rstrip('/')}/apis/v2beta1/{path}", headers=token, trust_env=False, **options)
    reply.raise_for_status()
    decoded: dict[str, Any] = reply.json()
    return decoded


def delete_named(kind: str, name: str, key: str, path: str = "") -> None:
    """Delete the objects of a kind with this name."""
    for found in api("GET", path or kind, params={"page_size": 200}).get(kind) or ():
        if found.get("display_name") == name:
            api("DELETE", f"{path or kind}/{found[key]}")


@pytest.fixture(scope="module")
def server() -> Iterator[KfpClient]:
    """The server; prints what is known about it, and deletes the pipeline version of these tests afterwards."""
    client = KfpClient(HOST, TOKEN_FILE)
    found = check_pipeline_server(client, has_token=TOKEN_FILE is not None)
    if found.state is not CheckState.OK:
        client.close()
        pytest.exit(f"{found.result}\nKFP_HOST={HOST} must be the URL of the API server for this machine", returncode=2)
    print(f"\n{found.state}: {found.result}")  # noqa: T201 - what `make test-kfp` reports
    print(api("GET", "healthz"))  # noqa: T201 - as above
    before = {each["pipeline_id"] for each in api("GET", "pipelines", params={"page_size": 200}).get("pipelines") or ()}
    yield client
    for pipeline in api("GET", "pipelines", params={"page_size": 200}).get("pipelines") or ():
        if pipeline["display_name"] != PIPELINE_NAME:
            continue
        versions = f"pipelines/{pipeline['pipeline_id']}/versions"
        delete_named("pipeline_versions", package().version, "pipeline_version_id", versions)
        if pipeline["pipeline_id"] not in before:
            delete_named("pipeline_versions", PIPELINE_NAME, "pipeline_version_id", versions)
            api("DELETE", f"pipelines/{pipeline['pipeline_id']}")
    client.close()


class TestRealKfpServer(PipelineBackendContract):
    @pytest.fixture
    def driver(self, tmp_path: Path, server: KfpClient) -> Iterator[RunDriver]:
        run = RealServerRun(tmp_path, server)
        yield run
        run.close()


@pytest.fixture(scope="module")
def running(server: KfpClient) -> Iterator[KfpInstallation]:
    del server  # its checks come first
    with installation(KubeClient(load_configuration()), KfpServerAddress(HOST, NAMESPACE)) as running:
        yield running


class TestRealKfpJobs(KfpJobContract):
    @pytest.fixture
    def installed(self, running: KfpInstallation) -> KfpInstallation:
        return running
