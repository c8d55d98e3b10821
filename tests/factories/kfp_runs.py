"""A run of the Kubeflow Pipelines back end on fake servers, without waiting."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.factories.local_runs import spec
from tests.factories.run_contexts import run_context
from tests.fakes.kfp.server import KfpServer, serve_kfp
from tests.fakes.kfp.store import KfpServerSettings
from tests.fakes.kfp.workflow import StepEnd
from tests.fakes.kube_api import KubeApiServer, serve_kube_api

from windlass.domain.errors import UnavailableError
from windlass.kube.kfp.backend import KfpPipelineBackend, KfpSettings
from windlass.kube.kfp.run_end import KfpRunFolders, RunKiller
from windlass.kube.kfp.run_record import RunRecords, run_id_of
from windlass.kube.kfp.workflows import WORKFLOW
from windlass.kube.kinds import BATCH_JOB, CONFIG_MAP, DEPLOYMENT, NAMESPACE, POD, RAY_JOB, SECRET
from windlass.kube.names import KFP_RUN_LABEL, RUN_LABEL, namespace_of
from windlass.kube.objects import Ref
from windlass.orchestration.kfp.client import KfpClient
from windlass.orchestration.kfp.package import STEP, PipelinePackage, StepPod, render_package
from windlass.orchestration.run_result import RunResult
from windlass.ports import BackendRun, BackendState
from windlass.runtime.context import RunContext

PACKAGE: PipelinePackage = render_package(StepPod(image="registry.example.com/windlass/pipelines:dev"))
FAILED = RunResult(state="failed", message="train: the loss is not a number")
SYSTEM, PIPELINES = "windlass-system", "kubeflow"
_KINDS = (SECRET, CONFIG_MAP, RAY_JOB, NAMESPACE, WORKFLOW, BATCH_JOB, DEPLOYMENT, POD)
_MAX_POLLS = 200


@dataclass
class SteppedClock:
    """Seconds that pass only while somebody sleeps, and in tests."""

    seconds: float = 1000.0

    def __call__(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


@dataclass
class KfpRun:
    """A run before its submission."""

    server: KfpServer
    kube: KubeApiServer
    context: RunContext
    settings: dict[str, Any] = field(default_factory=dict)
    token_file: Path | None = None
    clock: SteppedClock = field(default_factory=SteppedClock)
    clients: list[KfpClient] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.context.identity.name

    @property
    def run_id(self) -> str:
        """The id of the first try."""
        return run_id_of(self.name)

    def records(self) -> RunRecords:
        multi_user = self.server.store.settings.multi_user
        return RunRecords(self.kube.client(), SYSTEM, namespace_of if multi_user else lambda _: PIPELINES)

    def client(self) -> KfpClient:
        client = KfpClient(self.server.url, self.token_file)
        self.clients.append(client)
        return client

    def backend(self) -> KfpPipelineBackend:
        """A new back end, as of a restarted worker."""
        settings = KfpSettings(package=PACKAGE, multi_user=self.server.store.settings.multi_user, **self.settings)
        return KfpPipelineBackend(
            self.kube.client(), self.client(), self.records(), settings, clock=self.clock, sleep=self.clock.sleep
        )

    def submit_other(self, name: str) -> str:
        """Submit another run of the same job."""
        identity = self.context.identity.model_copy(update={"name": name})
        self.backend().submit(self.context.model_copy(update={"identity": identity}))
        return name

    def start_step(self) -> None:
        """Let the workflow change until its step runs."""
        store = self.server.store
        while store.runs[self.run_id].workflows[0].started_step != STEP:
            store.advance(store.runs[self.run_id])

    def create_ray_job(self) -> Ref:
        """Create the RayJob that the step would create."""
        ref = Ref(RAY_JOB, self.name, namespace_of("demo"))
        metadata = {"name": ref.name, "namespace": ref.namespace, "labels": {RUN_LABEL: self.name}}
        self.kube.api.create({"apiVersion": RAY_JOB.api_version, "kind": RAY_JOB.kind, "metadata": metadata})
        return ref

    def start_workflow(self, name: str, run_id: str) -> Ref:
        """Create a workflow as the server does, which may fail before it stores the run of the workflow."""
        ref = Ref(WORKFLOW, name, PIPELINES)
        metadata = {"name": name, "namespace": PIPELINES, "labels": {KFP_RUN_LABEL: run_id}}
        self.kube.api.create({"apiVersion": WORKFLOW.api_version, "kind": WORKFLOW.kind, "metadata": metadata})
        return ref

    def folders(self) -> KfpRunFolders:
        kube, server, records = self.kube.client(), self.client(), self.records()
        killer = RunKiller(kube, server, records, clock=self.clock, sleep=self.clock.sleep)
        return KfpRunFolders(kube, killer, server, records)

    def finish(self, result: str) -> None:
        """End the step: ``ok`` or ``fail``."""
        self.end_step(RunResult(state="succeeded") if result == "ok" else FAILED)

    def end_step(self, result: RunResult | None, log: str = "") -> None:
        """End the step of all runs with a result, or (None) without one."""
        text = log if result is None else f"{log}\n{result.log_line()}\nF1122 main.go:59] failed to execute component\n"
        end = StepEnd(succeeds=result is not None and result.state == "succeeded", log=text)
        with self.server.lock:
            for number in range(1, 10):
                self.server.store.ends.setdefault(run_id_of(self.name, number), {})[STEP] = end

    def wait_ended(self) -> BackendRun:
        """Poll until the run has ended."""
        backend = self.backend()
        for _ in range(_MAX_POLLS):
            try:
                run = backend.poll(self.name)
            except UnavailableError:
                self.clock.sleep(2.0)
                continue
            if run.state is not BackendState.RUNNING:
                return run
            self.clock.sleep(2.0)  # sooner, the back end returns what it knows
        raise AssertionError(f"the run does not end: {self.server.store.runs}")

    def starts(self) -> int:
        """How many workflows were created."""
        return self.server.store.created_runs


@contextmanager
def kfp_run(root: Path, settings: KfpServerSettings | None = None, **changes: Any) -> Iterator[KfpRun]:
    """Serve Kubeflow Pipelines and Kubernetes without objects for one run; ``changes``: fields of ``KfpSettings``."""
    with (
        serve_kfp(settings) as server,
        serve_kube_api(_KINDS, [NAMESPACE]) as kube,
    ):
        run = KfpRun(server, kube, run_context(root, spec()), changes)
        try:
            yield run
        finally:
            for client in run.clients:
                client.close()
