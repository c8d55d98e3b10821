"""Cleaning steps: each reads one row store and writes another; order is kept, randomness is seeded."""

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from windlass.dataset_files.findings import Findings, name_list
from windlass.domain.datasets import (
    CleaningStep,
    CopySplit,
    Deduplicate,
    DropMissing,
    FillMissing,
    MapLabels,
    MaskPersonalData,
    MergeLabels,
    NormalizeText,
    Split,
    SplitRows,
)
from windlass.kit.numbers import count
from windlass_pipelines.data import hashing, pii
from windlass_pipelines.data.hashing import IntArray
from windlass_pipelines.data.labels import merged_labels
from windlass_pipelines.data.near_duplicates import MAX_CLEANING_ROWS, NearDuplicateIndex
from windlass_pipelines.data.row_store import RowStore, RowWriter
from windlass_pipelines.data.splitting import SPLITS, TooFewUnitsError, assign_splits
from windlass_pipelines.rows import Row, is_incomplete

_RowStream = Iterator[tuple[Split, Row]]


def apply_step(step: CleaningStep, rows: RowStore, folder: Path, findings: Findings) -> tuple[RowStore, dict[str, Any]]:
    """Apply ``step`` to ``rows``, write the result to the new ``folder``; return it and a record for the report."""
    with RowWriter(folder) as writer:
        for split, row in _steps(step, rows, findings):
            writer.add(split, row)
    record = {**step.model_dump(mode="json"), "rows_in": rows.total, "rows_out": writer.rows.total}
    return writer.rows, record


def _steps(step: CleaningStep, rows: RowStore, findings: Findings) -> _RowStream:
    match step:
        case DropMissing():
            changed: _RowStream = ((split, row) for split, row in rows.read_all() if not is_incomplete(row))
        case FillMissing():
            changed = _fill(step, rows, findings)
        case Deduplicate():
            changed = _deduplicate(step, rows, findings)
        case NormalizeText():
            changed = _map_texts(rows, lambda text: normalize(text, lowercase=step.lowercase))
        case MaskPersonalData():
            changed = _map_texts(rows, lambda text: pii.mask(text, step.kinds)[0])
        case MapLabels():
            changed = _replace_labels(rows, dict(step.labels), findings)
        case MergeLabels():
            changed = _replace_labels(rows, merged_labels(_label_counts(rows)), findings)
        case SplitRows():
            changed = _split(step, rows, findings)
        case CopySplit():
            changed = _copy(step, rows)
    return changed


def normalize(text: str, *, lowercase: bool) -> str:
    """Return the text in NFC, without control characters, with single spaces, stripped; lower-case on request."""
    cleaned = "".join(char for char in text if char.isspace() or unicodedata.category(char) != "Cc")
    if lowercase:
        cleaned = cleaned.lower()
    return unicodedata.normalize("NFC", " ".join(cleaned.split()))


def _map_texts(rows: RowStore, change: Callable[[str], str]) -> _RowStream:
    for split, row in rows.read_all():
        if "messages" in row:
            row["messages"] = [{**message, "content": change(message["content"])} for message in row["messages"]]
        else:
            row["text"] = change(row["text"])
        yield split, row


def _fill(step: FillMissing, rows: RowStore, findings: Findings) -> _RowStream:
    """Fill blank texts or missing labels; in a conversation, ``text`` means each blank message."""
    reported = False
    for split, row in rows.read_all():
        if step.field == "text" and "messages" in row:
            for message in row["messages"]:
                message["content"] = message["content"] if message["content"].strip() else step.value
        elif step.field == "text":
            row["text"] = row["text"] if row["text"].strip() else step.value
        elif "label" in row:
            row["label"] = step.value if row["label"] is None else row["label"]
        elif not reported:
            reported = True
            findings.add("error", "no-labels", "fill-missing of label: conversations have no label")
        yield split, row


def _label_counts(rows: RowStore) -> Counter[str]:
    labels = (row.get("label") for _, row in rows.read_all())
    return Counter(label for label in labels if label is not None)


