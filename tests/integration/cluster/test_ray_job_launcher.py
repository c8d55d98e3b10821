"""Runs the launcher contract on RayJobs of the real API server; the test writes their status in place of KubeRay."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.contracts.launcher import LauncherContract, TrainerDriver, ended
from tests.factories.local_runs import spec
from tests.factories.pod_settings import ray_job_settings
from tests.factories.run_contexts import run_context
from tests.integration.cluster.installed import admin_client
from tests.testcluster.layout import LocalCluster

from windlass.domain.errors import InvalidError, UnavailableError
from windlass.kube.client import KubeClient
from windlass.kube.jobs.ray_job_launcher import RayJobLauncher
from windlass.kube.kinds import POD, POOL, RAY_JOB, SECRET
from windlass.kube.objects import Kind, Object, Ref
from windlass.kube.resources import GPUPool, Project
from windlass.ports import Launcher, RunLostError, TrainerState
from windlass.runtime.context import RunContext
from windlass_operators.render import namespace
from windlass_operators.render.network import PlatformNetwork

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]
PROJECT, POOL_NAME, GPU = "launcher", "launcher-pool", "nvidia.com/gpu"
NAMESPACE = Ref(Kind("v1", "Namespace"), f"wl-{PROJECT}")
HOLD = "windlass.dev/test-hold"
"""A finalizer in place of KubeRay's: the RayJob stays until its trainer has ended."""
TESTER = "launcher-test"
KUBERAY = "system:serviceaccount:ray-system:kuberay-operator"
RUNNER = "system:serviceaccount:windlass-system:windlass-runner"


@dataclass
class RayJobDriver:
    """The RayJobs of one run, with the permissions of the runner; KubeRay ignores them (``managedBy``)."""

    root: Path
    admin: KubeClient
    kuberay: KubeClient
    runner: KubeClient
    uids: set[str] = field(default_factory=set)
    """Of the RayJobs that were seen."""

    def launcher(self) -> Launcher:
        return ObservedLauncher(self)

    def context(self) -> RunContext:
        context = run_context(self.root, spec(resources={"pool": POOL_NAME}))
        identity = context.identity.model_copy(update={"project": PROJECT})
        return context.model_copy(update={"identity": identity})

    @property
    def ref(self) -> Ref:
        return Ref(RAY_JOB, self.context().identity.name, NAMESPACE.name)

    def observe(self) -> Object | None:
        found = self.admin.find(self.ref)
        if found is not None:
            self.uids.add(found["metadata"]["uid"])
        return found

    def set_status(self, **status: str) -> None:
        self.kuberay.patch(self.ref, {"status": status}, manager=TESTER, subresource="status")

    def wait_started(self) -> None:
        self.kuberay.patch(self.ref, {"metadata": {"finalizers": [HOLD]}}, manager=TESTER)
        self.set_status(jobDeploymentStatus="Running", jobStatus="RUNNING")

    def exit(self, code: int) -> None:
        if code:
            message = f"Job entrypoint command failed with exit code {code}, last available logs:\nexit {code}"
            self.set_status(jobDeploymentStatus="Failed", jobStatus="FAILED", reason="AppFailed", message=message)
        else:
            self.set_status(jobDeploymentStatus="Complete", jobStatus="SUCCEEDED")

    def crash(self) -> None:
        self.set_status(jobDeploymentStatus="Failed", jobStatus="FAILED", message="the node of its head is gone")

    def release(self) -> None:
        """Remove the finalizers, as KubeRay does."""
        for found in self.admin.list(RAY_JOB, NAMESPACE.name).items:
            self.kuberay.patch(Ref.of(found), {"metadata": {"finalizers": []}}, manager=TESTER)

    def lose_cluster(self) -> None:
        self.release()
        self.admin.delete(NAMESPACE)

    def starts(self) -> int:
        self.observe()
        return len(self.uids)

    def stop_requests(self) -> int:
        found = self.observe()
        return int(found is not None and "deletionTimestamp" in found["metadata"])


class ObservedLauncher(RayJobLauncher):
    """A launcher whose RayJobs the driver counts."""

    def __init__(self, driver: RayJobDriver) -> None:
        super().__init__(driver.runner, PROJECT, ray_job_settings(managed_by="kueue.x-k8s.io/multikueue"))
        self.driver = driver

    def launch(self, context: RunContext, start: int) -> None:
        super().launch(context, start)
        self.driver.observe()


