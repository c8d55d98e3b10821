"""Holds out a part of the training rows of an upload without validation rows.

Without validation rows no job could evaluate its model. Equal rows are dropped first; rows with equal text and rows of
a group stay together, so that no row is evaluated that was trained on; labels keep their proportions.
"""

from pathlib import Path
from typing import Any

from windlass.dataset_files.findings import Findings
from windlass.domain.datasets import CleaningStep, Deduplicate, Split, SplitRows
from windlass.kit.numbers import count
from windlass_pipelines.data.cleaning import apply_step
from windlass_pipelines.data.row_store import RowStore

_ACTION = "to choose them yourself, upload validation=FILE; to hold out none, set the option validation_fraction to 0"


def hold_out(
    rows: RowStore, fraction: float, folder: Path, findings: Findings
) -> tuple[RowStore, list[CleaningStep], list[dict[str, Any]]]:
    """Divide the train rows of ``rows``, which has no validation rows; write the result below ``folder``.

    Returns:
        The rows, the applied steps and their records for the report; the given rows and no step if there are too few
        rows to divide.
    """
    split = _split_step(rows, fraction)
    # with a test split, deduplication would drop its rows that are also in train, which must be reported
    steps: list[CleaningStep] = [Deduplicate(), split] if set(rows.counts) == {Split.TRAIN} else [split]
    current, records = rows, []
    attempt = Findings()
    for number, step in enumerate(steps):
        before = current
        current, record = apply_step(step, before, folder / str(number), attempt)
        records.append(record)
        if before is not rows:
            before.remove()
    if attempt.rejected:
        message = f"no rows are for validation, and none can be held out: {attempt.collect()[0].message}"
        findings.add("warning", "no-validation-rows", message, action="upload more rows, or validation=FILE")
        return rows, [], []
    findings.add("info", "automatic-split", _message(split, rows, current), action=_ACTION)
    rows.remove()
    return current, steps, records


def _split_step(rows: RowStore, fraction: float) -> SplitRows:
    labelled = grouped = False
    for row in rows.read(Split.TRAIN):
        labelled = labelled or row.get("label") is not None
        grouped = grouped or "group" in row
    return SplitRows(train=1 - fraction, validation=fraction, by_group=grouped, stratify=labelled, source=Split.TRAIN)


def _message(split: SplitRows, before: RowStore, after: RowStore) -> str:
    held_out = after.counts[Split.VALIDATION]
    total = count(held_out + after.counts[Split.TRAIN], "row")
    how = [f"seed {split.seed}"]
    how += ["labels in proportion"] if split.stratify else []
    how += ["groups kept together"] if split.by_group else []
    dropped = before.total - after.total
    duplicates = f"; before, {count(dropped, 'duplicate row')} dropped" if dropped else ""
    return f"no file is for validation: {held_out:,} of {total} held out ({', '.join(how)}){duplicates}"
