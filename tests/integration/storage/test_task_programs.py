"""The programs of data tasks and imports, with a token of their own and a real S3 server, as in a pod."""

import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from tests.factories.s3_server import S3Server
from tests.factories.tiny_models import tiny_encoder
from tests.factories.transfer_server import TransferServer
from tests.fakes.harness import ADMIN

from windlass.domain.datasets import DataRequest, DataResult, Split
from windlass.domain.errors import NotFoundError
from windlass.domain.ingest import IngestOptions
from windlass.domain.models import ImportedModel
from windlass.domain.projects import PlatformRole
from windlass.domain.specs import Task
from windlass.domain.storage_layout import task_result_prefix
from windlass.orchestration.task_result import RESULT_NAME
from windlass.runtime.context import TRANSFER_TOKEN_VARIABLE, TRANSFER_URL_VARIABLE
from windlass.sdk import Client
from windlass.services.keys import Keys
from windlass.services.transfer_tokens import TransferTokens

pytestmark = [pytest.mark.s3, pytest.mark.processes]
CSV = "text,label\n" + "".join(f"row {i} is {'good' if i % 2 else 'bad'},{i % 2}\n" for i in range(40))


@pytest.fixture
def server(tmp_path: Path, s3_server: S3Server) -> Iterator[TransferServer]:
    (tmp_path / "home").mkdir()
    created = TransferServer(tmp_path / "home", s3_server)
    yield created
    created.close()


def run(server: TransferServer, folder: Path, task: str, module: str, request: str, token: str) -> bytes:
    """Run a program as its pod does, with a read-only request and token, and return its published result."""
    secret, work = folder / "secret", folder / "work"
    for path in (secret, work):
        path.mkdir(exist_ok=True)
    (secret / "request.json").write_text(request)
    (secret / "token").write_text(token)
    secret.chmod(0o500)
    result = task_result_prefix(task)
    command = [sys.executable, "-P", "-m", module, str(secret / "request.json"), "--work", str(work)]
    command += ["--publish-result", server.store.uri(result)]
    variables = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(work),
        TRANSFER_URL_VARIABLE: server.url,
        TRANSFER_TOKEN_VARIABLE: str(secret / "token"),
    }
    ended = subprocess.run(command, check=False, capture_output=True, env=variables)
    secret.chmod(0o700)
    assert ended.returncode == 0, ended.stderr
    with server.store.open(server.store.published_file(result, RESULT_NAME)) as stream:
        return stream.read()


def tokens(server: TransferServer) -> TransferTokens:
    return TransferTokens(server.harness.deps.hasher, server.harness.clock, server.store)


def test_a_data_task_publishes_the_version_and_its_result_once(server: TransferServer, tmp_path: Path) -> None:
    store, uri = server.store, server.store.uri
    store.put("projects/p/uploads/u/0", BytesIO(CSV.encode()))
    request = DataRequest(
        operation="ingest",
        task=Task.TEXT_CLASSIFICATION,
        options=IngestOptions(),
        inputs=((uri("projects/p/uploads/u/0"), None),),
        names=("rows.csv",),
        output=uri("projects/p/datasets/dsv_1"),
    )
    token = tokens(server).for_data_task("dsv_1", request)

    def rows() -> int:
        return store.size(store.published_file("projects/p/datasets/dsv_1", "train.jsonl"))

    def run_pod() -> DataResult:
        content = run(server, tmp_path, "dsv_1", "windlass_pipelines.data", request.model_dump_json(), token)
        return DataResult.model_validate_json(content)

    published = run_pod()
    assert published.accepted
    assert sum(published.rows.values()) == 40
    assert published.rows[Split.TRAIN] > published.rows[Split.VALIDATION] > 0
    store.delete(task_result_prefix("dsv_1"))  # as if the pod had died between the version and its result
    assert run_pod() == published
    assert rows() > 0
    store.delete("projects/p/datasets/dsv_1")
    assert run_pod() == published
    with pytest.raises(NotFoundError):  # a published result stands: nothing is processed again
        rows()


def test_a_model_is_uploaded_by_the_sdk_and_imported(server: TransferServer, tmp_path: Path) -> None:
    source = tiny_encoder(tmp_path / "source")
    (source / "manifest.json").unlink()
    harness = server.harness
    key = Keys(harness.deps, ADMIN).create("admin", platform_role=PlatformRole.ADMIN)[1]
    sent: dict[str, int] = {}
    with Client(server.url, key=key) as client:
        added = client.base_models.add(
            "tiny", source, licence="MIT", progress=lambda name, position, _: sent.update({name: position})
        )
        assert added.state == "importing"
        assert sent["model.safetensors"] == (source / "model.safetensors").stat().st_size
        harness.run_worker_once()
        [(name, request)] = harness.importer.requests.items()
        token = tokens(server).for_import(name, request)
        module = "windlass_pipelines.train.import_model"
        content = run(server, tmp_path, name, module, request.model_dump_json(), token)
        imported = ImportedModel.model_validate_json(content)
        harness.importer.results[name] = imported
        harness.processing.poll()
        harness.dispatch_outbox()
        ready = client.base_models.wait("tiny")
    assert (ready.state, ready.tasks, ready.digest) == ("ready", [Task.TEXT_CLASSIFICATION], imported.digest)
    assert list(server.store.keys("base-model-uploads")) == []
    assert server.store.size(server.store.published_file(f"base-models/{name}", "model.safetensors")) > 0