def create_project(admin: KubeClient) -> None:
    pools = {
        POOL_NAME: GPUPool.model_validate(
            {"metadata": {"name": POOL_NAME}, "spec": {"nodeLabels": {"windlass.dev/pool": POOL_NAME}}}
        )
    }
    project = Project.model_validate(
        {"metadata": {"name": PROJECT, "uid": "u"}, "spec": {"quotas": [{"pool": POOL_NAME, "nominal": 4}]}}
    )
    labels = {"nodeLabels": {"windlass.dev/pool": POOL_NAME}}
    pool = {"apiVersion": POOL.api_version, "kind": POOL.kind, "metadata": {"name": POOL_NAME}, "spec": labels}
    for manifest in [pool, *namespace.objects(project, pools, PlatformNetwork())]:
        admin.apply(manifest, manager=TESTER, force=True)


@pytest.fixture
def driver(installed: LocalCluster, tmp_path: Path) -> Iterator[RayJobDriver]:
    admin = admin_client(installed)
    deadline = time.monotonic() + 60
    while admin.find(NAMESPACE) is not None:  # of the test before
        assert time.monotonic() < deadline
        time.sleep(0.2)
    create_project(admin)
    started = RayJobDriver(
        tmp_path, admin, admin_client(installed, impersonate=KUBERAY), admin_client(installed, impersonate=RUNNER)
    )
    yield started
    started.release()
    admin.delete(NAMESPACE)


class TestRayJobLauncher(LauncherContract):
    @pytest.fixture
    def driver(self, driver: RayJobDriver) -> TrainerDriver:
        return driver

    def test_the_exit_code_is_known(self, driver: TrainerDriver) -> None:
        driver.launcher().launch(driver.context(), 1)
        driver.exit(3)
        assert ended(driver).exit_code == 3


def test_a_failed_trainer_has_a_reason_for_which_the_runner_may_list_its_pods(driver: RayJobDriver) -> None:
    launcher, name = driver.launcher(), driver.context().identity.name
    launcher.launch(driver.context(), 1)
    driver.set_status(rayClusterName=f"{name}-abcde")
    driver.exit(1)
    status = ended(driver, launcher)
    assert status.reason is not None
    assert (status.reason.code, status.reason.context["exit_code"]) == ("trainer_crashed", 1)
    assert driver.runner.list(POD, NAMESPACE.name).items == []


def test_a_job_that_is_preempted_is_pending_again(driver: RayJobDriver) -> None:
    launcher, name = driver.launcher(), driver.context().identity.name
    launcher.launch(driver.context(), 1)
    driver.wait_started()
    assert driver.launcher().poll(name).state is TrainerState.RUNNING
    driver.set_status(jobDeploymentStatus="Suspended", jobStatus="")
    assert driver.launcher().poll(name).state is TrainerState.PENDING


def test_the_context_is_in_a_secret_that_goes_with_the_ray_job(driver: RayJobDriver) -> None:
    launcher, name = driver.launcher(), driver.context().identity.name
    launcher.launch(driver.context(), 1)
    secret = Ref(SECRET, f"{name}-context-1", NAMESPACE.name)
    assert driver.admin.get(secret)["metadata"]["ownerReferences"][0]["name"] == name
    launcher.kill(name)
    assert driver.admin.find(driver.ref) is None
    assert driver.admin.find(secret) is None


def test_a_pool_that_is_gone_fails_the_job(driver: RayJobDriver) -> None:
    driver.admin.delete(Ref(POOL, POOL_NAME))
    with pytest.raises(InvalidError, match="does not exist any more"):
        driver.launcher().launch(driver.context(), 1)


def test_an_outage_of_the_api_server_is_no_end(driver: RayJobDriver) -> None:
    launcher, name = driver.launcher(), driver.context().identity.name
    launcher.launch(driver.context(), 1)
    working = driver.runner._host
    driver.runner._host = "https://127.0.0.1:9"
    try:
        assert not launcher.poll(name).ended
        with pytest.raises(UnavailableError):
            launcher.launch(driver.context(), 1)
        with pytest.raises(UnavailableError):
            launcher.kill(name)
    finally:
        driver.runner._host = working
    launcher.launch(driver.context(), 1)
    assert driver.starts() == 1


def test_a_project_that_is_being_deleted_takes_no_trainer(driver: RayJobDriver) -> None:
    closed = {"metadata": {"annotations": {"windlass.dev/closed": "true"}}}
    driver.admin.patch(NAMESPACE, closed, manager=TESTER)
    with pytest.raises(RunLostError, match="accepts no new jobs"):
        driver.launcher().launch(driver.context(), 1)
