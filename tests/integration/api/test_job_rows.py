"""Problems and warnings of a submission about rows that the job cannot use."""

from typing import Any

import pytest
from tests.fakes.harness import ControlPlaneHarness

from windlass.domain.datasets import (
    Deduplicate,
    Finding,
    MaskPersonalData,
    Split,
    SplitReport,
    SplitRows,
    ValidationReport,
)

SPEC = {"task": "text-classification", "base_model": "tiny", "dataset": "reviews", "model": "classifier"}


def set_missing(harness: ControlPlaneHarness, **missing: int) -> None:
    """Give the dataset version a report in which rows of a split are incomplete."""
    splits = {Split(name): SplitReport(rows=4, missing=number) for name, number in missing.items()}
    with harness.database.write() as uow:
        versions = uow.project(uow.projects.get({"name": "ours"}).id).dataset_versions
        [version] = versions.all()
        versions.save(version.model_copy(update={"report": ValidationReport(findings=(), splits=splits)}))


def events(harness: ControlPlaneHarness, job: str) -> dict[str, dict[str, Any]]:
    items = harness.client.get(f"/v1/projects/ours/jobs/{job}/events").json()["items"]
    return {event["code"]: event for event in items}


def test_skipped_rows_are_an_event_of_the_job_and_a_warning_of_the_dry_run(ready: ControlPlaneHarness) -> None:
    set_missing(ready, train=1, validation=0)
    sentence = "training skips 1 row of split train: the text, the label or an answer is missing"
    simulated = ready.client.post("/v1/projects/ours/jobs:simulate", json={"spec": SPEC}).json()
    context = {"split": "train", "rows": 1}
    warning = {"code": "rows_skipped", "message": sentence, "context": context}
    assert simulated["warnings"] == [warning]
    job = ready.submit("ours", key="k1")
    assert job["warnings"] == [warning]
    event = events(ready, job["id"])["rows_skipped"]
    assert (event["message"], event["context"]) == (sentence, context)


def test_unused_columns_of_the_upload_are_a_warning_of_jobs_on_cleaned_versions_too(
    ready: ControlPlaneHarness,
) -> None:
    finding = Finding(code="columns-ignored", severity="info", message="unused columns: stars")
    with ready.database.write() as uow:
        versions = uow.project(uow.projects.get({"name": "ours"}).id).dataset_versions
        [version] = versions.all()
        report = ValidationReport(findings=(finding,), splits={})
        upload = version.model_copy(update={"id": "dsv_upload", "number": 9, "report": report})
        versions.add(upload)
        versions.save(version.model_copy(update={"parent": upload.id}))
    job = ready.submit("ours", key="k1", dataset="reviews@1")
    assert [(warning["code"], warning["message"]) for warning in job["warnings"]] == [
        ("columns_unused", "unused columns: stars")
    ]
    ready.run_worker_once(2)
    [context] = ready.pipelines.contexts.values()
    assert [warning.code for warning in context.inputs.warnings] == ["columns_unused"]


def test_defaults_depend_on_the_rows_that_are_used(ready: ControlPlaneHarness) -> None:
    set_missing(ready, train=1)
    defaults = events(ready, ready.submit("ours", key="k1")["id"])["training_defaults"]
    assert "for 3 training rows" in defaults["message"]


@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_split_without_usable_rows_is_refused_with_a_complete_command(ready: ControlPlaneHarness, split: str) -> None:
    set_missing(ready, **{split: 4})
    reply = ready.client.post("/v1/projects/ours/jobs", json={"spec": SPEC}, headers={"Idempotency-Key": "k1"})
    assert reply.status_code == 422
    assert f"reviews@1 has no usable rows in split {split}" in reply.text
    assert "windlass dataset clean reviews@1 --drop-missing --dedupe --split 0.8/0.2" in reply.text


def test_a_run_gets_the_steps_that_made_its_dataset_version(ready: ControlPlaneHarness) -> None:
    steps = (Deduplicate(), SplitRows(stratify=True, source=Split.TRAIN))
    with ready.database.write() as uow:
        versions = uow.project(uow.projects.get({"name": "ours"}).id).dataset_versions
        [version] = versions.all()
        parent = version.model_copy(update={"id": "dsv_parent", "number": 9, "steps": steps})
        versions.add(parent)
        versions.save(version.model_copy(update={"parent": parent.id, "steps": (MaskPersonalData(),)}))
    ready.submit("ours", key="k1", dataset="reviews@1")
    ready.run_worker_once(2)
    [context] = ready.pipelines.contexts.values()
    assert context.inputs.dataset_steps == (*steps, MaskPersonalData())
