"""The cleaning steps: each reads one row set and writes another, in order and without chance but its seed's."""

import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from windlass.domain.datasets import (
    CleaningStep,
    CopySplit,
    Deduplicate,
    DropMissing,
    FillMissing,
    MaskPersonalData,
    NormalizeText,
    Split,
    SplitRows,
)
from windlass_pipelines.data import keys, personal
from windlass_pipelines.data.findings import Findings
from windlass_pipelines.data.near import CLEANING_ROWS, NearIndex
from windlass_pipelines.data.rows import Row, is_incomplete
from windlass_pipelines.data.rowset import RowSet, RowWriter
from windlass_pipelines.data.splitting import SPLITS, TooFewError, assign_splits

_Placed = Iterator[tuple[Split, Row]]


def apply_step(step: CleaningStep, rows: RowSet, folder: Path, findings: Findings) -> tuple[RowSet, dict[str, Any]]:
    """Write what ``step`` makes of ``rows`` into the new ``folder``; return it and the record for the report."""
    with RowWriter(folder) as writer:
        for split, row in _steps(step, rows, findings):
            writer.add(split, row)
    record = {**step.model_dump(mode="json"), "rows_in": rows.total, "rows_out": writer.rows.total}
    return writer.rows, record


def _steps(step: CleaningStep, rows: RowSet, findings: Findings) -> _Placed:
    match step:
        case DropMissing():
            changed: _Placed = ((split, row) for split, row in rows.read_all() if not is_incomplete(row))
        case FillMissing():
            changed = _fill(step, rows, findings)
        case Deduplicate():
            changed = _deduplicate(step, rows, findings)
        case NormalizeText():
            changed = _map_texts(rows, lambda text: normalize(text, lowercase=step.lowercase))
        case MaskPersonalData():
            changed = _map_texts(rows, lambda text: personal.mask(text, step.kinds)[0])
        case SplitRows():
            changed = _split(step, rows, findings)
        case CopySplit():
            changed = _copy(step, rows)
    return changed


def normalize(text: str, *, lowercase: bool) -> str:
    """Return the text in NFC, without control characters, with single spaces, stripped; lower-case on request."""
    kept = "".join(char for char in text if char.isspace() or unicodedata.category(char) != "Cc")
    if lowercase:
        kept = kept.lower()
    return unicodedata.normalize("NFC", " ".join(kept.split()))


def _map_texts(rows: RowSet, change: Callable[[str], str]) -> _Placed:
    for split, row in rows.read_all():
        if "messages" in row:
            row["messages"] = [{**turn, "content": change(turn["content"])} for turn in row["messages"]]
        else:
            row["text"] = change(row["text"])
        yield split, row


def _fill(step: FillMissing, rows: RowSet, findings: Findings) -> _Placed:
    """Fill blank texts, or missing labels; of a conversation, ``text`` means each blank message."""
    told = False
    for split, row in rows.read_all():
        if step.field == "text" and "messages" in row:
            for turn in row["messages"]:
                turn["content"] = turn["content"] if turn["content"].strip() else step.value
        elif step.field == "text":
            row["text"] = row["text"] if row["text"].strip() else step.value
        elif "label" in row:
            row["label"] = step.value if row["label"] is None else row["label"]
        elif not told:
            told = True
            findings.add("error", "no-labels", "fill-missing of label: conversations have no label")
        yield split, row


def _deduplicate(step: Deduplicate, rows: RowSet, findings: Findings) -> _Placed:
    first = keys.first_of_equal(keys.gather(keys.row_key(row) for _, row in rows.read_all()))
    index = NearIndex(step.threshold) if step.near else None
    left = 0
    for number, (split, row) in enumerate(rows.read_all()):
        if not first[number]:
            continue
        if index is not None and len(index) < CLEANING_ROWS:
            if index.add(number, row) is not None:
                continue
        elif index is not None:
            left += 1
        yield split, row
    if left:
        message = f"near duplicates were looked for among {CLEANING_ROWS:,} rows; {left:,} later rows were kept unseen"
        findings.add("warning", "near-duplicates-partial", message)


def _split(step: SplitRows, rows: RowSet, findings: Findings) -> _Placed:
    numbers: dict[str | None, int] = {}
    labels, groups = np.zeros(rows.total, np.int64), bytearray()
    grouped = 0
    for number, (_, row) in enumerate(rows.read_all()):
        if step.stratify:
            labels[number] = numbers.setdefault(row.get("label"), len(numbers))
        if step.by_group:
            group = row.get("group")
            grouped += group is not None
            # the NUL keeps a row without a group apart from every group, which holds none
            groups += keys.text_key(f"\0{number}" if group is None else group)
    if not _can_split(step, rows, grouped, labelled=any(label is not None for label in numbers), findings=findings):
        yield from rows.read_all()
        return
    try:
        assigned = assign_splits(step, labels, keys.from_bytes(groups) if step.by_group else None)
    except TooFewError as error:
        what = "groups" if step.by_group else "rows"
        message = f"too small to split: {error.units} {what} for {error.wanted} splits"
        findings.add("error", "too-small-to-split", message, action="upload more data, or wish for fewer splits")
        yield from rows.read_all()
        return
    for number, (_, row) in enumerate(rows.read_all()):
        yield SPLITS[int(assigned[number])], row


def _can_split(step: SplitRows, rows: RowSet, grouped: int, *, labelled: bool, findings: Findings) -> bool:
    if step.by_group and not grouped:
        action = 'name the column when you upload: options.columns {"group": "<column>"}'
        findings.add("error", "no-groups", "split by group: no row has a group", action=action)
        return False
    if step.stratify and rows.total and not labelled:
        action = "split without stratify"
        findings.add("error", "no-labels", "split with stratify: no row has a label", action=action)
        return False
    if step.by_group and grouped < rows.total:
        message = f"{rows.total - grouped:,} rows have no group; each counts as a group of its own"
        findings.add("warning", "rows-without-group", message)
    return True


def _copy(step: CopySplit, rows: RowSet) -> _Placed:
    for split, row in rows.read_all():
        if split is not step.target or step.source is step.target:
            yield split, row
    if step.source is not step.target:
        for row in rows.read(step.source):
            yield step.target, row
