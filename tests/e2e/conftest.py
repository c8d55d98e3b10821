"""Servers with a small model and a small dataset."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.servers import ServerProcess, server
from tests.factories.small_jobs import ensure_test_data
from tests.factories.tiny_models import tiny_encoder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_encoder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One data directory for all tests; a test may kill the server, and the next one restarts it."""
    with server(tmp_path_factory.mktemp("shared") / "home") as running:
        yield running


@pytest.fixture
def running_server(shared: ServerProcess, tiny: Path, tmp_path: Path) -> ServerProcess:
    """A running server with a base model, a dataset in the default project, and no active job."""
    client = shared.start()
    ensure_test_data(client, tiny, tmp_path)
    for job in client.jobs.list():
        if job.state not in ("succeeded", "failed", "cancelled"):
            client.jobs.cancel(job.id)
            client.jobs.wait(job.id, timeout=60)
    return shared


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A unique model name per test."""
    return f"m-{hashlib.sha256(request.node.name.encode()).hexdigest()[:8]}"
