"""Data tasks and imports as pods: the contracts of their ports against the real API server and object store."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.charts.rendering import SYSTEM
from tests.contracts import data_processor, model_importer
from tests.contracts.data_processor import DataProcessorContract, result_of
from tests.contracts.model_importer import ModelImporterContract
from tests.factories.s3_server import S3Server
from tests.integration.cluster.task_pods import ResultPods
from tests.integration.cluster.waiting import eventually
from tests.testcluster.layout import LocalCluster

from windlass.domain.datasets import DataRequest, DataResult, ValidationReport
from windlass.domain.errors import NotFoundError, UnavailableError
from windlass.domain.ingest import IngestOptions
from windlass.domain.models import ImportedModel, ImportRequest
from windlass.domain.specs import Task
from windlass.kube.jobs.data_tasks import KubernetesDataProcessor, KubernetesModelImporter
from windlass.kube.kinds import SECRET
from windlass.kube.objects import Ref
from windlass.orchestration.task_result import RefusedImport
from windlass.ports import DataProcessor, ModelImporter, TaskFailedError

pytestmark = [pytest.mark.cluster, pytest.mark.images, pytest.mark.s3, pytest.mark.timeout(1200)]
LARGE_LABELS = tuple(f"{number:06}-{'x' * 120}" for number in range(100_000))
"""More than the 10 MiB of a log that a kubelet keeps by default."""


class ProcessorDriver(ResultPods):
    """Drives a data task."""

    def processor(self) -> DataProcessor:
        return KubernetesDataProcessor(self.tasks(), self.tokens().for_data_task)

    def request(self) -> DataRequest:
        uri = self.server.store.uri
        return DataRequest(
            operation="ingest",
            task=Task.TEXT_CLASSIFICATION,
            options=IngestOptions(),
            inputs=((uri("projects/p/uploads/u/0"), None),),
            output=uri("projects/p/datasets/d"),
        )

    def finish(self) -> None:
        self.publish_and_exit(data_result())


class ImporterDriver(ResultPods):
    """Drives an import."""

    def importer(self) -> ModelImporter:
        return KubernetesModelImporter(self.tasks(), self.tokens().for_import)

    def request(self) -> ImportRequest:
        return ImportRequest(path="/models/tiny", target=self.server.store.uri("base-models/b"))

    def finish(self, refused: str | None = None) -> None:
        model = ImportedModel(tasks=(Task.CHAT,), parameters=7, bytes=70, digest="0" * 64)
        result = RefusedImport(refused=refused) if refused else model
        self.publish_and_exit(result.model_dump_json())


def data_result(labels: tuple[str, ...] = ()) -> str:
    report = ValidationReport(findings=(), splits={})
    return DataResult(accepted=True, report=report, labels=labels).model_dump_json()


@pytest.fixture
def task(installed: LocalCluster, tmp_path: Path, s3_server: S3Server) -> Iterator[ProcessorDriver]:
    driver = ProcessorDriver(installed, tmp_path, s3_server, "data", data_processor.NAME)
    yield driver
    driver.close()


class TestKubernetesDataProcessor(DataProcessorContract):
    @pytest.fixture
    def driver(self, task: ProcessorDriver) -> data_processor.ProcessorDriver:
        return task


class TestKubernetesModelImporter(ModelImporterContract):
    @pytest.fixture
    def driver(
        self, installed: LocalCluster, tmp_path: Path, s3_server: S3Server
    ) -> Iterator[model_importer.ImporterDriver]:
        driver = ImporterDriver(installed, tmp_path, s3_server, "import", model_importer.NAME)
        yield driver
        driver.close()


def test_a_pod_without_a_node_is_the_problem_of_its_task(task: ProcessorDriver) -> None:
    processor = task.processor()
    processor.start(task.name, task.request())
    eventually(lambda: "nodes are available" in processor.problem(task.name), "the scheduler's message is shown", 30)


def test_a_result_that_no_log_would_hold_arrives(task: ProcessorDriver) -> None:
    processor = task.processor()
    processor.start(task.name, task.request())
    result = data_result(LARGE_LABELS)
    assert len(result) > 12 << 20
    task.publish_and_exit(result)
    assert result_of(processor).labels == LARGE_LABELS


def test_the_pod_that_replaces_an_evicted_one_keeps_its_result(task: ProcessorDriver) -> None:
    processor = task.processor()
    processor.start(task.name, task.request())
    evicted = task.pod()
    task.publish(data_result(("first",)))
    task.evict()
    assert task.pod()["metadata"]["uid"] != evicted["metadata"]["uid"]
    assert processor.poll(task.name) is None, "the new pod may still write files of the version"
    task.publish_and_exit(data_result(("second",)))
    assert result_of(processor).labels == ("first",)
    assert task.starts() == 1


def test_a_pod_that_publishes_no_result_has_failed(task: ProcessorDriver) -> None:
    processor = task.processor()
    processor.start(task.name, task.request())
    task.exit()
    with pytest.raises(TaskFailedError, match="ended without a result"):
        result_of(processor)


def test_an_outage_of_the_object_store_is_no_failure(task: ProcessorDriver) -> None:
    processor = task.processor()
    processor.start(task.name, task.request())
    task.finish()
    assert result_of(processor).accepted
    task.server.s3.stop()
    try:
        with pytest.raises(UnavailableError):
            processor.poll(task.name)
    finally:
        task.server.s3.start()
    assert result_of(processor).accepted


def test_a_pod_has_no_credentials_but_the_token_of_its_task(task: ProcessorDriver) -> None:
    processor = task.processor()
    processor.start(task.name, task.request())
    spec = task.pod()["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert not any("projected" in volume for volume in spec["volumes"])
    secret = Ref(SECRET, task.job.name, SYSTEM)
    stored = task.admin.get(secret)
    assert set(stored["data"]) == {"request.json", "token"}
    assert stored["metadata"]["ownerReferences"][0]["name"] == task.job.name
    assert "wlt_" not in str(task.admin.get(task.job)), "the token is only in the Secret"
    processor.delete(task.name)
    assert task.admin.find(secret) is None


def test_a_worker_that_dies_before_it_creates_the_job_starts_the_task_later(task: ProcessorDriver) -> None:
    processor, secret = task.processor(), Ref(SECRET, task.job.name, SYSTEM)
    task.worker.failing_kinds = frozenset({"Job"})
    with pytest.raises(UnavailableError):
        processor.start(task.name, task.request())
    left = task.admin.get(secret)
    with pytest.raises(NotFoundError):
        processor.poll(task.name)
    task.worker.failing_kinds = frozenset()
    processor.start(task.name, task.request())
    assert task.admin.get(secret)["metadata"]["uid"] != left["metadata"]["uid"], "its request and token may be old"
    task.finish()
    assert result_of(processor).accepted


def test_a_worker_that_dies_before_the_job_owns_its_secret_leaves_a_task_that_runs(task: ProcessorDriver) -> None:
    processor, secret = task.processor(), Ref(SECRET, task.job.name, SYSTEM)
    task.worker.failing_kinds = frozenset({"patch of Secret"})
    with pytest.raises(UnavailableError):
        processor.start(task.name, task.request())
    task.worker.failing_kinds = frozenset()
    processor.start(task.name, task.request())
    task.finish()
    assert result_of(processor).accepted
    assert task.starts() == 1
    processor.delete(task.name)
    assert task.admin.find(secret) is None
