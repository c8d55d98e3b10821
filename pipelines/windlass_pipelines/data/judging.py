"""Judges a measured dataset: what must be corrected before it is used, and what is worth knowing."""

from collections import Counter
from collections.abc import Mapping

import numpy as np

from windlass.domain.datasets import Split
from windlass.domain.specs import Task
from windlass_pipelines.data import keys
from windlass_pipelines.data.findings import Findings, Severity, name_list
from windlass_pipelines.data.measuring import MAX_LABELS, SplitFacts

_RARE = 5
_IMBALANCE = 10

Facts = Mapping[Split, SplitFacts]


def judge(facts: Facts, task: Task, allowed: frozenset[Split], findings: Findings) -> dict[str, int]:
    """Add the findings on a dataset; return the overlap of each held-out split with train, in rows.

    ``allowed`` are the held-out splits that may repeat rows of train.
    """
    if not facts:
        findings.add("error", "no-rows", "there are no rows")
        return {}
    if Split.TRAIN not in facts:
        findings.add("error", "no-train-rows", "split train has no rows", action="upload rows to train, or split again")
        return {}
    if task is Task.TEXT_CLASSIFICATION:
        _judge_labels(facts, findings)
        _judge_conflicts(facts, findings)
    _judge_repeats(facts, findings)
    for kind, count in sorted(_personal(facts).items()):
        message = f"{count:,} finds of personal data of kind {kind}"
        findings.add("warning", "personal-data", message, action="clean with mask-personal-data", count=count)
    return _judge_overlap(facts, allowed, findings)


def _personal(facts: Facts) -> Counter[str]:
    return sum((found.personal for found in facts.values()), Counter[str]())


def _judge_labels(facts: Facts, findings: Findings) -> None:
    train = facts[Split.TRAIN].labels
    if any(found.too_many_labels for found in facts.values()):
        message = f"there are more than {MAX_LABELS:,} different labels: the label column is probably another one"
        findings.add("error", "too-many-labels", message, action='map the right column: options.columns {"label": ...}')
        return
    if len(train) < 2:  # noqa: PLR2004 - with one label there is nothing to learn
        message = f"split train has {len(train)} label, classification needs at least 2: {name_list(tuple(train))}"
        findings.add("error", "too-few-labels", message, action="add rows with other labels")
    for split, found in facts.items():
        if unknown := sorted(set(found.labels) - set(train)):
            count = sum(found.labels[label] for label in unknown)
            message = f"{count:,} rows of split {split.value} have labels that train lacks: {name_list(tuple(unknown))}"
            findings.add("error", "label-missing-in-train", message, action="split with stratify", count=count)
        if found is not facts[Split.TRAIN] and (absent := sorted(set(train) - set(found.labels))):
            message = f"split {split.value} has no row with: {name_list(tuple(absent))}"
            findings.add("warning", f"label-missing-in-{split.value}", message, action="split with stratify")
    if rare := sorted(label for label, count in train.items() if count < _RARE):
        message = f"labels with fewer than {_RARE} rows in train: {name_list(tuple(rare))}"
        findings.add("warning", "rare-label", message, action="add rows, or merge labels")
    if train and max(train.values()) > _IMBALANCE * min(train.values()):
        message = (
            f"the most frequent label has {max(train.values()):,} rows in train, the least {min(train.values()):,}"
        )
        findings.add("warning", "label-imbalance", message, action="judge models by macro F1, not by accuracy")


def _judge_conflicts(facts: Facts, findings: Findings) -> None:
    """Find texts that stand with different labels: equal inputs among rows that differ."""
    rows = np.concatenate([found.row_keys for found in facts.values()])
    inputs = np.concatenate([found.input_keys for found in facts.values()])
    distinct = inputs[keys.first_of_equal(rows)]
    numbers, count = keys.ranks(distinct)
    if conflicts := int((np.bincount(numbers, minlength=count) > 1).sum()):
        message = f"{conflicts:,} texts stand with more than one label"
        findings.add("warning", "label-conflict", message, action="decide on one label for each", count=conflicts)


def exact_duplicates(found: SplitFacts) -> int:
    """Return how many rows of a split repeat an earlier one."""
    return found.rows - int(keys.first_of_equal(found.row_keys).sum())


def _judge_repeats(facts: Facts, findings: Findings) -> None:
    for split, found in facts.items():
        if found.missing:
            message = f"{found.missing:,} rows of split {split.value} miss their text, label or a message"
            action = "clean with drop-missing or fill-missing"
            findings.add("warning", "incomplete-rows", message, action=action, count=found.missing)
        if exact := exact_duplicates(found):
            message = f"{exact:,} of {found.rows:,} rows of split {split.value} repeat an earlier row"
            findings.add("warning", "duplicates", message, action="clean with deduplicate", count=exact)
        if near := found.near_duplicates:
            message = f"{near:,} rows of split {split.value} nearly repeat an earlier row"
            action = "clean with deduplicate and near: true"
            findings.add("warning", "near-duplicates", message, action=action, count=near)


def _judge_overlap(facts: Facts, allowed: frozenset[Split], findings: Findings) -> dict[str, int]:
    train, overlap = facts[Split.TRAIN], {}
    for split, found in facts.items():
        if split is Split.TRAIN:
            continue
        overlap[split.value] = count = int(keys.found_in(found.input_keys, train.input_keys).sum())
        if count:
            message = f"{count:,} of {found.rows:,} rows of split {split.value} stand in train too"
            action = "clean with deduplicate (before the split), or set options.allow_overlap"
            severity: Severity = "info" if split in allowed else "error"
            findings.add(severity, "train-overlap", message, action="" if split in allowed else action, count=count)
        if split in allowed:
            continue
        if found.near_overlap:
            message = f"{found.near_overlap:,} rows of split {split.value} nearly repeat a row of train"
            action = "clean with deduplicate and near: true before the split"
            findings.add("warning", "near-overlap", message, action=action, count=found.near_overlap)
        shared = int(keys.found_in(found.group_keys, train.group_keys).sum())
        if shared:
            message = f"{shared:,} rows of split {split.value} belong to groups that stand in train too"
            findings.add("warning", "group-overlap", message, action="split with by_group", count=shared)
    return overlap
