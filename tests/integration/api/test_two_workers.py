"""What another worker deletes or closes while this one starts its process, in every order, leaves no process behind."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.backends import MemoryImporter, MemoryPipelines, MemoryProcessor
from tests.fakes.harness import ControlPlaneHarness

from windlass.domain.datasets import DataRequest, DatasetVersion, VersionState
from windlass.domain.models import BaseModelState, ImportRequest
from windlass.domain.records import Intent
from windlass.ports import BackendState
from windlass.runtime.context import RunContext
from windlass.services.processing import Processing

pytestmark = pytest.mark.database("sqlite", "postgresql")

Step = Callable[[], object]


@dataclass
class Interruption:
    """Lets another worker act once, before or after this one has started a process."""

    before: Step | None = None
    after: Step | None = None

    def around(self, start: Step) -> None:
        (before, self.before), (after, self.after) = (self.before, None), (self.after, None)
        if before is not None:
            before()
        start()
        if after is not None:
            after()


@dataclass
class InterruptedProcessor(MemoryProcessor):
    interruption: Interruption = field(default_factory=Interruption)

    def start(self, name: str, request: DataRequest) -> None:
        self.interruption.around(lambda: super(InterruptedProcessor, self).start(name, request))


@dataclass
class InterruptedImporter(MemoryImporter):
    interruption: Interruption = field(default_factory=Interruption)

    def start(self, name: str, request: ImportRequest) -> None:
        self.interruption.around(lambda: super(InterruptedImporter, self).start(name, request))


@dataclass
class InterruptedPipelines(MemoryPipelines):
    interruption: Interruption = field(default_factory=Interruption)

    def submit(self, context: RunContext) -> bool:
        before = context.identity.name in self.contexts
        self.interruption.around(lambda: super(InterruptedPipelines, self).submit(context))
        return not before


@dataclass
class TwoWorkers:
    """A harness with its worker, and the data processing of another worker on the same database."""

    harness: ControlPlaneHarness
    processor: InterruptedProcessor
    importer: InterruptedImporter
    pipelines: InterruptedPipelines
    other: Processing

    def purge(self) -> None:
        """Handle the intents to delete files, as the other worker."""
        with self.harness.database.write() as uow:
            intents: list[Intent] = []
            while (intent := uow.outbox.next_due(skip_kinds={each.kind for each in intents})) is not None:
                intents.append(intent)
        for intent in intents:
            if intent.kind.endswith(".purge"):
                self.other.handle(intent)

    def request(self, method: str, path: str, **options: Any) -> None:
        reply = self.harness.client.request(method, f"/v1/{path}", **options)
        assert reply.status_code < 300, reply.text


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[TwoWorkers]:
    processor, importer, pipelines = InterruptedProcessor(), InterruptedImporter(), InterruptedPipelines()
    harness = ControlPlaneHarness(tmp_path, processor=processor, importer=importer, pipelines=pipelines)
    harness.create_project("ours")
    yield TwoWorkers(harness, processor, importer, pipelines, Processing(harness.worker.deps, processor, importer))
    harness.close()


def interrupt(interruption: Interruption, moment: str, step: Step) -> None:
    setattr(interruption, moment, step)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_version_that_is_deleted_while_it_is_started_leaves_no_process(workers: TwoWorkers, moment: str) -> None:
    harness = workers.harness
    harness.create_dataset("ours")
    with harness.database.write() as uow:
        [version] = uow.all_projects().dataset_versions.all()
        changed: DatasetVersion = version.model_copy(
            update={"state": VersionState.PROCESSING, "origin": "clean", "parent": version.id}
        )
        uow.project(version.project).dataset_versions.save(changed)

    def delete() -> None:
        path = "projects/ours/datasets/reviews"
        workers.request("DELETE", path, headers={"If-Match": harness.client.get(f"/v1/{path}").headers["etag"]})
        workers.purge()

    interrupt(workers.processor.interruption, moment, delete)
    harness.processing.poll_datasets()
    assert workers.processor.starts[version.id] == 1
    assert workers.processor.requests == {}
    assert list(harness.store.keys(version.prefix)) == []


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_base_model_that_is_deleted_while_it_is_imported_leaves_no_process(workers: TwoWorkers, moment: str) -> None:
    harness = workers.harness
    harness.create_base_model()
    with harness.database.write() as uow:
        [entry] = uow.base_models.all()
        uow.base_models.save(entry.model_copy(update={"state": BaseModelState.IMPORTING}))

    def delete() -> None:
        workers.request("DELETE", "base-models/tiny")
        workers.purge()

    interrupt(workers.importer.interruption, moment, delete)
    harness.processing.poll_imports()
    assert workers.importer.starts[entry.id] == 1
    assert workers.importer.requests == {}


def test_a_base_model_that_is_deleted_during_its_import_leaves_no_process(workers: TwoWorkers) -> None:
    harness = workers.harness
    harness.create_base_model()
    with harness.database.write() as uow:
        [entry] = uow.base_models.all()
        uow.base_models.save(entry.model_copy(update={"state": BaseModelState.IMPORTING}))
    harness.processing.poll_imports()
    assert entry.id in workers.importer.requests
    workers.request("DELETE", "base-models/tiny")
    workers.purge()
    assert workers.importer.requests == {}


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_run_that_is_closed_while_it_is_submitted_does_not_run(workers: TwoWorkers, moment: str) -> None:
    harness = workers.harness
    harness.create_base_model()
    harness.create_dataset("ours")
    job = harness.submit("ours", key="one")
    harness.jobs.admit()

    def cancel() -> None:
        workers.request("POST", f"projects/ours/jobs/{job['id']}:cancel")
        harness.clock.advance(3600)
        harness.jobs.poll()  # kills a run that the back end knows
        harness.jobs.poll()
        state = harness.client.get(f"/v1/projects/ours/jobs/{job['id']}").json()["state"]
        assert state == "cancelled"

    interrupt(workers.pipelines.interruption, moment, cancel)
    harness.dispatch_outbox()
    [name] = workers.pipelines.submissions
    assert workers.pipelines.poll(name).state is BackendState.LOST
