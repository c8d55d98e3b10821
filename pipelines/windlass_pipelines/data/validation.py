"""Validates a dataset by its statistics: errors that block its use, and warnings."""

from collections import Counter
from collections.abc import Mapping

import numpy as np

from windlass.dataset_files.findings import Findings, Severity, name_list
from windlass.domain.datasets import Split, SplitRows, skipped_rows_message
from windlass.domain.specs import Task
from windlass.kit.numbers import count
from windlass_pipelines.data import hashing
from windlass_pipelines.data.labels import label_key, similar_labels
from windlass_pipelines.data.statistics import SplitStatistics

_RARE = 5
_IMBALANCE = 10

StatisticsBySplit = Mapping[Split, SplitStatistics]


def validate(
    statistics: StatisticsBySplit,
    task: Task,
    split_step: SplitRows | None,
    allowed: frozenset[Split],
    findings: Findings,
) -> dict[str, int]:
    """Add findings about a dataset; return the overlap of each held-out split with train, in rows.

    ``split_step`` made the splits, None if they were uploaded. Held-out splits in ``allowed`` may overlap with train.
    """
    if not statistics:
        findings.add("error", "no-rows", "the dataset has no rows")
        return {}
    if Split.TRAIN not in statistics:
        findings.add("error", "no-train-rows", "split train has no rows", action="upload rows to train, or split again")
        return {}
    if task is Task.TEXT_CLASSIFICATION:
        _check_labels(statistics, split_step, findings)
        _check_label_conflicts(statistics, findings)
    _check_duplicates(statistics, findings)
    for kind, number in sorted(_personal_data_counts(statistics).items()):
        message = f"{count(number, 'occurrence')} of personal data of kind {kind}"
        findings.add("warning", "personal-data", message, action="clean with mask-personal-data", count=number)
    return _check_overlap(statistics, allowed, findings)


def _personal_data_counts(statistics: StatisticsBySplit) -> Counter[str]:
    return sum((stats.personal for stats in statistics.values()), Counter[str]())


def _check_labels(statistics: StatisticsBySplit, split_step: SplitRows | None, findings: Findings) -> None:
    train = statistics[Split.TRAIN].labels
    if any(stats.too_many_labels for stats in statistics.values()):
        message = f"the dataset has more distinct labels than the limit of {statistics[Split.TRAIN].max_labels:,}"
        action = "map the label with options.columns if it is another column, or ask an admin to raise the limit"
        findings.add("error", "too-many-labels", message, action=f"{action} (WINDLASS_LIMIT_MAX_LABELS)")
        return
    _check_similar_labels(statistics, findings)
    if len(train) < 2:  # noqa: PLR2004 - with one label there is nothing to learn
        found = count(len(train), "distinct label")
        message = f"split train has {found}, classification needs at least 2: {name_list(tuple(train))}"
        findings.add("error", "too-few-labels", message, action="add rows with other labels")
    for split, stats in statistics.items():
        if unknown := sorted(set(stats.labels) - set(train)):
            rows = sum(stats.labels[label] for label in unknown)
            message = f"{count(rows, 'row')} of split {split} with labels that are not in train: "
            message += name_list(tuple(unknown))
            look_alike = {label_key(label) for label in unknown} <= {label_key(label) for label in train}
            action = "clean with merge-labels" if look_alike else _coverage_action(split_step)
            findings.add("error", "label-missing-in-train", message, action=action, count=rows)
        if stats is not statistics[Split.TRAIN] and (absent := sorted(set(train) - set(stats.labels))):
            message = f"split {split.value} has no rows with label: {name_list(tuple(absent))}"
            action = _coverage_action(split_step)
            findings.add("warning", f"label-missing-in-{split.value}", message, action=action)
    if rare := sorted(label for label, rows in train.items() if rows < _RARE):
        message = f"labels with fewer than {_RARE} rows in train: {name_list(tuple(rare))}"
        findings.add("warning", "rare-label", message, action="add rows, or clean with map-labels")
    if train and max(train.values()) > _IMBALANCE * min(train.values()):
        message = (
            f"the most frequent label has {max(train.values()):,} rows in train, the rarest {min(train.values()):,}"
        )
        findings.add("warning", "label-imbalance", message, action="compare models by macro F1, not by accuracy")


