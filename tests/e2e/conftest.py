"""Servers with a small model and a small dataset, ready for jobs."""

import csv
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.servers import Server, server
from tests.factories.tiny_models import tiny_encoder
from tests.factories.training_runs import review_rows

from windlass.domain.datasets import SplitRows
from windlass.sdk import Client

SPEC: dict[str, Any] = {
    "task": "text-classification",
    "base_model": "tiny",
    "dataset": "rows",
    "method": {"type": "full"},
    "training": {"max_steps": 400, "batch_size": 8, "checkpoint_every_steps": 20, "eval_every_steps": 400},
}
"""A job that trains for some seconds: long enough to be killed in the middle."""


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_encoder(tmp_path_factory.mktemp("models") / "tiny")


def furnish(client: Client, tiny: Path, folder: Path, project: str = "default") -> None:
    """Add the base model, and a dataset with two splits to a project, unless they are there."""
    if "tiny" not in {model.name for model in client.base_models.list()}:
        client.base_models.add("tiny", str(tiny))
        client.base_models.wait("tiny")
    inside = client.in_project(project)
    if "rows" in {dataset.name for dataset in inside.datasets.list()}:
        return
    source = folder / "rows.csv"
    with source.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, ["text", "label"])
        writer.writeheader()
        writer.writerows(
            {"text": f"{row['text']} {n}", "label": row["label"]} for n, row in enumerate(review_rows(200))
        )
    uploaded = inside.datasets.upload("rows", [source], task="text-classification")
    inside.datasets.wait(uploaded.ref)
    cleaned = inside.datasets.clean(uploaded.ref, [SplitRows(train=0.8, validation=0.2)])
    assert inside.datasets.wait(cleaned.ref).state == "ready"


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One data folder for all tests; each may kill what runs on it, and the next starts it again."""
    with server(tmp_path_factory.mktemp("shared") / "home") as running:
        yield running


@pytest.fixture
def one(shared: Server, tiny: Path, tmp_path: Path) -> Server:
    """A running server with a base model and a dataset in the default project, and no job at work."""
    client = shared.start()
    furnish(client, tiny, tmp_path)
    for job in client.jobs.list():
        if job.state not in ("succeeded", "failed", "cancelled"):
            client.jobs.cancel(job.id)
            client.jobs.wait(job.id, timeout=60)
    return shared


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A model name that no other test uses."""
    return f"m-{hashlib.sha256(request.node.name.encode()).hexdigest()[:8]}"
