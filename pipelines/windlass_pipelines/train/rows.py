"""Reads the rows of a dataset version in its internal form (``windlass.domain.datasets``)."""

import json
from pathlib import Path
from typing import Any

from windlass.domain.datasets import Split
from windlass_pipelines.train.outcome import TrainingError

Row = dict[str, Any]


def read_splits(folder: Path) -> dict[Split, list[Row]]:
    """Return the rows of every split that has some.

    Raises:
        TrainingError: ``no_training_rows`` or ``no_held_out_rows``.
    """
    found = {split: _read(folder / f"{split.value}.jsonl") for split in Split}
    rows = {split: content for split, content in found.items() if content}
    if Split.TRAIN not in rows:
        raise TrainingError("no_training_rows", "the dataset version has no rows in its train split")
    if len(rows) == 1:
        raise TrainingError(
            "no_held_out_rows",
            "the dataset version has no validation or test rows to judge the model by; clean it with a split step",
        )
    return rows


def _read(path: Path) -> list[Row]:
    if not path.exists():
        return []
    with path.open(encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]