def _check_similar_labels(statistics: StatisticsBySplit, findings: Findings) -> None:
    """Find labels that are probably one."""
    groups = similar_labels({label for stats in statistics.values() for label in stats.labels})
    if groups:
        shown = name_list(tuple(" = ".join(group) for group in groups))
        message = f"labels that differ only in case, white space, Unicode form or number format: {shown}"
        findings.add("warning", "similar-labels", message, action="clean with merge-labels", count=len(groups))


def _coverage_action(split_step: SplitRows | None) -> str:
    """Return how every split gets every label."""
    if split_step is None:
        return "add rows with these labels, or upload all rows as train and split them with stratify"
    return "add rows with these labels" if split_step.stratify else "split with stratify"


def _check_label_conflicts(statistics: StatisticsBySplit, findings: Findings) -> None:
    """Find texts with more than one label: equal inputs among distinct rows."""
    rows = np.concatenate([stats.row_hashes[stats.complete] for stats in statistics.values()])
    inputs = np.concatenate([stats.input_hashes[stats.complete] for stats in statistics.values()])
    distinct = inputs[hashing.first_occurrences(rows)]
    numbers, total = hashing.factorize(distinct)
    if conflicts := int((np.bincount(numbers, minlength=total) > 1).sum()):
        message = f"{count(conflicts, 'text')} with more than one label"
        findings.add("warning", "label-conflict", message, action="keep one label for each text", count=conflicts)


def exact_duplicates(stats: SplitStatistics) -> int:
    """Return how many rows of a split are exact duplicates of an earlier one."""
    return stats.rows - int(hashing.first_occurrences(stats.row_hashes).sum())


def _check_duplicates(statistics: StatisticsBySplit, findings: Findings) -> None:
    for split, stats in statistics.items():
        if stats.missing:
            message = skipped_rows_message(split, stats.missing)
            action = "clean with drop-missing or fill-missing"
            findings.add("warning", "incomplete-rows", message, action=action, count=stats.missing)
        if exact := exact_duplicates(stats):
            message = (
                f"{count(exact, 'duplicate')} of earlier rows in split {split}, which has {count(stats.rows, 'row')}"
            )
            findings.add("warning", "duplicates", message, action="clean with deduplicate", count=exact)
        if near := stats.near_duplicates:
            message = f"{count(near, 'near duplicate')} of earlier rows in split {split}"
            action = "clean with deduplicate and near: true"
            findings.add("warning", "near-duplicates", message, action=action, count=near)


def _check_overlap(statistics: StatisticsBySplit, allowed: frozenset[Split], findings: Findings) -> dict[str, int]:
    train, overlap = statistics[Split.TRAIN], {}
    for split, stats in statistics.items():
        if split is Split.TRAIN:
            continue
        overlap[split.value] = shared = int(hashing.isin(stats.input_hashes, train.input_hashes).sum())
        if shared:
            message = f"{shared:,} of the {count(stats.rows, 'row')} of split {split} also in train"
            action = "clean with deduplicate, or split all rows again, or set the option allow_overlap"
            severity: Severity = "info" if split in allowed else "error"
            findings.add(severity, "train-overlap", message, action="" if split in allowed else action, count=shared)
        if split in allowed:
            continue
        if stats.near_overlap:
            message = f"{count(stats.near_overlap, 'near duplicate')} of train rows in split {split}"
            action = "clean with deduplicate and near: true before the split"
            findings.add("warning", "near-overlap", message, action=action, count=stats.near_overlap)
        if in_groups := int(hashing.isin(stats.group_hashes, train.group_hashes).sum()):
            message = f"{count(in_groups, 'row')} of split {split} in groups that are also in train"
            findings.add("warning", "group-overlap", message, action="split with by_group", count=in_groups)
    return overlap
