"""The RayJob and the Job of a run as rendered, and what their status says about the trainer and the run."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.client import Configuration
from tests.factories.local_runs import spec
from tests.factories.pod_settings import ray_job_settings, runner_settings
from tests.factories.run_contexts import run_context
from tests.unit.kube.job_states import CLUSTER, RUN, TRACEBACK, failed, output, pod, terminated
from tests.unit.kube.job_states import ray_job as ray_job_state

from windlass.kube.client import KubeClient
from windlass.kube.errors import KubeUnavailableError
from windlass.kube.jobs.pipeline_backend import runner_job
from windlass.kube.jobs.pod_spec import RestrictedPod, owned_secret
from windlass.kube.jobs.ray_job import RayJobSettings, ray_job, trainer_status
from windlass.kube.jobs.ray_job_launcher import RAY_JOB_SETTINGS_VARIABLE, RayJobLauncher
from windlass.kube.kinds import RAY_JOB
from windlass.kube.names import RUN_LABEL
from windlass.kube.objects import Kind, ObjectList
from windlass.ports import TrainerState
from windlass.runtime.context import RunContext

GOLDEN = Path(__file__).parent / "golden"
GPU = "nvidia.com/gpu"
Json = dict[str, Any]


@pytest.fixture
def context(tmp_path: Path) -> RunContext:
    resources = {"pool": "a100", "workers": 2, "gpus_per_worker": 4}
    job = spec(resources=resources, priority=15, max_duration_seconds=7200)
    return run_context(tmp_path, job, has_gpus=True)


def golden(name: str) -> Any:
    return yaml.safe_load((GOLDEN / name).read_text("utf-8"))


def test_the_ray_job_of_two_workers_with_four_gpus(context: RunContext) -> None:
    assert ray_job(context, 1, GPU, ray_job_settings()) == golden("ray_job.yaml")


def test_the_only_worker_of_a_job_trains_in_the_head_pod(tmp_path: Path) -> None:
    one = run_context(tmp_path, spec(resources={"pool": "a100", "gpus_per_worker": 4}), has_gpus=True)
    settings = ray_job_settings(head_cpu="500m", head_memory_mib=2048, worker_cpu="4000m", worker_memory_mib=8192)
    cluster = ray_job(one, 1, GPU, settings)["spec"]["rayClusterSpec"]
    assert "workerGroupSpecs" not in cluster
    head = cluster["headGroupSpec"]
    assert (head["rayStartParams"]["num-cpus"], head["rayStartParams"]["num-gpus"]) == ("1", "4")
    [container] = head["template"]["spec"]["containers"]
    assert container["resources"]["requests"] == {"cpu": "16500m", "memory": "34816Mi", GPU: "4"}
    assert {"name": "OMP_NUM_THREADS", "value": "4"} in container["env"], "of each of four processes"


@pytest.mark.parametrize(
    ("cpu", "request_", "limit", "threads"),
    [
        ("200m", "800m", "2000m", "1"),  # a process that starts may use more than its share
        ("900m", "3600m", "3600m", "1"),
        ("4000m", "16000m", "16000m", "4"),
    ],
)
def test_each_process_of_a_pod_computes_with_the_cpus_of_its_gpu(
    context: RunContext, cpu: str, request_: str, limit: str, threads: str
) -> None:
    cluster = ray_job(context, 1, GPU, ray_job_settings(worker_cpu=cpu))["spec"]["rayClusterSpec"]
    [worker] = cluster["workerGroupSpecs"][0]["template"]["spec"]["containers"]
    [head] = cluster["headGroupSpec"]["template"]["spec"]["containers"]
    assert (worker["resources"]["requests"]["cpu"], worker["resources"]["limits"]["cpu"]) == (request_, limit)
    for container in (head, worker):  # the driver on the head sends the number to the workers
        assert {"name": "OMP_NUM_THREADS", "value": threads} in container["env"]


def test_the_limit_of_cpu_is_at_least_the_request() -> None:
    limits = {
        request: RestrictedPod(container="main", image="image", amounts={"cpu": request, "memory": "1Gi"}).spec()[
            "containers"
        ][0]["resources"]["limits"]["cpu"]
        for request in ("4", "2.5", "0.5", "250m")
    }
    assert limits == {"4": "4000m", "2.5": "2500m", "0.5": "2000m", "250m": "2000m"}


def test_the_job_of_a_run(context: RunContext) -> None:
    rendered = runner_job(context, "windlass-system", runner_settings())
    [container] = rendered["spec"]["template"]["spec"]["containers"]
    [settings] = [each for each in container["env"] if each["name"] == RAY_JOB_SETTINGS_VARIABLE]
    assert RayJobSettings.model_validate_json(settings.pop("value")) == ray_job_settings()
    assert rendered == golden("runner_job.yaml")


def test_a_manifest_holds_no_token(context: RunContext) -> None:
    rendered = [ray_job(context, 1, GPU, ray_job_settings()), runner_job(context, "windlass-system", runner_settings())]
    assert context.run_token not in json.dumps(rendered)


def test_a_secret_is_deleted_with_its_owner(context: RunContext) -> None:
    owner = ray_job(context, 2, GPU, ray_job_settings())
    owner["metadata"]["uid"] = "u-1"
    [volume] = [
        each["secret"]
        for each in owner["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["volumes"]
        if "secret" in each
    ]
    secret = owned_secret(volume["secretName"], {"context.json": "{}"}, owner)
    assert (secret["metadata"]["name"], secret["metadata"]["namespace"]) == ("job-1-r1-context-2", "wl-demo")
    [reference] = secret["metadata"]["ownerReferences"]
    assert (reference["kind"], reference["name"], reference["uid"]) == ("RayJob", "job-1-r1", "u-1")


def status(**fields: str) -> Json:
    return {"metadata": {"annotations": {"windlass.dev/trainer-start": "2"}}, "status": fields}


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({}, TrainerState.PENDING),
        ({"jobDeploymentStatus": "Suspended"}, TrainerState.PENDING),
        ({"jobDeploymentStatus": "Initializing"}, TrainerState.PENDING),
        ({"jobDeploymentStatus": "Running", "jobStatus": "PENDING"}, TrainerState.PENDING),
        ({"jobDeploymentStatus": "Running", "jobStatus": "RUNNING"}, TrainerState.RUNNING),
        ({"jobDeploymentStatus": "Suspending"}, TrainerState.PENDING),
        ({"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}, TrainerState.SUCCEEDED),
        ({"jobDeploymentStatus": "Complete", "jobStatus": "STOPPED"}, TrainerState.FAILED),
        ({"jobDeploymentStatus": "Failed", "jobStatus": "FAILED"}, TrainerState.FAILED),
        ({"jobDeploymentStatus": "ValidationFailed"}, TrainerState.FAILED),
    ],
)
def test_the_state_of_a_trainer_needs_kuberays_and_rays_view(fields: Json, state: TrainerState) -> None:
    read = trainer_status(status(**fields))
    assert (read.state, read.start) == (state, 2)


def test_the_exit_code_of_a_trainer_is_in_the_message_of_ray() -> None:
    message = "Job entrypoint command failed with exit code 3, last available logs (truncated to 20,000 chars):\nfenced"
    read = trainer_status(status(jobDeploymentStatus="Failed", jobStatus="FAILED", reason="AppFailed", message=message))
    assert (read.exit_code, read.message) == (3, "AppFailed: exit code 3")


def test_a_deadline_has_no_exit_code() -> None:
    read = trainer_status(
        status(jobDeploymentStatus="Failed", reason="DeadlineExceeded", message="The RayJob has passed the deadline")
    )
    assert (read.exit_code, read.message) == (None, "DeadlineExceeded: The RayJob has passed the deadline")


class RayJobApi(KubeClient):
    """A client of an API server with one RayJob and its pods."""

    def __init__(self, ray_job: Json, pods: list[Json] | None) -> None:
        super().__init__(Configuration())
        self.ray_job, self.pods = ray_job, pods
        self.selectors: list[str] = []

    def list(self, kind: Kind, namespace: str | None = None, *, labels: str = "", fields: str = "") -> ObjectList:
        if kind == RAY_JOB:
            assert (namespace, labels) == ("wl-search", f"{RUN_LABEL}={RUN}")
            return ObjectList([self.ray_job], "1")
        self.selectors.append(f"{kind} {namespace} {labels}{fields}")
        if self.pods is None:
            raise KubeUnavailableError("no reply")
        return ObjectList(self.pods, "1")


@pytest.mark.parametrize(
    ("pods", "code"),
    [
        ([pod("ray-worker", {"lastState": terminated(137, "OOMKilled")})], "oom_killed"),
        ([], "trainer_crashed"),
        (None, "trainer_crashed"),
    ],
)
def test_a_failed_trainer_is_explained_from_the_pods_of_its_ray_cluster(pods: list[Json] | None, code: str) -> None:
    api = RayJobApi(failed(output(1, TRACEBACK)), pods)
    launcher = RayJobLauncher(api, "search", ray_job_settings())
    status = launcher.poll(RUN)
    assert status.reason is not None
    assert (status.state, status.start, status.reason.code) == (TrainerState.FAILED, 2, code)
    launcher.poll(RUN)
    assert api.selectors == [f"Pod wl-search ray.io/cluster={CLUSTER}"]


def test_the_pods_of_a_trainer_that_runs_are_not_read() -> None:
    api = RayJobApi(ray_job_state(jobDeploymentStatus="Running", jobStatus="RUNNING"), [])
    assert RayJobLauncher(api, "search", ray_job_settings()).poll(RUN).reason is None
    assert api.selectors == []
