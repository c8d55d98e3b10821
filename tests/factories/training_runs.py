"""Stores with a base model and a dataset in place, and the context of a run over them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.factories.run_contexts import run_context
from tests.factories.tiny_models import seal_folder, tiny_chat_model, tiny_encoder

from windlass.domain.specs import JobSpec
from windlass.runtime.context import RunContext

_GOOD, _BAD = ("good", "great", "fine"), ("bad", "awful", "poor")
_NOUNS = ("screen", "sound", "price", "motor")


def review_rows(count: int, offset: int = 0) -> list[dict[str, Any]]:
    """Make reviews whose label follows from one word; lengths differ."""
    rows = []
    for i in range(offset, offset + count):
        words, label = (_GOOD, "positive") if i % 2 else (_BAD, "negative")
        text = f"the {_NOUNS[i // 2 % 4]} is " + "very " * (i % 5) + words[i // 8 % 3]
        rows.append({"text": text, "label": label})
    return rows


def chat_rows(count: int, offset: int = 0) -> list[dict[str, Any]]:
    """Make question and answer pairs."""
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
    """Write a dataset version in the internal form."""
    folder.mkdir(parents=True)
    for split, rows in (("train", train), ("validation", validation)):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return seal_folder(folder)


def job_spec(task: str = "text-classification", **overrides: Any) -> JobSpec:
    """Make a spec; ``training`` and the like are given as dicts."""
    fields: dict[str, Any] = {"task": task, "base_model": "tiny", "dataset": "rows@1", "model": "tuned"}
    return JobSpec.model_validate(fields | overrides)


def make_run(root: Path, spec: JobSpec, *, api_url: str = "http://127.0.0.1:9", rows: int = 48) -> RunContext:
    """Make a store with base model and dataset for ``spec``, and a workspace; nothing runs yet."""
    store = root / "store"
    chat = spec.task.value == "chat"
    if not (store / "base").exists():
        (tiny_chat_model if chat else tiny_encoder)(store / "base/tiny")
        make = chat_rows if chat else review_rows
        write_dataset(store / "data/rows", make(rows), make(12, rows))
    return run_context(root, spec, api_url=api_url)
