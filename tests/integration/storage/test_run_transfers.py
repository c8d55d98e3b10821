"""What the processes of a run may read and write in a real bucket, with the token of the run."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.factories.run_contexts import run_environment, with_token
from tests.factories.s3_server import S3Server
from tests.factories.transfer_server import TransferServer

from windlass.domain.errors import ForbiddenError, UnauthenticatedError
from windlass.ports import BackendState
from windlass.runtime.artifacts import verify
from windlass.runtime.context import RunContext
from windlass.storage.transfers import folder_transfer

pytestmark = [pytest.mark.s3, pytest.mark.processes]


@pytest.fixture
def server(tmp_path: Path, s3_server: S3Server) -> Iterator[TransferServer]:
    (tmp_path / "home").mkdir()
    created = TransferServer(tmp_path / "home", s3_server)
    yield created
    created.close()


def draft(root: Path) -> Path:
    folder = root / "draft"
    folder.mkdir()
    (folder / "file").write_bytes(b"content")
    return folder


def submitted(server: TransferServer, project: str) -> RunContext:
    """Submit a job and return the context of its run; the dataset of the job is stored."""
    harness = server.harness
    harness.create_project(project)
    harness.create_dataset(project)
    harness.submit(project, key=project)
    harness.run_worker_once()
    *_, context = harness.pipelines.contexts.values()
    token = server.token(server.store.key(context.locations.dataset))
    server.transfer(token).publish(draft(server.home), context.locations.dataset)
    return context.model_copy(update={"api_url": server.url})


def test_a_run_reads_its_inputs_and_writes_its_own_results(tmp_path: Path, server: TransferServer) -> None:
    server.harness.create_base_model()
    other, context = submitted(server, "theirs"), submitted(server, "ours")
    environment, locations = run_environment(tmp_path, context), context.locations
    transfer = folder_transfer(environment)
    verify(transfer.fetch(locations.dataset, tmp_path / "rows"))

    transfer.publish(draft(tmp_path), locations.checkpoint(1, 10))
    assert transfer.published(locations.checkpoints) == [locations.checkpoint(1, 10)]
    transfer.delete(locations.checkpoint(1, 10))
    assert transfer.published(locations.checkpoints) == []
    transfer.publish(draft(tmp_path), locations.artifact(1))
    verify(transfer.fetch(locations.artifact(1), tmp_path / "artifact"))

    for uri in (other.locations.dataset, other.locations.artifact(1), other.locations.checkpoint(1, 10)):
        with pytest.raises(ForbiddenError):
            transfer.fetch(uri, tmp_path / "refused")
    for uri in (locations.dataset, locations.base_model, other.locations.checkpoint(1, 10)):
        with pytest.raises(ForbiddenError):
            transfer.publish(draft(tmp_path / "artifact"), uri)
        (tmp_path / "artifact/draft").rename(tmp_path / f"refused-{len(list(tmp_path.iterdir()))}")
    for uri in (locations.dataset, locations.artifact(1), other.locations.checkpoints):
        with pytest.raises(ForbiddenError):
            transfer.delete(uri)
    verify(transfer.fetch(locations.artifact(1), tmp_path / "artifact"))
    with pytest.raises(UnauthenticatedError):
        folder_transfer(with_token(environment, other.run_token)).published(locations.checkpoints)


def test_a_run_that_has_ended_writes_nothing(tmp_path: Path, server: TransferServer) -> None:
    server.harness.create_base_model()
    context = submitted(server, "ours")
    transfer = folder_transfer(run_environment(tmp_path, context))
    server.harness.pipelines.end(context.identity.name, BackendState.LOST)
    server.harness.jobs.poll()
    for uri in (context.locations.checkpoint(1, 10), context.locations.artifact(1)):
        with pytest.raises(ForbiddenError):
            transfer.publish(draft(tmp_path), uri)
        (tmp_path / "draft").rename(tmp_path / f"refused-{len(list(tmp_path.iterdir()))}")
    with pytest.raises(ForbiddenError):
        transfer.delete(context.locations.checkpoints)
    verify(transfer.fetch(context.locations.dataset, tmp_path / "rows"))
