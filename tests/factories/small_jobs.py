"""A small job on a server: its base model, its dataset and its spec."""

import csv
from pathlib import Path
from typing import Any

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
"""A job that trains for some seconds, so that it can be killed during training."""


def ensure_test_data(client: Client, tiny: Path, folder: Path, project: str = "default") -> None:
    """Create the base model and a dataset with two splits in a project unless they exist."""
    if "tiny" not in {model.name for model in client.base_models.list()}:
        client.base_models.add("tiny", str(tiny))
        client.base_models.wait("tiny")
    project_client = client.in_project(project)
    if "rows" in {dataset.name for dataset in project_client.datasets.list()}:
        return
    source = folder / "rows.csv"
    with source.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, ["text", "label"])
        writer.writeheader()
        writer.writerows(
            {"text": f"{row['text']} {n}", "label": row["label"]} for n, row in enumerate(review_rows(200))
        )
    uploaded = project_client.datasets.upload("rows", [source], task="text-classification")
    project_client.datasets.wait(uploaded.ref)
    cleaned = project_client.datasets.clean(uploaded.ref, [SplitRows(train=0.8, validation=0.2)])
    assert project_client.datasets.wait(cleaned.ref).state == "ready"
