"""Warm trainers as RayJobs of the real API server, and how runs claim them; the test plays KubeRay and Kueue."""

from dataclasses import dataclass, field

import pytest
from tests.contracts.warm_trainers import WarmTrainersContract, create
from tests.factories.local_runs import spec
from tests.factories.pod_settings import ray_job_settings
from tests.factories.run_contexts import run_context
from tests.integration.cluster import test_ray_job_launcher as launcher_tests
from tests.integration.cluster.installed import admin_client
from tests.integration.cluster.test_ray_job_launcher import NAMESPACE, POOL_NAME, PROJECT, TESTER, RayJobDriver
from tests.integration.cluster.waiting import eventually
from tests.testcluster.layout import LocalCluster

from windlass.domain.warm_trainers import Placement, WarmTrainerState
from windlass.kube.client import KubeClient
from windlass.kube.jobs.ray_job_launcher import RayJobLauncher
from windlass.kube.jobs.warm_trainers import KubernetesWarmTrainers
from windlass.kube.kinds import RAY_JOB, SECRET
from windlass.kube.objects import Kind, Object, ObjectList, Ref
from windlass.ports import TrainerState
from windlass.runtime.context import RunContext

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]
WORKER = "system:serviceaccount:windlass-system:windlass-worker"
SETTINGS = ray_job_settings(managed_by="kueue.x-k8s.io/multikueue", control_plane="ours")


driver_of_runs = launcher_tests.driver


@dataclass
class RayJobWarmTrainers:
    """The warm trainers of one project, with the permissions of the worker; KubeRay ignores them (``managedBy``)."""

    runs: RayJobDriver
    worker: KubeClient
    place: Placement = field(default_factory=lambda: Placement(PROJECT, POOL_NAME))

    @property
    def trainers(self) -> KubernetesWarmTrainers:
        return KubernetesWarmTrainers(self.worker, SETTINGS)

    def ref(self, name: str) -> Ref:
        return Ref(RAY_JOB, name, NAMESPACE.name)

    def get(self, name: str) -> Object:
        return self.runs.admin.get(self.ref(name))

    def admit(self, name: str) -> None:
        self.runs.kuberay.patch(self.ref(name), {"spec": {"suspend": False}}, manager=TESTER)
        self.set_status(name, jobDeploymentStatus="Running", jobStatus="RUNNING")

    def claim(self, name: str) -> None:
        launcher, _ = self.launcher()
        launcher.launch(self.context("job-1-r1"), 1)
        assert self.get(name)["metadata"]["labels"]["windlass.dev/run"] == "job-1-r1"

    def end(self, name: str) -> None:
        self.set_status(name, jobDeploymentStatus="Failed", jobStatus="FAILED")

    def set_status(self, name: str, **status: str) -> None:
        self.runs.kuberay.patch(self.ref(name), {"status": status}, manager=TESTER, subresource="status")

    def launcher(self) -> tuple[RayJobLauncher, list[str]]:
        """The launcher of a run, and the warm trainers that it has assigned."""
        assigned: list[str] = []
        return RayJobLauncher(self.runs.runner, PROJECT, SETTINGS, assign=assigned.append), assigned

    def context(self, run: str, **resources: int) -> RunContext:
        context = run_context(self.runs.root, spec(resources={"pool": POOL_NAME, **resources}))
        identity = context.identity.model_copy(update={"project": PROJECT, "name": run})
        return context.model_copy(update={"identity": identity})

    def ready(self) -> str:
        """Create a warm trainer that runs, and return its name."""
        name = create(self)
        self.admit(name)
        return name


@pytest.fixture
def driver(driver_of_runs: RayJobDriver, installed: LocalCluster) -> RayJobWarmTrainers:
    return RayJobWarmTrainers(driver_of_runs, admin_client(installed, impersonate=WORKER))


class TestKubernetesWarmTrainers(WarmTrainersContract):
    @pytest.fixture
    def driver(self, driver: RayJobWarmTrainers) -> RayJobWarmTrainers:
        return driver


def test_its_secret_goes_with_it(driver: RayJobWarmTrainers) -> None:
    name = create(driver)
    secret = driver.runs.admin.get(Ref(SECRET, f"{name}-context-1", NAMESPACE.name))
    assert secret["metadata"]["ownerReferences"][0]["uid"] == driver.get(name)["metadata"]["uid"]
    assert list(secret["data"]) == ["warm-trainer.json"]


