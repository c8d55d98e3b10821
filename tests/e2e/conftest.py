"""Servers with a small model and a small dataset, ready for jobs."""

import csv
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
    "model": "tuned",
    "method": {"type": "full"},
    "training": {"max_steps": 400, "batch_size": 32, "checkpoint_every_steps": 20, "eval_every_steps": 400},
}
"""A job that trains for some seconds: long enough to be killed in the middle."""


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_encoder(tmp_path_factory.mktemp("models") / "tiny")


def furnish(client: Client, tiny: Path, folder: Path, project: str = "default") -> None:
    """Add the base model, and a dataset with two splits to a project."""
    known = {model.name for model in client.base_models.list()}
    if "tiny" not in known:
        client.base_models.add("tiny", str(tiny))
        client.base_models.wait("tiny")
    source = folder / "rows.csv"
    with source.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, ["text", "label"])
        writer.writeheader()
        writer.writerows(
            {"text": f"{row['text']} {n}", "label": row["label"]} for n, row in enumerate(review_rows(200))
        )
    inside = client.in_project(project)
    uploaded = inside.datasets.upload("rows", [source], task="text-classification")
    inside.datasets.wait(uploaded.ref)
    cleaned = inside.datasets.clean(uploaded.ref, [SplitRows(train=0.8, validation=0.2)])
    assert inside.datasets.wait(cleaned.ref).state == "ready"


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Server]:
    with server(tmp_path / "home") as running:
        yield running