def _replace_labels(rows: RowStore, new_labels: Mapping[str, str], findings: Findings) -> _RowStream:
    known = _label_counts(rows)
    if not known:
        findings.add("error", "no-labels", "the labels cannot be changed: no row has a label")
    elif unknown := tuple(label for label in new_labels if label not in known):
        message = f"no row has the label {name_list(unknown)}; the labels are {name_list(tuple(sorted(known)))}"
        findings.add("error", "unknown-label", message, action="map labels that exist")
    for split, row in rows.read_all():
        if (label := row.get("label")) is not None:
            row["label"] = new_labels.get(label, label)
        yield split, row


def _deduplicate(step: Deduplicate, rows: RowStore, findings: Findings) -> _RowStream:
    first = hashing.first_occurrences(hashing.hash_array(hashing.row_hash(row) for _, row in rows.read_all()))
    index = NearDuplicateIndex(step.threshold) if step.near else None
    skipped = 0
    for number, (split, row) in enumerate(rows.read_all()):
        if not first[number]:
            continue
        if index is not None and len(index) < MAX_CLEANING_ROWS:
            if index.add(number, row) is not None:
                continue
        elif index is not None:
            skipped += 1
        yield split, row
    if skipped:
        message = (
            f"near duplicates were searched among {MAX_CLEANING_ROWS:,} rows; {skipped:,} later rows were not checked"
        )
        findings.add("warning", "near-duplicates-partial", message)


def _split(step: SplitRows, rows: RowStore, findings: Findings) -> _RowStream:
    divided = [split for split in rows.counts if step.source in {None, split}]
    labels, units, grouped = _split_units(step, rows, divided)
    if not _can_split(step, len(labels), grouped, labelled=bool(labels.any()), findings=findings):
        yield from rows.read_all()
        return
    try:
        assigned = assign_splits(step, labels, units)
    except TooFewUnitsError as error:
        findings.add(
            "error", "too-small-to-split", _too_few(step, error), action="upload more data, or use fewer splits"
        )
        yield from rows.read_all()
        return
    number = 0
    for split, row in rows.read_all():
        if split not in divided:
            yield split, row
            continue
        yield SPLITS[int(assigned[number])], row
        number += 1


def _split_units(step: SplitRows, rows: RowStore, divided: list[Split]) -> tuple[IntArray, IntArray, int]:
    """Return label codes (0: no label), codes of the rows that must stay together, and the number of rows with a group.

    Rows with equal text stay together, so that no text is in two splits; with ``by_group`` rows of a group do too.
    """
    numbers: dict[str | None, int] = {None: 0}
    labels: list[int] = []
    groups, inputs = bytearray(), bytearray()
    grouped = 0
    for split in divided:
        for row in rows.read(split):
            # group names contain no NUL, so a row of its own never equals a group
            own = hashing.text_hash(f"\0{len(labels)}")
            labels.append(numbers.setdefault(row.get("label"), len(numbers)))
            inputs += own if is_incomplete(row) else hashing.input_hash(row)
            group = row.get("group") if step.by_group else None
            grouped += group is not None
            groups += own if group is None else hashing.text_hash(group)
    units = hashing.merge(*(hashing.factorize(hashing.from_bytes(hashes))[0] for hashes in (groups, inputs)))
    return np.array(labels, np.int64), units, grouped


def _too_few(step: SplitRows, error: TooFewUnitsError) -> str:
    unit = "groups" if step.by_group else "distinct texts"
    labels = ", so that each label is in train" if step.stratify else ""
    return f"too few {unit} to split: {error.units:,} of the {error.required:,} that are needed{labels}"


def _can_split(step: SplitRows, total: int, grouped: int, *, labelled: bool, findings: Findings) -> bool:
    if step.by_group and not grouped:
        action = 'map the group column at upload: options.columns {"group": "<column>"}'
        findings.add("error", "no-groups", "by_group is set, but no row has a group", action=action)
        return False
    if step.stratify and total and not labelled:
        action = "split without stratify"
        findings.add("error", "no-labels", "stratify is set, but no row has a label", action=action)
        return False
    if step.by_group and grouped < total:
        message = f"{count(total - grouped, 'row')} without a group: each is its own group"
        findings.add("warning", "rows-without-group", message, count=total - grouped)
    return True


def _copy(step: CopySplit, rows: RowStore) -> _RowStream:
    for split, row in rows.read_all():
        if split is not step.target or step.source is step.target:
            yield split, row
    if step.source is not step.target:
        for row in rows.read(step.source):
            yield step.target, row
