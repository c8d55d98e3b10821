"""Stores with a base model and a dataset, and runs that use them."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.factories.run_contexts import run_context, run_environment
from tests.factories.tiny_models import seal_folder, tiny_chat_model, tiny_encoder

from windlass.domain.specs import JobSpec
from windlass.runtime.context import RunEnvironment
from windlass.storage.file_transfer import FileTransfer

_GOOD, _BAD = ("good", "great", "fine"), ("bad", "awful", "poor")
_NOUNS = ("screen", "sound", "price", "motor")


def review_rows(count: int, offset: int = 0) -> list[dict[str, Any]]:
    """Create reviews of different lengths, with a label that depends on one word."""
    rows = []
    for i in range(offset, offset + count):
        words, label = (_GOOD, "positive") if i % 2 else (_BAD, "negative")
        text = f"the {_NOUNS[i // 2 % 4]} is " + "very " * (i % 5) + words[i // 8 % 3]
        rows.append({"text": text, "label": label})
    return rows


def chat_rows(count: int, offset: int = 0) -> list[dict[str, Any]]:
    """Create question and answer pairs."""
    return [
        {
            "messages": [
                {"role": "user", "content": f"is the {_NOUNS[i % 4]} {_GOOD[i % 3]}?"},
                {"role": "assistant", "content": f"the {_NOUNS[i % 4]} " + "works " * (1 + i % 3) + "fine"},
            ]
        }
        for i in range(offset, offset + count)
    ]


def write_dataset(folder: Path, train: Sequence[Any], validation: Sequence[Any]) -> Path:
    """Write a dataset version in the internal format."""
    folder.mkdir(parents=True)
    for split, rows in (("train", train), ("validation", validation)):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return seal_folder(folder)


def job_spec(task: str = "text-classification", **overrides: Any) -> JobSpec:
    """Create a spec; nested fields such as ``training`` are dicts."""
    fields: dict[str, Any] = {"task": task, "base_model": "tiny", "dataset": "rows@1", "model": "tuned"}
    return JobSpec.model_validate(fields | overrides)


def make_run(root: Path, spec: JobSpec, *, rows: int = 48, has_gpus: bool = False) -> RunEnvironment:
    """Create a store with base model and dataset for ``spec``, and a workspace, of a pool with or without GPUs."""
    store = root / "store"
    chat = spec.task.value == "chat"
    if not (store / "base").exists():
        (tiny_chat_model if chat else tiny_encoder)(store / "base/tiny")
        make = chat_rows if chat else review_rows
        write_dataset(store / "data/rows", make(rows), make(12, rows))
    return run_environment(root, run_context(root, spec, has_gpus=has_gpus))


def artifact_folder(environment: RunEnvironment, attempt: int = 1) -> Path:
    """Return the folder of the artifact that an attempt has published."""
    return FileTransfer().fetch(environment.context.locations.artifact(attempt), environment.workspace / "unused")


def store_folder(environment: RunEnvironment) -> Path:
    """Return the folder of the store that ``make_run`` has created."""
    return environment.workspace.parent / "store"


def moved(environment: RunEnvironment, name: str) -> RunEnvironment:
    """Return the same run with checkpoints and artifacts below another folder of its store."""
    uri = (store_folder(environment) / name).as_uri()
    update = {"checkpoints": f"{uri}/checkpoints", "artifacts": f"{uri}/artifacts"}
    context = environment.context
    locations = context.locations.model_copy(update=update)
    return replace(environment, context=context.model_copy(update={"locations": locations}))
