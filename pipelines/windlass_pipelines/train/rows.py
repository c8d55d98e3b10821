"""Reads the rows of a dataset version in the internal JSONL format (``windlass.domain.datasets``)."""

import json
from pathlib import Path

from windlass.domain.datasets import Split
from windlass_pipelines.rows import Row, is_incomplete
from windlass_pipelines.train.result import TrainingError


def read_splits(folder: Path) -> tuple[dict[Split, list[Row]], dict[Split, int]]:
    """Return the complete rows of every split that has some, and the number of incomplete rows by split.

    Raises:
        TrainingError: ``no_training_rows`` or ``no_held_out_rows``.
    """
    all_rows = {split: _read(folder / f"{split.value}.jsonl") for split in Split}
    complete = {split: [row for row in content if not is_incomplete(row)] for split, content in all_rows.items()}
    skipped = {split: len(all_rows[split]) - len(rows) for split, rows in complete.items()}
    rows = {split: content for split, content in complete.items() if content}
    if Split.TRAIN not in rows:
        raise TrainingError("no_training_rows", "the dataset version has no complete rows in its train split")
    if len(rows) == 1:
        raise TrainingError(
            "no_held_out_rows",
            "the dataset version has no complete validation or test rows to evaluate on; clean it with a split step",
        )
    return rows, {split: number for split, number in skipped.items() if number}


def _read(path: Path) -> list[Row]:
    if not path.exists():
        return []
    with path.open(encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]