def test_one_with_other_settings_is_outdated_and_not_claimed(driver: RayJobWarmTrainers) -> None:
    name = driver.ready()
    changed = SETTINGS.model_copy(update={"image": "bed.local/windlass/ray:next"})
    [outdated] = KubernetesWarmTrainers(driver.worker, changed).list()
    assert (outdated.name, outdated.outdated, outdated.state) == (name, True, WarmTrainerState.ADMITTED)
    assigned: list[str] = []
    RayJobLauncher(driver.runs.runner, PROJECT, changed, assign=assigned.append).launch(driver.context("job-1-r1"), 1)
    assert assigned == []


def test_another_control_plane_does_not_see_it(driver: RayJobWarmTrainers) -> None:
    create(driver)
    other = SETTINGS.model_copy(update={"control_plane": "theirs"})
    assert KubernetesWarmTrainers(driver.worker, other).list() == []


def test_a_run_claims_the_oldest_one_that_runs(driver: RayJobWarmTrainers) -> None:
    names = [driver.ready() for _ in range(2)]
    pending = create(driver)
    run = "job-1-r1"
    launcher, assigned = driver.launcher()
    launcher.launch(driver.context(run), 1)
    assert assigned == [names[0]]
    status = launcher.poll(run)
    assert (status.state, status.start) == (TrainerState.RUNNING, 1)
    labels = driver.get(names[0])["metadata"]["labels"]
    assert labels["kueue.x-k8s.io/priority-class"] == "windlass-0"
    assert driver.get(names[0])["spec"]["activeDeadlineSeconds"] > driver.context(run).spec.max_duration_seconds
    assert driver.runs.admin.find(Ref(RAY_JOB, run, NAMESPACE.name)) is None
    launcher.kill(run)
    assert driver.runs.admin.find(driver.ref(names[0])) is None
    assert {each.name for each in driver.trainers.list()} == {names[1], pending}


def test_two_runs_claim_different_ones(driver: RayJobWarmTrainers) -> None:
    names = {driver.ready() for _ in range(2)}
    claimed = set()
    for run in ("job-1-r1", "job-2-r1"):
        launcher, assigned = driver.launcher()
        launcher.launch(driver.context(run), 1)
        claimed.update(assigned)
    assert claimed == names


def test_a_run_that_read_one_before_another_run_claimed_it_gets_the_next_one(
    driver: RayJobWarmTrainers, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [driver.ready() for _ in range(2)]
    read = driver.runs.runner.list(RAY_JOB, NAMESPACE.name)
    launcher, assigned = driver.launcher()
    launcher.launch(driver.context("job-1-r1"), 1)
    list_now = driver.runs.runner.list

    def list_of_before(kind: Kind, namespace: str | None = None, *, labels: str = "", fields: str = "") -> ObjectList:
        is_claim = kind == RAY_JOB and "!windlass.dev/run" in labels
        return read if is_claim else list_now(kind, namespace, labels=labels, fields=fields)

    monkeypatch.setattr(driver.runs.runner, "list", list_of_before)
    second, also_assigned = driver.launcher()
    second.launch(driver.context("job-2-r1"), 1)
    assert (assigned, also_assigned) == ([names[0]], [names[1]])


def test_a_claim_whose_reply_was_lost_is_completed_by_the_next_process(driver: RayJobWarmTrainers) -> None:
    name, run = driver.ready(), "job-1-r1"
    launcher, _ = driver.launcher()
    launcher.launch(driver.context(run), 1)
    second, assigned = driver.launcher()
    second.launch(driver.context(run), 1)
    assert assigned == [name]


def test_the_next_start_replaces_it(driver: RayJobWarmTrainers) -> None:
    name, run = driver.ready(), "job-1-r1"
    launcher, assigned = driver.launcher()
    launcher.launch(driver.context(run), 1)
    driver.end(name)
    eventually(lambda: launcher.poll(run).ended, "the end is observed")
    launcher.launch(driver.context(run), 2)
    assert assigned == [name]
    assert driver.runs.admin.find(driver.ref(name)) is None
    assert driver.get(run)["metadata"]["annotations"]["windlass.dev/trainer-start"] == "2"


@pytest.mark.parametrize("resources", [{"workers": 2}, {"gpus_per_worker": 2}])
def test_a_run_of_another_shape_gets_a_trainer_of_its_own(
    driver: RayJobWarmTrainers, resources: dict[str, int]
) -> None:
    driver.ready()
    launcher, assigned = driver.launcher()
    launcher.launch(driver.context("job-1-r1", **resources), 1)
    assert assigned == []
    assert driver.get("job-1-r1")
